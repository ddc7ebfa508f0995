"""A stage's folder: a manifest and append-only JSON Lines that a killed run takes up again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from hpl_gym.core import HPLGymError

PACKAGES = ("hpl-gym", "gymnasium", "alfworld", "torch", "transformers")
_DIGEST = re.compile("[0-9a-f]{16}")
SECONDS = 2.0
"""Between two manifests of a stage that goes on, at least."""


class StageError(HPLGymError):
    """A stage's folder is missing, unfinished, or was made with another configuration."""


class Stage:
    """One stage's output folder, ``runs/<name>/<stage>``.

    Opening a folder that exists goes on where it stopped. Records have a ``key``; those already
    there need not be made again. A line torn by a crash is cut off. Until it is finished, one
    process at a time writes to it. As long as it holds nothing, it takes other settings.

    Args:
        folder: Where to write; made if need be.
        config: Everything that decides the stage's output; kept in ``manifest.json``.
        writes: Whether this process is the one that writes.
        waits: Whether to wait for another process that writes to it, instead of an error.

    Raises:
        StageError: The folder was begun with another configuration, its manifest is missing or
            damaged, or another process writes.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        writes: bool = True,
        waits: bool = False,
    ) -> None:
        self.folder = folder
        self._started, self._before = time.monotonic(), 0.0
        self._written = self._started
        folder.mkdir(parents=True, exist_ok=True)
        if writes and not is_finished(folder):
            self._lock(waits)
        self.manifest: dict[str, Any] = {
            "stage": folder.name,
            "finished": False,
            "config": json.loads(json.dumps(config)),
            "packages": versions(),
            "machine": {"system": platform.system(), "cores": os.cpu_count()},
            "seconds": 0.0,
        }
        if holds_results(folder):
            before = read_manifest(folder)
            changed = _differences(before["config"], self.manifest["config"])
            if changed:
                raise StageError(
                    f"{folder} was made with another configuration ({'; '.join(changed)}): "
                    "use the same settings to go on, or start anew beside it: another --name of "
                    "`hpl train` or `hpl eval`, another --run of the others."
                )
            self.manifest = before
            if not self.finished and before["packages"] != versions():
                self.manifest["resumed_with"] = versions()
        elif writes:
            self._write()
        self._before = float(self.manifest["seconds"])

    @property
    def finished(self) -> bool:
        """Whether the stage has nothing left to do."""
        return bool(self.manifest["finished"])

    def _lock(self, waits: bool) -> None:
        """Keep other processes from writing, as long as this stage lives."""
        self._locked = (self.folder / ".lock").open("w")
        try:
            fcntl.lockf(self._locked, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise StageError(
                f"Another process is writing {self.folder}: wait until it ends, or stop it, then "
                "run the same command again."
            ) from error

    def keys(self, name: str) -> set[str]:
        """Return the keys of the complete records in ``<name>.jsonl``, repairing a torn end."""
        path = self.folder / f"{name}.jsonl"
        repair(path)
        return {record["key"] for record in read_records(path)}

    def append(self, name: str, *records: Mapping[str, Any]) -> None:
        """Append records to ``<name>.jsonl``, each as one line.

        Now and then the manifest is written as well, so that a kill loses few of the seconds.

        Raises:
            StageError: They cannot be written, for example because the disk is full.
        """
        append(self.folder / f"{name}.jsonl", *records)
        if time.monotonic() - self._written > SECONDS:
            self._write()

    def note(self, **results: Any) -> None:
        """Write `results` into the manifest of a stage that goes on."""
        self.manifest |= results
        self._write()

    def finish(self, **results: Any) -> dict[str, Any]:
        """Write `results` into the manifest and mark the stage as finished.

        Returns:
            The manifest.
        """
        self.manifest |= results
        self.manifest["finished"] = True
        self._write()
        return self.manifest

    def _write(self) -> None:
        seconds = self._before + time.monotonic() - self._started
        self.manifest["seconds"] = round(seconds, 3)
        write_json(self.folder / "manifest.json", self.manifest)
        self._written = time.monotonic()


def repair(path: Path) -> None:
    """Cut a torn last line off a JSON Lines file; make the file if it is not there."""
    path.touch()
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def append(path: Path, *records: Mapping[str, Any]) -> None:
    """Append records to a JSON Lines file, or none of them.

    Raises:
        StageError: They cannot be written, for example because the disk is full.
    """
    lines = "".join(json.dumps(record) + "\n" for record in records)
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="ascii") as file:
            file.write(lines)
    except OSError as error:
        if path.exists():
            os.truncate(path, before)
        raise StageError(
            f"{path} cannot be written ({error.strerror}): make room, then run the same command "
            "again; it goes on from here."
        ) from error


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON Lines file.

    Raises:
        StageError: A line is not a JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise StageError(
                    f"{path}, line {number}, is not a record: take that line out, or delete "
                    f"{path.parent} and make it anew."
                )
            yield record


def finished_manifest(folder: Path, command: str) -> dict[str, Any]:
    """Return the manifest of an earlier stage that the next one reads.

    Args:
        folder: The earlier stage's folder.
        command: The command that makes it, with its options, for the error.

    Raises:
        StageError: It is not there, or not finished.
    """
    if not (folder / "manifest.json").is_file():
        raise StageError(f"{folder} does not exist yet: run `hpl {command}` first.")
    manifest = read_manifest(folder)
    if not manifest["finished"]:
        raise StageError(f"{folder} is not finished: run `hpl {command}` again to complete it.")
    return manifest


def is_finished(folder: Path) -> bool:
    """Return whether a stage's folder is there and has nothing left to do."""
    return (folder / "manifest.json").is_file() and bool(read_manifest(folder)["finished"])


def holds_results(folder: Path) -> bool:
    """Return whether a stage's folder holds anything that its settings made."""
    own = {"manifest.json", "manifest.json.part", ".lock"}
    others = (one for one in folder.iterdir() if one.name not in own)
    return is_finished(folder) or any(one.is_dir() or one.stat().st_size for one in others)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a stage's manifest as it is now.

    Raises:
        StageError: It is missing or damaged.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or not {"finished", "config"} <= manifest.keys():
        raise StageError(f"{path} is missing or damaged: delete {folder} and make it anew.")
    return manifest


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def digest(paths: list[Path]) -> str:
    """Return a SHA-256 over the contents of files, in the order given (16 hex digits)."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of the installed packages that decide results."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> list[str]:
    found = []
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new, f"{within}{key}.")
        elif old != new and all(_DIGEST.fullmatch(str(one)) for one in (old, new)):
            found.append(f"{within}{key} has other contents")
        elif old != new:
            found.append(f"{within}{key} was {old!r}, is {new!r}")
    return found
