import json

import pytest

from hpl_gym.trainers.progress import bar, set_mode


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
