"""The whole method on databases, end to end, very small, through the command line."""

import json

from hpl_gym.core import EnvironmentFaultError
from hpl_gym.intercode_sql.env import InterCodeSQLEnv
from hpl_gym.trainers import evaluate as evaluation
from hpl_gym.trainers.rollout import Simulator
from tests.command_line import hpl

SMALL = [
    "env.kwargs={data: generated, databases: 10}",
    "max_new_tokens=12",
    "experts.count=6",
    "sft.tiny={epochs: 1, layers: 1, width: 32, heads: 2, kv_heads: 1, vocabulary: 500}",
    "explore.count=1",
    "explore.rollouts=1",
    "eval.count=2",
]


def test_quickstart_on_databases(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HPL_MYSQL_DSN", raising=False)
    run = tmp_path / "run"
    begun, begin, close = [], InterCodeSQLEnv._begin, InterCodeSQLEnv.close

    def begins(self, task):
        found = begin(self, task)
        begun.append(self)
        return found

    def closes(self):
        close(self)
        begun[:] = [one for one in begun if one is not self]

    monkeypatch.setattr(InterCodeSQLEnv, "_begin", begins)
    monkeypatch.setattr(InterCodeSQLEnv, "close", closes)
    assert hpl("quickstart", "--env", "intercode-sql", "--run", run, *SMALL) == 0
    assert hpl("rft", "--run", run, "rft.count=2", "rft.samples=1", "rft.epochs=1") == 0
    assert begun == []  # else private copies stay behind on a server
    assert "Success on generated test questions" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert set(result["results"]) == {"random", "SFT", "HPL"}
    for stage in ("experts", "explore", "eval/train"):
        manifest = json.loads((run / stage / "manifest.json").read_text())
        assert manifest["config"]["env_backend"].startswith("sqlite ")


def test_an_episode_that_the_server_fails_is_repeated_and_marked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluation.repeated, "__kwdefaults__", {"times": 3, "pause": 0.0})
    step, calls = Simulator.step, []

    def failing(self, state, reply):
        calls.append(reply)
        if len(calls) in (2, 4):
            raise EnvironmentFaultError("The server is gone.")
        return step(self, state, reply)

    monkeypatch.setattr(Simulator, "step", failing)
    run = tmp_path / "run"
    settings = [SMALL[0], "eval.count=1", "eval.concurrency=1"]
    command = ["eval", "--config", "intercode-sql", "--agent", "informed", "--run", run]
    assert hpl(*command, *settings) == 0
    (line,) = (run / "eval" / "informed" / "episodes.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["faults"] == 2
    assert record["reward"] == 1.0


def test_generated_files_are_read_and_verified(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "made"
    assert hpl("data", "intercode-sql", "generate", folder, "--databases", 6) == 0
    command = ["data", "intercode-sql", "verify", "--data", folder, "--server", "sqlite"]
    assert hpl(*command, "--against", "sqlite", "--output", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["against"]) == ["equal"]
    assert found["failing"] == {}
    assert hpl("data", "intercode-sql", "verify", "--data", tmp_path) == 1
    assert "There is no file" in capsys.readouterr().err
    taken = tmp_path / "found.json" / "x"
    assert hpl("data", "intercode-sql", "generate", taken) == 1
    assert "cannot be written" in capsys.readouterr().err
    other = tmp_path / "other"
    assert hpl("data", "intercode-sql", "generate", other, "--databases", 6, "--seed", 1) == 0
    monkeypatch.setenv("HPL_CACHE", str(taken))
    assert hpl("data", "intercode-sql", "verify", "--data", other, "--server", "sqlite") == 1
    assert "set HPL_CACHE" in capsys.readouterr().err
