"""Training on a plan: arguments, adapters, checkpoints, resume and what is saved."""

import json
import random
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from hpl_gym.agents.language_model import load_model
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.examples import Example, collate, score
from hpl_gym.trainers.fit import fit, last_checkpoint
from hpl_gym.trainers.optimizer import MuonAdamW
from hpl_gym.trainers.plan import clone_plan
from hpl_gym.trainers.processes import processes
from hpl_gym.trainers.records import Stage
from hpl_gym.trainers.sections import TinyConfig, TuningConfig
from hpl_gym.trainers.tiny import make_model
from hpl_gym.trainers.tree_trainer import TreeTrainer
from tests.language import new_model, tokenizer

RNG = random.Random(0)
BEGIN = tuple(RNG.choices(range(3, 90), k=5))  # of all examples, so that trees have branches
EXAMPLES = [
    Example((*BEGIN, *RNG.choices(range(3, 90), k=7)), (0.0,) + (1.0,) * 11) for _ in range(6)
]
IDS = torch.arange(3, 15)[None]


def load():
    return new_model()


def trained(folder, *, epochs=2, optimizer=None, phase_end=None, **settings):
    plan = clone_plan(EXAMPLES, 2, epochs, random.Random(0))
    plan += clone_plan(EXAMPLES, 2, 1, random.Random(1), phase=2)
    stage = Stage(folder, {})
    fit(
        load,
        tokenizer(),
        plan,
        TuningConfig(**{"lr": 1e-2} | settings),
        stage,
        processes("cpu"),
        seed=0,
        optimizer=optimizer,
        phase_end=phase_end,
    )
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines], stage.manifest


def test_the_loss_is_the_mean_over_tokens_and_falls(tmp_path):
    losses, manifest = trained(tmp_path)
    first = clone_plan(EXAMPLES, 2, 1, random.Random(0))[0]
    batch = collate([item.sequences[0] for item, _ in first.items])
    assert losses[0] == pytest.approx(-score(load(), batch).sum().item() / 22, rel=1e-5)
    assert losses[-1] < losses[0]
    assert manifest["parameters"] == manifest["trained"] == load().num_parameters()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_training_on_two_threads_repeats_itself(tmp_path):
    def weights(folder):
        stage = Stage(tmp_path / folder, {})
        fit(wide, tokenizer(), plan, TuningConfig(lr=1e-2), stage, processes("cpu"), seed=0)
        return load_file(stage.folder / "model" / "model.safetensors")

    def wide():
        config = TinyConfig(layers=1, width=512, heads=2, kv_heads=1)
        return make_model(config, tokenizer(), 0)

    # Each token predicts 12 others, whose gradients meet there.
    forks = [Example((3, one, two), (0.0, 1.0, 1.0)) for one in range(12) for two in range(12)]
    plan = clone_plan(forks, len(forks), 2, random.Random(0))

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, again = weights("first"), weights("again")
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not torch.are_deterministic_algorithms_enabled()


def test_adapters_are_trained_alone_and_merged(tmp_path):
    losses, manifest = trained(tmp_path, lora={"r": 2, "target_modules": ["q_proj", "v_proj"]})
    assert losses[-1] < losses[0]
    assert manifest["trained"] < manifest["parameters"] / 10
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    saved, base = load_file(tmp_path / "model" / "model.safetensors"), load().state_dict()
    changed = {name for name, weight in saved.items() if not torch.equal(weight, base[name])}
    assert changed == {name for name in saved if "q_proj.weight" in name or "v_proj.weight" in name}
    model, _ = load_model(tmp_path / "model")
    assert model(input_ids=IDS).logits.shape == (1, 12, len(tokenizer()))


def test_a_device_that_is_not_the_first_is_refused(monkeypatch):
    monkeypatch.setattr("hpl_gym.trainers.processes.check_device", lambda _: None)
    with pytest.raises(HPLGymError, match="CUDA_VISIBLE_DEVICES=1 and device=cuda"):
        processes("cuda:1")


def test_keeping_a_phases_policy_changes_no_loss(tmp_path):
    lora = {"r": 2, "target_modules": ["q_proj"], "lora_dropout": 0.5}
    alone, _ = trained(tmp_path / "alone", lora=lora)
    kept, _ = trained(tmp_path / "kept", lora=lora, phase_end=lambda *_: None)
    assert kept == alone


def test_a_single_step_trains(tmp_path):
    plan = clone_plan(EXAMPLES, 6, 1, random.Random(0))
    settings, stage = TuningConfig(lr=1e-2), Stage(tmp_path, {})
    fit(load, tokenizer(), plan, settings, stage, processes("cpu"), seed=0)
    assert len(plan) == 1
    weights = load_file(tmp_path / "model/model.safetensors")
    before = load().state_dict()
    assert any(not torch.equal(weights[key], before[key]) for key in weights)


def test_half_precision_is_near_single(tmp_path):
    whole, _ = trained(tmp_path / "whole")
    half, _ = trained(tmp_path / "half", args={"bf16": True})
    assert half == pytest.approx(whole, rel=0.02)
    assert half != whole


