"""Rollouts for Proposition 1 from the states of expert trajectories, with a cloned policy."""

import json
import shutil

from hpl_gym.trainers.config import load_config
from hpl_gym.trainers.reproduction.jobs import Run
from hpl_gym.trainers.reproduction.presets import PropositionConfig
from hpl_gym.trainers.reproduction.proposition import measure
from hpl_gym.trainers.reproduction.report import write_manifests, write_proposition

SETTINGS = PropositionConfig(count=2, rollouts=3, budgets=(6, 12))


def outcomes(folder):
    lines = (folder / "proposition/outcomes.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_state_of_an_expert_trajectory_is_rolled_out(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("train", "pairs", "eval"))
    config = load_config(folder / "config.yaml")
    found = measure(config, folder, SETTINGS)
    records = outcomes(folder)
    turns = {
        one["key"]: len(one["turns"])
        for one in map(json.loads, (folder / "experts/trajectories.jsonl").read_text().splitlines())
    }
    assert len(records) == found["trajectories"] == 2
    for record in records:
        assert len(record["rewards"]) == turns[record["key"]]
        assert all(len(one) == 3 and set(one) <= {0.0, 1.0} for one in record["rewards"])
    # A second call reads what is there; a killed one ends with the same bytes.
    file = folder / "proposition/outcomes.jsonl"
    whole = file.read_text()
    assert measure(config, folder, SETTINGS) == found
    manifest = json.loads((folder / "proposition/manifest.json").read_text())
    (folder / "proposition/manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    file.write_text(whole.splitlines(keepends=True)[0] + '{"torn')
    assert measure(config, folder, SETTINGS) == found
    assert file.read_text() == whole

    sheet = write_proposition(Run("alfworld", 0, folder, config, (), ""), SETTINGS, tmp_path)
    assert [row[0] for row in sheet.rows[:3]] == ["1", "2", "3"]
    assert sheet.rows[-1][0] == "all"
    assert "<svg" in (tmp_path / "proposition-1-alfworld.svg").read_text()
    assert json.loads((tmp_path / "proposition-1-alfworld.json").read_text())["rows"]

    # A run into which the policy is linked has the same, and its manifest.
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("experts", "sft", "config.yaml"):
        (linked / name).symlink_to(folder / name)
    assert measure(config, linked, SETTINGS) == found
    assert not (linked / "proposition").exists()
    write_manifests([Run("alfworld", 0, linked, config, (), "")], tmp_path / "manifests")
    assert (tmp_path / "manifests/alfworld/seed-0/proposition.json").is_file()
