"""The whole method, end to end, very small, through the command line."""

import asyncio
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hpl_gym
from hpl_gym.alfworld.env import ALFWorldEnv
from hpl_gym.alfworld.generate import generated_tasks
from hpl_gym.trainers import cluster
from hpl_gym.trainers.cluster import Cluster
from hpl_gym.trainers.config import load_config
from hpl_gym.trainers.records import read_records
from hpl_gym.trainers.rollout import Simulator
from hpl_gym.trainers.trajectory import replay
from tests.command_line import hpl
from tests.hpl_gym.alfworld.house import write_house

GAME = "train/pick_and_place_simple-Apple-None-Shelf-1/trial_T1"


def test_every_stage_leaves_its_files(run):
    for name in ("experts", "sft", "explore", "pairs", "train", "eval/random", "eval/train"):
        manifest = json.loads((run / name / "manifest.json").read_text())
        assert manifest["finished"]
        assert manifest["packages"]["hpl-gym"]
    result = json.loads((run / "result.json").read_text())
    assert set(result["results"]) == {"random", "SFT", "HPL"}
    for agent in result["results"].values():
        assert agent["splits"]["valid_seen"]["all"]["episodes"] == 4


def test_a_second_call_computes_nothing_and_changes_nothing(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    assert hpl("quickstart", "--run", run) == 0
    assert before == {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    assert "Success on generated valid_seen games" in capsys.readouterr().out


@pytest.mark.parametrize("other", [("--env", "webshop"), ("--games", "real")])
def test_a_run_goes_on_with_what_it_plays(run, other, capsys, monkeypatch):
    monkeypatch.setattr("hpl_gym.alfworld.games.locate_or_unpack", lambda: None)
    assert hpl("quickstart", "--run", run, *other) == 1
    assert "begin another run" in capsys.readouterr().err
    assert json.loads((run / "result.json").read_text())["env"] == "alfworld"


def test_branches_replay_and_pairs_hang_on_them(run):
    config = load_config(run / "config.yaml")
    experts = {one["key"]: one for one in read_records(run / "experts/trajectories.jsonl")}
    branches = list(read_records(run / "explore/trajectories.jsonl"))
    explored = dict.fromkeys(one["expert"] for one in branches)
    assert len(branches) == sum(len(experts[key]["turns"]) for key in explored)
    simulator = Simulator(*config.env.make("train"))
    for branch in branches[::5]:
        expert = experts[branch["expert"]]
        whole = {**expert, "turns": expert["turns"][: branch["start"]] + branch["turns"]}
        states = replay(simulator, whole)  # raises if any observation differs
        assert states[-1].over
        assert states[-1].reward == branch["reward"]
    for level in ("trajectory", "step", "group"):
        for pair in read_records(run / f"pairs/pairs_{level}.jsonl"):
            assert pair["reward_winner"] - pair["reward_loser"] > 0.01
            assert len(pair["loser"]) >= 1
            if level == "group":
                assert len(pair["loser"]) <= pair["stop"] - pair["start"]


def test_values_are_means_of_rollouts_and_each_state_is_valued_once(run):
    values = list(read_records(run / "explore/values.jsonl"))
    assert len({one["key"] for one in values}) == len(values)
    for one in values:
        assert len(one["rewards"]) == 2
        assert one["value"] == sum(one["rewards"]) / 2


FILES = ("trajectories", "segments", "values", "groups")


def explored_again(run, folder, *arguments):
    """Explore in a copy of the run; return the files' contents and those of the run."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("explore", "pairs", "train"))
    assert hpl("explore", "--run", folder, *arguments) == 0
    return [
        [(one / f"explore/{name}.jsonl").read_bytes() for name in FILES] for one in (folder, run)
    ]


def test_exploration_gives_the_same_bytes_at_another_concurrency(run, tmp_path):
    again, before = explored_again(run, tmp_path / "copy", "explore.concurrency=1")
    assert again == before


def test_exploration_gives_the_same_bytes_on_a_cluster_where_a_worker_dies(
    run, tmp_path, monkeypatch
):
    ray = pytest.importorskip("ray")
    branches, killed = Cluster.branches, []

    async def deadly(self, expert):
        work = asyncio.ensure_future(branches(self, expert))
        if not killed:
            killed.append(self.workers[0])
            await self.workers[0].usage.remote()  # it is alive, and at work
            await asyncio.sleep(0.3)
            ray.kill(self.workers[0], no_restart=False)
        return await work

    monkeypatch.setattr(Cluster, "branches", deadly)
    again, before = explored_again(run, tmp_path / "copy", "--ray", "local")
    assert again == before
    assert killed


def test_evaluation_gives_the_same_bytes_on_a_cluster(run, tmp_path, capsys):
    pytest.importorskip("ray")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("eval"))
    where = ("--run", copy, "--agent", "sft")
    assert hpl("eval", *where, "--name", "here") == 0
    assert hpl("eval", *where, "--name", "there", "--ray", "local") == 0
    here, there = (
        [(copy / "eval" / name / file).read_text() for file in ("episodes.jsonl", "result.json")]
        for name in ("here", "there")
    )
    assert here == there
    capsys.readouterr()
    assert hpl("eval", "--run", copy, "--agent", "random", "--ray", "local") == 1
    assert "'random' has none: leave it out" in capsys.readouterr().err
    torn = tmp_path / "torn"
    shutil.copytree(copy / "sft" / "model", torn)
    (torn / "model.safetensors").write_bytes(b"torn")
    where = ("--run", copy, "--agent", torn, "--name", "torn")
    assert hpl("eval", *where, "--ray", "local") == 1
    error = capsys.readouterr().err
    assert "No model can be loaded" in error
    assert len(error) < 500


def test_a_cluster_has_every_variable_that_says_where_data_are():
    read = set()
    for path in Path(hpl_gym.__file__).parent.rglob("*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", path.read_text()))
    assert {"HPL_DATA", "HPL_CACHE", "ALFWORLD_DATA", "WEBSHOP_DATA", "INTERCODE_DATA"} <= read
    assert read <= set(cluster._VARIABLES)


def test_a_cluster_that_is_not_there_is_told_at_once(run, capsys):
    pytest.importorskip("ray")
    where = ("--run", run, "--agent", "sft", "--name", "nowhere")
    assert hpl("eval", *where, "--ray", "127.0.0.1:9") == 1
    assert "no Ray cluster at '127.0.0.1:9'" in capsys.readouterr().err


def test_training_again_gives_the_same_weights(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("train"))
    assert hpl("train", "--run", copy) == 0
    name = "train/model/model.safetensors"
    one, other = load_file(run / name), load_file(copy / name)
    assert all((one[key] == other[key]).all() for key in one)
    reference = load_file(run / "sft/model/model.safetensors")
    assert any((one[key] != reference[key]).any() for key in one)


def test_the_first_step_starts_at_the_reference(run):
    first = json.loads((run / "train/manifest.json").read_text())["first"]
    for level in ("trajectory", "step", "group"):
        assert first[f"{level}/loss"] == pytest.approx(0.693147, abs=1e-4)


def test_scripted_agent_is_evaluated_like_any_other(run, capsys):
    assert hpl("eval", "--agent", "scripted", "--run", run) == 0
    result = json.loads((run / "eval/scripted/result.json").read_text())
    assert result["splits"]["valid_seen"]["all"]["rate"] == 1.0
    assert "100.0 %" in capsys.readouterr().out


def test_results_on_other_games_are_not_mixed(tmp_path, capsys):
    path = write_house(tmp_path / "json_2.1.1", GAME)
    games = f"env.kwargs={{games: {tmp_path}}}"
    played = ("eval", "--run", tmp_path / "run", "--agent", "random", games, "eval.count=1")
    splits = ("eval.splits=[train]", "experts.split=train")
    assert hpl(*played, *splits) == 0
    assert hpl(*played, *splits) == 0
    path.write_text(path.read_text() + " ")
    assert hpl(*played, *splits) == 1
    assert "env_data.train has other contents" in capsys.readouterr().err


def test_a_task_of_two_splits_is_played_in_both(tmp_path, monkeypatch):
    monkeypatch.setattr(ALFWorldEnv, "tasks", lambda *_: generated_tasks("train", "small", 0)[:2])
    splits = "eval.splits=[valid_seen, valid_unseen]"
    small = "env.kwargs={games: generated, rooms: small}"
    assert hpl("eval", "--run", tmp_path, "--agent", "random", splits, small) == 0
    found = json.loads((tmp_path / "eval/random/result.json").read_text())["splits"]
    assert {split: one["all"]["episodes"] for split, one in found.items()} == {
        "valid_seen": 2,
        "valid_unseen": 2,
    }


def test_a_baseline_leaves_the_settings_open_and_experts_do_not(tmp_path, capsys):
    small = "env.kwargs={games: generated, rooms: small}"
    assert hpl("eval", "--run", tmp_path, "--agent", "random", small, "eval.count=1") == 0
    shop = "env.kwargs={data: generated, products: 600, goals: synthetic}"
    count = ("experts.count=2", "sft.epochs=7")
    assert hpl("experts", "--run", tmp_path, "--config", "webshop", shop, *count) == 0
    kept = (tmp_path / "config.yaml").read_text()
    assert "HPL/WebShop-v0" in kept
    assert "epochs: 7" in kept
    assert hpl("sft", "--run", tmp_path, "--config", "quickstart") == 1
    assert "are of HPL/WebShop-v0, and the run is set to HPL/ALFWorld-v0" in capsys.readouterr().err


def test_what_overrides_an_evaluation_holds_for_it_alone(tmp_path):
    small = "env.kwargs={games: generated, rooms: small}"
    command = ("eval", "--run", tmp_path, "--agent", "random")
    assert hpl(*command, small, "eval.count=1") == 0
    kept = (tmp_path / "config.yaml").read_text()
    assert hpl(*command, "--name", "longer", "env.max_turns=40") == 0
    assert (tmp_path / "config.yaml").read_text() == kept


def test_a_policy_elsewhere_does_not_pass_for_a_named_one_of_the_run(run, tmp_path, capsys):
    shutil.copytree(run / "train", tmp_path / "other/mine")
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    (tmp_path / "run/train").rename(tmp_path / "run/mine")
    agent = ("--agent", tmp_path / "other/mine/model")
    assert hpl("eval", "--run", tmp_path / "run", *agent) == 1
    assert "is not the mine of" in capsys.readouterr().err


def test_a_person_sees_every_observation_once(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("look\n" + "inventory\n" * 29))
    small = "env.kwargs={games: generated, rooms: small}"
    assert hpl("play", small) == 0
    shown = capsys.readouterr().out
    assert shown.count("Your task is to") == 1
    assert shown.count("You are not carrying anything.") == 29
    assert "Out of turns after 30 turns" in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["eval", "--agent", "/no/such/model"], "There is no folder /no/such/model"),
        (["eval", "eval.splits=valid_seen"], "write it in brackets"),
        (["eval", "--agent", ".", "--name", "here"], "not a model folder"),
        (["eval", "--agent", "."], "'.' is no name"),
        (["eval", "--agent", "openai:gpt-4o"], "OPENAI_BASE_URL"),
        (["eval", "--agent", "random", "--name", "../../up"], "'../../up' is no name"),
        (["eval", "--agent", "scriptd"], "no agent 'scriptd'"),
        (["eval", "--agent", "human"], "no agent 'human'"),
        (["eval", "--agent", "runs/other/sft/model"], "is not the sft of"),
        (["play", "--agent", "rft"], "run `hpl rft --run "),
        (["eval", "--agent", "ipr"], "run `hpl train --method ipr --run "),
        (["train", "--name", "sft"], "give another --name"),
        (["sft", "sft.epochs=7"], "sft.epochs was"),
        (["sft", "sft.lr=3.0e-5"], "lr has no effect on sft.model=tiny"),
        (["sft", "sft.args.weight_decay=1"], "weight_decay has no effect on sft.model=tiny"),
        (["train", "train.phases=keep"], "without keeping the policies of its phases"),
        (["experts", "--config", "nothing"], "no configuration"),
        (["experts", "experts.split=nowhere"], "nowhere"),
        (["experts", "env.kwargs={rumes: small}"], "rumes"),
        (["experts", "env.id=HPL/Alf-v0"], "Alf"),
        (["experts", "env.id=CartPole-v1", "env.kwargs={}"], "CartPoleEnv is no TextEnv"),
        (
            ["sft", "device=cuda"] if not torch.cuda.is_available() else ["sft", "device=x"],
            "device",
        ),
        (["eval", "--agent", "sft", "--name", "x", "device=gpu"], "no device 'gpu'"),
        (["explore", "explore.semantic=gpt-4o"], "add 'semantic' there"),
        (["explore", "device=mps"], "precision was None, is 'bfloat16'"),
        (["pairs", "pairs.lengths=[2,4,6]"], "rise from 0"),
        (["play", "--agent", "scripted", "--task", "999999"], "out of range"),
        (["play", "env.kwargs={engine: steam}"], "steam"),
        (["play", "env.kwargs={games: /no/such/folder}"], "/no/such/folder"),
        (["data", "alfworld", "unpack"], "HPL_DATA"),
    ],
)
def test_a_mistake_ends_in_one_sentence(run, arguments, text, capsys, monkeypatch):
    for variable in ("HPL_DATA", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("HPL_CACHE", str(run / "no-cache"))
    options = [] if arguments[0] == "data" else ["--run", run]
    assert hpl(*arguments, *options) == 1
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


def test_a_first_command_that_fails_binds_the_run_to_nothing(tmp_path, capsys):
    assert hpl("pairs", "--run", tmp_path / "run") == 1
    assert not (tmp_path / "run").exists()
    words = ("experts", "--run", tmp_path / "run", "--config", "webshop")
    small = ("experts.count=2", "env.kwargs={data: generated, products: 600, goals: synthetic}")
    assert hpl(*words, *small, "experts.split=trian") == 1
    assert hpl(*words, "env.kwargs={data: generated, produkts: 600}") == 1
    assert hpl(*words, *small, "eval.splits=[tset]") == 1
    assert not (tmp_path / "run").exists()
    assert hpl(*words, *small) == 0
    kept = (tmp_path / "run/config.yaml").read_text()
    assert "HPL/WebShop-v0" in kept
    assert "trian" not in kept
    assert hpl("eval", "--run", tmp_path / "run", "--agent", "random", "eval.count=1") == 0
    assert (tmp_path / "run/config.yaml").read_text() == kept


def test_a_model_that_is_not_there_is_named_before_anything_is_played(tmp_path, capsys):
    command = ("experts", "--run", tmp_path / "run", f"sft.model={tmp_path}/nothing")
    assert hpl(*command) == 1
    assert "There is no folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_plain_name_means_no_folder_elsewhere(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(run)
    assert (run / "sft/model").is_dir()
    assert hpl("eval", "--run", tmp_path, "--agent", "sft") == 1
    assert "run `hpl sft" in capsys.readouterr().err


def test_a_stages_folder_means_its_model(run, capsys):
    assert hpl("eval", "--run", run, "--agent", run / "sft") == 0
    assert "eval/sft/result.json" in capsys.readouterr().out.replace("\n", "")


def test_a_policy_is_not_taken_for_one_of_another_prompt(run, tmp_path, capsys):
    folder, prompt = tmp_path / "run", tmp_path / "prompt.md"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("explore", "eval"))
    prompt.write_text("Play otherwise.")
    elsewhere = ("eval", "--name", "other", "--agent", run / "train")
    played = (("eval", "--agent", "sft"), ("play", "--agent", "sft"), elsewhere)
    for command in (("explore",), ("rft",), ("train",), *played):
        assert hpl(*command, "--run", folder, f"prompt={prompt}") == 1
        error = " ".join(capsys.readouterr().err.split())
        assert "was trained with the prompt 'brief'" in error, command
        assert "add prompt=brief" in error
    (tmp_path / "best").symlink_to(run / "train/model")
    assert hpl("play", "--agent", tmp_path / "best", f"prompt={prompt}") == 1
    assert "was trained with the prompt 'brief'" in " ".join(capsys.readouterr().err.split())
    shutil.copytree(run / "train/model", tmp_path / "mine/model")
    (tmp_path / "mine/manifest.json").write_text('{"finished": true, "config": "model.yaml"}')
    small = ("env.kwargs={games: generated, rooms: small}", "env.max_turns=1")
    assert hpl("play", "--agent", tmp_path / "mine/model", f"prompt={prompt}", *small) == 0
    assert hpl("sft", "--run", tmp_path / "new", f"prompt={prompt}") == 1  # nothing to clone
    shutil.copytree(run / "experts", tmp_path / "new/experts")
    own = ("--run", tmp_path / "new", "--config", run / "config.yaml", f"prompt={prompt}")
    assert hpl("sft", *own, "sft.epochs=1") == 0
    prompt.write_text("Play otherwise still.")
    assert hpl("explore", *own) == 1
    assert "another text of the prompt" in " ".join(capsys.readouterr().err.split())


def test_a_model_without_a_chat_template_is_refused_at_once(run, tmp_path, capsys):
    bare = ("chat_template.jinja", "tokenizer_config.json")
    shutil.copytree(run / "sft/model", tmp_path / "bare", ignore=shutil.ignore_patterns(*bare))
    assert hpl("experts", "--run", tmp_path / "run", f"sft.model={tmp_path}/bare") == 1
    assert "has no chat template" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_name_is_refused(capsys):
    assert hpl("experts", "--run", "") == 1
    assert "--run is empty" in capsys.readouterr().err


def test_a_run_that_is_a_file_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert hpl("experts", "--run", tmp_path / "file", "experts.count=1") == 1
    assert f"{tmp_path / 'file'}" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"seed: \xff", b"seed: [1"])
def test_a_file_without_settings_is_named(tmp_path, content, capsys):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    assert hpl("pairs", "--run", tmp_path / "run", "--config", path, "seed=1") == 1
    assert "my.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["paper", "paper-webshop", "paper-intercode-sql"])
def test_the_papers_settings_are_for_the_benchmarks_own_data(config, tmp_path, capsys, monkeypatch):
    for name in ("HPL_DATA", "ALFWORLD_DATA", "WEBSHOP_DATA", "INTERCODE_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HPL_CACHE", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    assert hpl("experts", "--run", tmp_path / "run", "--config", config) == 1
    assert "set " in capsys.readouterr().err
