import json
import subprocess
import sys
import time
from threading import Timer

import pytest

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
    Stage(tmp_path / "s", {"a": 1, "b": [1, 2], "c": {"d": 1, "e": 2}}).append("rows", {"key": "x"})
    Stage(tmp_path / "s", {"a": 1, "b": (1, 2), "c": {"d": 1, "e": 2}})
    with pytest.raises(StageError, match=r"\(a was 1, is 2; c.e was 2, is 3\)"):
        Stage(tmp_path / "s", {"a": 2, "b": [1, 2], "c": {"d": 1, "e": 3}})


def test_a_folder_that_holds_nothing_takes_other_settings(tmp_path):
    assert Stage(tmp_path / "s", {"a": 1}).keys("rows") == set()
    assert Stage(tmp_path / "s", {"a": 2}).manifest["config"] == {"a": 2}
    (tmp_path / "s" / "checkpoint-1").mkdir()
    with pytest.raises(StageError, match="a was 2, is 1"):
        Stage(tmp_path / "s", {"a": 1})


def test_results_without_a_manifest_are_not_taken_for_these_settings_own(tmp_path):
    Stage(tmp_path / "s", {"a": 1}).append("rows", {"key": "x"})
    (tmp_path / "s" / "manifest.json").unlink()
    with pytest.raises(StageError, match=r"manifest\.json is missing or damaged: delete"):
        Stage(tmp_path / "s", {"a": 1})


def test_the_seconds_before_a_kill_and_the_packages_after_it_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("hpl_gym.trainers.records.SECONDS", 0.0)
    stage = Stage(tmp_path, {})
    time.sleep(0.01)
    stage.append("rows", {"key": "x"})
    assert Stage(tmp_path, {}).manifest["seconds"] >= 0.01
    assert "resumed_with" not in Stage(tmp_path, {}).manifest
    monkeypatch.setattr("hpl_gym.trainers.records.versions", lambda: {"torch": "3"})
    assert Stage(tmp_path, {}).finish()["resumed_with"] == {"torch": "3"}
    assert json.loads((tmp_path / "manifest.json").read_text())["packages"] != {"torch": "3"}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"finished": tr', b'{"finished": true}']
)
def test_a_damaged_manifest_is_named(tmp_path, content):
    Stage(tmp_path / "s", {}).finish()
    (tmp_path / "s" / "manifest.json").write_bytes(content)
    for read in (lambda: Stage(tmp_path / "s", {}), lambda: finished_manifest(tmp_path / "s", "s")):
        with pytest.raises(StageError, match="damaged: delete"):
            read()


def test_a_torn_manifest_binds_the_stage_to_nothing(tmp_path):
    Stage(tmp_path, {"a": 1})
    (tmp_path / "manifest.json.part").write_text('{"fin')
    assert Stage(tmp_path, {"a": 2}).manifest["config"] == {"a": 2}


def test_finish_and_what_the_next_stage_demands(tmp_path):
    with pytest.raises(StageError, match="hpl sft"):
        finished_manifest(tmp_path / "sft", "sft")
    stage = Stage(tmp_path / "sft", {})
    with pytest.raises(StageError, match="not finished"):
        finished_manifest(tmp_path / "sft", "sft")
    stage.finish(loss=0.5)
    assert finished_manifest(tmp_path / "sft", "sft")["loss"] == 0.5
    assert Stage(tmp_path / "sft", {}).finished


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b"\xff", b""])
def test_a_line_that_is_no_record(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps({"key": 1}).encode() + b"\n" + line + b"\n")
    with pytest.raises(StageError, match="line 2"):
        list(read_records(path))


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
        Timer(0.2, print, ["end"], {"file": holder.stdin, "flush": True}).start()
        assert Stage(folder, {}, waits=True).finished
    assert Stage(folder, {}).finished
