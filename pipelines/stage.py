"""What all stages share: one at a time, fixed inputs, work folders, one-line failures."""

from __future__ import annotations

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
from typing import Any

import psutil
from rich.console import Console

from mno.core.config import read_params
from mno.core.errors import MnoError
from mno.core.files import locked
from mno.core.times import Seconds, earlier_attempts, is_recorded, write_attempt, write_finished
from mno.lineage.dvcfiles import StageInputs, stage_inputs
from pipelines import BEGUN

INTERVAL = 2.0  # seconds between two records: what a kill may lose


@contextlib.contextmanager
def recorded(root: Path, stage: str, key: str) -> Iterator[None]:
    """Record how long the body works, again and again, and at its end as finished.

    Times are those of this process since it began. What the body raises leaves the record
    unfinished: the next attempt with the same key adds to it. Where nothing can be written (a full
    disk) there is no record; that stops no work.

    Args:
        root: The workspace.
        stage: The stage's name; those of which no times are kept just run.
        key: Digest of the stage's inputs.
    """
    if not is_recorded(stage):
        yield
        return
    before = earlier_attempts(root, stage, key)
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(INTERVAL):
            with contextlib.suppress(OSError):
                write_attempt(root, stage, key, before, taken_so_far())

    keeper = threading.Thread(target=keep, daemon=True, name="times")
    keeper.start()
    try:
        yield
    except BaseException:
        _end(keeper, ended)
        with contextlib.suppress(OSError):
            write_attempt(root, stage, key, before, taken_so_far())
        raise
    _end(keeper, ended)
    taken = taken_so_far()
    with contextlib.suppress(OSError):
        write_finished(root, stage, key, before + taken if before else taken)


def _end(keeper: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    keeper.join()


def taken_so_far() -> Seconds:
    """Return what this process and its children have taken since it began."""
    process = psutil.Process()
    used = process.cpu_times()  # with those of children that have ended
    cpu = used.user + used.system + used.children_user + used.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            now = child.cpu_times()
            cpu += now.user + now.system + now.children_user + now.children_system
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Seconds(time.monotonic() - BEGUN, cpu, 1, cores or 1)


_LOOK = 0.5  # seconds between two looks at whom a stage works for


def exit_when_orphaned(run_pid: int | None) -> None:
    """Watch the processes this one works for, from a thread; when one is gone, end at once.

    Killing `dvc` alone, or the flow alone, would otherwise leave the stage running, and the next
    run would start a second one beside it. Child processes are ended too.

    Args:
        run_pid: The process of the flow, if a flow started the stage.
    """
    watched = [_launcher()]
    if run_pid is not None:
        try:
            watched.append(psutil.Process(run_pid))
        except psutil.NoSuchProcess:
            _give_up()
    threading.Thread(target=_watch, args=(watched,), daemon=True, name="orphan-watch").start()


def _launcher() -> psutil.Process:
    """Return the process that ordered this one: its parent, seen through a `sh -c` between."""
    parent = psutil.Process(os.getppid())
    with contextlib.suppress(psutil.Error):
        grandparent = parent.parent()
        if "-c" in parent.cmdline()[1:2] and grandparent is not None:
            return grandparent
    return parent


def _watch(processes: list[psutil.Process]) -> None:
    while all(_alive(process) for process in processes):
        time.sleep(_LOOK)
    _give_up()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _give_up() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


@dataclass(frozen=True)
class StageEnvironment:
    """What the flow, or DVC, tells a stage through the environment; no result depends on it.

    Attributes:
        run_pid: Process of the flow, `MNO_RUN_PID`.
        flow_run_id: Prefect's flow run, `MNO_FLOW_RUN_ID`.
        terminal: Device to draw progress on, `MNO_TERMINAL`.
        quiet: Print no progress, `MNO_QUIET`.
        failure_file: Where to write why a stage failed, for the flow, `MNO_FAILURE_FILE`.
        experiment: Name of the DVC experiment, `DVC_EXP_NAME`.
        workspace: The workspace that owns the registry, `DVC_ROOT`; differs from the working
            folder where DVC runs an experiment in a copy.
    """

    run_pid: int | None
    flow_run_id: str | None
    terminal: str | None
    quiet: bool
    failure_file: Path | None
    experiment: str | None
    workspace: Path

    @classmethod
    def read(cls) -> StageEnvironment:
        """Read it from this process's environment."""
        get = os.environ.get
        pid = get("MNO_RUN_PID")
        failure = get("MNO_FAILURE_FILE")
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
    """A running stage.

    Attributes:
        root: The folder it works in.
        params: The content of `params.yaml`.
        inputs: Its code and tracked parameters as they were at its start.
        environment: What the flow and DVC say.
    """

    root: Path
    params: Mapping[str, Any]
    inputs: StageInputs
    environment: StageEnvironment

    def work_folder(self, kind: str, data: str = "", inputs: str | None = None) -> Path:
        """Return the folder for resumable work of this code, these parameters and this data.

        Folders of the same kind that belong to other inputs are removed: what they were for has
        been superseded.

        Args:
            kind: Name of the folder in `build/` that holds it.
            data: Digest of the data that the work is about.
            inputs: Digest of what the work depends on, if not of all the stage's inputs.
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
        """SHA-256 of the dataset in `data/`, or of nothing where there is none yet.

        The store's root file holds the sha256 of every shard: its digest is that of all the data.
        """
        root_file = self.root / "data" / "zarr.json"
        content = root_file.read_bytes() if root_file.is_file() else b""
        return hashlib.sha256(content).hexdigest()

    @property
    def key(self) -> str:
        """What names this work: its code and parameters, and the data that it works on."""
        if self.inputs.stage == "generate":  # the data there are an earlier result
            return self.inputs.digest
        return f"{self.inputs.digest}-{self.data_digest}"

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
    """Run a stage's body and exit with its code; failures become one line.

    Raises:
        SystemExit: Always.
    """
    environment = StageEnvironment.read()
    exit_when_orphaned(environment.run_pid)
    try:
        _run(name, body, environment)
    except MnoError as error:
        _fail(name, str(error), error.exit_code, environment)
    except KeyboardInterrupt:
        _fail(name, "interrupted; what is finished is kept", 130, environment)
    except Exception as error:
        if not _is_full_disk(error):
            raise
        _fail(name, "no space left on the disk; make room and run again", 1, environment)
    raise SystemExit(0)


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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(error) for text in ("No space left on device", "disk is full")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fail(name: str, message: str, code: int, environment: StageEnvironment) -> None:
    print(f"error: {name}: {message}", file=sys.stderr, flush=True)
    if environment.failure_file is not None:
        content = json.dumps({"stage": name, "message": message, "exit_code": code})
        environment.failure_file.write_text(content, encoding="utf-8")
    raise SystemExit(code)
