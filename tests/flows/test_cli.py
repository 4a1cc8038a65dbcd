"""The `mno` command: quick to start, and open to the commands of others."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.predict import trust_of
from mno.core.absent import Absent
from mno.imports.mapping import read_mapping
from mno.registry.tracking import account

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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rum", "Did you mean 'run'?; see mno --help"),
        ("run --nothing", "--nothing; see mno run --help"),
        ("study run", "'STUDY'; see mno study run --help"),
        (
            "study run at_equal_parameters --workers 0",
            "greater than or equal to 1; see mno study run --help",
        ),
        ("study report at_equal_parameters --json --seeds", "--seeds; see mno study report --help"),
    ],
)
def test_wrong_use_is_one_line(words, said):
    done = mno(*words.split())
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("error: ") and line.endswith(said)
    if "--json" in words:
        assert json.loads(done.stdout) == {"error": line[len("error: ") :], "exit_code": 2}


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

CHAMPION = "models:/mno-x@champion"
TOLD = f"""
import sys
from flows.cli import main
try:
    main()
finally:
    print(sorted(set(sys.modules).intersection({HEAVY})))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A workspace without a registry, with a table and a dataset that are there."""
    root = tmp_path_factory.mktemp("bare")
    for name in ("params.yaml", "dvc.yaml", "data.dvc"):
        shutil.copy(ROOT / name, root)
    (root / "log.csv").write_text(LOG)
    (root / "data").mkdir()
    return root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", CHAMPION, "gone", "new"], "gone does not exist; expected a Zarr store"),
        (["predict", CHAMPION, "log.csv", "new"], "log.csv is not a folder; expected a Zarr store"),
        (["predict", CHAMPION, "data", "log.csv"], "log.csv exists already"),
        (["predict", CHAMPION, "data", "new"], "has no registry (mlflow.db): register a model"),
        (["predict", "mno-x", "data", "new"], "did you mean models:/mno-x@champion?"),
        (["predict", "mno-x@best", "data", "new"], "did you mean models:/mno-x@best?"),
        (["predict", "data", "data", "new"], "data does not hold a readable model"),
        (["compare", "gone.csv"], "gone.csv does not exist; expected a table of readings"),
        (["compare", "log.csv"], "has no registry (mlflow.db)"),
        (["watch", CHAMPION, "gone.csv"], "gone.csv does not exist; expected a log of readings"),
        (["infer", CHAMPION, "log.csv", "--prior", "gone.yaml"], "gone.yaml does not exist"),
        (["optimise", CHAMPION, "gone.yaml"], "gone.yaml does not exist"),
        (["inspect", "data", "--data", "gone"], "gone does not exist; expected the folder of a da"),
        (["export", "gone", "out.nc"], "gone does not exist; expected a dataset"),
        (["import", "csv", "gone.csv"], "gone.csv does not exist; expected a file to import"),
        (["study", "run", "gone"], "there is no study 'gone'"),
        (["study", "report", "gone"], "there is no study 'gone'"),
        (["audit", "mno-x"], "has no registry (mlflow.db)"),
        (["serve", "--port", "0"], "has no registry (mlflow.db)"),
    ],
)
def test_wrong_paths_are_told_before_anything_heavy_is_imported(bare, words, said):
    before = sorted(bare.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", TOLD, *words], cwd=bare, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert (done.returncode, said in line) == (2, True), line
    assert done.stdout.splitlines()[-1] == "[]"
    assert sorted(bare.rglob("*")) == before, "nothing is made"


def test_a_model_directly_below_the_root_has_no_bounds_beside_it():
    found = trust_of("/model", Path("/model"))
    assert isinstance(found, Absent) and "/reports/trust.json" in str(found)


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert account() == "user 54321"


@pytest.fixture
def locked(bare):
    """A workspace that this process may not write to, and how it becomes one that may not."""
    without = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    if without and shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and there is no setpriv to take that away")
    (bare / "build").mkdir()
    for path in (bare, *bare.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield bare, without
    for path in (bare, *bare.iterdir()):
        path.chmod(0o755)
    (bare / "build").rmdir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "build/locks: Permission denied; work in a checkout of your own"),
        (["run", "--set", "train.epochs=3"], "build/locks: Permission denied"),
        (["gc", "--delete"], "build/locks: Permission denied"),
        (["ui", "--mlflow-port", "0", "--prefect-port", "0"], "build/logs: Permission denied"),
        (["doctor"], ""),
    ],
)
def test_a_workspace_that_may_not_be_written_to_is_told_in_a_line(locked, words, said):
    root, without = locked
    done = subprocess.run(
        [*without, sys.executable, "-m", "flows.cli", *words], cwd=root, capture_output=True,
        text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    if said:
        (line,) = done.stderr.splitlines()
        assert (done.returncode, said in line) == (2, True), line
    else:
        (line,) = (line for line in done.stdout.splitlines() if " permission " in line)
        assert done.returncode == 1 and line.startswith("PROBLEM") and str(root / "build") in line


def test_of_a_port_in_use_it_is_told_whose_it_is_and_which_option_takes_another(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option, words in (("--port", ["serve"]), ("--mlflow-port", ["ui"])):
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", *words, option, port], cwd=bare, text=True,
                capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            (line,) = done.stderr.splitlines()
            assert done.returncode == 2, line
            assert f"port {port} (process {os.getpid()} has it" in line
            assert f"give another {option}," in line


def test_a_study_is_reported_and_listed_without_a_package_that_a_cell_needs():
    blocked = "import sys; sys.modules['neuralop'] = None; from flows.cli import main; main()"

    def study(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", blocked, "study", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    cells = json.loads(study("show", "at_equal_parameters", "--json").stdout)["states"]
    assert all(cell["relative_l2"] for cell in cells if "--fno--" in cell["cell"])
    refused = study("run", "at_equal_parameters")
    assert refused.returncode == 2 and "pip install 'mno[fno]'" in refused.stderr


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
