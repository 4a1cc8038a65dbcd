"""What all stages share: one at a time, fixed inputs, work folders, one-line failures."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from mno.core.config import read_params
from mno.core.errors import MnoError
from mno.core.files import locked
from mno.lineage.dvcfiles import StageInputs, stage_inputs
from pipelines.times import recorded
from pipelines.watch import exit_when_orphaned


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
