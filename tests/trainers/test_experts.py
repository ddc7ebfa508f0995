"""Expert trajectories from a teacher at a server instead of the scripted expert."""

import json

from hpl_gym.agents import chat_agent
from hpl_gym.agents.scripted.alfworld import ScriptedALFWorld
from tests.command_line import hpl

SMALL = ["env.kwargs={games: generated, rooms: small}", "experts.count=6", "experts.noisy=0"]


def records(folder):
    lines = (folder / "experts/trajectories.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_teacher_plays_in_the_experts_place(tmp_path, monkeypatch):
    asked = []

    class Teacher(ScriptedALFWorld):
        def __init__(self, client, prompt, **options):
            super().__init__()
            object.__setattr__(self, "client", client)
            asked.append((client.model, prompt, options))

        async def act(self, conversation, seed=0):
            self.client.usage.calls += 1
            self.client.usage.tokens_out += 10
            return await super().act(conversation, seed)

    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr(chat_agent, "ChatAgent", Teacher)
    mine, taught = tmp_path / "mine", tmp_path / "taught"
    assert hpl("experts", "--run", mine, *SMALL) == 0
    assert hpl("experts", "--run", taught, *SMALL, "experts.teacher=wise") == 0
    assert records(taught) == records(mine)
    assert [one[0] for one in asked] == ["wise"]
    manifest = json.loads((taught / "experts/manifest.json").read_text())
    assert manifest["config"]["experts"]["teacher"] == "wise"
    assert manifest["config"]["prompt"] == "brief"
    turns = sum(len(one["turns"]) for one in records(taught))
    assert (manifest["model_calls"], manifest["tokens_out"]) == (turns, 10 * turns)
    assert "model_calls" not in json.loads((mine / "experts/manifest.json").read_text())
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert hpl("experts", "--run", taught, *SMALL, "experts.teacher=wise") == 0  # all are there


def test_how_many_play_at_a_time_changes_nothing(tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    assert hpl("experts", "--run", one, *SMALL, "experts.concurrency=1") == 0
    assert hpl("experts", "--run", many, *SMALL, "experts.concurrency=6") == 0
    assert records(one) == records(many)


def test_a_teacher_without_a_server_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert hpl("experts", "--run", tmp_path, *SMALL, "experts.teacher=wise") == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "OPENAI" in error
    assert "Traceback" not in error
