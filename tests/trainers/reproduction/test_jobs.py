"""What a reproduction runs, once each, and what it takes from runs before."""

import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from threading import Thread

import pytest

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import ConfigError, load_config, save_config
from hpl_gym.trainers.reproduction import scheduler
from hpl_gym.trainers.reproduction.jobs import (
    STAGES,
    by_stage,
    make_jobs,
    make_runs,
    write_settings,
)
from hpl_gym.trainers.reproduction.presets import MAIN, RESULTS, load_preset
from hpl_gym.trainers.reproduction.scheduler import COST, Ledger, run_jobs
from tests.command_line import hpl
from tests.hpl_gym.alfworld.house import write_house

MINI = load_preset("mini")

COMMAND = """
import json, os, sys, time
from pathlib import Path
_, _, _, stage, _, run, *rest = sys.argv
name = rest[rest.index("--name") + 1] if "--name" in rest else None
name = rest[rest.index("--method") + 1] if "--method" in rest else name
folder = Path(run) / "eval" / name if stage == "eval" else Path(run) / (name or stage)
print(json.dumps({"stage": stage, "done": 1, "total": 2}), file=sys.stderr)
if stage == os.environ.get("BROKEN"):
    print("Error: The disk is full.", file=sys.stderr)
    raise SystemExit(1)
if stage == os.environ.get("KILLED"):
    os.kill(os.getpid(), 9)
folder.mkdir(parents=True, exist_ok=True)
if stage == os.environ.get("SLOW"):
    Path(os.environ["SLOW_FILE"]).write_text(str(os.getpid()))
    time.sleep(60)
(folder / "manifest.json").write_text(json.dumps({"finished": True, "config": {}}))
(folder / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
with open(Path(run).parents[1] / "order", "a") as file:
    print(Path(run).name, stage, name or "", file=file)
"""


@pytest.fixture(autouse=True)
def commands_that_only_tell(monkeypatch):
    monkeypatch.setattr(scheduler, "HPL", (sys.executable, "-c", COMMAND))


ALIKE = {
    "env.max_turns": 20,
    "env.kwargs": "{games: generated, rooms: small}",
    "experts": "{split: train, count: 9, mode: search, noisy: 0.5}",
}


def reproduce(root, seeds=1, policies=("sft", "eto", MAIN), overrides=(), slots=2):
    runs = make_runs(MINI, root, ["alfworld"], range(seeds), list(overrides))
    write_settings(runs)
    jobs = by_stage(job for run in runs for job in make_jobs(MINI, run, policies))
    count = run_jobs(jobs, Ledger(root), slots, threads=1)
    assert all((job.folder / "manifest.json").is_file() for job in jobs)
    return count


def order(root):
    return (root / "order").read_text().splitlines()


def test_jobs_run_after_what_they_need(tmp_path):
    assert reproduce(tmp_path) == 9
    seen = [line.split(" ", 1)[1].strip() for line in order(tmp_path)]
    for method in ("eto", MAIN):
        before = ("experts", "sft", "explore", "pairs", f"train {method}", f"eval {method}")
        places = [seen.index(one) for one in before]
        assert places == sorted(places)
    assert seen.index("eval sft") > seen.index("sft")
    assert {one.read_text() for one in tmp_path.glob("*/*/*/threads")} == {"1"}


def test_a_second_run_runs_nothing(tmp_path):
    reproduce(tmp_path)
    assert reproduce(tmp_path) == 0


def test_a_new_seed_or_policy_runs_only_what_is_new(tmp_path):
    reproduce(tmp_path)
    assert reproduce(tmp_path, policies=("sft", "eto", "ipr", MAIN)) == 2
    assert order(tmp_path)[-2:] == ["seed-0 train ipr", "seed-0 eval ipr"]
    assert reproduce(tmp_path, seeds=2) == 9
    assert all(line.startswith("seed-1") for line in order(tmp_path)[-9:])
    assert reproduce(tmp_path, policies=("sft", f"{MAIN}-phase-1")) == 1


def test_a_new_setting_runs_only_what_it_changes(tmp_path):
    reproduce(tmp_path)
    assert reproduce(tmp_path, overrides=["eval.count=7"]) == 3
    assert reproduce(tmp_path, overrides=["train.beta=0.1"]) == 4
    folders = sorted(one.parent for one in tmp_path.glob("*/seed-0/sft"))
    assert len(folders) == 3
    assert sum(one.joinpath("sft").is_symlink() for one in folders) == 2
    assert reproduce(tmp_path, overrides=["explore.concurrency=2"]) == 0


