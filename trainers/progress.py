"""Progress bars with rate and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        # Over the whole run: a batch of episodes ends at once, so that short spans say little.
        made = task.completed - task.fields["before"]
        return Text(f"{made / task.elapsed:.1f}/s" if made and task.elapsed else "--/s")


class Bar:
    """A running bar; `advance` moves it, `note` sets the text behind it."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int = 1) -> None:
        """Move on by `amount`."""
        self._progress.advance(self._task, amount)

    def note(self, text: str) -> None:
        """Show `text` behind the bar."""
        self._progress.update(self._task, note=text)


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs.

    Args:
        title: What is being done.
        total: How many items there are.
        done: How many were done before (on resume).
    """
    with Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
        task = progress.add_task(title, total=total, completed=done, note="", before=done)
        yield Bar(progress, task)
