"""The WebShop environment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, overload

from hpl_gym.cache import from_anywhere, last_written
from hpl_gym.core import (
    DataError,
    HPLGymError,
    LazyActions,
    Outcome,
    Task,
    TextEnv,
    UnknownTaskError,
)
from hpl_gym.webshop.catalog import Catalog, GoalPlace
from hpl_gym.webshop.generate import generated_catalog
from hpl_gym.webshop.goals import KINDS, Goal, Kind
from hpl_gym.webshop.nouns import NOUN_MODEL
from hpl_gym.webshop.pages import START, Page, clickables, follow, receipt, render

SPLITS = ("train", "valid", "test")
_TASK_ID = re.compile(rf"([\w-]+)/({'|'.join(KINDS)})/(\d{{1,9}})-(\d{{1,9}})")


class WebShopEnv(TextEnv):
    """Shopping by text: search, look at products, choose options, buy.

    ## Description
    A customer's instruction asks for a product with certain attributes and options under a price.
    The agent searches the shop, opens products, reads their details, chooses options and buys one.

    ## Observation Space
    Text: the page, its parts joined by ``[SEP]``; all but the last show the instruction.

    ## Action Space
    Text, one a turn: `search[words]` from any page, or `click[value]` with anything the page lets
    one click; upper and lower case are the same. What cannot be done leaves the page as it is.
    `info["admissible_actions"]` lists the clicks, and one search: for the words of the instruction.

    ## Rewards
    On `click[buy now]` the benchmark's score in [0, 1] (see `hpl_gym.webshop.reward`); else 0.0.
    Success is a reward of 1.

    ## Episode End
    It is terminated by buying. As registered it is truncated after 10 turns.

    ## Arguments
    Args:
        split: The split `reset` draws from: `train`, `valid` or `test`.
        data: `generated` (made from a seed, kept in the user's cache), a folder that
            `hpl data webshop prepare` wrote, `real`: the folder named by $WEBSHOP_DATA, or `auto`:
            that folder where it is named, else generated.
        goals: `human` or `synthetic` instructions.
        products: How many products a generated catalogue has, at least 600.
        generator_seed: Seed of a generated catalogue: another seed, another shop.
        render_mode: `ansi` or None.

    Raises:
        HPLGymError: An argument has a value that does not exist.
        DataError: The folder is no catalogue, or $WEBSHOP_DATA names none.
    """

    env_id: ClassVar[str] = "HPL/WebShop-v0"

    def __init__(
        self,
        split: str = "train",
        data: str | Path = "auto",
        goals: Kind = "human",
        products: int = 1000,
        generator_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(split, render_mode)
        if goals not in KINDS:
            raise HPLGymError(f"There are no goals {goals!r}: choose one of {', '.join(KINDS)}.")
        self.goals: Kind = goals
        if data in {"auto", "real"}:
            named = os.environ.get("WEBSHOP_DATA")
            if data == "real" and not named:
                raise DataError(
                    "The benchmark's own products are not there: run `hpl data webshop prepare` on "
                    "its files and set WEBSHOP_DATA to the folder, or use data='generated'."
                )
            data = named or "generated"
        if data == "generated":
            self._name = f"generated-{generator_seed}-{products}"
            self.catalog = _open(generated_catalog(products, generator_seed))
        else:
            self.catalog = _open(from_anywhere(data))
            self._name = self.catalog.digest
        self._goal: Goal | None = None

    @property
    def data_digest(self) -> str:
        """The catalogue's digest; "" where it is generated."""
        return "" if self._generated else self.catalog.digest

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """Return the tasks of `split` (default: the environment's), in one fixed order.

        Raises:
            DataError: There is no such split, or it has no task.
        """
        split = split or self.split
        if split not in SPLITS:
            raise DataError(f"There is no split {split!r}: choose one of {', '.join(SPLITS)}.")
        numbers = split_numbers(split, self.catalog.goals[self.goals], self._generated)
        if not numbers:
            raise DataError(
                f"The catalogue has no {self.goals} goals in split {split!r}: choose other goals "
                "or another split."
            )
        return _Tasks(self.catalog, self._name, self.goals, split, numbers)

    @property
    def _generated(self) -> bool:
        return self._name.startswith("generated-")

    def _task_by_id(self, task_id: str) -> Task:
        place = self._place(task_id)
        number = self.catalog.number(place)
        count = self.catalog.goals[place.kind]
        split = next(s for s in SPLITS if number in split_numbers(s, count, self._generated))
        return Task(task_id, split, self.catalog.goal(place).category)

    def _place(self, task_id: str) -> GoalPlace:
        match = _TASK_ID.fullmatch(task_id)
        if match and match[1] == self._name:
            place = GoalPlace(match[2], int(match[3]), int(match[4]))  # type: ignore[arg-type]
            if self.catalog.has(place):
                return place
        raise UnknownTaskError(
            f"There is no task {task_id!r} in this shop: its tasks begin with {self._name}/."
        )

    def _begin(self, task: Task) -> tuple[Any, str]:
        self._goal = self.catalog.goal(self._place(task.task_id))
        return START, render(START, self._goal.instruction, self.catalog)

    def _advance(self, state: Page, action: str) -> Outcome:
        goal = self._playing()
        page = follow(state, action, self.catalog)
        if page is None:
            return Outcome(state, render(state, goal.instruction, self.catalog), valid=False)
        if page.kind != "done":
            return Outcome(page, render(page, goal.instruction, self.catalog), valid=True)
        from hpl_gym.webshop.reward import score

        product = self.catalog.product(page.asin)
        paid = product.price(self.catalog.seed)
        reward = score(product, dict(page.options), paid, goal).reward
        return Outcome(page, receipt(reward), True, True, reward, success=reward == 1.0)

    def _instruction(self) -> str:
        return self._playing().instruction

    def _admissible(self, state: Page) -> Sequence[str]:
        catalog, instruction = self.catalog, self._playing().instruction
        if state.kind == "done":
            return ()
        return LazyActions(
            lambda: (
                f"search[{instruction}]",
                *dict.fromkeys(f"click[{label.lower()}]" for label in clickables(state, catalog)),
            )
        )

    def _data_version(self) -> str:
        return f"{self.catalog.digest}-{NOUN_MODEL}"

    def _playing(self) -> Goal:
        assert self._goal is not None, "reset() comes first"
        return self._goal


def split_numbers(split: str, count: int, generated: bool) -> range:
    """Return which goals of `count`, in the shuffled order, belong to a split.

    Args:
        split: `test`, `valid` or `train`.
        count: Goals in all.
        generated: Of a generated catalogue: 200 test and 200 validation tasks. Else the
            benchmark's 500 and 1,000 where at least 3,000 goals are there, and a fifth each
            where they are not.
    """
    test, valid = (200, 200) if generated else (500, 1000)
    if not generated and count < 3000:
        test = valid = count // 5
    bounds = {"test": (0, test), "valid": (test, test + valid), "train": (test + valid, count)}
    return range(*bounds[split])


class _Tasks(Sequence[Task]):
    """The tasks of a split, each made when it is asked for."""

    def __init__(self, catalog: Catalog, name: str, kind: Kind, split: str, numbers: range) -> None:
        self._catalog, self._name, self._kind = catalog, name, kind
        self._split, self._numbers = split, numbers

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = self._catalog.place(self._kind, self._numbers[index])
        task_id = f"{self._name}/{self._kind}/{place.instruction}-{place.combination}"
        return Task(task_id, self._split, self._catalog.goal(place).category)

    def __len__(self) -> int:
        return len(self._numbers)


def _open(folder: Path) -> Catalog:
    return _opened(folder, last_written(folder / "manifest.json"))


@lru_cache(maxsize=8)
def _opened(folder: Path, _written: tuple[int, int, int]) -> Catalog:
    return Catalog(folder)