def test_methods_of_the_same_settings_are_both_trained(tmp_path):
    # In mini, `hpl` trains on the semantic groups too.
    assert reproduce(tmp_path, policies=("hpl", MAIN, f"{MAIN}-phase-1")) == 9


def test_benchmarks_that_settings_make_alike_share_their_jobs(tmp_path):
    alike = [f"{name}={value}" for name, value in ALIKE.items()]
    runs = make_runs(MINI, tmp_path, ["alfworld", "alfworld-real"], [0], alike)
    write_settings(runs)
    jobs = by_stage(job for run in runs for job in make_jobs(MINI, run, ["sft"]))
    assert len(jobs) == 6
    assert run_jobs(jobs, Ledger(tmp_path), 2, threads=1) == len({job.key for job in jobs}) == 4
    assert all((job.folder / "manifest.json").is_file() for job in jobs)


def test_a_folder_with_other_settings_is_refused(tmp_path):
    runs = make_runs(MINI, tmp_path, ["alfworld"], [0], [])
    write_settings(runs)
    write_settings(runs)
    save_config(load_config("quickstart"), runs[0].folder / "config.yaml")
    with pytest.raises(HPLGymError, match="has other settings"):
        write_settings(runs)


def test_what_files_hold_decides(tmp_path):
    prompt = tmp_path / "prompt.md"
    keys = []
    for text in ("Play.", "Play well."):
        prompt.write_text(text)
        runs = make_runs(MINI, tmp_path, ["alfworld"], [0], [f"prompt={prompt}"])
        keys.append([(job.key, job.folder) for job in make_jobs(MINI, runs[0], ["sft"])])
    experts, *others = zip(*keys, strict=True)
    assert experts[0][0] == experts[1][0]  # scripted, they read no prompt
    assert all(first[0] != second[0] for first, second in others)
    assert all(first[1] != second[1] for first, second in (experts, *others))


def test_what_games_hold_decides_for_the_split_that_is_played(tmp_path):
    split = "train/pick_and_place_simple-Apple-None-Shelf-1/trial_T1"
    games, found = tmp_path / "json_2.1.1", []
    write_house(games, split)
    seen = write_house(games, split.replace("train", "valid_seen"))
    for _ in range(2):
        own = [f"env.kwargs={{games: {tmp_path}}}"]
        (run,) = make_runs(MINI, tmp_path, ["alfworld-real"], [0], own)
        found.append({job.stage: job.key for job in make_jobs(MINI, run, ["sft"])})
        seen.write_text(seen.read_text() + " ")
    before, after = found
    assert [stage for stage in before if before[stage] != after[stage]] == ["eval"]


def test_settings_that_differ_have_different_folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.md").write_text("Play.")
    found = [
        make_runs(MINI, tmp_path, ["alfworld"], [0], settings)[0].folder
        for settings in (
            [],
            ["backend=openai"],
            [f"prompt={tmp_path / 'one.md'}"],
            [f"prompt={tmp_path / 'two.md'}"],
        )
    ]
    assert len(set(found)) == 4


