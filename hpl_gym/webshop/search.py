"""Search: BM25 over Lucene's English analysis, with Pyserini's parameters (k1 = 0.9, b = 0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hpl_gym.core import MissingExtraError

K1, B = 0.9, 0.4
MOST_RESULTS = 50
# Lucene's list for English.
STOP_WORDS = frozenset(
    (
        "a an and are as at be but by for if in into is it no not of on or such that the "
        "their then there these they this to was will with"
    ).split()
)
_ALONE = "\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Hiragana and ideographs
_PICTURES = "\u00a9\u00ae\u2122\u2600-\u27bf\U0001f000-\U0001faff"
# The word breaks of Unicode's annex 29: runs of letters, digits and joiners, in which one mark may
# stand between two letters or two digits; an ideograph or a picture is a word of its own.
_WORDS = re.compile(
    rf"[{_ALONE}]|[{_PICTURES}]\ufe0f?|(?:[^\W{_ALONE}]"
    r"|(?<=[^\W\d_])[.:'\u2018\u2019\u00b7\u2024\u2027\uff07\uff0e\uff1a](?=[^\W\d_])"
    r"|(?<=\d)[.,;'\u2018\u2019\u2024](?=\d))+"
)
_VOWEL_THEN_CONSONANT = re.compile("[aeiouy][^aeiouy]")


def analyze(text: str) -> list[str]:
    """Return the index terms of a text, as Lucene's English analysis makes them.

    Standard tokenizer, possessives off, lower case, stop words out, Porter's stemmer.
    """
    terms = []
    for word in _WORDS.findall(text):
        word = re.sub("['\u2019\uff07][sS]$", "", word).lower()
        if word.strip("_") and word not in STOP_WORDS:
            terms.append(_stem(word))
    return terms


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """Stem as Porter's own program does, with the rules that he added to his paper's."""
    if len(word) <= 2:
        return word
    stem = str(_stemmer().stemWord(word))
    if stem.endswith("bli") and _VOWEL_THEN_CONSONANT.search(stem[:-3]):
        return str(_stemmer().stemWord(stem[:-1] + "e"))
    if stem.endswith("logi") and _VOWEL_THEN_CONSONANT.search(stem[:-4]):
        return str(_stemmer().stemWord(stem[:-1]))
    return stem


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    try:
        from Stemmer import Stemmer
    except ImportError as error:
        raise _missing() from error
    return Stemmer("porter", maxCacheSize=0)


def build_index(documents: Iterable[list[str]], folder: Path) -> list[str]:
    """Index documents, given as terms, into `folder`.

    Returns:
        The terms in the order of their ids.
    """
    ids: dict[str, int] = {"": 0}  # an index without any term cannot be made
    corpus = [[ids.setdefault(term, len(ids)) for term in document] for document in documents]
    bm25 = _bm25()(k1=K1, b=B, method="lucene")
    bm25.index((corpus, ids), create_empty_token=False, show_progress=False)
    bm25.save(folder, show_progress=False)
    return list(ids)


class Index:
    """An index in a folder, mapped into memory and shared by all processes that open it.

    Args:
        folder: What `build_index` wrote.
        ranks: Breaks ties: of two documents with one score the lower rank comes first.
    """

    def __init__(self, folder: Path, ranks: np.ndarray) -> None:
        self._bm25 = _bm25().load(folder, mmap=True, load_vocab=False)
        self._ranks = ranks

    def search(self, terms: list[int], count: int = MOST_RESULTS) -> list[int]:
        """Return the best documents for the ids of a query's terms, best first.

        A term that occurs twice counts twice. Documents without any of the terms are left out.
        """
        if not terms:
            return []
        scores = self._bm25.get_scores_from_ids(terms)
        if len(scores) > count:
            least = max(float(np.partition(scores, -count)[-count]), np.finfo(np.float32).tiny)
        else:
            least = np.finfo(np.float32).tiny
        found = np.flatnonzero(scores >= least)
        order = np.lexsort((self._ranks[found], -scores[found]))
        return [int(place) for place in found[order[:count]]]


def _bm25() -> Any:
    try:
        from bm25s import BM25
    except ImportError as error:
        raise _missing() from error
    return BM25


def _missing() -> MissingExtraError:
    return MissingExtraError("WebShop needs the webshop extra: pip install 'hpl-gym[webshop]'.")
