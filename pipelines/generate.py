"""The stage `generate`: solve the scenario's samples into `build/dataset`."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from mno.core.config import section
from mno.core.files import write_json
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import Progress as Generated
from mno.data.generate.run import generate
from mno.data.imported import source_class, source_parameters
from pipelines.stage import Stage, run_stage

LINES = 5
QUIET_SECONDS = 2.0


class SampleProgress:
    """A callback for `mno.data.generate.run.generate`, to be used in a `with` statement.

    The rate is of this run from its first shard on, so that compiling and starting workers do not
    count; until there is one, it is that of earlier attempts. What is done within two seconds shows
    nothing.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.bar = Progress(
            TextColumn("generate  "),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("samples"),
            TextColumn("{task.fields[rate]}"),
            _TimeLeft(),
            console=stage.console,
            transient=True,
            disable=stage.console is None,
        )
        self.task = self.bar.add_task("", total=None, rate="", end=None)
        self.starter = threading.Timer(QUIET_SECONDS, self.bar.start)
        self.starter.daemon = True
        self.begun = 0.0
        self.kept: int | None = None  # samples of earlier attempts
        self.first: tuple[int, float] | None = None  # samples and seconds at the first shard
        self.said = 0

    def __enter__(self) -> SampleProgress:
        self.starter.start()
        self.begun = time.monotonic()
        return self

    def __exit__(self, *error: Any) -> None:
        self.starter.cancel()
        self.starter.join()
        self.bar.stop()

    def __call__(self, state: Generated) -> None:
        """Show how far the dataset is."""
        begins, now, done = self.kept is None, time.monotonic(), state.samples_done
        if self.kept is None:
            self.kept = done
        seconds = now - self.begun
        rate = self._rate(state, self.kept, seconds)
        left = (state.samples - done) / rate if rate else None
        self.bar.update(
            self.task,
            completed=done,
            total=state.samples,
            rate=_per_second(rate) if rate else "",
            end=None if left is None else now + left,
        )
        pace = f", {_per_second(rate)}, {_duration(left)} left" if rate and left else ""
        part = LINES * done // state.samples
        if begins and self.kept:
            self.stage.say(f"generate   continuing after {self.kept} samples{pace}")
            self.said = part
        if self.stage.console is None and part > self.said and seconds > QUIET_SECONDS and pace:
            self.stage.say(f"generate   {done}/{state.samples} samples{pace}")
            self.said = part

    def _rate(self, state: Generated, kept: int, seconds: float) -> float | None:
        """Return samples per second; none where nothing is known yet."""
        done = state.samples_done
        if done == kept:
            return state.earlier_rate
        if self.first is None:
            self.first = (done, seconds)
        samples, since = done - self.first[0], seconds - self.first[1]
        if samples and since > 0:
            return samples / since
        return state.earlier_rate or (done - kept) / max(seconds, 1e-9)


class _TimeLeft(ProgressColumn):
    """Counts down to the end that the task's field `end` foresees."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        left = "" if end is None else f"{_duration(max(0.0, end - time.monotonic()))} left"
        return Text(left, style="progress.remaining")


def _per_second(rate: float) -> str:
    return f"{rate:.{0 if rate >= 10 else 1 if rate >= 1 else 2}f} samples/s"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def body(stage: Stage) -> None:
    """Make what is missing of the dataset, check all of it, release it."""
    name = stage.params["scenario"]
    plan = make_plan(
        source_class(name),
        source_parameters(name, stage.params["scenarios"][name]),
        section(stage.params, "generate", GenerateConfig),
        code=stage.inputs.digest,
        root=stage.environment.workspace,
    )
    execution = section(stage.params, "execution", ExecutionConfig)
    work, destination = stage.work_folder("work"), stage.root / "build/dataset"
    with SampleProgress(stage) as progress:
        report = generate(plan, work, destination, execution, progress)
    write_json(stage.reports / "dataset.json", asdict(report))
    checks = ", ".join(f"{n} {c.max:.1e} (≤ {c.tolerance:.1e})" for n, c in report.checks.items())
    passed = f"checks: {checks}" if checks else "no physics checks"
    stage.say(f"generate   {report.samples} samples in {report.shards} shards; {passed}")


if __name__ == "__main__":
    run_stage("generate", body)
