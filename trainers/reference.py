"""The data of stage 2: what is trained on, with its log-probabilities under the reference policy.

These are computed once, on token trees, and kept in ``pairs/reference/logprobs.jsonl``; no
reference model is in memory while a policy is trained. Every method and setting reads the same: a
segmenter's groups are packed into trees apart from the pairs that all methods have, so that which
method is trained first changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from hpl_gym.agents.chat import ChatEncoder
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.examples import example
from hpl_gym.trainers.packing import Tree, pack
from hpl_gym.trainers.plan import Item, fits
from hpl_gym.trainers.preferences import LEVELS
from hpl_gym.trainers.progress import bar
from hpl_gym.trainers.records import Stage, read_records
from hpl_gym.trainers.sections import TrainConfig
from hpl_gym.wrappers.transcript import Conversation

Record = dict[str, Any]


def pair_records(run: Path, segmenter: str) -> list[Record]:
    """Return the preference pairs of a run; of the groups, those of one segmenter."""
    return [
        row
        for level in LEVELS
        for row in read_records(run / "pairs" / f"pairs_{level}.jsonl")
        if row.get("segmenter", segmenter) == segmenter
    ]


def pair_items(
    rows: Sequence[Record], encoder: ChatEncoder, experts: Mapping[str, Conversation]
) -> list[Item]:
    """Encode preference pairs, without log-probabilities under the reference yet.

    Args:
        rows: Records of `hpl pairs`.
        encoder: Makes the tokens.
        experts: The expert trajectories by key.

    Raises:
        HPLGymError: The tokens are not where the records say: they were made with another
            tokenizer or template.
    """
    items = []
    for row in rows:
        expert, start = experts[row["expert"]], row["start"]
        loser = expert.prefix(start)
        for turn in row["loser"]:
            loser = loser.add(turn["reply"], turn["observation"], tuple(turn.get("token_ids", ())))
        both = tuple(example(encoder, one, start) for one in (expert.prefix(row["stop"]), loser))
        for sequence, span in zip(both, (row["winner_tokens"], row["loser_tokens"]), strict=True):
            if [sequence.weights.index(1.0), len(sequence.ids)] != span:
                raise HPLGymError(
                    f"Pair {row['key']!r} was made with another tokenizer, chat template or "
                    "prompt: explore again with this model."
                )
        cell = tuple(row.get("cell", (0, 0)))
        items.append(Item(row["level"], row["expert"], both, (), (cell[0], cell[1])))
    return items


def with_references(
    items: Sequence[Item],
    keys: Sequence[str],
    load: Callable[[], PreTrainedModel],
    stage: Stage,
    state: PartialState,
    settings: TrainConfig,
) -> list[Item]:
    """Return the pairs that fit, with their log-probabilities under the reference policy.

    Args:
        items: Encoded pairs.
        keys: Their keys.
        load: Loads the reference policy and makes it ready by `score_trees`.
        stage: ``pairs/reference``; what it lacks is computed and added.
        state: The processes, which share the work.
        settings: Which pairs fit.

    Raises:
        HPLGymError: A log-probability is not a number.
    """
    fitting = [
        (key, item)
        for key, item in zip(keys, items, strict=True)
        if fits(item, settings.max_length)
    ]
    with state.main_process_first():
        known = stage.keys("logprobs")
    groups = [one for one in fitting if one[1].term == "group"]
    others = [one for one in fitting if one[1].term != "group"]
    trees = [
        tree
        for part in (others, groups)
        if not known.issuperset(key for key, _ in part)
        for tree in _trees(part, settings.pack_tokens)
        if not known.issuperset(tree[1])
    ]
    if trees:
        _score(trees, known, load().eval(), stage, state)
    state.wait_for_everyone()
    logprobs = {
        one["key"]: (one["winner"], one["loser"])
        for one in read_records(stage.folder / "logprobs.jsonl")
    }
    return [replace(item, references=logprobs[key]) for key, item in fitting]


def _score(
    trees: Sequence[tuple[Tree, list[str]]],
    known: Set[str],
    model: PreTrainedModel,
    stage: Stage,
    state: PartialState,
) -> None:
    """Score trees, each in one of the processes; write the log-probabilities not yet known."""
    pairs = sum(len(inside) for _, inside in trees)
    with torch.no_grad(), bar("reference", pairs) as progress:
        for first in range(0, len(trees), state.num_processes):
            round_ = trees[first : first + state.num_processes]
            own = round_[state.process_index : state.process_index + 1]
            found = [_logprobs(model, tree, inside) for tree, inside in own]
            for records in gather_object(found):
                if state.is_main_process:
                    stage.append("logprobs", *(one for one in records if one["key"] not in known))
            progress.advance(sum(len(inside) for _, inside in round_))


def _logprobs(model: PreTrainedModel, tree: Tree, keys: Sequence[str]) -> list[Record]:
    values = model(packed=pack(tree).to(model.device)).tolist()
    if not all(map(math.isfinite, values)):
        raise HPLGymError(
            f"The reference policy gives pair {keys[0]!r} or one near it no finite "
            "log-probability: check its weights, or load it in higher precision."
        )
    pairs = zip(keys, values[::2], values[1::2], strict=True)
    return [{"key": key, "winner": winner, "loser": loser} for key, winner, loser in pairs]


def _trees(pairs: Sequence[tuple[str, Item]], most: int) -> Iterator[tuple[Tree, list[str]]]:
    tree, keys = Tree(), list[str]()
    for key, item in sorted(pairs, key=lambda one: (one[1].expert, one[0])):
        if not tree.add(item.sequences, most):
            if keys:
                yield tree, keys
            tree, keys = Tree(), []
            tree.add(item.sequences)
        keys.append(key)
    if keys:
        yield tree, keys
