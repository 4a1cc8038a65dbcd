"""How long each step of the tutorial takes, followed literally in a fresh clone by this script.

Every line of a block of `bash`, and every block of Python, in docs/quick-start.md and
docs/how-to/model-a-plant.md is run as it stands, with a server where one is asked. The request of a
PLC is left out: it needs a first one, which is not on the page. What fails ends it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.page import Section, Table, figure
from mno.core.files import write_json

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build/tutorial"
PAGES = "docs/quick-start.md", "docs/how-to/model-a-plant.md"
THREADS = 2
PORT = "5002"  # that the pages name; a free one takes its place
AGAIN = "make run", "mno run --set train.epochs=100", "make run"  # behind the first page
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SLOW = "one thread, the other busy"
ABOUT = """Seconds of each line of the tutorial and of "A plant of your own", run as they stand in a
fresh clone; the first `make run` installs the packages. Beside it the tutorial on one thread of the
processor while the other is busy, as on a slow machine."""


class Step(NamedTuple):
    """A line of a page, or a block of Python, and the seconds that it took."""

    said: str
    seconds: float


def steps_of(page: str) -> list[tuple[str, str]]:
    """Return the lines of bash and the blocks of Python of a page, in their order."""
    found = []
    for kind, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if kind == "python":
            found.append((kind, text))
            continue
        if "curl " in text:
            continue
        lines = text.replace("\\\n", " ").splitlines()
        found += [(kind, line.partition(" #")[0].strip()) for line in lines]
    return [(kind, step) for kind, step in found if step and not step.startswith("source ")]


def follow(folder: Path, pages: Sequence[str]) -> Iterator[Step]:
    """Follow pages in a clone, and yield every step when it is done."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for page in pages:
        for kind, step in steps_of(page):
            if kind == "python":
                with serving(folder) if PORT in step else nullcontext(PORT) as port:
                    code = [".venv/bin/python", "-c", step.replace(PORT, port)]
                    yield Step("from Python", seconds(code, folder))
            else:
                message = " -m 'A model to keep'" if step == "git commit" else ""
                yield Step(step, seconds(["bash", "-c", step + message], folder))
        for step in AGAIN if page == PAGES[0] else ():
            yield Step(f"{step}, again", seconds(["bash", "-c", step], folder))


def seconds(command: list[str], folder: Path) -> float:
    """Run a command in the clone's environment; return how long it took, or end if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    print(f"{time.perf_counter() - start:8.1f} s  {command[-1].splitlines()[0]}", file=sys.stderr)
    return time.perf_counter() - start


def environment(folder: Path) -> dict[str, str]:
    """Return ours with the clone's commands first, without what names another workspace."""
    lost = "PREFECT_", "MNO_", "PYTHONPATH", "VIRTUAL_ENV"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(lost)}
    known = {"GIT_AUTHOR_NAME": "a reader", "GIT_AUTHOR_EMAIL": "reader@example.org"}
    known |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in known.items()}
    outer = [p for p in kept["PATH"].split(os.pathsep) if not (Path(p) / "mno").exists()]
    return {**known, **kept, "PATH": os.pathsep.join([str(folder / ".venv/bin"), *outer])}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the clone's champion as long as the block lasts; yield the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [str(folder / ".venv/bin/mno"), "serve", "--port", port]
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            for _ in range(600):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/model")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield port
        finally:
            server.terminate()


@contextmanager
def busy() -> Iterator[None]:
    """Keep to one thread of the processor, and the next one busy."""
    ours = os.sched_getaffinity(0)
    first, *others = sorted(ours)
    spin = [sys.executable, "-c", "while True: pass"]
    spinners = [subprocess.Popen(["taskset", "-c", str(o), *spin]) for o in others[:1]]
    os.sched_setaffinity(0, {first})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def measured(name: str, pages: Sequence[str]) -> list[Step]:
    """Follow pages in a folder that is gone afterwards; what was measured before is kept."""
    kept = KEPT / f"{name}.json"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as scratch:
            steps = list(follow(Path(scratch) / "mno", pages))
        write_json(kept, steps)
    return [Step(*step) for step in json.loads(kept.read_text(encoding="utf-8"))]


def run() -> Section:
    """Follow the pages on the whole machine, and on a slow one; go on where it was interrupted."""
    usual = measured("usual", PAGES)
    with busy():
        slow = measured("slow", PAGES[:1])
    shutil.rmtree(KEPT)
    known = [figure(step.seconds) for step in slow] + ["–"] * (len(usual) - len(slow))
    rows = [(f"`{a.said}`", figure(a.seconds), b) for a, b in zip(usual, known, strict=True)]
    return Section("The tutorial", (ABOUT, Table(("step", "s", f"{SLOW}, s"), rows)))
