"""What a replay runs in: the snapshot's code, with the present packages or the recorded ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.leftovers import handed_down
from mno.core.errors import InputError, MnoError
from mno.lineage.replay.conditions import Conditions

# Of a registry, a run, an experiment or another Python: nothing of them may reach a replay.
_FOREIGN = ("MLFLOW_", "MNO_", "DVC_", "PREFECT_", "GIT_")
_PYTHON = ("PYTHONHOME", "PYTHONSAFEPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
_LINE = re.compile(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_BUILT = "built.json"
# Run with the snapshot's code: the record was written by the same functions.
_PROBE = """
import json, mno, pipelines
from mno.lineage.environment import installed_packages, machine_facts
try:
    from mno.training.processes import training_device
    facts = {**machine_facts(), "device": training_device()}
except ImportError:
    facts = machine_facts()
told = {"code": [mno.__file__, pipelines.__file__], "packages": installed_packages()}
print(json.dumps({**told, "machine": facts}))
"""


def replay_variables(line: Path, binaries: Path, quiet: bool) -> dict[str, str]:
    """Return all variables of a replay's processes.

    The code is that of the replay's folder, and MLflow and DVC stay in it.

    Args:
        line: The repository of the replay.
        binaries: Folder with `python` and `dvc`.
        quiet: Let the stages print failures only.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _PYTHON
    }
    return {
        **kept,
        **handed_down(line, quiet),
        "PATH": os.pathsep.join([str(binaries), kept.get("PATH", os.defpath)]),
        "PYTHONPATH": str(line),
        "DVC_ROOT": str(line),
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{line / 'mlflow.db'}",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{line / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


def present_conditions(line: Path, binaries: Path, variables: Mapping[str, str]) -> Conditions:
    """Return the packages and the machine that the replay runs with.

    Raises:
        MnoError: Python does not start there, or would run other code than the snapshot's.
    """
    done = subprocess.run(
        [binaries / "python", "-c", _PROBE], cwd=line, env=dict(variables), capture_output=True,
        text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise MnoError(
            f"the snapshot's code does not start with these packages: {reason[-1]}; try "
            "--environment build, for the packages that it was made with"
        )
    told = json.loads(done.stdout.splitlines()[-1])
    elsewhere = [path for path in told["code"] if not Path(path).resolve().is_relative_to(line)]
    if elsewhere:
        raise MnoError(f"{elsewhere[0]} would run instead of the snapshot's code in {line}")
    return Conditions(told["packages"], told["machine"])


def build_environment(
    folder: Path, recorded: Conditions, say: Callable[[str], None]
) -> Path:  # fmt: skip
    """Build a Python environment of just the recorded packages; one that is there is used again.

    Args:
        folder: Where to.
        recorded: What the record says.
        say: Is told what is going on.

    Returns:
        Its folder of programs.

    Raises:
        InputError: The packages are not known, or there is no such Python.
        MnoError: A package cannot be installed; the message is the installer's own.
    """
    packages = _trusted(recorded.packages)
    python = _python(str(recorded.machine.get("python", "")))
    binaries, built = folder / "bin", folder / _BUILT
    wanted = json.dumps([python, *packages])
    if built.is_file() and built.read_text(encoding="utf-8") == wanted:
        return binaries
    say(f"environment {len(packages)} packages, as recorded; this may take minutes")
    _do([python, "-m", "venv", "--without-pip", "--clear", str(folder)])
    listed = folder / "packages.txt"
    listed.write_text("\n".join(packages) + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install"]
    _do([*install, "--quiet", "--no-deps", "--no-compile", "-r", str(listed)])
    built.write_text(wanted, encoding="utf-8")
    return binaries


def _trusted(packages: Sequence[str] | None) -> Sequence[str]:
    """Return packages that name nothing but names and versions: no options, no addresses."""
    if packages is None:
        raise InputError(
            "--environment build: the list of packages is not known, or is not the one that was "
            "recorded; use --environment present"
        )
    strange = [line for line in packages if _LINE.fullmatch(line) is None]
    names = [line.partition("==")[0] for line in packages]
    strange += [name for name in names if names.count(name) > 1]
    if strange:
        raise InputError(
            f"--environment build: {strange[0]!r} in the recorded packages is not one package and "
            "its version; use --environment present"
        )
    return packages


def _python(version: str) -> str:
    """Return a Python of the recorded version, as far as its files fit: 3.11 for 3.11.4."""
    minor = ".".join(version.split(".")[:2])
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{minor}") if re.fullmatch(r"3\.\d+", minor) else None
    if found is None:
        raise InputError(
            f"--environment build: the model was made with Python {version or 'unknown'}, and "
            f"there is no python{minor} on the path; install it, or use --environment present"
        )
    return found


def _do(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise MnoError(
            f"the recorded environment cannot be built: {errors[-1].removeprefix('ERROR: ')}; use "
            "--environment present, and the packages that differ are named"
        )
