"""What happens beside the steps of a training: progress and the policies of phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.plan import TERMS, Step
from hpl_gym.trainers.progress import Bar


class PhaseEnds(TrainerCallback):
    """Keeps the policy at the end of each phase and hands it over.

    Args:
        plan: The steps.
        folder: Where the policies go, by the number of their phase.
        save: Saves the policy of now, in all processes.
        phase_end: Called with the number and the policy's folder in the main process.
    """

    def __init__(
        self,
        plan: Sequence[Step],
        folder: Path,
        save: Callable[[Path], None],
        phase_end: Callable[[int, Path], None],
    ) -> None:
        last = {step.phase: at for at, step in enumerate(plan, 1)}
        self._ends = {at: phase for phase, at in last.items()}
        self._folder, self._save, self._phase_end = folder, save, phase_end
        # A training that goes on repeats steps, on some machines with other last bits.
        self._kept = {phase for phase in last if (folder / str(phase) / "model").is_dir()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refuse to go on where a phase has ended whose policy was not kept."""
        ended = {phase for at, phase in self._ends.items() if at <= state.global_step}
        if lost := sorted(ended - self._kept):
            raise HPLGymError(
                f"Phase {lost[0]} ended before its policy was to be kept: go on without "
                "train.phases, or train anew under another --name."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and hand over, where a phase ends."""
        phase = self._ends.get(state.global_step)
        if phase is not None:
            folder = self._folder / str(phase) / "model"
            if phase not in self._kept:
                self._save(folder)
            if state.is_world_process_zero:
                self._phase_end(phase, folder)


class Shown(TrainerCallback):
    """Moves the progress bar."""

    def __init__(self, progress: Bar) -> None:
        self._progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Show the losses of a step."""
        if "loss" not in logs:
            return
        self._progress.advance()
        losses = {term: logs[f"{term}/loss"] for term in TERMS if f"{term}/loss" in logs}
        shown = f"loss {logs['loss']:.3f}"
        if len(losses) > 1:
            shown = " ".join(f"{term} {loss:.2f}" for term, loss in losses.items())
        rate = f"{logs['tokens_per_second']:,.0f} tokens/s"
        self._progress.note(f"{shown}, {rate}, {logs['tokens_saved']:.0%} of the tokens saved")
