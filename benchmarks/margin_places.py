"""Where in a preference pair a policy moved: at the decision, or in what comes after it.

The winner and loser of a pair part at one turn, the decision. For each distinct pair this prints
how much the policy's log-probabilities changed against the reference there and in the later turns,
in nats a pair, and what the reference says at the decision when it plays greedily, as in
evaluation. Pairs that part at the same turn into the same loser are one. `--segmenter` measures the
group pairs of one segmenter instead of the trajectory and step pairs.

    python benchmarks/margin_places.py runs/reproduce/alfworld-1a2b3c4d/seed-* --policy ipr
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track

from hpl_gym.agents.chat import ChatEncoder, Encoded, load_prompt
from hpl_gym.agents.language_model import load_model, load_tokenizer
from hpl_gym.trainers.config import load_config
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.records import read_records
from hpl_gym.trainers.trajectory import to_conversation
from hpl_gym.wrappers.transcript import Conversation


class Pair(NamedTuple):
    """A winner and a loser, and the turn at which they part."""

    winner: Conversation
    loser: Conversation
    decision: int


def distinct_pairs(run: Path, env_id: str, segmenter: str | None) -> tuple[list[Pair], int]:
    """Return the distinct pairs of a run, and how many there are in all.

    Args:
        run: The run's folder.
        env_id: The benchmark of the run.
        segmenter: Whose group pairs to read; None reads the trajectory and step pairs.
    """
    levels = ("group",) if segmenter else ("trajectory", "step")
    experts = {
        one["key"]: to_conversation(one, env_id)
        for one in clean_experts(run / "experts" / "trajectories.jsonl")
    }
    found: dict[tuple[str, int, tuple[str, ...]], Pair] = {}
    count = 0
    for level in levels:
        for row in read_records(run / "pairs" / f"pairs_{level}.jsonl"):
            if row.get("segmenter") != segmenter:
                continue
            count += 1
            winner = experts[row["expert"]].prefix(row["stop"])
            loser = winner.prefix(row["start"])
            for turn in row["loser"]:
                loser = loser.add(turn["reply"], turn["observation"], tuple(turn["token_ids"]))
            both = zip(winner.turns, loser.turns, strict=False)
            decision = next(at for at, (own, other) in enumerate(both) if own.reply != other.reply)
            tail = tuple(turn.reply for turn in loser.turns[decision:])
            found.setdefault((row["expert"], decision, tail), Pair(winner, loser, decision))
    return list(found.values()), count


@torch.inference_mode()
def turn_logprobs(model: torch.nn.Module, encoded: Encoded) -> tuple[list[float], list[bool]]:
    """Return each turn's log-probability in nats, and whether a greedy model says it."""
    ids = torch.tensor([encoded.ids])
    scores = model(input_ids=ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
    said = scores.gather(1, ids[0, 1:, None])[:, 0]
    best = scores.argmax(-1) == ids[0, 1:]
    # Reply t stands between bounds 2 t and 2 t + 1, and each token is foretold one place before.
    both = zip(encoded.bounds[::2], encoded.bounds[1::2], strict=True)
    spans = [slice(first - 1, last - 1) for first, last in both]
    return [float(said[one].sum()) for one in spans], [bool(best[one].all()) for one in spans]


def measure(run: Path, policies: list[str], segmenter: str | None) -> None:
    """Print a row of the table for each policy."""
    config = load_config(run / "config.yaml")
    folder = run / "sft" / "model"
    encoder = ChatEncoder(load_tokenizer(folder), load_prompt(config.prompt))
    reference = load_model(folder)[0].eval()
    pairs, count = distinct_pairs(run, config.env.id, segmenter)
    models = {name: load_model(run / name / "model")[0].eval() for name in policies}
    moved = {name: Counter[str]() for name in policies}
    greedy = Counter[str]()
    for winner, loser, at in track(pairs, run.name, console=Console(stderr=True)):
        sides = [encoder.encode(one, ask=False) for one in (winner, loser)]
        before = [turn_logprobs(reference, side) for side in sides]
        greedy["winner"] += before[0][1][at]
        greedy["loser"] += before[1][1][at]
        for name, model in models.items():
            changes = [
                [new - old for new, old in zip(turn_logprobs(model, side)[0], known, strict=True)]
                for side, (known, _) in zip(sides, before, strict=True)
            ]
            for side, change in zip(("winner", "loser"), changes, strict=True):
                moved[name][f"{side} decision"] += change[at]
                moved[name][f"{side} later"] += sum(change[at + 1 :])
            moved[name]["over 1"] += changes[0][at] - changes[1][at] > 1
    total = len(pairs)
    shares = [f"{100 * greedy[side] / total:.0f}" for side in ("winner", "loser")]
    for name, found in moved.items():
        nats = [
            f"{found[f'{side} {place}'] / total:+.2f}"
            for side in ("winner", "loser")
            for place in ("decision", "later")
        ]
        row = (f"{run.parent.name}/{run.name}", name, f"{total} of {count}", *shares, *nats)
        print(f"| {' | '.join(row)} | {100 * found['over 1'] / total:.0f} |")


def main() -> None:
    """Measure all runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--policy", nargs="+", default=["ipr"])
    parser.add_argument("--segmenter", help="measure this segmenter's group pairs")
    given = parser.parse_args()
    print(
        "| run | policy | distinct pairs | reference says winner's, % | loser's, % "
        "| winner, decision | later | loser, decision | later | decision moved over 1 nat, % |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for run in given.runs:
        measure(run, given.policy, given.segmenter)


if __name__ == "__main__":
    main()
