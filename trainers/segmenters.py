"""All segmenters over a set of expert trajectories, by their names in the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpl_gym.trainers.config import Config
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, read_records
from hpl_gym.trainers.segment import Span, entropy_threshold, fixed_k, fixed_n, uncertainty
from hpl_gym.trainers.semantic import Cache, segment
from hpl_gym.trainers.subtasks import subtasks
from hpl_gym.trainers.work import in_order

Record = dict[str, Any]


async def segment_all(
    config: Config,
    stage: Stage,
    experts: Sequence[Record],
    branches: Mapping[str, Sequence[Record]],
    usage: Counter[str],
) -> dict[str, dict[str, list[Span]]]:
    """Cut expert trajectories by all segmenters of the settings; writes ``segments.jsonl``.

    The entropy of a step is that of the reply that the reference policy gave there, the mean over
    its tokens.

    Args:
        config: The run's settings.
        stage: The stage that explores.
        experts: The expert trajectories.
        branches: The branches of each, in the order of their steps.
        usage: Takes up what was asked of an external model.

    Returns:
        The spans by expert and segmenter.
    """
    settings = config.explore
    entropies = {key: [one["entropy"] for one in own] for key, own in branches.items()}
    threshold = entropy_threshold(
        (one for expert in experts for one in entropies[expert["key"]]), settings.percentile
    )
    known = stage.keys("segments")
    left = [one for one in experts if one["key"] not in known]
    cache = Cache(stage.folder / "answers.jsonl") if settings.semantic else None
    client = _client(settings.semantic) if settings.semantic and left else None

    async def ask(messages: list[dict[str, str]]) -> str:
        assert client is not None
        answer = await client.complete(messages, seed=config.seed, temperature=0.0, max_tokens=1024)
        return str(answer.text)

    async def work(expert: Record) -> Record:
        turns = len(expert["turns"])
        record: Record = {"key": expert["key"], "spans": {}}
        for name in settings.segmenters:
            if name == "single":
                spans = fixed_k(turns, 1)
            elif name == "fixed-k":
                spans = fixed_k(turns, settings.k)
            elif name == "fixed-n":
                spans = fixed_n(turns, settings.n)
            elif name == "uncertainty":
                spans = uncertainty(entropies[expert["key"]], threshold)
            elif cache is None:
                spans = subtasks(expert, config.env.id)
            else:
                assert settings.semantic is not None
                found = await segment(
                    expert, ask, cache, env_id=config.env.id, model=settings.semantic
                )
                spans, record["semantic"] = found.spans, found.how
            record["spans"][name] = spans
        progress.advance()
        return record

    def done(_: Record, record: Record) -> None:
        stage.append("segments", record)

    try:
        with bar("explore segments", len(experts), len(known)) as progress:
            await in_order(left, work, done, settings.concurrency)
    finally:
        if client is not None:
            usage["external_calls"] += client.usage.calls
            usage["external_tokens_in"] += client.usage.tokens_in
            usage["external_tokens_out"] += client.usage.tokens_out
            await client.close()
    return {one["key"]: one["spans"] for one in read_records(stage.folder / "segments.jsonl")}


def _client(model: str) -> Any:
    from hpl_gym.agents.backends.openai import ChatClient

    return ChatClient(model)
