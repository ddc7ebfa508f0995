"""Replays episodes recorded on InterCode's own MySQL environment, action by action.

python benchmarks/intercode_sql_replay.py /data/intercode_sql/recorded_episodes/*.json.gz

Prints the share of equal observations and rewards, and what the others come from.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table

import hpl_gym  # noqa: F401

_REWARD = 0.0051  # InterCode rounds to two digits


def episodes(path: Path) -> Iterator[tuple[int, list[tuple[str, str]], float, bool]]:
    """Yield question number, actions with observations, reward, and whether it was submitted."""
    raw = path.read_bytes()
    content = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    for record in content.values() if isinstance(content, dict) else content:
        if "turn_history" in record:
            turns = record["turn_history"]
            actions = [re.sub(r"(?s)^execute\[(.*)\]$", r"\1", one) for one in turns["actions"]]
            pairs = list(zip(actions, map(str, turns["observations"]), strict=True))
            submitted = bool(actions) and actions[-1] == "submit"
            yield (
                record["task_id"],
                pairs[: -1 if submitted else None],
                turns["rewards"][-1],
                submitted,
            )
        else:
            pairs = [(one["action"], one["observation"]) for one in record["trajectory"]]
            yield record["query_idx"], pairs, record["reward"], record["reward"] is not None


def kind(action: str, theirs: str, mine: str, rows: tuple[str, ...] | None) -> str:
    """Return how an observation compares with the recorded one."""
    joined = "".join(rows) if rows is not None else mine
    if theirs in (mine, joined):
        return "equal"
    if "did not contain sql code" in theirs or re.search(r"\n(Observation|Thought|Action)", action):
        return "the recording's own harness refused or cut the action"
    if len(theirs) > 300 and mine.startswith(theirs[: len(theirs) - 15]):
        return "equal as far as the recording goes (it cuts long ones)"
    if "full_group_by" in theirs or "nonaggregated" in theirs:
        return "MySQL refuses what ONLY_FULL_GROUP_BY forbids; MariaDB runs it"
    if "doesn't exist" in mine or (rows and "show tables" in action.lower()):
        return "tables that other episodes had left on the recording's server"
    if mine.startswith("Error") and theirs.startswith("Error"):
        return "another wording of the error"
    listed = _rows(theirs)
    if rows is not None and listed is not None:
        if Counter(listed) == Counter(rows):
            return "the same rows in another order, which the query leaves open"
        if len(listed) == len(rows) and re.search(r"\blimit\b|group by", action, re.IGNORECASE):
            return "ties or groups of which the query leaves the row open"
    elif rows is not None and theirs.startswith("[") and len(theirs) > 300:
        return "a long list, cut in the recording, in another order"
    return "other"


def _rows(text: str) -> list[str] | None:
    """Return the rows in a recorded observation, each as text; None if it is no list."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    return [ast.unparse(row) for row in tree.elts] if isinstance(tree, ast.List) else None


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--data", default="auto", help="folder of the dump and the questions")
    parser.add_argument("--server", default="private")
    parser.add_argument("--examples", type=int, default=0, help="examples of each difference")
    options = parser.parse_args()
    env: Any = gym.make(
        "HPL/InterCodeSQL-v0", data=options.data, server=options.server, shown=10**7
    ).unwrapped
    observations: Counter[str] = Counter()
    rewards: Counter[str] = Counter()
    examples: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for path in options.files:
        for number, turns, reward, submitted in episodes(path):
            env.reset(options={"task": f"{env.questions.name}/{number}"})
            kinds = set()
            for action, theirs in turns:
                if action.strip("; ").lower() == "submit":
                    observations["`submit;` is an error there and submits here"] += 1
                    continue
                mine = env.step(action)[0]
                rows = env._last.state.result.rows
                found = kind(action, theirs, mine, rows)
                observations[found] += 1
                kinds.add(found)
                examples[found].append((number, action, theirs[:300], mine[:300]))
            if submitted:
                mine_reward = env.step("submit")[1]
                same = abs(mine_reward - reward) < _REWARD
                last = kind(*turns[-1], mine, rows) if turns else "equal"
                why = "equal" if same else f"other; last observation: {last}"
                rewards[why] += 1
                if not same:
                    examples[why].append(
                        (number, turns[-1:], reward, mine_reward, env.question().gold)
                    )
    env.close()
    out = Console()
    for title, counts in (("observations", observations), ("rewards", rewards)):
        table = Table(title, "count", "share", title=f"Replayed on {env.backend}")
        for name, count in counts.most_common():
            table.add_row(name, str(count), f"{100 * count / counts.total():.1f} %")
        out.print(table)
    for name, found in examples.items():
        for example in found[: options.examples] if name != "equal" else []:
            out.print(name, example, markup=False, highlight=False)


if __name__ == "__main__":
    main()