def test_a_tracker_gets_the_metrics(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    trained(tmp_path / "run", args={"report_to": "tensorboard"})
    (events,) = (tmp_path / "logs").rglob("events.out.*")
    content = events.read_bytes()
    for name in (b"bc/loss", b"tokens_per_second", b"tokens_saved"):
        assert name in content


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"args": {"no_such": 1}}, "no_such"),
        ({"args": {"learning_rate": 0.5}}, "learning_rate follows"),
        ({"args": {"seed": 1}}, "the run's seed"),
        ({"args": {"lr_scheduler_type": "sometimes"}}, "sometimes"),
        ({"args": {"gradient_accumulation_steps": 1}}, "follows from lr, warmup, batch"),
        ({"args": {"per_device_train_batch_size": 2}}, "follows from lr, warmup, batch"),
        ({"args": {"logging_steps": 2}}, "follows from lr, warmup, batch"),
        ({"args": {"save_only_model": True}}, "follows from lr, warmup, batch"),
        ({"args": {"ignore_data_skip": True}}, "follows from lr, warmup, batch"),
        ({"args": {"eval_strategy": "steps"}}, "eval_strategy has no part"),
        ({"args": {"eval_on_start": True}}, "eval_on_start has no part"),
        ({"args": {"label_smoothing_factor": 0.3}}, "label_smoothing_factor has no part"),
        ({"args": {"fp16": True}}, "half precision is bf16"),
        ({"args": {"bf16": "maybe"}}, "bf16 is False by default and cannot be 'maybe'"),
        ({"args": {"max_grad_norm": "abc"}}, "max_grad_norm is 1.0 by default"),
        ({"args": {"save_total_limit": "abc"}}, "save_total_limit is 1 by default"),
        ({"args": {"report_to": "comet_ml"}}, "comet"),
        ({"args": {"lr_scheduler_kwargs": {"nope": 1}}}, "nope"),
        ({"args": {"dataloader_num_workers": -1}}, "num_workers"),
        ({"args": {"deepspeed": "zero3"}}, "launcher"),
        ({"lora": {"no_such": 1}}, "no_such"),
        ({"lora": {"target_modules": ["nowhere"]}}, "nowhere"),
        ({"lora": {"rank_pattern": 3}}, "setting 'lora'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, settings, text):
    with pytest.raises(HPLGymError, match=text):
        trained(tmp_path, **settings)


def test_a_model_with_too_few_positions_is_refused(tmp_path, monkeypatch):
    def short():
        made = new_model()
        made.config.max_position_embeddings = 8
        return made

    monkeypatch.setattr("tests.trainers.test_fit.load", short)
    with pytest.raises(HPLGymError, match=r"8 positions, .* has 1\d tokens"):
        trained(tmp_path)


class StopError(Exception):
    pass


@pytest.mark.parametrize("muon", [False, True])
def test_a_stopped_training_goes_on_with_the_same_losses(tmp_path, monkeypatch, muon):
    def optimizer(model):
        return MuonAdamW(model, 1e-2, 0.02)

    made = optimizer if muon else None
    expected, _ = trained(tmp_path / "whole", optimizer=made)
    inner = TreeTrainer.training_step

    def step(self, *arguments, **keywords):
        if self.state.global_step == 7:
            raise StopError
        return inner(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(TreeTrainer, "training_step", step)
        with pytest.raises(StopError):
            trained(tmp_path / "stopped", optimizer=made, save_steps=2)
    torn = tmp_path / "stopped" / "checkpoint-99"  # as a kill in the midst of saving leaves it
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(tmp_path / "stopped")[1] == 6
    with (tmp_path / "stopped" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    got, _ = trained(tmp_path / "stopped", optimizer=made, save_steps=2)
    assert got == expected
    one, other = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_seconds_before_a_stop_count(tmp_path, monkeypatch):
    inner, seen = TreeTrainer.training_step, []
    monkeypatch.setattr("hpl_gym.trainers.records.SECONDS", 0.0)

    def seconds():
        return json.loads((tmp_path / "manifest.json").read_text())["seconds"]

    def step(self, *arguments, **keywords):
        seen.append(seconds())
        if self.state.global_step == 5:
            raise StopError
        time.sleep(0.01)
        return inner(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(TreeTrainer, "training_step", step)
        with pytest.raises(StopError):
            trained(tmp_path, save_steps=2)
    assert seen == sorted(set(seen))
    assert len(seen) == 6
    _, manifest = trained(tmp_path, save_steps=2)
    assert manifest["seconds"] > seen[5]


def test_nothing_is_trained_again_after_a_kill_while_checkpoints_are_deleted(tmp_path, monkeypatch):
    expected, whole = trained(tmp_path / "whole")
    delete = shutil.rmtree

    def killed(folder, **options):
        if not folder.name.startswith("checkpoint"):
            return delete(folder, **options)
        (folder / "model.safetensors").unlink()
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr("hpl_gym.trainers.fit.shutil.rmtree", killed)
        with pytest.raises(StopError):
            trained(tmp_path / "stopped", save_steps=100)
    with monkeypatch.context() as patch:
        patch.setattr(TreeTrainer, "training_step", None)  # whoever calls it fails
        got, manifest = trained(tmp_path / "stopped", save_steps=100)
    assert got == expected
    assert manifest["parameters"] == whole["parameters"]
    assert not list((tmp_path / "stopped").glob("checkpoint-*"))


def test_the_policy_of_each_phase_is_handed_over(tmp_path):
    handed = []
    trained(tmp_path, phase_end=lambda phase, folder: handed.append((phase, folder)))
    assert [phase for phase, _ in handed] == [1, 2]
    first, second = (load_file(folder / "model.safetensors") for _, folder in handed)
    last = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(second[key], last[key]) for key in last)
    assert any(not torch.equal(first[key], last[key]) for key in last)


def test_the_policy_of_a_phase_is_kept_when_its_evaluation_is_killed(tmp_path):
    def killed(*_):
        raise StopError

    with pytest.raises(StopError):
        trained(tmp_path, phase_end=killed)
    kept = tmp_path / "phases/1/model/model.safetensors"
    before, handed = kept.stat().st_mtime_ns, []
    trained(tmp_path, phase_end=lambda phase, _: handed.append(phase))
    assert handed == [1, 2]
    assert kept.stat().st_mtime_ns == before
