"""Stage 2 and the baselines by the command line: methods, kills, many processes, mismatches."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from hpl_gym.trainers.config import METHODS
from hpl_gym.trainers.rft import distinct
from tests.command_line import hpl

TRAIN = [sys.executable, "-m", "hpl_gym.trainers.cli", "--progress", "quiet", "train"]
SINGLE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def copy(run, tmp_path):
    """The run without its training."""
    folder = tmp_path / "copy"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("train", "reference", "eval"))
    return folder


def interrupt(*_, **__):
    raise KeyboardInterrupt


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_training_goes_on_with_the_same_bytes(run, copy):
    command = [*TRAIN, "--run", str(copy), "train.save_steps=1"]
    process = subprocess.Popen(command, env=SINGLE, stderr=subprocess.PIPE)
    while process.poll() is None and not (copy / "train" / "checkpoint-3").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not json.loads((copy / "train/manifest.json").read_text())["finished"]
    assert hpl("train", "--run", copy) == 0
    ours, whole = (one / "train/metrics.jsonl" for one in (copy, run))
    assert ours.read_text() == whole.read_text()
    assert not list((copy / "train").glob("checkpoint-*"))


def train_in_two_processes(folder, *settings):
    # A launcher for GPUs, on a machine without one: `--cpu` would start a single process.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    launch += ["--dynamo_backend=no", "--main_process_port=0", *TRAIN[1:], "--run", str(folder)]
    launch += settings
    done = subprocess.run(launch, env=SINGLE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("sharding", [None, "zero1", "zero2", "zero3"])
def test_two_processes_have_the_losses_of_one(run, copy, sharding):
    if sharding:
        pytest.importorskip("deepspeed")
    train_in_two_processes(copy, *([f"train.args={{deepspeed: {sharding}}}"] if sharding else []))
    manifest = json.loads((copy / "train/manifest.json").read_text())
    assert manifest["processes"] == 2
    one, two = metrics(run / "train"), metrics(copy / "train")
    assert len(one) == len(two)
    for ours, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
        for name in ("bc/loss", "trajectory/loss", "step/loss"):
            assert theirs.get(name) == pytest.approx(ours.get(name), rel=1e-3), name
    assert hpl("eval", "--run", copy, "--agent", "train") == 0


def test_phases_are_evaluated_where_weights_are_sharded(run, copy):
    pytest.importorskip("deepspeed")
    train_in_two_processes(copy, "train.args={deepspeed: zero3}", "train.phases=evaluate")
    assert (copy / "eval/train-phase-2/result.json").is_file()
    ours, whole = (metrics(one / "train") for one in (copy, run))
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in whole], rel=1e-5)


def test_methods_are_trained_beside_each_other(copy):
    methods = ("ipr", "eto", "no-group")
    commands = ([*TRAIN, "--run", str(copy), "--method", one, "train.epochs=1"] for one in methods)
    running = [subprocess.Popen(one, env=SINGLE, stderr=subprocess.PIPE) for one in commands]
    for process in running:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told.decode()[-3000:]
    lines = (copy / "pairs/reference/logprobs.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in lines]
    assert len(keys) == len(set(keys)) > 10


def test_methods_differ_by_their_settings_alone(copy, capsys):
    assert hpl("train", "--run", copy, "--method", "ipr", "train.epochs=1") == 0
    assert hpl("train", "--run", copy, "--method", "eto", "train.epochs=1") == 0
    ipr, eto = metrics(copy / "ipr"), metrics(copy / "eto")
    assert {"bc/loss", "trajectory/loss", "step/loss"} <= set(ipr[0])
    assert "group/loss" not in ipr[0]
    assert "trajectory/loss" in eto[0]
    assert not {"bc/loss", "step/loss", "group/loss"} & set(eto[0])
    assert (copy / "pairs/reference/logprobs.jsonl").is_file()
    settings = json.loads((copy / "eto/manifest.json").read_text())["config"]["train"]
    assert (settings["bc"], settings["epochs"]) == (0, 1)
    shown = capsys.readouterr()
    assert "preferred" in shown.out
    assert "group pairs by length" not in shown.err
    assert not (copy / "ipr/curriculum.svg").exists()
    assert hpl("eval", "--run", copy, "--agent", "eto") == 0
    assert "eto" in capsys.readouterr().out
    assert hpl("train", "--run", copy, "--method", "magic") == 1
    assert "ipr" in capsys.readouterr().err


def test_other_settings_are_trained_beside_the_first(copy):
    assert hpl("train", "--run", copy, "--name", "low-beta", "train.beta=0.1") == 0
    settings = json.loads((copy / "low-beta/manifest.json").read_text())["config"]["train"]
    assert settings["beta"] == 0.1
    assert not (copy / "train").exists()
    assert hpl("eval", "--run", copy, "--agent", "low-beta") == 0


def test_every_method_is_a_valid_setting(copy, capsys):
    for name, settings in yaml.safe_load(METHODS.read_text()).items():
        assert hpl("train", "--run", copy, "--method", name, "train.max_length=16") == 1
        error = " ".join(capsys.readouterr().err.split())
        foreign = settings.get("train.segmenter", "fixed-n") != "fixed-n"
        expected = "no groups of the segmenter" if foreign else "no preference pair that fits"
        if name == "bc-only":  # it needs none
            expected = "nothing to train on"
        assert expected in error, name


def test_cloning_alone_takes_as_many_steps_as_with_preferences(copy):
    for method in ("bc-only", "ipr"):
        assert hpl("train", "--run", copy, "--method", method) == 0
    alone, with_pairs = (
        json.loads((copy / method / "manifest.json").read_text()) for method in ("bc-only", "ipr")
    )
    assert alone["steps"] == with_pairs["steps"]
    assert alone["experts"] == with_pairs["experts"] > 0
    assert not any(alone["pairs"].values())
    assert with_pairs["pairs"]["step"]
    for row in map(json.loads, (copy / "bc-only/metrics.jsonl").read_text().splitlines()):
        assert "bc/loss" in row
        assert not {"trajectory/loss", "step/loss", "group/loss"} & row.keys()


def test_the_policy_of_each_phase_is_evaluated(copy):
    assert hpl("train", "--run", copy, "train.phases=evaluate") == 0
    steps = json.loads((copy / "train/manifest.json").read_text())["steps"]
    for phase, count in enumerate(steps, 1):
        result = copy / f"eval/train-phase-{phase}/result.json"
        assert count
        assert json.loads(result.read_text())["splits"]["valid_seen"]["all"]
        assert (copy / f"train/phases/{phase}/model/config.json").is_file()


def test_a_phase_that_ended_unkept_is_not_made_up_for(copy, monkeypatch, capsys):
    saved = ("train", "--run", copy, "train.save_steps=1")
    with monkeypatch.context() as patch:
        patch.setattr("hpl_gym.trainers.fit._save", interrupt)
        assert hpl(*saved) == 130
    assert hpl(*saved, "train.phases=keep") == 1
    assert "Phase 1 ended before its policy was to be kept" in capsys.readouterr().err
    assert hpl(*saved) == 0


def test_the_curriculum_is_drawn_before_training(copy, capsys):
    assert hpl("train", "--run", copy) == 0
    shown = capsys.readouterr().err
    assert "group pairs by length and reward gap" in shown
    assert "empty" in shown
    assert "<svg" in (copy / "train/curriculum.svg").read_text()


def mismatch(copy, capsys):
    assert hpl("train", "--run", copy) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in error
    assert not (copy / "train/metrics.jsonl").exists()
    return error


def test_pairs_of_another_reference_are_refused(copy, capsys):
    weights = next((copy / "sft/model").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert "another reference policy" in mismatch(copy, capsys)


def test_pairs_of_another_template_are_refused(copy, capsys):
    template = copy / "sft/model/chat_template.jinja"
    template.write_text(template.read_text().replace("<|end|>", "<|end|> "))
    assert "another tokenizer, chat template or prompt" in mismatch(copy, capsys)


def test_a_model_without_a_template_is_refused(copy, capsys):
    (copy / "sft/model/chat_template.jinja").unlink()
    assert "no chat template" in mismatch(copy, capsys)


def test_pairs_longer_than_the_model_has_positions_are_refused(copy, capsys):
    file = copy / "sft/model/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 40}))
    assert "The model has 40 positions" in mismatch(copy, capsys)
    assert not (copy / "pairs/reference/logprobs.jsonl").read_text()  # before any is scored


def test_no_pairs_at_all(copy, capsys):
    for file in (copy / "pairs").glob("*.jsonl"):
        file.write_text("")
    assert "no preference pair" in mismatch(copy, capsys)


def test_cloning_alone_needs_no_pairs(copy):
    for file in (copy / "pairs").glob("*.jsonl"):
        file.write_text("")
    assert hpl("train", "--run", copy, "--method", "bc-only") == 0
    assert json.loads((copy / "bc-only/manifest.json").read_text())["experts"] > 0


def test_pairs_of_another_exploration_are_refused(copy, capsys):
    shutil.rmtree(copy / "explore")
    assert hpl("explore", "--run", copy, "explore.segmenters=[semantic]") == 0
    assert "delete their folder and run `hpl pairs` again" in mismatch(copy, capsys)


def test_pairs_of_experts_that_are_gone_are_refused(copy, capsys):
    source = copy / "experts/trajectories.jsonl"
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:-1]))
    assert "delete their folder and run `hpl pairs` again" in mismatch(copy, capsys)


def test_the_curriculums_picture_has_the_pairs_own_limits(copy):
    shutil.rmtree(copy / "pairs")
    assert hpl("pairs", "--run", copy, "pairs.lengths=[0,1,2]") == 0
    assert hpl("train", "--run", copy, "--method", "hpl-fixed-n") == 0
    picture = (copy / "hpl-fixed-n/curriculum.svg").read_text()
    assert "3&#160;or&#160;more" in picture
    assert "1&#160;to" not in picture


def test_pairs_of_other_experts_are_refused(copy, capsys):
    shutil.rmtree(copy / "pairs")
    source = copy / "experts/trajectories.jsonl"
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:-1]))
    assert hpl("pairs", "--run", copy) == 1
    assert "explored other expert trajectories" in " ".join(capsys.readouterr().err.split())


def test_a_trajectory_of_slips_alone_is_not_cloned(copy):
    source = copy / "experts/trajectories.jsonl"
    records = [json.loads(line) for line in source.read_text().splitlines()]
    solved = next(one for one in records if one["success"])
    solved["slips"] = list(range(len(solved["turns"])))
    source.write_text("".join(json.dumps(one) + "\n" for one in records))
    shutil.rmtree(copy / "sft")
    assert hpl("sft", "--run", copy, "sft.batch=1") == 0
    assert all(row["loss"] > 0 for row in metrics(copy / "sft"))


def test_nothing_to_train_on(copy, capsys):
    weights = [f"train.{term}=0" for term in ("bc", "trajectory", "step", "group")]
    assert hpl("train", "--run", copy, "--name", "none", *weights) == 1
    assert "There is nothing to train on" in capsys.readouterr().err


def test_experts_with_slips_alone_are_refused(copy, capsys):
    source = copy / "experts/trajectories.jsonl"
    slips = [json.loads(line) | {"slips": [0]} for line in source.read_text().splitlines()]
    source.write_text("".join(json.dumps(one) + "\n" for one in slips))
    shutil.rmtree(copy / "explore")
    assert hpl("explore", "--run", copy) == 1
    assert "no solved trajectory without slips" in capsys.readouterr().err


def test_a_model_that_was_exchanged_is_not_taken_for_the_one_before(copy, capsys):
    base = copy.parent / "base"
    shutil.copytree(copy / "sft/model", base)
    shutil.rmtree(copy / "sft")
    arguments = ("sft", "--run", copy, f"sft.model={base}")
    assert hpl(*arguments) == 0
    shutil.copyfile(copy / "sft/model/model.safetensors", base / "model.safetensors")
    assert hpl(*arguments) == 1
    assert (
        "sft was made with another configuration (base has other contents)"
        in capsys.readouterr().err
    )


def test_log_probabilities_of_other_pairs_are_refused(copy, capsys):
    assert hpl("train", "--run", copy) == 0
    shutil.rmtree(copy / "train")
    pairs = copy / "pairs/pairs_step.jsonl"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert "reference was made with another configuration" in mismatch(copy, capsys)


def test_rejection_sampling_clones_what_the_policy_solved(copy, monkeypatch):
    command = ("rft", "--run", copy, "rft.count=3", "rft.samples=2", "rft.epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr("hpl_gym.trainers.rft.clone", interrupt)
        assert hpl(*command) == 130
    records = map(json.loads, (copy / "experts/trajectories.jsonl").read_text().splitlines())
    solved = [one for one in records if one["success"]]
    same, other = ({**solved[0], "key": f"{solved[0]['task_id']}#{n}"} for n in (0, 1))
    other["turns"] = [other["turns"][0], *other["turns"]]  # another course to the same end
    with (copy / "rft/trajectories.jsonl").open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in (same, other))
    monkeypatch.setattr("hpl_gym.trainers.rft.load_policy", None)  # nothing is left to sample
    assert hpl(*command) == 0
    manifest = json.loads((copy / "rft/manifest.json").read_text())
    assert (manifest["sampled"], manifest["solved"], manifest["kept"]) == (8, 2, 1)
    assert manifest["trajectories"] == len(solved) + 1
    assert (copy / "rft/model/model.safetensors").is_file()


def test_half_precision_trains_and_scores_the_reference(copy):
    half = "train.args={bf16: true, gradient_checkpointing: true, deepspeed: null}"
    assert hpl("train", "--run", copy, half) == 0
    assert (copy / "pairs/reference-bf16/logprobs.jsonl").is_file()
    assert json.loads((copy / "train/manifest.json").read_text())["last"]["loss"] > 0


def test_a_mistake_that_shows_late_does_not_bind_the_folder(copy, capsys):
    for wrong in ("train.lora={target_modules: [q_prj]}", "train.args={report_to: comet_ml}"):
        assert hpl("train", "--run", copy, wrong) == 1
        assert "The setting" in capsys.readouterr().err
    assert hpl("train", "--run", copy, "train.lora={target_modules: [q_proj]}") == 0


def test_a_baseline_says_what_it_was_trained_on(copy):
    assert hpl("train", "--run", copy, "--method", "eto") == 0
    manifest = json.loads((copy / "eto/manifest.json").read_text())
    assert manifest["experts"] == manifest["pairs"]["step"] == manifest["pairs"]["group"] == 0
    assert manifest["pairs"]["trajectory"]


def test_every_course_is_kept_once_and_none_of_the_experts():
    def record(task, success, *replies):
        turns = [{"reply": f"Action: {reply}"} for reply in replies]
        return {"task_id": task, "success": success, "turns": turns}

    experts = [record("a", True, "x", "y")]
    sampled = [
        record("a", True, "x", "y"),
        record("a", True, "y"),
        record("a", True, "y"),
        record("b", True, "x", "y"),
        record("b", False, "z"),
    ]
    assert distinct(sampled, experts) == [sampled[1], sampled[3]]
