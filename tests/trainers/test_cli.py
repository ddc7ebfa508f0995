import importlib.util

from tests.command_line import hpl


def test_an_error_is_printed_as_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert hpl("train", "--run", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert error == "Error: This command needs the train extra: pip install 'hpl-gym[train]'.\n"


def test_a_path_with_brackets_stands_in_an_error(tmp_path, capsys):
    missing = tmp_path / "[/none].yaml"
    assert hpl("sft", "--run", tmp_path / "run", "--config", missing) == 1
    assert str(missing) in capsys.readouterr().err
