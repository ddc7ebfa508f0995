"""Rollouts for Proposition 1 from the states of expert trajectories, with a cloned policy."""

import json
import shutil

from hpl_gym.trainers.config import load_config
from hpl_gym.trainers.records import read_records
from hpl_gym.trainers.reproduction.jobs import Run
from hpl_gym.trainers.reproduction.presets import PropositionConfig
from hpl_gym.trainers.reproduction.proposition import roll_out
from hpl_gym.trainers.reproduction.report import write_proposition

SETTINGS = PropositionConfig(count=2, rollouts=3, budgets=(6, 12))


def test_every_state_of_an_expert_trajectory_is_rolled_out(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("train", "pairs", "eval"))
    config = load_config(folder / "config.yaml")
    rolled = roll_out(config, folder, SETTINGS)
    records = list(read_records(rolled / "outcomes.jsonl"))
    experts = read_records(folder / "experts/trajectories.jsonl")
    turns = {one["key"]: len(one["turns"]) for one in experts}
    assert len(records) == 2
    for record in records:
        assert len(record["rewards"]) == turns[record["key"]]
        assert all(len(one) == 3 and set(one) <= {0.0, 1.0} for one in record["rewards"])
    # A second call reads what is there; a killed one ends with the same bytes.
    file = rolled / "outcomes.jsonl"
    whole = file.read_text()
    assert roll_out(config, folder, SETTINGS) == rolled
    manifest = json.loads((rolled / "manifest.json").read_text())
    (rolled / "manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    file.write_text(whole.splitlines(keepends=True)[0] + '{"torn')
    assert roll_out(config, folder, SETTINGS) == rolled
    assert file.read_text() == whole

    # A run into which the policy is linked has the same.
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("experts", "sft", "config.yaml"):
        (linked / name).symlink_to(folder / name)
    assert roll_out(config, linked, SETTINGS) == rolled

    # Other settings that leave the policy as it is have rollouts of their own.
    changed = load_config(folder / "config.yaml", ["explore.value_temperature=0.5"])
    assert roll_out(changed, linked, SETTINGS) != rolled

    report = tmp_path / "report"
    report.mkdir()
    sheet = write_proposition(Run("alfworld", 0, linked, config, (), {}), SETTINGS, report)
    assert sheet.rows[0][0] == "1"
    assert sheet.rows[-1][0] == "all"
    assert len(sheet.rows) == min(9, max(turns[record["key"]] for record in records))
    assert "<svg" in (report / "proposition-1-alfworld.svg").read_text()
    assert json.loads((report / "proposition-1-alfworld.json").read_text())["rows"]
    assert (report / f"manifests/alfworld/seed-0/{rolled.name}.json").is_file()
