"""`hpl data`: what it prints, and that the command it says to play with works."""

import json
import shlex
import sys
from io import StringIO

import pytest

from tests.command_line import hpl
from tests.hpl_gym.webshop.shop import RAW

SYNTHETIC = {
    "B000000001": {
        "attributes": ["gluten free"],
        "instruction": "Find me gluten free cookies",
        "instruction_attributes": ["gluten free"],
    }
}


def play(shown, monkeypatch):
    """Run the printed command with nothing to read but `look`, ten times."""
    (line,) = [line for line in shown.splitlines() if line.startswith("Play: ")]
    variable, program, *arguments = shlex.split(line.removeprefix("Play: "))
    assert program == "hpl"
    monkeypatch.setenv(*variable.split("=", 1))
    monkeypatch.setattr(sys, "stdin", StringIO("look\n" * 10))
    return hpl(*arguments)


@pytest.fixture(autouse=True)
def narrow(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("HPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("products", [1, 50])
def test_a_generated_shop_is_played_as_printed(tmp_path, capsys, monkeypatch, products):
    folder = tmp_path / "a shop" / "[a] [/b]"
    assert hpl("data", "webshop", "generate", folder, "--products", products) == 0
    shown = capsys.readouterr().out
    assert f"goals in {folder}\n" in shown
    assert play(shown, monkeypatch) == 0


def test_a_shop_without_human_goals_is_played_as_printed(tmp_path, capsys, monkeypatch):
    (tmp_path / "items_a.json").write_text(json.dumps(RAW))
    (tmp_path / "items_b.json").write_text(json.dumps(SYNTHETIC))
    assert hpl("data", "webshop", "prepare", tmp_path, "--folder", tmp_path / "shop") == 0
    assert play(capsys.readouterr().out, monkeypatch) == 0
    (tmp_path / "items_b.json").unlink()
    assert hpl("data", "webshop", "prepare", tmp_path, "--folder", tmp_path / "shop") == 0
    assert "Play" not in capsys.readouterr().out


def test_generated_questions_are_played_as_printed(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "[a] b"
    assert hpl("data", "intercode-sql", "generate", folder, "--databases", 4) == 2
    assert hpl("data", "intercode-sql", "generate", folder, "--databases", 5) == 0
    assert play(capsys.readouterr().out, monkeypatch) == 0


def test_games_are_counted_in_a_folder_with_brackets(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "[a] [/b]"
    assert hpl("data", "alfworld", "generate", folder, "--rooms", "small", "--count", 1) == 0
    assert f"below {folder / 'json_2.1.1' / 'train'}\n" in capsys.readouterr().out
    monkeypatch.setenv("ALFWORLD_DATA", str(folder))
    assert hpl("data", "alfworld", "verify") == 0
    assert f"in {folder / 'json_2.1.1'}\n" in capsys.readouterr().out
    game = next((folder / "json_2.1.1").glob("train/*/*/game.tw-pddl"))
    game.write_text('this is no JSON "solvable": true')
    assert hpl("data", "alfworld", "verify") == 1
    assert f"The game file {game} is broken" in capsys.readouterr().err
