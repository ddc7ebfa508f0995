"""The semantic segmenter: a language model says where sub-tasks begin and end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpl_gym.agents.chat import load_prompt
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.records import append, read_records, repair
from hpl_gym.trainers.segment import Span
from hpl_gym.trainers.subtasks import subtasks
from hpl_gym.wrappers.react import parse_reply

Ask = Callable[[list[dict[str, str]]], Awaitable[str]]

SHOWN = 200
_FENCED = re.compile(r"```json\s*\n(.*)```", re.DOTALL)
_KEYS = {"start", "end", "name"}


class SegmentationError(HPLGymError):
    """A model's answer does not divide the trajectory."""


@dataclass(frozen=True)
class Segmentation:
    """A trajectory's sub-tasks, and where they are from.

    Attributes:
        spans: Spans in turns that cover the trajectory in order.
        how: ``model`` (its first answer), ``repaired`` (its second one) or ``fallback`` (both were
            unusable: the sub-tasks by rules).
    """

    spans: list[Span]
    how: Literal["model", "repaired", "fallback"]


class Cache:
    """A model's answers, kept in one JSON Lines file that is only ever appended to.

    An answer belongs to the model's name and the chat it was asked in, which holds prompt and
    transcript. Coroutines that want the same answer at once ask once; a failed request is not kept.
    A last line that a crash has torn is cut off. One process at a time may use a file.

    Args:
        path: The file; made if need be.

    Raises:
        StageError: A line of the file is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        self._answers: dict[str, str] = {one["key"]: one["answer"] for one in read_records(path)}
        self._asking: dict[str, asyncio.Task[str]] = {}

    async def answer(self, model: str, messages: list[dict[str, str]], ask: Ask) -> str:
        """Return the answer to `messages`, by `ask` only where it is not known."""
        key = hashlib.sha256(json.dumps([model, messages]).encode()).hexdigest()
        if key in self._answers:
            return self._answers[key]
        if key not in self._asking:
            task = asyncio.create_task(self._ask(key, messages, ask))
            task.add_done_callback(lambda _: self._asking.pop(key))
            self._asking[key] = task
        return await asyncio.shield(self._asking[key])

    async def _ask(self, key: str, messages: list[dict[str, str]], ask: Ask) -> str:
        answer = await ask(messages)
        append(self._path, {"key": key, "answer": answer})
        self._answers[key] = answer
        return answer


async def segment(
    record: dict[str, Any], ask: Ask, cache: Cache, *, env_id: str, model: str
) -> Segmentation:
    """Let a language model divide a recorded trajectory into sub-tasks.

    A first answer that is not usable is sent back once with what is wrong with it; if the second is
    not usable either, the rules of `subtasks` divide the trajectory.

    Args:
        record: A trajectory as `trajectory.to_record` writes it.
        ask: Sends chat messages to the model and returns its answer. What it raises is passed on.
        cache: Where answers are kept.
        env_id: The environment it was played in.
        model: The model's name, for the cache.

    Raises:
        HPLGymError: Both answers are unusable, and there are no rules for the environment.
    """
    messages = [
        {"role": "system", "content": load_prompt("segment")},
        {"role": "user", "content": transcript(record)},
    ]
    attempts: tuple[Literal["model", "repaired"], ...] = ("model", "repaired")
    for how in attempts:
        answer = await cache.answer(model, messages, ask)
        try:
            return Segmentation(parse_spans(answer, len(record["turns"])), how)
        except SegmentationError as error:
            wrong = f"That cannot be used. {error} Answer again, with the JSON list alone."
            messages = [
                *messages,
                {"role": "assistant", "content": answer},
                {"role": "user", "content": wrong},
            ]
    return Segmentation(subtasks(record, env_id), "fallback")


def transcript(record: dict[str, Any]) -> str:
    """Return a trajectory as the model reads it: the task, and each turn on two lines.

    Texts are cut at `SHOWN` characters. Pages repeat the task, and what matters comes after it: in
    observations it is left out.
    """
    task = record["instruction"]
    lines = [f"Task: {task}", ""]
    for number, turn in enumerate(record["turns"], 1):
        lines.append(f"{number}. {_short(parse_reply(turn['reply']).action)}")
        seen = turn["observation"].replace(task, "...") if task else turn["observation"]
        lines.append(f"   -> {_short(seen)}")
    return "\n".join(lines)


def parse_spans(text: str, turns: int) -> list[Span]:
    """Return the spans in a model's answer.

    Args:
        text: A JSON list of ``{"start": int, "end": int, "name": str}``, turns counted from 1 and
            the end included, alone or in one json code block.
        turns: Length of the trajectory, which the spans must cover in order.

    Raises:
        SegmentationError: It is anything else.
    """
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        groups = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        raise SegmentationError(f"The answer is not JSON ({error}).") from None
    if not isinstance(groups, list):
        raise SegmentationError("The answer is JSON, but not a list.")
    spans: list[Span] = []
    covered = 0
    for number, group in enumerate(groups, 1):
        if not isinstance(group, dict) or group.keys() != _KEYS:
            raise SegmentationError(f"Item {number} has not just the keys start, end and name.")
        start, end, name = group["start"], group["end"], group["name"]
        if type(start) is not int or type(end) is not int:
            raise SegmentationError(f"In item {number}, start and end are not both whole numbers.")
        if not isinstance(name, str) or not name.strip():
            raise SegmentationError(f"In item {number}, the name is not a text.")
        if not 1 <= start <= turns or not 1 <= end <= turns:
            raise SegmentationError(f"Item {number} is out of range: the turns are 1 to {turns}.")
        if end < start:
            raise SegmentationError(f"Item {number} ends before it starts.")
        if start <= covered:
            raise SegmentationError(f"Item {number} overlaps one before it: it starts at {start}.")
        if start > covered + 1:
            raise SegmentationError(f"Turn {covered + 1} is in no item, or not in order.")
        spans.append((covered, end))
        covered = end
    if covered < turns:
        raise SegmentationError(f"Turn {covered + 1} and what follows are in no item.")
    return spans


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else f"{flat[:SHOWN]} ..."
