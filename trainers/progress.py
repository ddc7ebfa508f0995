"""Progress on standard error: bars with rate and time left, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

Mode = Literal["bar", "json", "quiet"]

console = Console(stderr=True)


def _rate(task: Task) -> float:
    """Return items a second over the whole run: a batch ends at once, so short spans say little."""
    return (task.completed - task.fields["before"]) / (task.elapsed or 1e-9)


def _seconds_left(task: Task) -> int | None:
    share = task.fields["share"]
    if share is None and task.total:
        share = 1 - (task.total - task.completed) / ((task.total - task.fields["before"]) or 1)
    return round((task.elapsed or 0.0) * (1 / share - 1)) if share else None


def _left(task: Task) -> str:
    seconds = _seconds_left(task)
    return "-:-- left" if seconds is None else f"{seconds // 60}:{seconds % 60:02d} left"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        return Text(f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_left(task))


class _Screen(Progress):
    """A bar, and its note on a line of its own."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["note"]:
                yield Text(f"  {task.fields['note']}", no_wrap=True, overflow="ellipsis")


class Bar:
    """A running bar; `advance` moves it, `note` sets the text below it.

    Where standard error is no terminal, a line is printed twice a minute instead.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._printed = console.get_time()

    def advance(self, amount: int = 1) -> None:
        """Move on by `amount`."""
        self._progress.advance(self._task, amount)
        self._report_at_times()

    def note(self, text: str, share: float | None = None) -> None:
        """Show a text below the bar.

        Args:
            text: The text.
            share: How much is done of what was left when the bar began, 0 to 1; for items that
                differ so much that their number does not tell the time left.
        """
        self._progress.update(self._task, note=text, share=share)
        self._report_at_times()

    def _report_at_times(self) -> None:
        if console.get_time() - self._printed > (10 if _mode == "json" else 30):
            self._printed = console.get_time()
            self.report()

    def report(self) -> None:
        """Print a line, where no bar is shown."""
        task = self._progress.tasks[self._task]
        if _mode == "json":
            line = {
                "stage": task.description,
                "done": int(task.completed),
                "total": task.total,
                "per_second": round(_rate(task), 4),
                "seconds": round(task.elapsed or 0.0, 1),
                "seconds_left": _seconds_left(task),
                "note": task.fields["note"],
            }
            print(json.dumps(line), file=sys.stderr, flush=True)
        elif _mode == "bar" and not console.is_terminal:
            done = f"{task.description} {task.completed:.0f}/{task.total or '?'}"
            console.print(Text(f"{done}, {_left(task)}, {task.fields['note']}"), soft_wrap=True)


_mode: Mode = "bar"


def set_mode(mode: Mode) -> None:
    """Choose how progress is shown from now on: ``bar``, ``json`` (lines) or ``quiet``."""
    global _mode
    _mode = mode


def heading(text: str) -> None:
    """Show where in a longer command it is, where bars are shown."""
    if _mode == "bar":
        console.rule(text, align="left")


def display(picture: RenderableType) -> None:
    """Show a table or the like, where bars are shown."""
    if _mode == "bar":
        console.print(picture)


@contextmanager
def bar(title: str, total: int | None, done: int = 0) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs.

    Args:
        title: What is being done.
        total: How many items there are; None where that is not known.
        done: How many were done before (on resume).
    """
    whole = Column(no_wrap=True)
    with _Screen(
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=whole),
        _Rate(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        _Left(table_column=whole),
        console=console,
        disable=_mode != "bar",
    ) as progress:
        task = progress.add_task(
            title, total=total, completed=done, note="", before=done, share=None
        )
        shown = Bar(progress, task)
        yield shown
        if _mode == "json":
            shown.report()
