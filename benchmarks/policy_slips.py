"""In how many episodes a policy names what is not there, and what becomes of these episodes.

A slip is, in the household, a command that does nothing; in the shop, a clicked option that was not
asked for or that the product does not have; at the databases, a value in the last query that the
question does not name (0 and 1 aside). Reads the episodes that `hpl eval` and `hpl reproduce` leave
in run folders, and prints a Markdown table: mean of the runs, and deviation between them.

    python benchmarks/policy_slips.py runs/reproduce/alfworld-1a2b3c4d/seed-* --policy sft ipr
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hpl_gym.trainers.records import finished_manifest, read_records
from hpl_gym.wrappers.react import parse_reply

Turns = list[tuple[str, str, str]]
"""What was seen before an action, the action, and what was seen then."""

LABELS = ("back to search", "next >", "< prev", "description", "features", "reviews", "buy now")


def nothing_happened(turns: Turns, _: str) -> bool:
    """Return whether a command of the household did nothing."""
    return any(after.startswith("Nothing happens") for _, _, after in turns)


def wrong_option(turns: Turns, instruction: str) -> bool:
    """Return whether an option was clicked in the shop that is not asked for or not there."""
    for page, action, _ in turns:
        clicked = re.fullmatch(r"click\[(.+)\]", action.lower())
        label = clicked[1] if clicked else "buy now"
        if label in LABELS or re.fullmatch("b0[a-z0-9]{8}", label):
            continue
        if label not in instruction.lower() or label not in page.lower().split(" [sep] "):
            return True
    return False


def value_not_asked_for(turns: Turns, question: str) -> bool:
    """Return whether the last query has a value that the question does not name."""
    queries = [action for _, action, _ in turns if "select" in action.lower()]
    found = re.findall(r"'([^']*)'|\b(\d+(?:\.\d+)?)\b", queries[-1] if queries else "")
    values = {text or number for text, number in found} - {"0", "1"}
    return any(value.lower() not in question.lower() for value in values)


SLIPPED = {
    "HPL/ALFWorld-v0": nothing_happened,
    "HPL/WebShop-v0": wrong_option,
    "HPL/InterCodeSQL-v0": value_not_asked_for,
}


def count(folder: Path) -> list[float]:
    """Return the percentages of episodes without and with a slip, and of successes in each."""
    slipped = SLIPPED[finished_manifest(folder, "eval")["config"]["env"]["id"]]
    solved: dict[bool, list[bool]] = {False: [], True: []}
    for episode in read_records(folder / "episodes.jsonl"):
        solved[slipped(_turns(episode), episode["instruction"])].append(episode["success"])
    episodes = sum(len(one) for one in solved.values())
    return [100 * n / episodes for one in solved.values() for n in (len(one), sum(one))]


def _turns(episode: dict[str, Any]) -> Turns:
    seen = [episode["observation"], *(turn["observation"] for turn in episode["turns"])]
    actions = [parse_reply(turn["reply"]).action for turn in episode["turns"]]
    return list(zip(seen, actions, seen[1:], strict=False))


def main() -> None:
    """Count the slips and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("run", nargs="+", type=Path, help="run folders, of one setting each seed")
    parser.add_argument("--policy", nargs="+", required=True, help="names in their eval folders")
    args = parser.parse_args()
    print("| policy | without a slip | of these solved | with a slip | of these solved |")
    print("|---|---|---|---|---|")
    for policy in args.policy:
        shares = [count(run / "eval" / policy) for run in args.run]
        cells = [
            f"{mean(own):.1f} ± {stdev(own):.1f}" if len(own) > 1 else f"{own[0]:.1f}"
            for own in zip(*shares, strict=True)
        ]
        print("|", " | ".join([policy, *cells]), "|")


if __name__ == "__main__":
    main()
