"""The optimiser of models made on the spot: which parameters it has, that it learns and resumes."""

import copy

import pytest
import torch

from hpl_gym.trainers.optimizer import Muon, MuonAdamW, orthogonal
from hpl_gym.trainers.sections import TinyConfig
from hpl_gym.trainers.tiny import make_model, train_tokenizer

IDS = torch.arange(8)[None]


@pytest.fixture
def model():
    tokenizer = train_tokenizer(["put a mug on a shelf"], 300)
    return make_model(TinyConfig(layers=1, width=16, heads=2, kv_heads=2), tokenizer, seed=0)


def step(model, optimizer):
    loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def test_every_parameter_is_trained_once_and_the_loss_falls(model):
    optimizer = MuonAdamW(model, 1e-3, 0.02)
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in trained} == {id(weight) for weight in model.parameters()}
    assert len(trained) == len(list(model.parameters()))
    losses = [step(model, optimizer) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert all(weight.grad is None for weight in model.parameters())


def test_muon_is_torchs_muon_but_for_its_half_precision(model, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    twin = copy.deepcopy(model)
    ours, theirs = (
        [weight for weight in one.model.layers.parameters() if weight.ndim == 2]
        for one in (model, twin)
    )
    mine, other = Muon(ours, 0.02), torch.optim.Muon(theirs, 0.02, weight_decay=0.0)
    before = [weight.detach().clone() for weight in ours]
    for _ in range(3):
        for one in (model, twin):
            one.zero_grad()
            one(input_ids=IDS, labels=IDS).loss.backward()
        mine.step()
        other.step()
    for start, weight, expected in zip(before, ours, theirs, strict=True):
        assert (weight - expected).norm() < 1e-3 * (expected - start).norm()


def test_orthogonal_matrices_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 8, 20)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_has_the_matrices_but_not_the_embeddings(model):
    adamw, muon = MuonAdamW(model, 1e-3, 0.02).parts
    assert all(weight.ndim == 2 for group in muon.param_groups for weight in group["params"])
    rest = [weight for group in adamw.param_groups for weight in group["params"]]
    assert any(weight is model.get_input_embeddings().weight for weight in rest)
    assert all(weight.ndim == 1 for weight in rest[1:])


def test_a_schedule_sets_the_rates_of_both(model):
    optimizer = MuonAdamW(model, 1e-3, 0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    optimizer.step()
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [5e-4, 0.01]


def test_it_goes_on_from_its_state(model):
    optimizer = MuonAdamW(model, 1e-3, 0.02)
    for _ in range(3):
        step(model, optimizer)
    twin = copy.deepcopy(model)
    resumed = MuonAdamW(twin, 1.0, 1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups[0]["lr"] == resumed.parts[0].param_groups[0]["lr"] == 1e-3
    for _ in range(3):
        assert step(model, optimizer) == step(twin, resumed)