def test_a_model_whose_weights_change_is_trained_anew_elsewhere(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for weights in (b"one", b"two"):
        (model / "model.safetensors").write_bytes(weights)
        reproduce(tmp_path, policies=["sft"], overrides=[f"sft.model={model}"])
    assert [line.split()[1] for line in order(tmp_path)] == ["experts", *["sft", "eval"] * 2]
    assert len(list(tmp_path.glob("*/seed-0/sft"))) == 2


def test_a_benchmark_is_run_for_what_is_shown_of_it(tmp_path, capsys):
    def commands(*results):
        assert hpl("reproduce", *results, "--dry-run", "--run", tmp_path, "--seeds", "1") == 0
        return Counter(re.findall(r"(\S+)-[0-9a-f]{8}/seed-0", capsys.readouterr().out))

    assert set(commands("--table", "6")) == {f"{tmp_path}/alfworld"}
    both = commands("--table", "2", "--table", "6")
    assert both[f"{tmp_path}/alfworld"] > both[f"{tmp_path}/webshop"] == 12
    alone = commands("--proposition", "--env", "webshop", "--env", "intercode-sql")
    assert alone == {f"{tmp_path}/webshop": 2, f"{tmp_path}/intercode-sql": 2}
    both = commands("--proposition", "--figure", "4", "--env", "webshop")
    assert both == {f"{tmp_path}/webshop": 9}


def test_another_device_is_another_result(tmp_path):
    def keys(*overrides):
        runs = make_runs(MINI, tmp_path, ["alfworld"], [0], list(overrides))
        return {job.name: job.key for job in make_jobs(MINI, runs[0], ["rft", "ipr"])}

    cpu, cuda = keys(), keys("device=cuda")
    assert [name for name in cpu if cpu[name] == cuda[name]] == ["alfworld 0 experts"]


def test_a_teachers_prompt_decides_and_a_scripted_experts_does_not(tmp_path):
    def key(*overrides):
        runs = make_runs(MINI, tmp_path, ["alfworld"], [0], list(overrides))
        return next(one.key for one in make_jobs(MINI, runs[0], ["sft"]) if one.stage == "experts")

    assert key("prompt=alfworld") == key("prompt=brief")
    taught = [
        key("experts.teacher=gpt", more)
        for more in ("prompt=alfworld", "prompt=brief", "max_new_tokens=5")
    ]
    assert len(set(taught)) == 3


def test_what_was_deleted_is_made_again(tmp_path):
    reproduce(tmp_path)
    gone = next(tmp_path.glob("*/seed-0/eval/sft"))
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    assert reproduce(tmp_path) == 1


def test_training_waits_for_an_exploration_that_was_deleted(tmp_path):
    reproduce(tmp_path)
    shutil.rmtree(next(tmp_path.glob("*/seed-0/explore")))
    shutil.rmtree(next(tmp_path.glob(f"*/seed-0/{MAIN}")))
    assert reproduce(tmp_path) == 2
    assert [line.split()[1] for line in order(tmp_path)[-2:]] == ["explore", "train"]


def test_what_links_led_to_may_be_deleted(tmp_path):
    reproduce(tmp_path)
    first = next(tmp_path.glob("*/seed-0")).parent
    reproduce(tmp_path, overrides=["eval.count=7"])
    shutil.rmtree(first)
    assert reproduce(tmp_path, overrides=["eval.count=7"]) == 6


def test_a_half_made_result_is_not_taken_for_the_whole_one_elsewhere(tmp_path):
    reproduce(tmp_path)
    runs = make_runs(MINI, tmp_path, ["alfworld"], [0], ["eval.count=7"])
    (runs[0].folder / "sft").mkdir(parents=True)
    job = next(one for one in make_jobs(MINI, runs[0], ["sft"]) if one.stage == "sft")
    assert not Ledger(tmp_path).take(job)


def test_a_failure_is_told_and_the_rest_goes_on_later(tmp_path, monkeypatch):
    monkeypatch.setenv("BROKEN", "pairs")
    with pytest.raises(HPLGymError, match=r"hpl pairs --run .*The disk is full"):
        reproduce(tmp_path)
    assert next(tmp_path.glob("*/seed-0/pairs.log")).read_text().endswith("The disk is full.\n")
    monkeypatch.delenv("BROKEN")
    done = len(order(tmp_path))
    assert 3 <= done < 9
    assert reproduce(tmp_path) == 9 - done


def test_a_command_that_was_killed_is_told_as_that(tmp_path, monkeypatch):
    monkeypatch.setenv("KILLED", "sft")
    with pytest.raises(HPLGymError, match=r"hpl sft --run .*ended by SIGKILL"):
        reproduce(tmp_path)


def test_a_reproduction_that_is_ended_ends_its_commands(tmp_path, monkeypatch):
    file = tmp_path / "pid"
    monkeypatch.setenv("SLOW", "sft")
    monkeypatch.setenv("SLOW_FILE", str(file))

    def terminate():
        while not (file.exists() and file.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    Thread(target=terminate, daemon=True).start()
    with pytest.raises(SystemExit, match="143"):
        reproduce(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_the_time_left_counts_what_jobs_cost(tmp_path, monkeypatch):
    shares = {}

    class Recorder:
        def advance(self):
            pass

        def note(self, text, share):
            shares.setdefault(text.split(" ", 2)[2], share)

    @contextmanager
    def bar(*_):
        yield Recorder()

    monkeypatch.setattr(scheduler, "bar", bar)
    assert reproduce(tmp_path, policies=["sft"], slots=1) == 3
    whole = COST["experts"] + COST["sft"] + COST["eval"]
    done = {name: round(share * whole, 6) for name, share in shares.items()}
    assert done == {
        "experts": 0,
        "experts 1/2": COST["experts"] / 2,
        "sft": COST["experts"],
        "sft 1/2": COST["experts"] + COST["sft"] / 2,
        "eval sft": COST["experts"] + COST["sft"],
        "eval sft 1/2": whole - COST["eval"] / 2,
    }


def test_every_job_stands_in_the_ledger_with_its_folder(tmp_path):
    reproduce(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert len({one["key"] for one in records}) == 9
    for one in records:
        assert (tmp_path / one["folder"] / "manifest.json").is_file()
        assert one["command"].startswith("hpl ")


@pytest.mark.parametrize("preset", ["mini", "gpu", "paper"])
def test_every_preset_has_a_plan_without_data_or_gpu(preset, tmp_path, capsys, monkeypatch):
    for name in ("HPL_DATA", "ALFWORLD_DATA", "WEBSHOP_DATA", "INTERCODE_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert hpl("reproduce", "--preset", preset, "--dry-run", "--run", tmp_path / "none") == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(shlex.split(line) for line in lines if " experts " in line)
    settings = load_config(first[5], first[6:])  # hpl experts --run RUN --config NAME SETTINGS
    assert settings == load_preset(preset).config("alfworld", 0, [])
    assert not (tmp_path / "none").exists()
    policies = {policy for one in RESULTS.values() for policy in one}
    methods = {one.partition("-phase-")[0] for one in policies} - {"sft", "rft"}
    stages = len(set(STAGES) - {"train", "eval"})
    assert len(lines) == 3 * 3 * (stages + len(methods) + len(policies))
    launched = [line for line in lines if line.startswith("accelerate launch")]
    assert bool(launched) == (preset == "paper")
    assert all(" train " in one or " sft " in one or " rft " in one for one in launched)


def test_the_paper_preset_has_teacher_cluster_and_either_model(tmp_path):
    paper = load_preset("paper")
    large = ["sft.model=Qwen/Qwen2.5-7B-Instruct"]
    for experiment in paper.experiments:
        config = paper.config(experiment, 2, large)
        assert config.seed == 2
        assert config.backend == "vllm"
        assert config.experts.teacher
        assert config.explore.semantic
        assert config.sft.model == "Qwen/Qwen2.5-7B-Instruct"
        assert paper.config(experiment, 2, []).sft.model == "Qwen/Qwen2.5-1.5B-Instruct"
        assert {"fixed-n", "fixed-k", "uncertainty", "semantic"} == set(config.explore.segmenters)


def test_mistakes_are_one_sentence(tmp_path, capsys):
    for text, *arguments in (
        ("no table 3", "--table", "3"),
        ("no experiment 'chess'", "--env", "chess"),
        ("train.beta", "train.beta=none"),
        ("betta", "train.betta=1"),
        ("train.epochs is what method", "train.epochs=2"),
        ("train is what method ipr", "--method", "ipr", "--table", "1", "train={epochs: 2}"),
        ("train.epochs is what method", "--method", "ipr", "--table", "1", "train.epochs =2"),
        ("choose how many by --seeds", "seed=5"),
        ("no method 'nope': use one of sft, rft, hpl", "--method", "nope", "--table", "1"),
        ("no policy 'eto-phase-1'", "--method", "eto-phase-1", "--table", "1"),
        ("--method chooses the rows", "--method", "ipr", "--figure", "4"),
        ("--method chooses the rows", "--method", "ipr", "--proposition"),
        ("have one phase", "--figure", "4", "train.curriculum=static"),
        ("have one phase", "--figure", "4", "train.group=0"),
        ("There is no table 6 of webshop", "--table", "6", "--env", "webshop"),
        ("explore.segmenters", "--table", "2", "explore.segmenters=[fixed-n]"),
        ("valid_sen", "--table", "1", "eval.splits=[valid_sen]"),
        ("no table 7", "--table", "7", "eval.splits=[valid_seen]"),
    ):
        where = () if "--env" in arguments else ("--env", "alfworld")
        assert hpl("reproduce", "--run", tmp_path / "none", *arguments, *where) == 1
        error = capsys.readouterr().err
        assert error.startswith("Error: ")
        assert text in error
        assert "Traceback" not in error
    assert not list((tmp_path / "none").glob("*/seed-0"))
    with pytest.raises(ConfigError):
        load_preset("huge")
