"""The `mno` command: quick to start, and open to the commands of others."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mno.imports.mapping import read_mapping

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
def added(tmp_path):
    """The environment in which a package that brings commands is installed."""
    (tmp_path / "twin.py").write_text(TWIN)
    installed = tmp_path / "mno_twin-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mno-twin\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(ENTRIES)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}


def mno(*words, env=None):
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_package_brings_its_commands_and_cannot_take_ours(added):
    shown = mno("--help", env=added)
    assert shown.returncode == 0 and "Show a twin." in shown.stdout
    told = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ")]
    order = [told.index(name) for name in ("run", "register", "status", "predict", "study", "twin")]
    assert order == sorted(order), "commands stand in the order of the work"
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
def test_what_is_not_installed_is_one_line(added, words, said):
    done = mno(*words, env=added)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert all(part in line for part in said.split(".*"))


@pytest.mark.parametrize("words", ["--help", "run --help", "study --help", "audit --help"])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom flows.cli import app\n"
        f"app({words.split()}, standalone_mode=False)\n"
        f"print(sorted(set(sys.modules).intersection({HEAVY})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


LOG = "time,x,quantity,value,unit\n" + "".join(
    f"{time},{x},temperature,{time / 7},degC\n" for time in range(0, 900, 10) for x in (0.1, 0.3)
)


def test_a_mapping_file_is_written_of_what_is_found(tmp_path):
    log, wide, file, columns = (tmp_path / name for name in ("l.csv", "w.csv", "l.yaml", "w.yaml"))
    log.write_text(LOG)
    assert "--mapping" in mno("import", "csv", log, "--write-mapping", file).stdout
    look = ("import", "csv", log, "--dry-run", "--json")
    assert json.loads(mno(*look, "--mapping", file).stdout) == json.loads(mno(*look).stdout)
    done = mno("import", "csv", log, "--write-mapping", file)
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    wide.write_text("time;TC1;TC2;heater\n0;1,5;2;3\n10;2;3;4\n")
    found = json.loads(mno("import", "csv", wide, "--write-mapping", columns, "--json").stdout)
    quantities = {name: rule["quantity"] for name, rule in found["sensors"]["columns"].items()}
    assert quantities == {"TC1": "TC", "TC2": "TC", "heater": "heater"}
    assert read_mapping(columns).sensors.frames == 32


ROOT = Path(__file__).parents[2]

LEFT = """
import subprocess, sys
import pytest
from tests.support.workspaces import Workspace

@pytest.fixture
def deaf(tmp_path):
    return Workspace(tmp_path)

def test_leaves_something_at_work(tmp_path, deaf):
    code = "import time; print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=deaf.root, stdout=subprocess.PIPE)
    child.stdout.readline()
    open({record!r}, "w").write(str(child.pid))
    assert False
"""


def test_what_a_failed_test_has_started_ends_with_it(tmp_path):
    record = tmp_path / "pid"
    (tmp_path / "test_left.py").write_text(LEFT.format(record=str(record)))
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path / "test_left.py")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    pid = int(record.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_tests_and_their_children_hear_ctrl_c_where_the_shell_ignores_it():
    code = (
        "import signal, subprocess, sys\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "import tests.conftest\n"
        "look = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)'\n"
        "print(subprocess.run([sys.executable, '-c', look], capture_output=True).stdout)\n"
    )

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        preexec_fn=ignore,
    )  # fmt: skip
    assert "False" in done.stdout
