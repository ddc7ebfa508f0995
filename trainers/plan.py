"""What every optimiser step trains on, and how it is packed into token trees.

Behaviour cloning goes through the expert trajectories; its loss is the mean over a step's tokens.

Preference training has phases. A phase of the curriculum is a pass over the explored expert
trajectories, `batch` of them a step, each with all its data: itself for behaviour cloning, its
trajectory and step pairs, and those of its group pairs that the phase allows. An item of a term
weighs ``w * steps / items``: its term's weight over the items that a step holds on average. So the
mean of a phase's losses is the composite loss of the phase's data (`losses.hpl_loss`), each term an
expectation over its own data, however they are packed, accumulated and shared out over processes.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from hpl_gym.trainers.curriculum import Cell, spread
from hpl_gym.trainers.examples import Example
from hpl_gym.trainers.packing import Packed, Tree, pack

TERMS = ("bc", "trajectory", "step", "group")


@dataclass(frozen=True, slots=True)
class Item:
    """An expert trajectory to clone, or a preference pair.

    Attributes:
        term: One of `TERMS`.
        expert: Key of the expert trajectory.
        sequences: The expert trajectory; or the winner and the loser.
        references: Log-probabilities of winner and loser under the reference policy, nats; empty
            for cloning.
        cell: Grid cell of a group pair; (0, 0) otherwise.
    """

    term: str
    expert: str
    sequences: tuple[Example, ...]
    references: tuple[float, ...] = ()
    cell: Cell = (0, 0)


@dataclass(frozen=True, slots=True)
class Step:
    """The data of an optimiser step: items with their weights in its loss."""

    phase: int
    items: tuple[tuple[Item, float], ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """One tree's share of an optimiser step; its sequences are those of `items`, in order."""

    packed: Packed
    items: tuple[tuple[Item, float], ...]
    asked: int


def make_plan(
    items: Sequence[Item],
    weights: Mapping[str, float],
    phases: Sequence[frozenset[Cell]],
    batch: int,
    epochs: int,
    rng: random.Random,
) -> list[Step]:
    """Lay out the optimiser steps of all phases.

    Each phase goes through all of the other terms' data, whether or not it has group pairs, so that
    methods with a curriculum train for as many steps as those without groups in as many epochs.
    Without group loss there is one phase.

    Args:
        items: All data.
        weights: Each term's weight; terms of weight 0 are left out.
        phases: The grid cells whose group pairs each phase allows.
        batch: Expert trajectories a step.
        epochs: Passes over a phase's data.
        rng: Shuffles the expert trajectories.
    """
    used = [item for item in items if weights[item.term]]
    plan = []
    numbered = list(enumerate(phases, 1))
    for number, phase in numbered if weights["group"] else numbered[-1:]:
        inside = [item for item in used if item.term != "group" or item.cell in phase]
        if not inside:
            continue
        counts = Counter(item.term for item in inside)
        by_expert = defaultdict(list)
        for item in inside:
            by_expert[item.expert].append(item)
        experts = sorted(by_expert)
        steps = -(-len(experts) // batch)
        for _ in range(epochs):
            rng.shuffle(experts)
            for first, last in spread(len(experts), steps):
                own = [item for expert in experts[first:last] for item in by_expert[expert]]
                weighed = [(one, weights[one.term] * steps / counts[one.term]) for one in own]
                plan.append(Step(number, tuple(weighed)))
    return plan


def clone_plan(
    examples: Sequence[Example], batch: int, epochs: int, rng: random.Random, phase: int = 1
) -> list[Step]:
    """Lay out the steps of behaviour cloning; a step's loss is the weighted mean over its tokens.

    Args:
        examples: The trajectories, with the weights of their tokens.
        batch: Trajectories a step.
        epochs: Passes over them.
        rng: Shuffles them.
        phase: The phase that the steps belong to.
    """
    plan = []
    for _ in range(epochs):
        order = list(examples)
        rng.shuffle(order)
        for first in range(0, len(order), batch):
            own = order[first : first + batch]
            total = sum(sum(one.weights[1:]) for one in own)
            plan.append(Step(phase, tuple((Item("bc", "", (one,)), 1 / total) for one in own)))
    return plan


def fits(item: Item, max_length: int) -> bool:
    """Return whether no sequence is longer than `max_length`."""
    return max(len(one.ids) for one in item.sequences) <= max_length


class Packs(Dataset[Pack]):
    """The trees of a plan, each step's one after the other and padded to the same number.

    Entry ``(step * accumulation + turn) * world + process`` is what a process computes in one turn
    of gradient accumulation. Trees of a step are sorted by size, so that processes wait little for
    each other. A tree of padding has two tokens, which weigh nothing.

    Args:
        plan: The steps.
        pack_tokens: Most tokens of a tree of several items.
        world: Number of processes.

    Attributes:
        steps: Number of steps.
        accumulation: Trees a step and process.
        tokens: How many tokens all trees have.
        asked: How many tokens all sequences have.
    """

    def __init__(self, plan: Sequence[Step], pack_tokens: int, world: int = 1) -> None:
        shares: list[list[tuple[int, tuple[tuple[Item, float], ...]]]] = []
        self.steps = len(plan)
        self.tokens = self.asked = 0
        for step in plan:
            trees: list[tuple[Tree, list[tuple[Item, float]]]] = []
            for item, weight in step.items:
                if not trees or not trees[-1][0].add(item.sequences, pack_tokens):
                    trees.append((Tree(), []))
                    trees[-1][0].add(item.sequences)
                trees[-1][1].append((item, weight))
            self.tokens += sum(len(tree) for tree, _ in trees)
            self.asked += sum(tree.asked for tree, _ in trees)
            sized = [(len(tree), tuple(items)) for tree, items in trees]
            shares.append(sorted(sized, key=lambda one: -one[0]))
        self.accumulation = max(-(-len(share) // world) for share in shares)
        self._packs = []
        for share in shares:
            nothing = share[0][1][0][0].sequences[0].ids[:2]
            padding: tuple[tuple[Item, float], ...] = (
                (Item("bc", "", (Example(nothing, (0.0, 1.0)),)), 0.0),
            )
            missing = self.accumulation * world - len(share)
            self._packs += [items for _, items in share] + missing * [padding]

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index: int) -> Pack:
        tree, items = Tree(), self._packs[index]
        for item, _ in items:
            tree.add(item.sequences)
        return Pack(pack(tree), items, tree.asked)
