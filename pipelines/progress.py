"""Progress of generation: a bar on the terminal that the flow names, else a line now and then."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mno.data.generate import Progress as Generated
from pipelines.stage import Stage

LINES = 5


class SampleProgress:
    """A callback for `mno.data.generate.generate`, to be used in a `with` statement.

    The rate counts what this run has solved; what an earlier one left is shown as done.

    Args:
        stage: Where to draw.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.bar = Progress(
            TextColumn("generate  "),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("samples"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=stage.console,
            transient=True,
            disable=stage.console is None,
        )
        self.task = self.bar.add_task("", total=None, rate="")
        self.begun = 0.0
        self.kept: int | None = None
        self.said = 0

    def __enter__(self) -> SampleProgress:
        self.bar.start()
        self.begun = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, state: Generated) -> None:
        """Show how far the dataset is."""
        if self.kept is None:
            self.kept = state.samples_done
            if self.kept:
                self.stage.say(f"generate   continuing after {self.kept} samples")
        solved, seconds = state.samples_done - self.kept, time.monotonic() - self.begun
        rate = f"{solved / seconds:.0f} samples/s" if solved and seconds > 0 else ""
        self.bar.update(self.task, completed=state.samples_done, total=state.samples, rate=rate)
        tenth = LINES * state.samples_done // state.samples
        if self.stage.console is None and tenth > self.said and state.samples_done < state.samples:
            self.said = tenth
            left = (state.samples - state.samples_done) / (solved / seconds) if solved else 0.0
            self.stage.say(
                f"generate   {state.samples_done}/{state.samples} samples, {left:.0f} s left"
            )
