"""Runs jobs, several at a time and each once: what a ledger knows is linked, not computed again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Lock

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.progress import Bar, bar
from hpl_gym.trainers.records import append, is_finished, read_records, repair
from hpl_gym.trainers.reproduction.jobs import Job

HPL = (sys.executable, "-m", "hpl_gym.trainers.cli")
COST = {
    "experts": 15,
    "sft": 450,
    "explore": 800,
    "pairs": 1,
    "rft": 550,
    "train": 170,
    "eval": 120,
}
"""Seconds of a job of each stage on household games of `mini`, whose ratios tell the time left."""


class Ledger:
    """The finished jobs of a reproduction, ``jobs.jsonl`` in its folder.

    Args:
        root: The reproduction's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "jobs.jsonl"
        root.mkdir(parents=True, exist_ok=True)
        repair(self._file)
        self._known = {one["key"]: one for one in read_records(self._file)}

    def take(self, job: Job) -> bool:
        """Return whether a job is finished; a result that lies elsewhere is linked."""
        if job.folder.is_symlink() and not job.folder.exists():
            job.folder.unlink()  # what it led to was deleted
        if job.key not in self._known:
            return False
        there = self._root / self._known[job.key]["folder"]
        if not is_finished(there):
            return False
        if not job.folder.exists():
            job.folder.parent.mkdir(parents=True, exist_ok=True)
            job.folder.symlink_to(os.path.relpath(there, job.folder.parent))
        return job.folder.resolve() == there.resolve()

    def add(self, job: Job, seconds: float) -> None:
        """Note that a job is finished, and how long it took."""
        record = {
            "key": job.key,
            "job": job.name,
            "folder": str(job.folder.relative_to(self._root)),
            "command": shlex.join(("hpl", *job.command)),
            "seconds": round(seconds, 1),
        }
        append(self._file, record)
        self._known[job.key] = record


def run_jobs(
    jobs: Sequence[Job],
    ledger: Ledger,
    slots: int,
    launcher: Sequence[str] = (),
    *,
    threads: int | None = None,
) -> int:
    """Run the jobs that are not finished, each as soon as what it needs is there.

    Args:
        jobs: The jobs; of those that could start, earlier ones start first.
        ledger: What was finished before.
        slots: Jobs at a time.
        launcher: What starts a training instead of plain Python.
        threads: Threads of each job; None leaves them to torch.

    Returns:
        How many jobs were run.

    Raises:
        HPLGymError: A job failed; the others that ran were ended, and go on when run again.
    """
    # Settings that make two benchmarks alike give them the same jobs.
    left = list({job.key: job for job in jobs if not ledger.take(job)}.values())
    keys = {job.key for job in left}
    sorter = TopologicalSorter({job.key: keys.intersection(job.needs) for job in left})
    sorter.prepare()
    ready: list[Job] = []
    running: dict[Future[float], Job] = {}
    with (
        bar("reproduce", len(jobs), len(jobs) - len(left)) as progress,
        ThreadPoolExecutor(slots) as pool,
        _Processes(left, progress, launcher, threads) as processes,
    ):
        while sorter.is_active():
            fresh = set(sorter.get_ready())
            ready = [job for job in left if job in ready or job.key in fresh]
            while ready and len(running) < slots:
                job = ready.pop(0)
                running[pool.submit(processes.run, job)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                ledger.add(job, future.result())
                sorter.done(job.key)
                for twin in (one for one in jobs if one.key == job.key):
                    ledger.take(twin)
                progress.advance()
    return len(left)


class _Processes:
    """The commands that run, and what they say of their progress.

    Args:
        jobs: All that are to run.
        progress: The bar that shows it.
        launcher: What starts a training instead of plain Python.
        threads: Threads of each command.
    """

    def __init__(
        self, jobs: Sequence[Job], progress: Bar, launcher: Sequence[str], threads: int | None
    ) -> None:
        self._cost = sum(COST[job.stage] for job in jobs)
        self._done: dict[str, float] = {}
        self._progress, self._launcher = progress, launcher
        self._env = dict(os.environ)
        if threads:
            self._env |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._said: dict[str, str] = {}
        self._lock = Lock()
        self._ended = False

    def __enter__(self) -> _Processes:
        """Let SIGTERM leave through `__exit__`."""
        self._signal = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs."""
        signal.signal(signal.SIGTERM, self._signal)
        with self._lock:
            self._ended = True
            left = list(self._running.values())
        for process in left:
            process.send_signal(signal.SIGTERM)

    def run(self, job: Job) -> float:
        """Run a job and return its seconds."""
        began = time.monotonic()
        start = self._launcher if job.trains and self._launcher else HPL
        command = (*start, "--progress", "json", *job.command)
        log = job.folder.with_name(job.folder.name + ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if self._ended:
                raise HPLGymError(f"{job.name} was not started.")
            process = self._running[job.name] = subprocess.Popen(
                command,
                env=self._env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        self._show(job, "")
        last = ""
        assert process.stderr is not None
        with log.open("a", encoding="utf-8") as file:
            for line in process.stderr:
                file.write(line)
                file.flush()
                if line.startswith('{"stage"'):
                    said = json.loads(line)
                    share = said["done"] / (said["total"] or float("inf"))
                    self._show(job, f" {said['done']}/{said['total'] or '?'}", share)
                else:
                    last = line.strip() or last
        status = process.wait()
        with self._lock:
            del self._running[job.name], self._said[job.name]
            self._done[job.name] = COST[job.stage]
        if status:
            shown = shlex.join(("hpl", *job.command))
            why = last.removeprefix("Error: ") or f"exit status {status}"
            if status < 0:
                why = f"it was ended by {signal.Signals(-status).name}"
                why += ", as when memory is short" if status == -signal.SIGKILL else ""
            raise HPLGymError(
                f"`{shown}` failed ({why}): mend that and run the same command again; {log} has "
                "all it said."
            )
        return time.monotonic() - began

    def _show(self, job: Job, said: str, share: float = 0.0) -> None:
        with self._lock:
            self._said[job.name] = said
            self._done[job.name] = share * COST[job.stage]
            text = ", ".join(f"{one}{how}" for one, how in self._said.items())
            self._progress.note(text, sum(self._done.values()) / self._cost)
