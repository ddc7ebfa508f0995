"""Progress bars with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
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

console = Console(stderr=True)


def _rate(task: Task) -> float:
    """Return items a second over the whole run: a batch ends at once, so short spans say little."""
    return (task.completed - task.fields["before"]) / (task.elapsed or 1e-9)


def _left(task: Task) -> str:
    rate = _rate(task)
    seconds = round((task.total - task.completed) / rate) if rate and task.total else 0
    return f"{seconds // 60}:{seconds % 60:02d} left" if rate else "-:-- left"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        return Text(f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_left(task))


class _Note(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")


class Bar:
    """A running bar; `advance` moves it, `note` sets the text behind it.

    Where standard error is no terminal, a line is printed twice a minute instead.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._printed = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        """Move on by `amount`."""
        self._progress.advance(self._task, amount)
        if not console.is_terminal and time.monotonic() - self._printed > 30:
            self._printed = time.monotonic()
            task = self._progress.tasks[self._task]
            done = f"{task.description} {task.completed:.0f}/{task.total or '?'}"
            console.print(f"{done}, {_left(task)}, {task.fields['note']}", highlight=False)

    def note(self, text: str) -> None:
        """Show `text` behind the bar."""
        self._progress.update(self._task, note=text)


@contextmanager
def bar(title: str, total: int | None, done: int = 0) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs.

    Args:
        title: What is being done.
        total: How many items there are; None where that is not known.
        done: How many were done before (on resume).
    """
    whole = Column(no_wrap=True)
    with Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=whole),
        _Rate(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        _Left(table_column=whole),
        _Note(),
        console=console,
    ) as progress:
        task = progress.add_task(title, total=total, completed=done, note="", before=done)
        yield Bar(progress, task)
