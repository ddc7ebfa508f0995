"""Tables, figures and intervals from evaluated runs; bias and variance of credit."""

import json
import shutil

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.reproduction.jobs import make_jobs, make_runs, write_settings
from hpl_gym.trainers.reproduction.presets import BASELINES, MAIN, RESULTS, load_preset
from hpl_gym.trainers.reproduction.proposition import compare, shared
from hpl_gym.trainers.reproduction.report import mixed_versions, write_manifests, write_result
from hpl_gym.trainers.reproduction.scores import Scores
from hpl_gym.trainers.reproduction.tables import (
    columns,
    comparisons,
    differences,
    results,
    show,
    task_types,
)
from hpl_gym.trainers.segment import fixed_k
from hpl_gym.trainers.statistics import paired_bootstrap

POLICIES = sorted({policy for one in RESULTS.values() for policy in one})


def episode(task, split, success, reward):
    kind = f"type-{task % 2}"
    return {
        "task_id": f"{split}-{task}",
        "task_type": kind,
        "split": split,
        "success": success,
        "reward": reward,
        "turns": [{"token_ids": [1, 2]}],
    }


@pytest.fixture
def runs(tmp_path):
    """Two seeds of two benchmarks, in which HPL's semantic groups solve all and IPR half."""
    preset = load_preset("mini")
    found = {}
    for experiment in ("alfworld", "webshop"):
        found[experiment] = make_runs(preset, tmp_path, [experiment], range(2), [])
        write_settings(found[experiment])
        for run in found[experiment]:
            for policy in POLICIES:
                solves = 1.0 if policy == MAIN else 0.5
                solves = 0.25 if policy == "eto" else solves
                lines = [
                    json.dumps(episode(task, split, task < 40 * solves, solves))
                    for split in run.config.eval.splits
                    for task in range(40)
                ]
                folder = run.folder / "eval" / policy
                folder.mkdir(parents=True)
                (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")
                (folder / "manifest.json").write_text('{"finished": true, "config": {}}')
            for stage in ("experts", "sft", "explore", *POLICIES):
                manifest = {"finished": True, "config": {}, "seconds": 2.0, "tokens": 1000}
                if stage == "explore":
                    manifest["model_calls"] = 7
                    manifest["account"] = {"branches": {"tokens_out": 5}, "replay": {}}
                (run.folder / stage).mkdir(exist_ok=True)
                (run.folder / stage / "manifest.json").write_text(json.dumps(manifest))
            rft = json.dumps(episode(0, "train", True, 1.0))
            (run.folder / "rft/trajectories.jsonl").write_text(rft + "\n")
    return found


def test_task_types_are_in_their_benchmark_s_order():
    kinds = ("other", "extra", "hard", "pick_two_obj_and_place", "easy", "look_at_obj_in_light")
    scores = Scores(kinds, kinds, np.zeros((1, 6)), np.zeros((1, 6)))
    assert task_types(scores) == [kinds[place] for place in (5, 3, 4, 2, 1, 0)]


def test_columns_are_what_the_paper_reports(runs):
    titles = [f"{one.experiment} {one.title}" for one in columns(runs, ["sft"])]
    assert titles == [
        "alfworld valid_seen success",
        "alfworld valid_unseen success",
        "alfworld all success",
        "webshop test reward",
        "webshop test success",
    ]


def test_means_and_deviations_are_those_of_the_seeds(runs):
    file = runs["webshop"][1].folder / "eval/sft/episodes.jsonl"
    lines = [json.loads(line) | {"success": False} for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    shown = columns({"webshop": runs["webshop"]}, ["sft"])
    sheet = results("t", shown, ["sft"])
    assert sheet.rows == (("SFT", "50.0 ± 0.0", "25.0 ± 35.4", "37.5"),)
    assert "2 seeds" in sheet.note
    assert "| SFT | 50.0 ± 0.0 |" in sheet.markdown()
    alone = results("t", columns({"webshop": runs["webshop"][:1]}, ["sft"]), ["sft"])
    assert alone.rows == (("SFT", "50.0", "50.0", "50.0"),)
    assert alone.note == "Per cent; one seed; 40 tasks a column."


def test_differences_are_to_the_best_baseline_and_say_what_is_noise(runs):
    shown = columns({"alfworld": runs["alfworld"]}, RESULTS["table 1"])
    sheet, numbers = differences(
        "t", shown, RESULTS["table 1"], comparisons(RESULTS["table 1"], BASELINES)
    )
    assert all(head.endswith("vs IPR") for head in sheet.columns[1:])
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["IPR"] == ("", "", "")
    assert all("+50.0" in cell and cell.endswith("better") for cell in rows["HPL (Semantic)"])
    assert all(cell == "+0.0 [+0.0, +0.0] within noise" for cell in rows["SFT"])
    assert all(cell.endswith("worse") for cell in rows["ETO"])
    assert numbers["hpl-semantic"]["all success"]["within_noise"] is False
    assert comparisons(RESULTS["figure 5"], [MAIN]) == ("hpl-semantic",)
    assert comparisons(["sft", "ipr", "hpl-semantic"], BASELINES) == ("ipr",)
    assert comparisons(["sft", "hpl-fixed-n"], BASELINES) == ("sft",)


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_is_written_and_traced(runs, tmp_path, name):
    folder = tmp_path / "report"
    folder.mkdir()
    sheets = write_result(name, runs, folder, RESULTS[name])
    assert sheets
    file = name.replace(" ", "-")
    assert all(sheet.title in (folder / f"{file}.md").read_text() for sheet in sheets)
    written = json.loads((folder / f"{file}.json").read_text())
    assert written["runs"]["alfworld"] == [str(one.folder) for one in runs["alfworld"]]
    assert written["costs" if name == "table 5" else "results"]
    figures = {one.name: one.read_bytes() for one in folder.glob("*.svg")}
    assert bool(figures) == name.startswith("figure")
    write_result(name, runs, folder, RESULTS[name])
    assert all((folder / one).read_bytes() == before for one, before in figures.items())


def test_resources_are_of_the_stages_that_ran(runs, tmp_path):
    (tmp_path / "report").mkdir()
    for run in runs["webshop"]:
        shutil.rmtree(run.folder / "explore")
    own = {"webshop": runs["webshop"]}
    (sheet,) = write_result("table 5", own, tmp_path / "report", ["sft", "rft"])
    assert [row[0] for row in sheet.rows] == ["webshop experts", "webshop SFT", "webshop RFT"]
    (sheet,) = write_result("table 5", runs | own, tmp_path / "report", ["sft"])
    assert len(sheet.rows) == 4


def test_numbers_in_the_report_are_the_tables(runs, tmp_path):
    write_result("table 1", runs, tmp_path, RESULTS["table 1"])
    written = json.loads((tmp_path / "table-1.json").read_text())
    to_sft = written["differences"]["Table 1: methods, differences on webshop to SFT"]
    assert to_sft["hpl-semantic"]["test success"]["mean"] == 50
    assert "Table 1: methods, differences on webshop" in written["differences"]
    values = np.array(written["results"]["webshop test success"]["hpl-semantic"])
    assert values.shape == (2, 40)
    assert values.mean() == 100


def test_manifests_of_finished_stages_are_kept_by_seed_and_stage(runs, tmp_path):
    (runs["alfworld"][0].folder / "ipr/manifest.json").write_text(
        '{"finished": false, "config": {}}'
    )
    write_manifests(runs["alfworld"], tmp_path)
    kept = tmp_path / "manifests/alfworld"
    assert not (kept / "seed-0/ipr.json").exists()
    assert (kept / "seed-1/ipr.json").is_file()
    assert (kept / "seed-1/eval/hpl-semantic.json").is_file()
    assert (kept / "seed-0/explore.json").is_file()
    assert (kept / "seed-0/config.yaml").is_file()


def test_results_of_several_versions_are_named(runs):
    jobs = [job for run in runs["alfworld"] for job in make_jobs(load_preset("mini"), run, ["eto"])]
    (pairs,) = {job.folder.name for job in jobs if job.stage == "pairs"}
    for run in runs["alfworld"]:
        (run.folder / pairs).mkdir()
    for job in jobs:
        torch = "2.14.0" if (job.folder.name, "seed-1") == ("eto", job.folder.parent.name) else "2"
        packages = {"torch": torch, "gymnasium": "1"}
        text = json.dumps({"finished": True, "config": {}, "packages": packages})
        (job.folder / "manifest.json").write_text(text)
    assert mixed_versions(jobs) == {"torch": ["2", "2.14.0"]}
    own = [job for job in jobs if "seed-0" in job.folder.parts]
    assert mixed_versions(own) == {}
    manifest = own[0].folder / "manifest.json"
    manifest.write_text(text.replace('"config"', '"resumed_with": {"torch": "3"}, "config"'))
    assert mixed_versions(own) == {"torch": ["2", "3"]}


def test_seeds_that_played_other_tasks_are_refused(runs):
    file = runs["webshop"][1].folder / "eval/sft/episodes.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(HPLGymError, match="different tasks"):
        columns({"webshop": runs["webshop"]}, ["sft"])


def test_the_bootstrap_is_scipys_for_one_seed():
    sample = np.random.default_rng(3).normal(1, 2, 50)
    ours = paired_bootstrap(sample[None])
    theirs = scipy.stats.bootstrap(
        (sample,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.mean == pytest.approx(sample.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


@pytest.mark.parametrize(("count", "spread"), [(5, 0.3), (3, 0.1), (3, 0.3)])
def test_the_interval_covers_the_truth(count, spread):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        seeds, tasks = rng.normal(0, spread, (count, 1)), rng.normal(0, 1, (1, 40))
        found = paired_bootstrap(seeds + tasks + rng.normal(0, 1, (count, 40)), draws=500)
        covered += found.low <= 0 <= found.high
    assert covered >= 184


def test_one_task_says_nothing_about_others():
    found = paired_bootstrap(np.full((3, 1), 100.0))
    assert found.noise
    assert show(found) == "+100.0 within noise"


@given(st.integers(1, 4), st.integers(2, 30), st.floats(-100, 100))
def test_a_constant_difference_has_no_width(seeds, tasks, value):
    found = paired_bootstrap(np.full((seeds, tasks), value), draws=50)
    assert found.low == pytest.approx(value, abs=1e-9)
    assert found.high == pytest.approx(value, abs=1e-9)
    assert found.noise == (abs(value) < 1e-9) or abs(value) < 1e-9


def credit_of(probabilities, budget=12):
    rng = np.random.default_rng(0)
    drawn = rng.random((len(probabilities), 4000)) < np.array(probabilities)[:, None]
    rows = compare([drawn.astype(float)], [budget], seed=1)["rows"]
    return [(row["bias"], row["variance"][0], row["error"][0]) for row in rows]


def test_single_turns_have_no_bias_and_longer_groups_less_variance():
    rows = credit_of([0.2, 0.3, 0.5, 0.8])
    assert rows[0][0] == 0
    variances = [variance for _, variance, _ in rows[:4]]
    assert variances == sorted(variances, reverse=True)
    assert len(rows) == 4
    assert rows[-1][0] > 0


def test_variance_is_what_theory_says():
    # Three rollouts a state: the credit of a turn is a difference of two means (the end is known).
    rows = credit_of([0.5, 0.5, 0.5, 0.5])
    assert rows[0][1] == pytest.approx((3 * 2 + 1) / 4 * 0.25 / 3, rel=0.05)
    assert rows[3][1] == pytest.approx(0.25 / 12 / 16, rel=0.05)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_variance_is_that_of_estimates_that_are_drawn(length):
    rng = np.random.default_rng(0)
    outcomes = (rng.random((7, 30)) < rng.random((7, 1))).astype(float)
    rows = compare([outcomes], [9], seed=0)["rows"]
    spans = fixed_k(7, length)
    share = np.diff([9 * place // len(spans) for place in range(len(spans) + 1)])
    values = np.ones((20000, len(spans) + 1))
    for place, (start, _) in enumerate(spans):
        values[:, place] = rng.choice(outcomes[start], (20000, share[place])).mean(axis=1)
    sizes = [stop - start for start, stop in spans]
    credit = np.repeat(np.diff(values, axis=1) / sizes, sizes, axis=1)
    ours = next(row["variance"][0] for row in rows if row["length"] == length)
    assert ours == pytest.approx(credit.var(axis=0).mean(), rel=0.03)


def test_a_group_cannot_tell_its_turns_apart():
    rows = credit_of([0.0, 1.0])
    assert rows[0] == pytest.approx((0, 0, 0), abs=1e-9)
    assert rows[1] == pytest.approx((0.25, 0, 0.25), abs=1e-6)


def test_noise_of_the_true_values_is_no_bias():
    # Every turn has the same credit, so no group is biased; the values are known from 20 rollouts.
    rng = np.random.default_rng(0)
    rising = np.array([[0.4], [0.5], [0.6], [0.7], [0.8], [0.9]])
    outcomes = [(rng.random((6, 20)) < rising).astype(float) for _ in range(400)]
    rows = compare(outcomes, [12], seed=1)["rows"]
    credits = [np.diff([*one.mean(axis=1), 1.0]) for one in outcomes]
    naive = np.mean([(shared(one, 6) - one) ** 2 for one in credits])
    assert abs(rows[5]["bias"]) < 0.1 * naive


def test_a_budget_below_the_number_of_groups_is_left_out():
    found = compare([np.ones((9, 4)), np.ones((2, 4))], [5, 9], seed=0)
    assert found["rows"][0]["variance"] == [None, 0.0]
    assert found["rows"][0]["error"] == [None, 0.0]
    assert found["rows"][1]["error"][0] is not None
    assert found["least"][1] == 0


def test_how_sure_the_least_error_is():
    rng = np.random.default_rng(0)
    steady = [(rng.random((6, 50)) < 0.8).astype(float) for _ in range(8)]
    found = compare(steady, [12], seed=0)
    assert [row["length"] for row in found["rows"]] == [1, 2, 3, 4, 5, 6]
    assert found["rows"][found["least"][0]]["length"] >= 4
    assert 0 < found["sure"][0] <= 1


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.integers(1, 14))
def test_shares_keep_the_sum(credit, length):
    assert shared(np.array(credit), length).sum() == pytest.approx(sum(credit), abs=1e-9)
