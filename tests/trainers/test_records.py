import json
import subprocess
import sys

import pytest

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import ConfigError, load_config, save_config
from hpl_gym.trainers.records import Stage, StageError, finished_manifest, read_records


def test_a_torn_line_is_cut_off_and_the_rest_kept(tmp_path):
    stage = Stage(tmp_path / "s", {"a": 1})
    assert stage.keys("rows") == set()
    stage.append("rows", {"key": "x", "text": "ü"})
    with (tmp_path / "s" / "rows.jsonl").open("a") as file:
        file.write('{"key": "y", "te')
    again = Stage(tmp_path / "s", {"a": 1})
    assert again.keys("rows") == {"x"}
    again.append("rows", {"key": "y"})
    assert [one["key"] for one in read_records(tmp_path / "s" / "rows.jsonl")] == ["x", "y"]


def test_another_configuration_is_refused_and_named(tmp_path):
    Stage(tmp_path / "s", {"a": 1, "b": [1, 2]})
    Stage(tmp_path / "s", {"a": 1, "b": (1, 2)})
    with pytest.raises(StageError, match="a was 1, is 2"):
        Stage(tmp_path / "s", {"a": 2, "b": [1, 2]})


def test_finish_and_what_the_next_stage_demands(tmp_path):
    with pytest.raises(StageError, match="hpl sft"):
        finished_manifest(tmp_path / "sft", "sft")
    stage = Stage(tmp_path / "sft", {})
    with pytest.raises(StageError, match="not finished"):
        finished_manifest(tmp_path / "sft", "sft")
    stage.finish(loss=0.5)
    assert finished_manifest(tmp_path / "sft", "sft")["loss"] == 0.5
    assert Stage(tmp_path / "sft", {}).finished


def test_a_line_that_is_no_record(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"key": 1}) + "\nnonsense\n")
    with pytest.raises(StageError, match="line 2"):
        list(read_records(path))


def test_settings_from_file_and_overrides(tmp_path):
    config = load_config("paper", ["sft.lr=1e-4", "eval.splits=[valid_seen]", "train.beta=0.1"])
    assert (config.sft.lr, config.train.beta, config.eval.splits) == (1e-4, 0.1, ("valid_seen",))
    save_config(config, tmp_path / "own.yaml")
    assert load_config(tmp_path / "own.yaml") == config


@pytest.mark.parametrize("name", ["quickstart", "real", "paper"])
def test_shipped_settings_are_valid(name):
    load_config(name)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("sft.speed=3", "sft.speed"),
        ("sft.epochs=0", "sft.epochs"),
        ("sft.epochs=many", "sft.epochs"),
        ("nonsense", "section.key=value"),
        ("prompt.x=1", "no keys below"),
    ],
)
def test_bad_settings_are_named(override, text):
    with pytest.raises(ConfigError, match=text):
        load_config("quickstart", [override])


def test_missing_or_broken_file(tmp_path):
    with pytest.raises(HPLGymError, match="quickstart"):
        load_config(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(tmp_path / "bad.yaml")


HOLDER = """
import pathlib, sys
from hpl_gym.trainers.records import Stage
stage = Stage(pathlib.Path(sys.argv[1]), {})
print("open", flush=True)
sys.stdin.readline()
stage.finish()
"""


def test_one_process_at_a_time_writes(tmp_path):
    folder = tmp_path / "experts"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StageError, match="Another process is writing"):
            Stage(folder, {})
        assert not Stage(folder, {}, writes=False).finished
        holder.communicate("\n")
    assert Stage(folder, {}).finished
