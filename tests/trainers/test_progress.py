import json

import pytest

from hpl_gym.trainers.progress import bar, console, set_mode


@pytest.fixture(params=["bar", "json", "quiet"])
def mode(request):
    set_mode(request.param)
    yield request.param
    set_mode("bar")


def test_progress_is_shown_as_wanted(mode, capsys):
    with bar("explore branches", 4, 1) as progress:
        for _ in range(3):
            progress.advance()
            progress.note("50% solved, 3 pairs")
    error = capsys.readouterr().err
    if mode == "quiet":
        assert error == ""
    elif mode == "bar":
        assert "4/4" in error
        assert "50% solved, 3 pairs" in error
    else:
        line = json.loads(error)
        assert (line["done"], line["total"]) == (4, 4)
        assert line["note"] == "50% solved, 3 pairs"
        assert line["seconds_left"] == 0


@pytest.mark.parametrize("mode", ["bar"], indirect=True)
def test_a_title_with_brackets_is_shown_as_it_stands(mode, capsys):
    with bar("train [x] [/y]", 1):
        pass
    assert "train [x] [/y]" in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console, "get_time", lambda: now[0])
    return now


@pytest.mark.parametrize("mode", ["bar"], indirect=True)
def test_without_a_terminal_a_line_is_printed_at_times_though_no_item_ends(mode, clock, capsys):
    with bar("reproduce", 57, 3) as progress:
        for second in range(0, 100, 10):
            clock[0] = second
            progress.note(f"alfworld 0 sft {second}/374, alfworld 1 hpl-uncertainty 31/60 [0]")
        lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "reproduce 3/57, -:-- left, alfworld 0 sft 40/374, alfworld 1 hpl-uncertainty 31/60 [0]",
        "reproduce 3/57, -:-- left, alfworld 0 sft 80/374, alfworld 1 hpl-uncertainty 31/60 [0]",
    ]


@pytest.mark.parametrize("mode", ["json"], indirect=True)
def test_time_left_is_of_what_this_run_has_to_do(mode, clock, capsys):
    with bar("eval", 10, 6) as progress:
        clock[0] = 30.0
        progress.advance()
    with bar("reproduce", 57, 50) as progress:
        clock[0] = 60.0
        progress.advance(3)
        progress.note("explore 30/120", share=0.2)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["seconds_left"] for line in (lines[0], lines[-1])] == [90, 120]
