"""Where generated and unpacked data are kept: `$HPL_CACHE` or `~/.cache/hpl-gym`."""

from __future__ import annotations

import os
from pathlib import Path

from hpl_gym.core import HPLGymError


def cache_path(name: str = "") -> Path:
    """Return a folder's place in `$HPL_CACHE` or `~/.cache/hpl-gym`; it need not be there."""
    return Path(os.environ.get("HPL_CACHE") or "~/.cache/hpl-gym").expanduser() / name


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
