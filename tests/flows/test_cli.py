"""The `mno` command: quick to start, and open to the commands of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TWIN = '''
def show(name: str, times: int = 1) -> None:
    """Show a twin."""
    print(f"twin {name}" * times)

def late() -> None:
    """Need something late."""
    import not_installed_either
'''
ENTRIES = """[mno.commands]
run = twin:show
twin = twin:show
late = twin:late [live]
absent = not_installed.twin:show [live]
broken = twin:nothing
"""
HEAVY = ("torch", "numba", "mlflow", "prefect", "xarray", "scipy", "matplotlib", "pandas")


@pytest.fixture
def added(tmp_path: Path) -> dict[str, str]:
    """The environment in which a package that brings commands is installed."""
    (tmp_path / "twin.py").write_text(TWIN)
    installed = tmp_path / "mno_twin-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mno-twin\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(ENTRIES)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}


def mno(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_package_brings_its_commands_and_cannot_take_ours(added: dict[str, str]) -> None:
    shown = mno("--help", env=added)
    assert shown.returncode == 0 and "Show a twin." in shown.stdout
    done = mno("twin", "oven", "--times", "2", env=added)
    assert (done.returncode, done.stdout) == (0, "twin oventwin oven\n")
    assert "Bring the whole line up to date" in mno("run", "--help", env=added).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent", "a", "--times", "2"], "not_installed, .*: pip install 'mno-twin[live]'"),
        (["late"], "not_installed_either, .*: pip install 'mno-twin[live]'"),
        (["broken"], "mno broken cannot be loaded from twin:nothing"),
    ],
)
def test_what_is_not_installed_is_one_line(
    added: dict[str, str], words: list[str], said: str
) -> None:
    done = mno(*words, env=added)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert all(part in line for part in said.split(".*"))


@pytest.mark.parametrize("words", ["--help", "run --help", "study --help", "audit --help"])
def test_help_imports_nothing_heavy(words: str) -> None:
    code = (
        "import sys\nfrom flows.cli import app\n"
        f"app({words.split()}, standalone_mode=False)\n"
        f"print(sorted(set(sys.modules).intersection({HEAVY})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
