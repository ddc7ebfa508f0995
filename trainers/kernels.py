"""Which of its kernels torch takes on a CPU."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}


def round_alike() -> None:
    """Let torch, oneDNN and MKL use AVX2 and no more, so that all x86 CPUs round alike.

    They read `VARIABLES` when they are loaded, so this comes before torch is imported; a value that
    the user has set stays.
    """
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file() and " avx2 " in cpu.read_text():
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
