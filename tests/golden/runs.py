"""The runs of a record, and how to make one from a checkout."""

from __future__ import annotations

import hashlib
import html
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

import numpy as np

from tests.golden.compare import DIGEST
from tests.golden.masks import mask

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
    "furnace_ring": ("generate.resolution=32", "scenarios.furnace_ring.frames=4", _POINTS),
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


@dataclass(frozen=True)
class Checkout:
    """A copy of a checkout, in which its own code runs."""

    root: Path

    def run(self, *command: str) -> str:
        """Run a program and return what it printed.

        Raises:
            RuntimeError: It failed.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "COLUMNS": "160", "NO_COLOR": "1"}
        done = subprocess.run(
            command, cwd=self.root, env={**kept, **own}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def mno(self, *arguments: str) -> str:
        """Run the `mno` of this checkout."""
        return self.run(sys.executable, "-m", "flows.cli", *arguments)

    def help(self, *words: str) -> Iterator[tuple[str, str]]:
        """Give the help of a command and of all below it, by its words."""
        text = self.mno(*words, "--help")
        yield " ".join((HELP, "mno", *words)), text
        _, _, commands = text.partition("─ Commands ─")
        for name in re.findall(r"^│ (\S+(?: \S+)*)  ", commands, flags=re.MULTILINE):
            yield from self.help(*words, *name.split())


def copy_checkout(folder: Path, root: Path) -> Checkout:
    """Copy what git knows of a checkout into a repository of its own.

    Raises:
        RuntimeError: Python would run the code of another checkout.
    """
    listing = ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=folder, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (folder / name).is_file() and not name.startswith(("docs/", "tests/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy(folder / name, root / name)
    checkout = Checkout(root)
    for command in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "Tester"),
        ("config", "user.email", "tester@localhost"),
        ("add", "-A"),
        ("commit", "-q", "-m", "The project"),
    ):
        checkout.run("git", *command)
    code = "import flows, mno, pipelines as p; print(flows.__file__, mno.__file__, p.__file__)"
    found = checkout.run(sys.executable, "-c", code).split()
    if not all(Path(file).is_relative_to(root) for file in found):
        raise RuntimeError(f"expected modules of {root}, found {', '.join(found)}")
    return checkout


def make_record(folder: Path, names: Sequence[str], jobs: int = 1) -> dict[str, str]:
    """Make the named runs of a checkout.

    Args:
        folder: The checkout.
        names: Of `RUNS`, or `HELP`.
        jobs: Copies of the checkout that are at work at a time.

    Raises:
        RuntimeError: A run failed.
    """
    with (
        TemporaryDirectory(prefix="mno-golden-") as scratch,
        ThreadPoolExecutor(jobs) as workers,
    ):
        parts = workers.map(
            lambda job: _make(folder, Path(scratch).resolve() / str(job), names[job::jobs]),
            range(jobs),
        )
        return {key: mask(value) for part in parts for key, value in part.items()}


def _make(folder: Path, root: Path, names: Sequence[str]) -> dict[str, str]:
    checkout, values = copy_checkout(folder, root / "workspace"), {}
    for name in names:
        start = time.monotonic()
        values |= dict(checkout.help() if name == HELP else _run(checkout, name))
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return values


def _run(checkout: Checkout, name: str) -> Iterator[tuple[str, str]]:
    checkout.run("git", "checkout", "-q", "params.yaml")
    if name == PLANT:
        _write_arrays(checkout.root.parent / "plant.npz")
        checkout.mno("import", "npz", "../plant.npz", "--name", PLANT)
    settings = [word for key in RUNS[name] for word in ("--set", key)]
    checkout.mno("run", "--preset", "quick", *settings)
    for output in _OUTPUTS:
        for path in sorted((checkout.root / output).rglob("*")):
            if path.is_file():
                key = f"{name}/{path.relative_to(checkout.root)}"
                yield key, DIGEST + hashlib.md5(path.read_bytes()).hexdigest()
    reports = checkout.root / "reports"
    for report in _REPORTS:
        yield f"{name}/reports/{report}.json", (reports / f"{report}.json").read_text("utf-8")
    for page in _PAGES:
        yield f"{name}/reports/{page}", _text((reports / page).read_text("utf-8"))
    if name in _MODELS:
        yield f"{name}/audit", checkout.mno("audit", f"models:/{_MODELS[name]}@champion", "--json")


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
