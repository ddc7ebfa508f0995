"""Trees of sequences: the same log-probabilities and gradients as sequence by sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM, Starcoder2Config, Starcoder2ForCausalLM

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.examples import Example, collate, score
from hpl_gym.trainers.packing import Tree, pack
from hpl_gym.trainers.scorer import score_trees, tree_logprobs

VOCABULARY = 5
SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def model_of(kind, **more):
    """Return a model in double precision; Starcoder2 computes all of itself in it."""
    torch.manual_seed(0)
    if kind == "starcoder2":
        dropouts = {f"{name}_dropout": 0.0 for name in ("embedding", "residual", "attention")}
        config = Starcoder2Config(**SIZE | more, **dropouts, sliding_window=None)
        return Starcoder2ForCausalLM(config).double()
    return Qwen2ForCausalLM(Qwen2Config(**SIZE | more)).double()


MODELS = {kind: (model_of(kind), model_of(kind)) for kind in ("starcoder2", "qwen2")}
for _, trees in MODELS.values():
    score_trees(trees)

sequences = st.integers(2, 12).flatmap(
    lambda length: st.builds(
        lambda ids, weights: Example(tuple(ids), tuple(weights)),
        st.lists(st.integers(0, VOCABULARY - 1), min_size=length, max_size=length),
        st.lists(st.sampled_from((0.0, 1.0, 0.3)), min_size=length, max_size=length),
    )
)


def tree_of(examples):
    tree = Tree()
    assert tree.add(examples)
    return tree


def gradients(model, total):
    model.zero_grad()
    total.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize(("kind", "error"), [("starcoder2", 1e-9), ("qwen2", 1e-6)])
@given(examples=st.lists(sequences, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_tree_is_worth_its_sequences(kind, error, examples):
    # Few tokens make many shared prefixes. Qwen2's norms compute in single precision.
    separate, packed = MODELS[kind]
    tree = tree_of(examples)
    got = packed(packed=pack(tree))
    expected = torch.cat([score(separate, collate([one])) for one in examples])
    assert torch.allclose(got, expected, rtol=error, atol=error)
    factors = torch.arange(1, len(examples) + 1)
    if not expected.requires_grad or not any(any(one.weights[1:]) for one in examples):
        return
    ours, theirs = (
        gradients(model, (factors * total).sum())
        for model, total in ((packed, got), (separate, expected))
    )
    assert (ours - theirs).norm() <= error * theirs.norm() + 1e-12


@given(examples=st.lists(sequences, min_size=1, max_size=8))
def test_every_prefix_is_there_once(examples):
    prefixes = {one.ids[:end] for one in examples for end in range(1, len(one.ids) + 1)}
    tree = tree_of(examples)
    assert len(tree) == len(prefixes)
    assert tree.asked == sum(len(one.ids) for one in examples)
    assert sum(pack(tree).lengths) == sum(pack(tree).pieces) == len(tree)


@given(first=st.lists(sequences, max_size=4), second=st.lists(sequences, min_size=1, max_size=4))
def test_what_does_not_fit_leaves_no_trace(first, second):
    tree, alone = tree_of(first), tree_of(first)
    both = tree_of(first + second)
    assert not tree.add(second, most=len(both) - 1)
    for name in ("ids", "depths", "parents", "starts", "sequences", "asked"):
        assert getattr(tree, name) == getattr(alone, name)
    assert tree.add(second, most=len(both))
    assert tree.ids == both.ids


def test_logits_in_chunks_are_the_same():
    _, model = MODELS["starcoder2"]
    examples = [Example((0, 1, 2, 3, at), (1.0,) * 5) for at in range(VOCABULARY)]
    whole = tree_logprobs(model, pack(tree_of(examples)))
    parts = tree_logprobs(model, pack(tree_of(examples)), logits_at_a_time=2 * VOCABULARY)
    assert torch.equal(whole, parts)
    ours, theirs = (gradients(model, total.sum()) for total in (parts, whole))
    assert torch.allclose(ours, theirs, rtol=1e-12)


def test_gradient_checkpointing_changes_nothing():
    model = model_of("starcoder2")
    score_trees(model)
    packed = pack(tree_of([Example((0, 1, 2, 3), (1.0,) * 4), Example((0, 1, 4), (1.0,) * 3)]))
    plain = gradients(model, model(packed=packed).sum())
    model.train()
    model.gradient_checkpointing_enable()
    assert torch.allclose(gradients(model, model(packed=packed).sum()), plain, rtol=1e-12)


def test_a_path_beyond_a_sliding_window_is_refused():
    model = model_of("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0)
    score_trees(model)
    packed = pack(tree_of([Example((0, 1, 2, 3, 4), (1.0,) * 5)]))
    with pytest.raises(HPLGymError, match="sliding window"):
        model(packed=packed)


def test_an_empty_tree_is_refused():
    with pytest.raises(ValueError, match="empty"):
        pack(Tree())
