"""ALFWorld's games: where they are, which of them are played, and what is in one."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

from hpl_gym.cache import cache_path, data_folder, from_anywhere
from hpl_gym.core import SPLITS, DataError, HPLGymError, Task

TASK_TYPES = (
    "look_at_obj_in_light",
    "pick_and_place_simple",
    "pick_clean_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_two_obj_and_place",
)
FOLDER = "json_2.1.1"
GAME_FILE = "game.tw-pddl"
_PACKAGE = "~/.cache/alfworld"
_KEY = 16  # digits in the name of a folder of unpacked games
_SOLVABLE = re.compile(rb'"solvable"\s*:\s*true')
_TEXTS = ("pddl_domain", "grammar", "pddl_problem")
_DAY = 86_400


class PackedGamesError(DataError):
    """The benchmark's games are there, in archives that are not unpacked."""


@dataclass(frozen=True)
class Game:
    """One game: everything an engine needs to play it.

    Attributes:
        task: The task it poses.
        domain: PDDL domain, the rules of the house.
        grammar: TextWorld grammar, the texts shown.
        problem: PDDL problem, the house and the goal.
        walkthrough: Commands that solve it, if known.
    """

    task: Task
    domain: str
    grammar: str
    problem: str
    walkthrough: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 over the game's texts."""
        texts = json.dumps([self.domain, self.grammar, self.problem])
        return hashlib.sha256(texts.encode()).hexdigest()[:16]


def read_game(task: Task, path: Path) -> Game:
    """Read a game file of the benchmark.

    Args:
        task: The task that the file poses.
        path: A `game.tw-pddl` file.

    Raises:
        DataError: The file is missing, is no game file, or its game cannot be solved.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"There is no game file {path}: check the task id and the data.") from None
    except OSError as error:
        raise DataError(f"The game file {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise DataError(f"The game file {path} is broken: it is not valid JSON.") from None
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in _TEXTS):
        raise DataError(f"The game file {path} is broken: it lacks one of {', '.join(_TEXTS)}.")
    if data.get("solvable") is not True:
        raise DataError(f"The game in {path} is not marked as solvable: choose another task.")
    walkthrough = data.get("walkthrough") or []
    if not isinstance(walkthrough, list) or not all(isinstance(one, str) for one in walkthrough):
        raise DataError(f"The game file {path} is broken: its walkthrough is no list of commands.")
    return Game(
        task,
        data["pddl_domain"],
        data["grammar"],
        data["pddl_problem"],
        tuple(walkthrough),
    )


def game_path(root: Path, task_id: str) -> Path:
    """Return where below `root` the game file of a real task lies."""
    return root / task_id / GAME_FILE


def real_task(root: Path, task_id: str) -> Task | None:
    """Return the playable task with this id, or None if `root` has none."""
    parts = task_id.split("/")
    kind = parts[1].split("-")[0] if len(parts) == 3 else ""
    if (
        kind not in TASK_TYPES
        or {"", ".", ".."} & set(parts)
        or "movable" in task_id
        or "Sliced" in task_id
    ):
        return None
    path = game_path(root, task_id)
    try:
        if not path.with_name("traj_data.json").is_file() or not _is_solvable(path):
            return None
    except OSError:  # longer than a name can be
        return None
    return Task(task_id, parts[0], kind)


@lru_cache(maxsize=16)
def real_tasks(root: Path, split: str) -> tuple[Task, ...]:
    """Return the benchmark's playable tasks of one split, sorted by task id.

    Playable are solvable games of the six task types without movable receptacles or slicing:
    3,553 in train, 140 in valid_seen, 134 in valid_unseen.

    Args:
        root: The folder that holds `train`, `valid_seen` and `valid_unseen`.
        split: Name of the split's folder.

    Raises:
        DataError: The split's folder is missing or has no playable game.
    """
    folder = root / split
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}: the games of split {split!r} are not there; download "
            f"them, or choose another split or generated games."
        )
    ids = sorted(f"{split}/{trial.parent.name}/{trial.name}" for trial in folder.glob("*/*"))
    tasks = tuple(task for task_id in ids if (task := real_task(root, task_id)))
    if not tasks:
        raise DataError(f"The folder {folder} has no playable game ({GAME_FILE} files).")
    return tasks


def files_digest(root: Path, split: str) -> str:
    """Return 16 hex digits that tell one set of game files from another.

    They are a SHA-256 over the ids of the split's playable tasks and the size and end of each
    file, where the walkthrough stands: reading all of the train split would take too long.

    Args:
        root: The folder that holds the splits.
        split: Name of the split's folder.

    Raises:
        DataError: The split's folder is missing or has no playable game.
    """
    total = hashlib.sha256()
    for task in real_tasks(root, split):
        with game_path(root, task.task_id).open("rb") as file:
            total.update(repr((task.task_id, *_end(file))).encode())
    return total.hexdigest()[:16]


def _end(file: BinaryIO) -> tuple[int, bytes]:
    """Return a file's size and its last bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2048))
    return size, file.read()


def _is_solvable(path: Path) -> bool:
    # The mark stands at the end of the file: reading only that lists the train split in a blink.
    try:
        with path.open("rb") as file:
            if _SOLVABLE.search(_end(file)[1]):
                return True
            file.seek(0)
            return _SOLVABLE.search(file.read()) is not None
    except OSError:
        return False


