"""The whole method in a shop, end to end, very small, through the command line."""

import json

from tests.command_line import hpl

SMALL = [
    "env.kwargs={data: generated, products: 600}",
    "max_new_tokens=12",
    "experts.count=6",
    "sft.tiny={epochs: 1, layers: 1, width: 32, heads: 2, kv_heads: 1, vocabulary: 500}",
    "explore.count=1",
    "explore.rollouts=1",
    "eval.count=2",
]


def test_quickstart_in_a_shop(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    assert hpl("quickstart", "--env", "webshop", "--run", run, *SMALL) == 0
    assert "Success on generated test goals" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert set(result["results"]) == {"random", "SFT", "HPL"}
    assert result["data"] == "generated"
    for agent in result["results"].values():
        rates = agent["splits"]["test"]["all"]
        assert rates["episodes"] == 2
        assert 0 <= rates["reward"] <= 1
    records = (run / "explore" / "trajectories.jsonl").read_text().splitlines()
    assert records


def test_real_household_games_are_not_for_a_shop(capsys):
    assert hpl("quickstart", "--env", "webshop", "--games", "real") == 1
    assert "hpl data webshop prepare" in " ".join(capsys.readouterr().err.split())
