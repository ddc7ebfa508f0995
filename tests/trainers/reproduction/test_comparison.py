"""A report on runs of one's own."""

import json
import re

import pytest

from hpl_gym.trainers.config import load_config, save_config
from tests.command_line import hpl

SPLITS = ["valid_seen", "valid_unseen"]


def play(
    run, name, solved, tasks=20, splits=SPLITS, finished=True, settings=(), turns=30, data=None
):
    """Write an evaluation in which the first tasks are solved."""
    if not (run / "config.yaml").is_file():
        save_config(load_config("quickstart", list(settings)), run / "config.yaml")
    folder = run / "eval" / name
    folder.mkdir(parents=True)
    config = {
        "eval": {"splits": splits, "count": tasks, "temperature": 0},
        "env": {"max_turns": turns},
        "env_backend": "native",
    } | ({"env_data": data} if data else {})
    manifest = {"finished": finished, "config": config}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    episodes = [
        {
            "split": split,
            "task_id": f"{split}/{task}",
            "task_type": "look_at_obj_in_light" if task % 2 else "pick_and_place_simple",
            "success": task < solved,
            "reward": float(task < solved),
        }
        for split in splits
        for task in range(tasks)
    ]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in episodes))


def written(run):
    return json.loads((run / "report/report.json").read_text())


def test_all_evaluations_are_compared_with_sft(tmp_path, capsys):
    for name, solved in (("ipr", 10), ("sft", 5), ("best", 20)):
        play(tmp_path, name, solved)
    play(tmp_path, "begun", 20, finished=False)
    assert hpl("report", "--run", tmp_path) == 0
    found = written(tmp_path)
    results, differences, seen, unseen = found["tables"]
    assert [row[0] for row in results["rows"]] == ["SFT", "best", "IPR"]
    assert [row[1] for row in results["rows"]] == ["25.0", "100.0", "50.0"]
    assert found["differences"]["best"]["valid_seen success"]["mean"] == 75
    assert found["differences"]["ipr"]["all success"]["low"] > 0
    assert differences["title"] == "Differences to SFT"
    assert seen["columns"] == ["", "pick (10)", "look (10)", "all (20)"]
    assert unseen["title"] == "Success on valid_unseen by type"
    assert "| SFT | 25.0 | 25.0 | 25.0 |" in (tmp_path / "report/report.md").read_text()
    assert "Written to" in capsys.readouterr().out


def test_what_was_played_otherwise_is_left_out_and_named(tmp_path, capsys):
    play(tmp_path, "sft", 5, splits=SPLITS)
    play(tmp_path, "ipr", 10, splits=SPLITS[:1])
    play(tmp_path, "smoke", 1, tasks=2, splits=SPLITS[:1])
    play(tmp_path, "unseen", 5, splits=SPLITS[1:])
    play(tmp_path, "longer", 5, turns=40)
    assert hpl("report", "--run", tmp_path) == 0
    results, _, by_type = written(tmp_path)["tables"]
    assert [row[0] for row in results["rows"]] == ["SFT", "IPR"]
    assert by_type["title"] == "Success on valid_seen by type"
    assert (
        "Not compared with sft: longer (played with different settings of env), smoke (played on "
        "different tasks of valid_seen), unseen (played on no split of the others). Not all of "
        "them have played valid_unseen."
    ) in (tmp_path / "report/report.md").read_text()


def test_an_environment_of_ones_own(tmp_path):
    play(tmp_path, "sft", 5, settings=["env.id=mine:House-v0"])
    assert hpl("report", "--run", tmp_path) == 0
    (row,) = written(tmp_path)["tables"][0]["rows"]
    assert row[:2] == ["SFT", "25.0"]


def test_several_runs_are_seeds(tmp_path):
    runs = [tmp_path / "one", tmp_path / "two"]
    for seed, (run, solved) in enumerate(zip(runs, (10, 12), strict=True)):
        play(run, "sft", solved, settings=[f"seed={seed}"])
        play(run, "random", 0, splits=SPLITS[:1])
    play(runs[0], "alone", 20)
    command = ("report", "--run", runs[0], "--run", runs[1])
    assert hpl(*command, "--baseline", "random") == 0
    found = written(runs[0])
    assert found["tables"][0]["rows"] == [["random", "0.0 ± 0.0"], ["SFT", "55.0 ± 7.1"]]
    assert found["baseline"] == "random"


def test_seeds_that_differ_in_more_are_not_averaged(tmp_path, capsys):
    runs = [tmp_path / "one", tmp_path / "two"]
    for seed, run in enumerate(runs):
        settings = [f"seed={seed}", f"eval.concurrency={seed + 1}"]
        play(run, "sft", 10, settings=settings)
        play(run, "rough", 5, tasks=10 + seed)
        for name, beta in (("ipr", 0.3), ("train", 0.3 + seed)):
            play(run, name, 10)
            (run / name).mkdir()
            trained = {"finished": True, "config": {"seed": seed, "train": {"beta": beta}}}
            (run / name / "manifest.json").write_text(json.dumps(trained))
    command = ("report", "--run", runs[0], "--run", runs[1])
    assert hpl(*command) == 0
    table = written(runs[0])["tables"][0]
    assert [row[0] for row in table["rows"]] == ["SFT", "IPR"]
    assert (
        "rough (played on different tasks of valid_seen), train (trained with different settings "
        "of train)"
    ) in (runs[0] / "report/report.md").read_text()
    assert hpl(*command, "--baseline", "train") == 1
    with (runs[1] / "eval/rough/episodes.jsonl").open("a") as file:
        file.write("torn\n")
    assert hpl(*command) == 1
    assert "is not a record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--agent", "longer"], "different settings of env"),
        (["--run", "same"], "have the same seed or differ"),
        (["--run", "other"], "have the same seed or differ"),
        (["--run", "none"], "No evaluation is finished"),
        (["--agent", "ipr"], "ipr is not evaluated in .*: use one of .*, or run `hpl eval`"),
        (["--agent", "few"], "few and sft cannot be compared, as .* different tasks of valid_seen"),
        (["--agent", "few", "--baseline", "unseen"], "played on no split of the others"),
        (["--agent", "moved"], "moved was played on different data"),
        (["--run", "random"], r"finished in each of .*random: run"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, arguments, text):
    play(tmp_path, "sft", 5)
    play(tmp_path, "few", 5, tasks=4, splits=SPLITS[:1])
    play(tmp_path, "unseen", 5, splits=SPLITS[1:])
    play(tmp_path, "longer", 5, turns=40)
    play(tmp_path, "moved", 5, data={"valid_seen": "0123456789abcdef"})
    play(tmp_path / "same", "sft", 5)
    play(tmp_path / "other", "sft", 5, settings=["seed=1", "train.lr=0.5"])
    play(tmp_path / "random", "random", 5, settings=["seed=1"])
    where = [
        tmp_path / one if one in {"none", "same", "other", "random"} else one for one in arguments
    ]
    if "--baseline" not in where:
        where = ["--agent", "sft", *where]
    where = where if "none" in arguments else ["--run", tmp_path, *where]
    assert hpl("report", *where) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert re.search(text, error)
    assert not (tmp_path / "report").exists()
