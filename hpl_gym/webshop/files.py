"""The benchmark's own JSON files, made into a catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from hpl_gym.core import DataError, MissingExtraError
from hpl_gym.webshop.catalog import build_catalog
from hpl_gym.webshop.goals import Instruction, read_instructions
from hpl_gym.webshop.product import Product, read_product

_EXPECTED = (
    "items_shuffle*.json (a list of products), items_ins_v2*.json (attributes by product), "
    "items_human_ins*.json (instructions by product) or reviews*.json"
)


@dataclass
class _Files:
    products: Path | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    human: dict[str, Any] = field(default_factory=dict)
    reviews: dict[str, Any] = field(default_factory=dict)


def prepare(
    files: Sequence[Path],
    folder: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Build a catalogue from the benchmark's files; what each is, is seen from what is in it.

    Args:
        files: A list of products, and maybe attributes, human instructions and reviews; or one
            folder with them.
        folder: Where the catalogue goes; replaced if it is there.
        limit: Read only so many products.
        seed: Seed of the prices and price caps.
        advance: Called after each product.

    Raises:
        DataError: A file is missing, broken or not one of the benchmark's.
    """
    found = _sort_out(files)
    if found.products is None:
        raise DataError(f"None of the files has a list of products: name {_EXPECTED}.")
    build_catalog(folder, _entries(found, limit, advance), seed)


def _entries(
    files: _Files, limit: int | None, advance: Callable[[], None]
) -> Iterator[tuple[Product, list[Instruction]]]:
    assert files.products is not None
    strange = bool(files.attributes)
    for number, raw in enumerate(islice(_items(files.products), limit)):
        if not isinstance(raw, Mapping) or "asin" not in raw:
            raise DataError(f"Entry {number} of {files.products} is no product: it has no asin.")
        advance()
        asin = str(raw["asin"])
        strange = strange and asin not in files.attributes
        attributes = _mapping(files.attributes.get(asin))
        product = read_product(raw, attributes, _mapping(files.reviews.get(asin)))
        if product:
            entries = files.human.get(asin)
            human = [_mapping(one) for one in entries] if isinstance(entries, list) else []
            yield product, read_instructions(attributes, human)
    if strange:
        raise DataError(
            f"No product in {files.products} has attributes in the other files: they belong to "
            "different catalogues, name files of one."
        )


def _sort_out(files: Sequence[Path]) -> _Files:
    if len(files) == 1 and files[0].is_dir():
        found = sorted(files[0].glob("items_*.json")) + sorted(files[0].glob("reviews*.json"))
        if not found:
            raise DataError(f"The folder {files[0]} has none of {_EXPECTED}.")
        files = found
    sorted_out = _Files()
    for path in files:
        first = next(_items(path), None) if _opening(path) == "[" else None
        if isinstance(first, Mapping) and "reviews" in first and "asin" in first:
            sorted_out.reviews |= {
                str(one["asin"]): one
                for one in _items(path)
                if isinstance(one, Mapping) and "asin" in one
            }
        elif isinstance(first, Mapping) and "asin" in first and "name" in first:
            if sorted_out.products:
                raise DataError(
                    f"{sorted_out.products} and {path} are both lists of products: name one."
                )
            sorted_out.products = path
        elif first is None and _opening(path) == "{":
            content = _load(path)
            if any(isinstance(one, list) for one in content.values()):
                sorted_out.human |= content
            elif any("attributes" in _mapping(one) for one in content.values()):
                sorted_out.attributes |= content
            else:
                raise DataError(f"{path} is none of the benchmark's files: name {_EXPECTED}.")
        else:
            raise DataError(f"{path} is none of the benchmark's files: name {_EXPECTED}.")
    return sorted_out


def _opening(path: Path) -> str:
    """Return the first character of a file that is not space."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(4096).lstrip("\ufeff \t\r\n")[:1]
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: name {_EXPECTED}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _items(path: Path) -> Iterator[Any]:
    """Yield the items of a JSON list one by one: the largest file has 5 GB."""
    try:
        import ijson
    except ImportError as error:
        raise MissingExtraError(
            "WebShop needs the webshop extra: pip install 'hpl-gym[webshop]'."
        ) from error
    try:
        with path.open("rb") as file:
            yield from ijson.items(file, "item", use_float=True)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is broken: it is not valid JSON ({reason}).") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is broken: it is not valid JSON ({error}).") from None
    return content


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
