import asyncio
import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.trainers.work import choose, in_order, together


def test_in_order_forgets_what_it_has_handed_over():
    class Result:
        pass

    there = weakref.WeakSet()

    async def work(item):
        await asyncio.sleep(0)
        result = Result()
        there.add(result)
        return result

    most = []
    asyncio.run(in_order(range(50), work, lambda *_: most.append(len(there)), 4))
    gc.collect()
    assert len(most) == 50
    assert most[-1] <= 6


@given(items=st.lists(st.integers(), max_size=30), count=st.none() | st.integers(1, 40))
def test_choose_keeps_order_and_never_varies(items, count):
    chosen = choose(items, count)
    assert chosen == choose(items, count)
    assert len(chosen) == min(len(items), len(items) if count is None else count)
    rest = iter(items)
    assert all(any(one == other for other in rest) for one in chosen)


def test_in_order_hands_over_in_order_and_keeps_to_the_limit():
    running, most, handed = 0, 0, []

    async def work(item):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(item % 5):
            await asyncio.sleep(0)
        running -= 1
        return item * 2

    asyncio.run(in_order(range(20), work, lambda item, out: handed.append((item, out)), 4))
    assert handed == [(item, item * 2) for item in range(20)]
    assert most == 4


def test_results_that_wait_for_the_first_are_few():
    finished = []

    async def work(item):
        if item == 0:
            for _ in range(1000):  # time for all, if all were let in
                await asyncio.sleep(0)
            assert len(finished) == 15
        finished.append(item)

    asyncio.run(in_order(range(100), work, lambda *_: None, 4))
    assert len(finished) == 100


def test_where_one_of_many_fails_the_others_stop():
    begun, ended = [], []

    async def work(item):
        begun.append(item)
        await asyncio.sleep(0)
        if item == 1:
            raise ValueError("one")
        await asyncio.sleep(0.01)
        ended.append(item)

    async def all_of_them():
        with pytest.raises(ValueError, match="one"):
            await together(work(item) for item in range(3))
        await asyncio.sleep(0.05)

    asyncio.run(all_of_them())
    assert (begun, ended) == ([0, 1, 2], [])


def test_an_error_in_one_work_stops_the_rest():
    async def work(item):
        if item == 3:
            raise ValueError("three")
        await asyncio.sleep(3600 if item > 3 else 0)

    with pytest.raises(ValueError, match="three"):
        asyncio.run(in_order(range(6), work, lambda *_: None, 6))
