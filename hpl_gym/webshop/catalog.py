"""A catalogue on disk: built once, then mapped into memory by every process that opens it.

A folder with `products.sqlite` (products, instructions, index terms), `index/` (the search index
and the order of the goals), and `manifest.json`, which is written last. All have the same digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpl_gym.core import DataError
from hpl_gym.webshop.goals import KINDS, SHUFFLE_SEED, Goal, Instruction, Kind, make_goal
from hpl_gym.webshop.product import Product
from hpl_gym.webshop.search import Index, analyze, build_index

FORMAT = 1
_PRODUCTS = "products.sqlite"
_SCHEMA = """
CREATE TABLE products (
    row INTEGER PRIMARY KEY, asin TEXT UNIQUE, title TEXT, tag TEXT, data TEXT
) STRICT;
CREATE TABLE instructions (
    kind TEXT, number INTEGER, row INTEGER, data TEXT, PRIMARY KEY (kind, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE terms (term TEXT PRIMARY KEY, id INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE digest (digest TEXT) STRICT;
"""


class GoalPlace(NamedTuple):
    """Where a goal comes from.

    Attributes:
        kind: Human or synthetic.
        instruction: Number of the instruction.
        combination: Number of the combination of options.
    """

    kind: Kind
    instruction: int
    combination: int


def build_catalog(
    folder: Path, products: Iterable[tuple[Product, Sequence[Instruction]]], seed: int = 0
) -> None:
    """Write a catalogue, whole or not at all.

    Args:
        folder: Where to; replaced if it is there.
        products: Every product with its instructions; products with an id that came before are
            passed over.
        seed: Seed of the prices and price caps.

    Raises:
        DataError: There is no product, or something else is in `folder`.
    """
    folder = folder.resolve()
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / _PRODUCTS).is_file()
    ):
        raise DataError(f"{folder} is there and is no WebShop catalogue: name another folder.")
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        manifest = _build(part, products, seed)
        (part / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        _replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _build(
    part: Path, products: Iterable[tuple[Product, Sequence[Instruction]]], seed: int
) -> dict[str, Any]:
    digest = hashlib.sha256(f"{FORMAT} {seed}".encode())
    asins: dict[str, None] = {}
    firsts: dict[Kind, list[int]] = {kind: [0] for kind in KINDS}
    with sqlite3.connect(part / _PRODUCTS) as database:
        database.executescript(_SCHEMA)

        def documents() -> Iterator[list[str]]:
            for product, instructions in products:
                if product.asin in asins:
                    continue
                row, data = len(asins), json.dumps(asdict(product), ensure_ascii=False)
                asins[product.asin] = None
                digest.update(data.encode())
                database.execute(
                    "INSERT INTO products VALUES (?, ?, ?, ?, ?)",
                    (row, product.asin, product.title, product.price_tag, data),
                )
                for instruction in instructions:
                    count = instruction.count(product)
                    if not count:
                        continue
                    text = json.dumps(asdict(instruction), ensure_ascii=False)
                    digest.update(text.encode())
                    first = firsts[instruction.kind]
                    values = (instruction.kind, len(first) - 1, row, text)
                    database.execute("INSERT INTO instructions VALUES (?, ?, ?, ?)", values)
                    first.append(first[-1] + count)
                yield analyze(product.contents())

        analyzed = list(documents())
        if not analyzed:
            raise DataError("The catalogue has no product: name files with products in them.")
        terms = build_index(analyzed, part / "index")
        database.execute("INSERT INTO digest VALUES (?)", (digest.hexdigest()[:16],))
        database.executemany(
            "INSERT INTO terms VALUES (?, ?)", ((term, place) for place, term in enumerate(terms))
        )
    database.close()
    ranks = np.empty(len(asins), dtype=np.int32)
    names = list(asins)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names), dtype=np.int32)
    np.save(part / "index" / "ranks.npy", ranks)
    (part / "index" / "digest.txt").write_text(digest.hexdigest()[:16])
    for kind in KINDS:
        order = list(range(firsts[kind][-1]))
        random.Random(SHUFFLE_SEED).shuffle(order)
        np.save(part / "index" / f"{kind}_order.npy", np.array(order, dtype=np.int32))
        np.save(part / "index" / f"{kind}_first.npy", np.array(firsts[kind], dtype=np.int64))
    return {
        "format": FORMAT,
        "digest": digest.hexdigest()[:16],
        "seed": seed,
        "products": len(asins),
        "goals": {kind: firsts[kind][-1] for kind in KINDS},
    }


def _replace(part: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if not (folder / "manifest.json").is_file():  # else another process was faster
            raise
    shutil.rmtree(old, ignore_errors=True)


class Catalog:
    """A catalogue that was built before; opening it reads next to nothing.

    Args:
        folder: What `build_catalog` wrote.

    Attributes:
        digest: Of all that is in it and of the seed; part of the ids of tasks.
        seed: Seed of prices and price caps.
        products: How many products it has.
        goals: How many goals of each kind.

    Raises:
        DataError: It is no catalogue, unfinished, of another format, or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = _read_manifest(folder)
        try:
            self.digest: str = manifest["digest"]
            self.seed: int = manifest["seed"]
            self.products: int = manifest["products"]
            self.goals: dict[Kind, int] = manifest["goals"]
            index = folder / "index"
            self._index = Index(index, np.load(index / "ranks.npy", mmap_mode="r"))
            self._goals = {
                kind: tuple(
                    np.load(index / f"{kind}_{name}.npy", mmap_mode="r")
                    for name in ("order", "first")
                )
                for kind in KINDS
            }
            self._database = _open(folder / _PRODUCTS)
            found = self._database.execute("SELECT digest FROM digest").fetchone()[0]
            others = {found, (index / "digest.txt").read_text()} - {self.digest}
        except (FileNotFoundError, ValueError, KeyError, sqlite3.Error) as error:
            raise DataError(f"The catalogue in {folder} is broken ({error}): {_AGAIN}") from error
        except OSError as error:
            raise _unreadable(folder, error) from error
        if others:
            raise DataError(
                f"The catalogue in {folder} has a part of another catalogue (digest "
                f"{min(others)}, not {self.digest}): {_AGAIN}"
            )
        self.product = lru_cache(maxsize=512)(self._product)
        self.search = lru_cache(maxsize=1024)(self._search)
        self.summary = lru_cache(maxsize=8192)(self._summary)

    def _product(self, asin: str) -> Product:
        """Return the product with this id.

        Raises:
            KeyError: There is none.
        """
        found = self._database.execute("SELECT data FROM products WHERE asin = ?", (asin,))
        row = found.fetchone()
        if row is None:
            raise KeyError(asin)
        return _product(row[0])

    def _summary(self, row: int) -> tuple[str, str, str]:
        """Return id, title and price tag of the product in a row."""
        found = self._database.execute(
            "SELECT asin, title, tag FROM products WHERE row = ?", (row,)
        ).fetchone()
        return found[0], found[1], found[2]

    def _search(self, query: str) -> tuple[int, ...]:
        """Return the rows of the products found, best first, at most 50."""
        ids = []
        for term in analyze(query):
            found = self._database.execute("SELECT id FROM terms WHERE term = ?", (term,))
            ids += [place for (place,) in found]
        return tuple(self._index.search(ids))

    def place(self, kind: Kind, number: int) -> GoalPlace:
        """Return where goal `number`, in the benchmark's shuffled order, comes from."""
        order, first = self._goals[kind]
        goal = int(order[number])
        instruction = int(np.searchsorted(first, goal, side="right")) - 1
        return GoalPlace(kind, instruction, goal - int(first[instruction]))

    def has(self, place: GoalPlace) -> bool:
        """Whether there is a goal at `place`."""
        _, first = self._goals[place.kind]
        return place.instruction < len(first) - 1 and (
            place.combination < first[place.instruction + 1] - first[place.instruction]
        )

    def number(self, place: GoalPlace) -> int:
        """Return the goal's number in the shuffled order."""
        order, first = self._goals[place.kind]
        return int(np.flatnonzero(order == first[place.instruction] + place.combination)[0])

    def goal(self, place: GoalPlace) -> Goal:
        """Return the goal from `place`, which must be there."""
        found = self._database.execute(
            "SELECT i.data, p.data FROM instructions i JOIN products p USING (row) "
            "WHERE kind = ? AND number = ?",
            (place.kind, place.instruction),
        ).fetchone()
        values = json.loads(found[0])
        instruction = Instruction(
            values["kind"], values["text"], tuple(values["attributes"]), tuple(values["options"])
        )
        return make_goal(_product(found[1]), instruction, place.combination, self.seed)


_AGAIN = "delete the folder and build it again (one in the cache is built when it is next used)."


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        raise DataError(
            f"{folder} is no WebShop catalogue, or one that was not finished (it has no "
            "manifest.json): name one that `hpl data webshop prepare` has written."
        ) from None
    except OSError as error:
        raise _unreadable(folder, error) from error
    except ValueError as error:
        raise DataError(f"The manifest of the catalogue in {folder} is broken: {_AGAIN}") from error
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"The catalogue in {folder} has format {manifest.get('format')}, not {FORMAT}: {_AGAIN}"
        )
    return manifest


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(f"The catalogue in {folder} cannot be read: {error.strerror or error}.")


def _open(path: Path) -> sqlite3.Connection:
    # Nothing writes to it any more: readers need no locks, and may share it between threads.
    with path.open("rb"):  # SQLite does not say why it cannot open a file
        pass
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    database = sqlite3.connect(uri, uri=True, check_same_thread=False)
    database.execute("PRAGMA mmap_size = 17179869184")
    database.execute("PRAGMA cache_size = -2048")
    return database


def _product(text: str) -> Product:
    values = json.loads(text)
    values["bullets"] = tuple(values["bullets"])
    values["options"] = tuple((name, tuple(group)) for name, group in values["options"])
    values["attributes"] = tuple(values["attributes"])
    values["prices"] = tuple(values["prices"])
    values["reviews"] = tuple(map(tuple, values["reviews"]))
    return Product(**values)
