"""Log-probabilities under the reference policy: computed once, kept, finite."""

import json
import random

import pytest
import torch

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.examples import Example, collate, score
from hpl_gym.trainers.plan import Item
from hpl_gym.trainers.processes import processes
from hpl_gym.trainers.records import Stage
from hpl_gym.trainers.reference import with_references
from hpl_gym.trainers.scorer import score_trees
from hpl_gym.trainers.sections import TrainConfig
from tests.trainers.test_fit import load

RNG = random.Random(0)


def pair(expert, length=10):
    path = tuple(RNG.choices(range(3, 90), k=length))
    weights = (0.0,) * 4 + (1.0,) * (length - 4)
    loser = path[:4] + tuple(RNG.choices(range(3, 90), k=length - 4))
    return Item("step", expert, (Example(path, weights), Example(loser, weights)))


def beginning(item, tokens):
    cut = (Example(one.ids[:tokens], one.weights[:tokens]) for one in item.sequences)
    return Item("group", item.expert, tuple(cut))


ITEMS = [pair(f"e{number % 3}") for number in range(7)]
KEYS = [f"k{number}" for number in range(7)]


def referenced(folder, items=ITEMS, keys=KEYS, model=None, **settings):
    def reference():
        loaded = model or load()
        score_trees(loaded)
        return loaded

    stage, state = Stage(folder, {}), processes("cpu")
    return with_references(items, keys, reference, stage, state, TrainConfig(**settings))


def test_they_are_those_of_separate_sequences_in_the_pairs_order(tmp_path):
    found = referenced(tmp_path)
    assert [item.sequences for item in found] == [item.sequences for item in ITEMS]
    plain = load()
    for item in found:
        expected = [score(plain, collate([one])).item() for one in item.sequences]
        assert item.references == pytest.approx(expected, rel=1e-5)


def test_what_is_known_is_not_computed_again(tmp_path):
    first = referenced(tmp_path, ITEMS[:4], KEYS[:4])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.trainers.test_reference.load", None)  # whoever calls it fails
        assert referenced(tmp_path, ITEMS[:4], KEYS[:4]) == first
    assert referenced(tmp_path)[:4] == first
    lines = (tmp_path / "logprobs.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == KEYS


STEPS = [pair(f"e{number % 3}", 60) for number in range(6)]


def groups(segmenter, tokens):
    """Group pairs, the beginnings of the step pairs, with their keys."""
    return [beginning(item, tokens) for item in STEPS], [f"{segmenter}{n}" for n in range(6)]


def test_no_bit_depends_on_which_method_asks_first(tmp_path):
    none, a, b = ([], []), groups("a", 33), groups("b", 47)
    files = []
    for number, order in enumerate([(none, a, b), (b, a, none)]):
        folder = tmp_path / str(number)
        for items, keys in order:
            referenced(folder, [*STEPS, *items], [*KEYS[:6], *keys], pack_tokens=400)
        files.append(sorted((folder / "logprobs.jsonl").read_text().splitlines()))
    assert len(files[0]) == 18
    assert files[0] == files[1]


def test_a_killed_scoring_goes_on_with_the_same_bytes(tmp_path):
    items, keys = groups("a", 47)
    asked = [*STEPS, *items], [*KEYS[:6], *keys]
    referenced(tmp_path / "whole", *asked, pack_tokens=400)
    lines = (tmp_path / "whole" / "logprobs.jsonl").read_text().splitlines(keepends=True)
    for done in range(1, len(lines)):
        folder = tmp_path / str(done)
        Stage(folder, {}).append("logprobs", *map(json.loads, lines[:done]))
        referenced(folder, *asked, pack_tokens=400)
        assert (folder / "logprobs.jsonl").read_text() == "".join(lines)


def test_a_pair_larger_than_a_tree_has_one_of_its_own(tmp_path):
    items = [pair("e0", 20), *ITEMS, pair("e9", 20)]
    keys = ["first", *KEYS, "last"]
    found = referenced(tmp_path / "small", items, keys, pack_tokens=16)
    for one, other in zip(found, referenced(tmp_path / "large", items, keys), strict=True):
        assert one.references == pytest.approx(other.references, rel=1e-5)


def test_too_long_pairs_are_left_out(tmp_path):
    long = Item("step", "e9", (Example((3,) * 20, (1.0,) * 20), ITEMS[0].sequences[1]))
    assert len(referenced(tmp_path, [*ITEMS, long], [*KEYS, "long"], max_length=16)) == 7


def test_numbers_that_are_none_are_named(tmp_path):
    model = load()
    with torch.no_grad():
        model.get_input_embeddings().weight[5:].fill_(float("nan"))
    with pytest.raises(HPLGymError, match=r"gives pair 'k\d' or one near it no finite"):
        referenced(tmp_path, model=model)
    assert not (tmp_path / "logprobs.jsonl").read_text()
