"""Where data lie: the user's in `$HPL_DATA`, ours in `$HPL_CACHE` or `~/.cache/hpl-gym`."""

from __future__ import annotations

import os
from pathlib import Path

from hpl_gym.core import HPLGymError


def last_written(path: Path) -> tuple[int, int, int]:
    """Return what is another value when a file was written anew; zeros if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0, 0
    return state.st_mtime_ns, state.st_ino, state.st_size


def from_anywhere(path: str | Path) -> Path:
    """Return a path that means the same in every working folder, without ``~``.

    Raises:
        HPLGymError: It begins with a home folder that is not known.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise HPLGymError(
            f"It is not known whose home the path {path} means: write it in full (HPL_DATA, "
            "HPL_CACHE or ALFWORLD_DATA), or set HOME."
        ) from None


def data_folder() -> Path | None:
    """Return the folder of the benchmarks' data that `$HPL_DATA` names; None if it is not set.

    Raises:
        HPLGymError: It names no folder.
    """
    value = os.environ.get("HPL_DATA")
    folder = from_anywhere(value) if value else None
    if folder and not folder.is_dir():
        raise HPLGymError(
            f"HPL_DATA is set to {folder}, which is no folder: set it to the folder with the data, "
            "or unset it."
        )
    return folder


def cache_path(name: str = "") -> Path:
    """Return a folder's place in `$HPL_CACHE` or `~/.cache/hpl-gym`; it need not be there."""
    return from_anywhere(os.environ.get("HPL_CACHE") or "~/.cache/hpl-gym") / name


def cache_folder(name: str = "") -> Path:
    """Return a folder in `$HPL_CACHE` or `~/.cache/hpl-gym`, which is made if need be.

    Raises:
        HPLGymError: It cannot be made.
    """
    folder = cache_path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HPLGymError(
            f"The folder {folder} cannot be made ({error.strerror}): set HPL_CACHE to a folder of "
            "your own."
        ) from error
    return folder
