import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from hpl_gym.trainers.kernels import VARIABLES
from tests.command_line import hpl


def test_an_error_is_printed_as_it_stands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert hpl("train", "--run", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert error == "Error: This command needs the train extra: pip install 'hpl-gym[train]'.\n"


def test_a_path_with_brackets_stands_in_an_error(tmp_path, capsys):
    missing = tmp_path / "[/none].yaml"
    assert hpl("sft", "--run", tmp_path / "run", "--config", missing) == 1
    assert str(missing) in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hpl_gym.trainers.experts.collect_experts", interrupt)
    assert hpl("experts", "--run", tmp_path / "run") == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_the_version_is_shown(capsys):
    assert hpl("--version") == 0
    assert capsys.readouterr().out == f"hpl-gym {version('hpl-gym')}\n"


CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""


@pytest.mark.skipif(" avx2 " not in CPU, reason="this CPU has no AVX2")
def test_all_x86_cpus_compute_with_the_same_kernels(monkeypatch):
    code = (
        "import sys; from hpl_gym.trainers import cli; sys.argv = ['hpl', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: import torch; print(torch.backends.cpu.get_cpu_capability())"
    )

    def kernels():
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return shown.stdout.split()[-1]

    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert kernels() == "AVX2"
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert kernels() == "DEFAULT"
