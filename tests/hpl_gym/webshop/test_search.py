import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpl_gym.webshop.search import Index, analyze, build_index


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Women's running shoes, size 7.5!", ["women", "run", "shoe", "size", "7.5"]),
        ("The hoodie is NOT for the cat", ["hoodi", "cat"]),
        ("SC-HT830V DVD/VCR", ["sc", "ht830v", "dvd", "vcr"]),
        (
            "24x36 inch 1,000 3.5mm U.S.A. d'or",
            ["24x36", "inch", "1,000", "3.5mm", "u.s.a", "d'or"],
        ),
        ("usb_c don’t O’Neil’s", ["usb_c", "don’t", "o’neil"]),
        ("technology assembly ❤️ us™", ["technolog", "assembl", "❤️", "us", "™"]),
        ("日本 かな カタカナ", ["日", "本", "か", "な", "カタカナ"]),
        ("-- & ___ ' .", []),
        ("", []),
    ],
)
def test_analysis(text, terms):
    assert analyze(text) == terms


def reference(documents, query, k1=0.9, b=0.4):
    """BM25 as Lucene's documentation gives it, from its formula, document by document."""
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for term in query:
            found = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - found + 0.5) / (found + 0.5))
            norm = k1 * (1 - b + b * len(document) / average)
            score += idf * counts[term] / (counts[term] + norm)
        scores.append(score)
    return scores


terms = st.sampled_from("abcdefg")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(terms, min_size=1, max_size=9), min_size=1, max_size=70),
    st.lists(terms, max_size=5),
)
def test_search_ranks_as_the_formula_does(tmp_path_factory, documents, query):
    folder = tmp_path_factory.mktemp("index") / "index"
    ids = {term: place for place, term in enumerate(build_index(documents, folder))}
    query = [term for term in query if term in ids]
    index = Index(folder, np.arange(len(documents), dtype=np.int32))
    found = index.search([ids[term] for term in query])
    expected = reference(documents, query)
    hits = sum(score > 0 for score in expected)
    assert len(found) == len(set(found)) == min(50, hits)
    scores = [expected[place] for place in found]
    assert scores == pytest.approx(sorted(expected, reverse=True)[: len(found)], rel=1e-4)


def test_ties_are_broken_by_rank(tmp_path):
    build_index([["a"]] * 60 + [["a", "a"]], tmp_path / "index")
    ranks = np.arange(60, -1, -1, dtype=np.int32)
    found = Index(tmp_path / "index", ranks).search([1])
    assert found == [60, *range(59, 10, -1)]
