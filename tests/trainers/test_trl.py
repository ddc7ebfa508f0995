"""TRL's `DPOTrainer` as the yardstick: the same loss and gradients where its mask is made ours."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpl_gym.trainers.examples import Example, collate
from hpl_gym.trainers.losses import dpo_loss, dpo_margins
from hpl_gym.trainers.packing import Tree, pack
from hpl_gym.trainers.scorer import score_trees
from tests.language import new_model, tokenizer

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

BETA = 0.3


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    args = trl.DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        beta=BETA,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
    )
    rows = [{"prompt": "go", "chosen": " left", "rejected": " right"}]
    model = new_model(0).double()
    model.config._name_or_path = "tiny"
    return trl.DPOTrainer(
        model,
        new_model(1).double(),
        args,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer(),
    )


tokens = st.lists(st.integers(3, 90), min_size=1, max_size=12)
flags = st.lists(st.sampled_from((0.0, 1.0)), min_size=12, max_size=12)
pairs = st.tuples(tokens, tokens, tokens, flags, flags)


def sequence(prompt, completion, mask):
    """A multi-turn completion: observations between replies do not count."""
    weights = (0.0,) * len(prompt) + tuple(mask[: len(completion)])
    return Example(tuple(prompt + completion), weights)


# TRL's log-probabilities are in single precision, whose rounding alone can pass 1e-6 (one example
# in a hundred), so the examples are the same each time.
@given(rows=st.lists(pairs, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_loss_and_its_gradients_are_trls(theirs, rows):
    winners = [sequence(prompt, one, mask) for prompt, one, _, mask, _ in rows]
    losers = [sequence(prompt, other, mask) for prompt, _, other, _, mask in rows]
    batch = collate(winners + losers)
    theirs.model.zero_grad()
    loss = theirs.compute_loss(
        theirs.model,
        {
            "input_ids": batch.ids,
            "attention_mask": batch.attention,
            "completion_mask": batch.weights.long(),
        },
    )
    loss.backward()
    expected = torch.cat([weight.grad.flatten() for weight in theirs.model.parameters()])

    policy, reference = new_model(0).double(), new_model(1).double()
    tree = Tree()
    for pair in zip(winners, losers, strict=True):
        tree.add(pair)
    for model in (policy, reference):
        score_trees(model)
    values = policy(packed=pack(tree)).view(-1, 2).T
    with torch.no_grad():
        known = reference(packed=pack(tree)).view(-1, 2).T
    ours = dpo_loss(dpo_margins(*values, *known), BETA).mean()
    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)
    ours.backward()
    got = torch.cat([weight.grad.flatten() for weight in policy.parameters()])
    assert (got - expected).norm() <= 1e-5 * expected.norm() + 1e-8
