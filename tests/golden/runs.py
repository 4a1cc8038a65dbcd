"""The runs of a record, and how to make one from a checkout."""

import hashlib
import html
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.golden.compare import DIGEST, mask
from tests.support.workspaces import Workspace, make_workspace

HELP = "help"
QUICK = "quick"
PLANT = "plant"
_SMALL = (
    "execution.workers=1",
    "generate.samples=24",
    "generate.shard_size=8",
    "generate.split.train=0.5",
    "generate.split.validation=0.25",
    "generate.split.test=0.25",
    "train.epochs=2",
    "evaluate.robustness.samples=4",
    "evaluate.robustness.solved_samples=2",
    "evaluate.intervals.resamples=100",
    "evaluate.economics.comparison_seconds=0",  # how many grids it reaches depends on the machine
)
_POINTS = "model.path=hilbert"  # there is no axis to go along
_SCENARIOS = {
    "burgers": ("generate.resolution=32",),
    "darcy_ring": ("generate.resolution=8", _POINTS),
    "diffusion_reaction": ("generate.resolution=8", "scenarios.diffusion_reaction.frames=4"),
    "furnace": ("generate.resolution=16", "scenarios.furnace.frames=4"),
    "navier_stokes": ("generate.resolution=16", "scenarios.navier_stokes.frames=4"),
    "shallow_water": ("generate.resolution=12", "scenarios.shallow_water.frames=4"),
}
# What `--set` is given in each run, besides the preset.
RUNS: Mapping[str, Sequence[str]] = {
    QUICK: (),
    **{name: (f"scenario={name}", *_SMALL, *own) for name, own in _SCENARIOS.items()},
    PLANT: tuple(key for key in _SMALL if not key.startswith("generate.")),
}
_MODELS = {QUICK: "mno-darcy", PLANT: "mno-plant"}  # that are audited
_OUTPUTS = ("build/dataset", "models/candidate")
_REPORTS = ("dataset", "train", "metrics", "per_sample", "robustness", "trust")
_PAGES = ("report.html", "report.ja.html")  # English and Japanese: a run writes both
_FOREIGN = ("MNO_", "DVC_", "MLFLOW_", "PREFECT_", "PYTHONPATH")


def copy_checkout(folder: Path, root: Path) -> Workspace:
    """Copy what git knows of a checkout into a repository of its own.

    Raises:
        RuntimeError: Python would run the code of another checkout.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    workspace = make_workspace(root, folder, COLUMNS="160", NO_COLOR="1")
    code = "import flows, mno, pipelines as p; print(flows.__file__, mno.__file__, p.__file__)"
    found = workspace.run(sys.executable, "-c", code, check=True).stdout.split()
    if not all(Path(file).is_relative_to(root) for file in found):
        raise RuntimeError(f"expected modules of {root}, found {', '.join(found)}")
    return workspace


def _said(workspace: Workspace, *arguments: str) -> str:
    done = workspace.run(*workspace.command(arguments), timeout=1800)
    if done.returncode:
        raise RuntimeError(f"mno {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _help(workspace: Workspace, *words: str) -> Iterator[tuple[str, str]]:
    """Give the help of a command and of all below it, by its words."""
    text = _said(workspace, *words, "--help")
    yield " ".join((HELP, "mno", *words)), text
    _, _, commands = text.partition("─ Commands ─")
    for name in re.findall(r"^│ (\S+(?: \S+)*)  ", commands, flags=re.MULTILINE):
        yield from _help(workspace, *words, *name.split())


def make_record(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Make the named runs of a checkout: some of `RUNS`, or `HELP`.

    Raises:
        RuntimeError: A run failed.
    """
    values: dict[str, str] = {}
    with TemporaryDirectory(prefix="mno-golden-") as scratch:
        workspace = copy_checkout(folder, Path(scratch).resolve() / "0/workspace")
        for name in names:
            start = time.monotonic()
            values |= dict(_help(workspace) if name == HELP else _run(workspace, name))
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return {key: mask(value) for key, value in values.items()}


def _run(workspace: Workspace, name: str) -> Iterator[tuple[str, str]]:
    root = workspace.root
    workspace.run("git", "checkout", "-q", "params.yaml", check=True)
    if name == PLANT:
        _write_arrays(root.parent / "plant.npz")
        _said(workspace, "import", "npz", "../plant.npz", "--name", PLANT)
    settings = [word for key in RUNS[name] for word in ("--set", key)]
    _said(workspace, "run", "--preset", "quick", *settings)
    for output in _OUTPUTS:
        for path in sorted((root / output).rglob("*")):
            if path.is_file():
                key = f"{name}/{path.relative_to(root)}"
                yield key, DIGEST + hashlib.md5(path.read_bytes()).hexdigest()
    for report in _REPORTS:
        text = (root / f"reports/{report}.json").read_text("utf-8")
        yield f"{name}/reports/{report}.json", text
    for page in _PAGES:
        yield f"{name}/reports/{page}", _text((root / "reports" / page).read_text("utf-8"))
    if name in _MODELS:
        model = f"models:/{_MODELS[name]}@champion"
        yield f"{name}/audit", _said(workspace, "audit", model, "--json")


def _write_arrays(path: Path) -> None:
    """Write arrays of which one is a smoothed form of the other."""
    rng = np.random.default_rng(0)
    x = np.kron(rng.random((40, 4, 4)), np.ones((1, 3, 3))).astype(np.float32)
    np.savez(path, x=x, y=x + np.roll(x, 1, 1) + np.roll(x, 1, 2))


def _text(page: str) -> str:
    """Return what a page says, one line for each piece of text."""
    spoken = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    lines = html.unescape(re.sub(r"<[^>]+>", "\n", spoken)).splitlines()
    return "\n".join(line for line in map(str.strip, lines) if line)
