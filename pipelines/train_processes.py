"""The other processes of a training that is shared out, started and ended by the stage `train`.

`python -m pipelines.train_processes RANK SIZE MEETING WORK` is one of them: it computes its part
of every batch and writes nothing. The stage itself is the first. They meet at a file and exchange
gradients over the loopback interface; when one ends too early, all end, and nothing is lost but the
epoch at hand.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mno.core.config import read_params, section
from mno.core.errors import MnoError, first_line
from mno.core.forecast import TaskConfig
from mno.core.memory import fits_in_memory
from mno.data.reading import Split, StoredSplit, open_split
from mno.nn.config import ModelConfig
from mno.training.config import TrainConfig
from pipelines.stage import StageEnvironment, exit_when_orphaned
from pipelines.warm_start import find_warm_start

DATA = Path("data")
_PATIENCE = 10.0  # seconds to see that another process is gone


@contextmanager
def others(processes: int, work: Path) -> Iterator[None]:
    """Run the other processes of a training, and be the first of them, while the body trains.

    Args:
        processes: `train.processes`; nothing is started for one.
        work: The folder of the checkpoints.

    Raises:
        InputError: There are fewer CUDA devices.
        MnoError: One of the others ended too early.
    """
    if processes == 1:
        yield
        return
    from mno.training.processes import Rank, file_url, joined

    with TemporaryDirectory(prefix="mno-train-") as folder, ExitStack() as stack:
        meeting = Path(folder) / "meeting"
        started = [
            stack.enter_context(_started(rank, processes, meeting, work))
            for rank in range(1, processes)
        ]
        try:
            with joined(Rank(0, processes), file_url(meeting)):
                yield
        except RuntimeError:  # what torch says when the connection to another is lost
            _blame(started, meeting)
            raise


@contextmanager
def _started(rank: int, size: int, meeting: Path, work: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable, "-m", "pipelines.train_processes",
        str(rank), str(size), str(meeting), str(work),
    ]  # fmt: skip
    with _said_by(rank, meeting).open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file
        )
    try:
        yield process
    finally:
        process.kill()  # it keeps nothing: when the first is done, all is
        process.wait()


def _blame(started: Sequence[subprocess.Popen[bytes]], meeting: Path) -> None:
    """Say which of the others has ended too early, and why, if one has.

    Raises:
        MnoError: One has.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for rank, process in enumerate(started, start=1):
            code = process.poll()
            if code:
                said = _said_by(rank, meeting).read_text(errors="replace").strip().splitlines()
                why = said[-1].removeprefix("error: ") if said else f"exit code {code}"
                raise MnoError(
                    f"process {rank + 1} of {len(started) + 1} of the training ended ({why}); run "
                    "again: training continues after its last whole epoch"
                ) from None
        time.sleep(0.1)


def _said_by(rank: int, meeting: Path) -> Path:
    return meeting.with_name(f"{rank}.txt")


def splits(data: Path) -> tuple[Split, Split] | tuple[StoredSplit, StoredSplit]:
    """Return the splits to train on and to choose by, in memory if they fit well."""
    training = open_split(data, "train")
    # Files are verified once.
    validation = open_split(data, "validation", training.schema, checked=False)
    if fits_in_memory(training.nbytes + validation.nbytes):
        return training.load(), validation.load()
    return training, validation


def _help(rank: int, size: int, meeting: Path, work: Path) -> None:
    """Train as one of the others."""
    from mno.training.fit import train
    from mno.training.processes import Rank, file_url, joined

    params = read_params()
    config = section(params, "train", TrainConfig)
    start = find_warm_start(StageEnvironment.read().workspace, config.warm_start)
    training, validation = splits(DATA)
    with joined(Rank(rank, size), file_url(meeting)):
        train(
            training,
            validation,
            model=section(params, "model", ModelConfig),
            config=config,
            seed=params["seed"],
            work=work,
            task=section(params, "task", TaskConfig),
            initial=start.surrogate if start else None,
            quiet=True,
        )


def _main() -> int:
    # Ctrl-C reaches all; the first process decides, and this one ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_when_orphaned(None)
    rank, size, meeting, work = sys.argv[1:]
    try:
        _help(int(rank), int(size), Path(meeting), Path(work))
    except (MnoError, RuntimeError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr, flush=True)
        os._exit(1)  # no other process is waited for
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
