"""The optimiser: which parameters it has, its schedule, and that a step lowers the loss."""

import pytest
import torch

from hpl_gym.trainers.config import TinyConfig
from hpl_gym.trainers.optimizer import Optimizer
from hpl_gym.trainers.tiny import make_model, train_tokenizer


@pytest.fixture
def model():
    tokenizer = train_tokenizer(["put a mug on a shelf"], 300)
    return make_model(TinyConfig(layers=1, width=16, heads=2, kv_heads=2), tokenizer, seed=0)


@pytest.mark.parametrize("muon_lr", [None, 0.02])
def test_every_parameter_is_trained_once_and_the_loss_falls(model, muon_lr):
    optimizer = Optimizer(model, 1e-3, 20, 0.1, muon_lr)
    trained = [
        weight for part in optimizer.parts for g in part.param_groups for weight in g["params"]
    ]
    assert {id(weight) for weight in trained} == {id(weight) for weight in model.parameters()}
    assert len(trained) == len(list(model.parameters()))
    ids = torch.arange(8)[None]
    losses = []
    for _ in range(20):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(weight.grad is None for weight in model.parameters())


def test_muon_has_the_matrices_but_not_the_embeddings(model):
    adamw, muon = Optimizer(model, 1e-3, 10, 0.1, 0.02).parts
    assert all(weight.ndim == 2 for group in muon.param_groups for weight in group["params"])
    rest = [weight for group in adamw.param_groups for weight in group["params"]]
    assert any(weight is model.get_input_embeddings().weight for weight in rest)
    assert all(weight.ndim == 1 for weight in rest[1:])


def test_rates_rise_and_then_fall_to_nothing(model):
    optimizer = Optimizer(model, 1.0, 10, 0.2)
    rates = []
    for _ in range(10):
        rates.append(optimizer.schedules[0].get_last_lr()[0])
        optimizer.parts[0].step()
        optimizer.schedules[0].step()
    assert rates[0] == pytest.approx(0.5)
    assert max(rates) == pytest.approx(1.0) == rates[1]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.1
