"""Units of work: which ones, many at a time with results in order, and again after a fault."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from hpl_gym.core import EnvironmentFaultError

T = TypeVar("T")
R = TypeVar("R")


def choose(items: Sequence[T], count: int | None) -> list[T]:
    """Return `count` of the items (None: all), always the same ones, in their order.

    They are drawn over the whole sequence, since benchmarks list their tasks by type.
    """
    if count is None or count >= len(items):
        return list(items)
    places = random.Random(0).sample(range(len(items)), count)
    return [items[place] for place in sorted(places)]


async def in_order(
    items: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    done: Callable[[T, R], None],
    concurrency: int,
) -> None:
    """Work on many items at a time and hand over the results in the items' order.

    Args:
        items: What to work on.
        work: The coroutine of one item.
        done: Called with each item and its result, in the order of `items`.
        concurrency: Most items under work at a time. Where the first takes long, fewer than four
            times as many results wait for it.
    """
    free, ahead = asyncio.Semaphore(concurrency), asyncio.Semaphore(4 * concurrency)

    async def gated(item: T) -> R:
        await ahead.acquire()  # until it is handed over
        async with free:
            return await work(item)

    tasks = deque((item, asyncio.ensure_future(gated(item))) for item in items)
    try:
        while tasks:
            item, task = tasks[0]
            done(item, await task)
            tasks.popleft()  # and with it its result
            ahead.release()
    finally:
        for _, task in tasks:
            task.cancel()


async def together(works: Iterable[Awaitable[R]]) -> list[R]:
    """Return the results of works done at a time; where one fails, the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def repeated(
    episode: Callable[[], Awaitable[R]], *, times: int = 3, pause: float = 2.0
) -> tuple[R, int]:
    """Play an episode, and again where the environment failed and not the agent.

    Args:
        episode: Plays it from its start.
        times: How often it may fail in this way before the error is raised.
        pause: Seconds to wait after a fault.

    Returns:
        What the episode returned, and the number of faults before.

    Raises:
        EnvironmentFaultError: It failed every time.
    """
    for faults in range(times - 1):
        try:
            return await episode(), faults
        except EnvironmentFaultError:
            await asyncio.sleep(pause)
    return await episode(), times - 1
