"""What each optimiser step trains on."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hpl_gym.trainers.curriculum import CURRICULA
from hpl_gym.trainers.examples import Example
from hpl_gym.trainers.plan import TERMS, Item, Packs, clone_plan, make_plan

WEIGHTS = dict.fromkeys(TERMS, 1.0)
ONE = Example((1, 2, 3), (0.0, 1.0, 1.0))
OTHER = Example((1, 2, 4), (0.0, 0.0, 1.0))


def some_items(experts, cells):
    items = []
    for number in range(experts):
        items.append(Item("bc", f"e{number}", (ONE,)))
        items.append(Item("trajectory", f"e{number}", (ONE, OTHER), (-1.0, -1.0)))
    for number, cell in enumerate(cells):
        items.append(Item("group", f"e{number % experts}", (ONE, OTHER), (-1.0, -2.0), cell))
    return items


@given(
    experts=st.integers(1, 9),
    cells=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=20),
    batch=st.integers(1, 5),
    epochs=st.integers(1, 2),
    curriculum=st.sampled_from(sorted(CURRICULA)),
)
@settings(max_examples=60)
def test_each_phase_has_all_data_that_it_allows_once_an_epoch(
    experts, cells, batch, epochs, curriculum
):
    phases = CURRICULA[curriculum]
    plan = make_plan(some_items(experts, cells), WEIGHTS, phases, batch, epochs, random.Random(0))
    numbers = [step.phase for step in plan]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, len(phases) + 1))
    for number in set(numbers):
        inside = [item for step in plan if step.phase == number for item, _ in step.items]
        assert sum(item.term == "bc" for item in inside) == epochs * experts
        used = sorted(item.cell for item in inside if item.term == "group")
        allowed = sorted(cell for cell in cells if cell in phases[number - 1])
        assert used == sorted(allowed * epochs)
    for step in plan:
        assert 1 <= len({item.expert for item, _ in step.items}) <= batch


def test_without_group_loss_there_is_one_phase():
    items = some_items(3, [(1, 1), (2, 2)])
    plan = make_plan(items, WEIGHTS | {"group": 0}, CURRICULA["hpl"], 1, 2, random.Random(0))
    assert [step.phase for step in plan] == [3] * 6


def test_a_phase_without_data_is_passed_over():
    groups = [item for item in some_items(3, [(2, 2), (3, 1)]) if item.term == "group"]
    plan = make_plan(groups, WEIGHTS, CURRICULA["hpl"], 1, 1, random.Random(0))
    assert [step.phase for step in plan] == [3, 3]
    assert not make_plan(
        groups, dict.fromkeys(TERMS, 0.0), CURRICULA["hpl"], 1, 1, random.Random(0)
    )


@given(experts=st.integers(1, 9), batch=st.integers(1, 5))
def test_a_phases_mean_weight_is_that_of_its_terms(experts, batch):
    weights = WEIGHTS | {"group": 0.5}
    items = some_items(experts, [(1, 1)] * experts)
    plan = make_plan(items, weights, CURRICULA["static"], batch, 1, random.Random(0))
    for term in ("bc", "trajectory", "group"):
        total = sum(weight for step in plan for item, weight in step.items if item.term == term)
        assert abs(total / len(plan) - weights[term]) < 1e-9


def test_cloning_weighs_every_token_of_a_step_the_same():
    (step,) = clone_plan([ONE, OTHER], 2, 1, random.Random(0))
    assert [weight for _, weight in step.items] == [1 / 3, 1 / 3]
    assert len(clone_plan([ONE] * 5, 2, 3, random.Random(0))) == 9


@given(experts=st.integers(1, 6), world=st.integers(1, 3), size=st.sampled_from((3, 4, 1000)))
def test_packs_hold_every_item_once_for_any_number_of_processes(experts, world, size):
    items = some_items(experts, [(1, 1)] * experts)
    plan = make_plan(items, WEIGHTS, CURRICULA["hpl"], 2, 1, random.Random(0))
    packs = Packs(plan, size, world)
    assert len(packs) == packs.steps * packs.accumulation * world
    a_step = packs.accumulation * world
    for number, step in enumerate(plan):
        own = [packs[index] for index in range(number * a_step, (number + 1) * a_step)]
        held = [pair for pack in own for pair in pack.items if pair[1]]
        assert sorted(map(repr, held)) == sorted(map(repr, step.items))
        assert all(len(pack.packed.ids) <= size or len(pack.items) == 1 for pack in own)
