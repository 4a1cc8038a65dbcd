"""What all stages share: one at a time, fixed inputs, work folders, one-line failures."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psutil
from rich.console import Console

from mno.core.config import read_params
from mno.core.errors import MnoError
from mno.core.files import locked, write_json
from mno.core.times import Seconds, earlier_attempts, is_recorded, write_attempt, write_finished
from mno.lineage.dvcfiles import StageInputs, stage_inputs
from pipelines import BEGUN

INTERVAL = 2.0  # seconds between two records: what a kill may lose
_LOOK = 0.5  # seconds between two looks at whom a stage works for


@contextlib.contextmanager
def recorded(root: Path, stage: str, key: str) -> Iterator[None]:
    """Record how long the body works, again and again, and at its end as finished.

    Times are those of this process since it began. What the body raises leaves the record
    unfinished: the next attempt with the same key (digest of the stage's inputs) adds to it. Where
    nothing can be written (a full disk) there is no record; that stops no work.
    """
    if not is_recorded(stage):
        yield
        return
    before, ended = earlier_attempts(root, stage, key), threading.Event()

    def keep() -> None:
        while True:
            last = ended.wait(INTERVAL)
            with contextlib.suppress(OSError):
                write_attempt(root, stage, key, before, taken_so_far())
            if last:
                return

    keeper = threading.Thread(target=keep, daemon=True, name="times")
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
    taken = taken_so_far()
    with contextlib.suppress(OSError):
        write_finished(root, stage, key, before + taken if before else taken)


def taken_so_far() -> Seconds:
    """Return what this process and its children have taken since it began."""
    process, cpu = psutil.Process(), 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # with those of children that have ended
            cpu += sum(one.cpu_times()[:4])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Seconds(time.monotonic() - BEGUN, cpu, 1, cores or 1)


def exit_when_orphaned(run_pid: int | None) -> None:
    """Watch the processes this one works for, from a thread; when one is gone, end at once.

    They are its parent and the process of the flow, if one started it. Killing `dvc` alone, or the
    flow alone, would otherwise leave the stage running, and the next run would start a second one
    beside it. Child processes are ended too.
    """
    launcher = _launcher()

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            watched = [launcher, *([psutil.Process(run_pid)] if run_pid is not None else [])]
            while all(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in watched):
                time.sleep(_LOOK)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="orphan-watch").start()


def _launcher() -> psutil.Process:
    """Return the process that ordered this one: its parent, seen through a `sh -c` between."""
    parent = psutil.Process(os.getppid())
    with contextlib.suppress(psutil.Error):
        grandparent = parent.parent()
        if "-c" in parent.cmdline()[1:2] and grandparent is not None:
            return grandparent
    return parent


@dataclass(frozen=True)
class StageEnvironment:
    """What the flow, or DVC, tells a stage through the environment; no result depends on it."""

    run_pid: int | None  # the process of the flow
    flow_run_id: str | None  # Prefect's
    terminal: str | None  # device to draw progress on
    quiet: bool  # print no progress
    failure_file: Path | None  # where to write why a stage failed, for the flow
    experiment: str | None  # name of the DVC experiment
    workspace: Path  # owns the registry; DVC runs an experiment in a copy of it

    @classmethod
    def read(cls) -> Self:
        """Read it from this process's environment."""
        get = os.environ.get
        pid, failure = get("MNO_RUN_PID"), get("MNO_FAILURE_FILE")
        return cls(
            run_pid=int(pid) if pid else None,
            flow_run_id=get("MNO_FLOW_RUN_ID"),
            terminal=get("MNO_TERMINAL"),
            quiet=bool(get("MNO_QUIET")),
            failure_file=Path(failure) if failure else None,
            experiment=get("DVC_EXP_NAME"),
            workspace=Path(get("DVC_ROOT") or Path.cwd()),
        )


@dataclass(frozen=True)
class Stage:
    """A running stage, its `inputs` (code and tracked parameters) as they were at its start."""

    root: Path
    params: Mapping[str, Any]
    inputs: StageInputs
    environment: StageEnvironment

    @property
    def data(self) -> Path:
        """The dataset that everything downstream uses."""
        return self.root / "data"

    @property
    def candidate(self) -> Path:
        """The trained model."""
        return self.root / "models/candidate"

    @property
    def reports(self) -> Path:
        """What stages say of their work."""
        return self.root / "reports"

    def work_folder(self, kind: str, data: str = "", inputs: str | None = None) -> Path:
        """Return the folder, in `build/<kind>`, for resumable work on data with a digest.

        The work is of the stage's inputs, or of those with the digest `inputs`. Folders of the same
        kind that belong to others are removed: what they were for has been superseded.
        """
        digest = (inputs or self.inputs.digest)[:24] + (f"-{data[:24]}" if data else "")
        folder = self.root / "build" / kind / digest
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        return folder

    @cached_property
    def data_digest(self) -> str:
        """SHA-256 of the root file of `data/`, which holds those of all shards, or of nothing."""
        root_file = self.data / "zarr.json"
        content = root_file.read_bytes() if root_file.is_file() else b""
        return hashlib.sha256(content).hexdigest()

    @property
    def key(self) -> str:
        """What names this work: its code and parameters, and the data that it works on."""
        if self.inputs.stage == "generate":  # the data there are an earlier result
            return self.inputs.digest
        return f"{self.inputs.digest}-{self.data_digest}"

    def note_done(self) -> None:
        """Leave the output of a stage whose own files are no outputs: what it was done for."""
        write_json(self.root / "build/done" / self.inputs.stage, {"done_for": self.key})

    def say(self, text: str) -> None:
        """Print one line for the person who watches the run, unless it is to be quiet."""
        if not self.environment.quiet:
            print(text, flush=True)

    @cached_property
    def console(self) -> Console | None:
        """Where to draw progress: the flow's terminal, or ours; None where nobody watches."""
        if self.environment.quiet:
            return None
        if self.environment.terminal is not None:
            try:
                terminal = open(self.environment.terminal, "w", encoding="utf-8")  # noqa: SIM115
            except OSError:
                return None
            return Console(file=terminal, force_terminal=True)
        return Console(file=sys.stdout) if sys.stdout.isatty() else None


def run_stage(name: str, body: Callable[[Stage], None]) -> None:
    """Run a stage's body and exit with its code; failures become one line."""
    environment = StageEnvironment.read()
    exit_when_orphaned(environment.run_pid)
    try:
        _run(name, body, environment)
        raise SystemExit(0)
    except MnoError as error:
        message, code = str(error), error.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted; what is finished is kept", 130
    except Exception as error:
        if not _is_full_disk(error):
            raise
        message, code = "no space left on the disk; make room and run again", 1
    print(f"error: {name}: {message}", file=sys.stderr, flush=True)
    if environment.failure_file is not None:
        content = json.dumps({"stage": name, "message": message, "exit_code": code})
        environment.failure_file.write_text(content, encoding="utf-8")
    raise SystemExit(code)


def _run(name: str, body: Callable[[Stage], None], environment: StageEnvironment) -> None:
    root = Path.cwd()
    # An orphan of a killed run ends within one look of its watch: wait for it rather than fail.
    with locked(root / "build" / "locks" / name, f"the stage {name}", patience=10.0):
        params = read_params(root)
        inputs = stage_inputs(root, name, params)
        stage = Stage(root, params, inputs, environment)
        with recorded(root, name, stage.key):
            body(stage)
            if stage_inputs(root, name, read_params(root)).digest != inputs.digest:
                raise MnoError(
                    f"parameters or code of {name} were edited while it ran, so its result belongs "
                    "to neither version and is discarded; run again"
                )


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error; libraries wrap it, some in words only."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(error) for text in ("No space left on device", "disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False