def locate() -> Path:
    """Return the folder that holds the splits of the real games.

    Looked for in this order: `$ALFWORLD_DATA/json_2.1.1`, `$HPL_DATA/json_2.1.1`,
    `$HPL_DATA/alfworld/json_2.1.1`, what `unpack` made of the archives in `$HPL_DATA` (without
    `$HPL_DATA`: of the archives it unpacked last), and the `alfworld` package's own cache.

    Raises:
        DataError: There are no games; a `PackedGamesError` where only archives are.
        HPLGymError: A variable that is set names a folder that is not there, or, for
            `$ALFWORLD_DATA`, one without games.
    """
    named, data = os.environ.get("ALFWORLD_DATA"), data_folder()
    places = []
    # The package sets ALFWORLD_DATA to its cache when it is imported: then nobody has chosen it.
    if named and from_anywhere(named) != from_anywhere(_PACKAGE):
        own = from_anywhere(named)
        if not (own / FOLDER).is_dir():
            raise HPLGymError(
                f"ALFWORLD_DATA is set to {own}, which has no folder {FOLDER}: set it to the "
                "folder that has it, or unset it."
            )
        return own / FOLDER
    if data:
        places += [data / FOLDER, data / "alfworld" / FOLDER]
    archives = _archives(data) if data else ()
    if archives:
        places.append(_unpacked(archives) / FOLDER)
    if not data:
        done = cache_path("alfworld").glob(f"{'[0-9a-f]' * _KEY}/{FOLDER}")
        places += sorted(done, key=lambda path: (path.stat().st_mtime, path), reverse=True)
    if not archives:
        places.append(from_anywhere(_PACKAGE) / FOLDER)
    for place in places:
        if place.is_dir():
            return place
    if archives:
        raise PackedGamesError(
            f"The real ALFWorld games in {data}/alfworld are packed: run `hpl data alfworld "
            "unpack`, or choose generated games."
        )
    raise DataError(
        f"No real ALFWorld games were found: set ALFWORLD_DATA or HPL_DATA to the folder that "
        f"holds {FOLDER} (or HPL_DATA to one with alfworld/*.tar.xz and run `hpl data alfworld "
        "unpack`)."
    )


def unpack(data: Path) -> Path:
    """Unpack the archives of games in a data folder into the user's cache, once.

    The cache is `$HPL_CACHE` or `~/.cache/hpl-gym`. A changed archive is unpacked anew.

    Args:
        data: A folder with `alfworld/<split>.tar.xz`; it is only read.

    Returns:
        The folder that holds the splits.

    Raises:
        DataError: There are no archives, one is broken, or the cache cannot be written.
    """
    archives = _archives(data)
    if not archives:
        raise DataError(f"There are no archives {data}/alfworld/<split>.tar.xz to unpack.")
    target = _unpacked(archives)
    if (target / FOLDER).is_dir():
        return target / FOLDER
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob("partial-*"):
            with suppress(FileNotFoundError):  # another process is done with it
                if left.stat().st_mtime < time.time() - _DAY:  # by one that was killed
                    shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=target.parent))
        partial.chmod(0o755)  # for all users of the cache
        try:
            for archive in archives:
                _extract(archive, partial)
            if not (partial / FOLDER).is_dir():
                raise DataError(f"The archives in {data}/alfworld hold no folder {FOLDER}.")
            try:
                partial.rename(target)
            except OSError:
                # Another process has finished first: its folder has the same content.
                if not (target / FOLDER).is_dir():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except (tarfile.TarError, lzma.LZMAError, EOFError, KeyError) as error:  # KeyError: a dead link
        raise DataError(f"An archive in {data}/alfworld is broken ({error}).") from None
    except OSError as error:
        raise DataError(f"The games cannot be unpacked into {target.parent}: {error}.") from None
    return target / FOLDER


def _extract(archive: Path, folder: Path) -> None:
    """Write an archive's files into a folder, and none outside it.

    `tarfile`'s own filters are not there before Python 3.11.4.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            path = (folder / member.name).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise tarfile.ReadError(f"{member.name} lies outside it")
            if source := tar.extractfile(member):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(source.read())


def locate_or_unpack() -> Path:
    """Return the folder of the real games, after unpacking `$HPL_DATA`'s archives if need be.

    Raises:
        DataError: There are no games and no archives.
        HPLGymError: As of `locate`.
    """
    try:
        return locate()
    except PackedGamesError:
        data = data_folder()
        assert data is not None
        return unpack(data)


def _archives(data: Path) -> tuple[Path, ...]:
    paths = (data / "alfworld" / f"{split}.tar.xz" for split in SPLITS)
    return tuple(path for path in paths if path.is_file())


def _unpacked(archives: tuple[Path, ...]) -> Path:
    """Return the cache folder that belongs to the content of `archives`."""
    digests = [_file_digest(path, path.stat().st_mtime_ns) for path in archives]
    key = hashlib.sha256("".join(digests).encode()).hexdigest()[:_KEY]
    return cache_path("alfworld") / key


@lru_cache(maxsize=16)
def _file_digest(path: Path, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
