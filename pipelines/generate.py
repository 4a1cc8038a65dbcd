"""The stage `generate`: solve the scenario's samples into `build/dataset`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from time import monotonic

from rich import progress

from mno.core.config import section
from mno.core.files import write_json
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import Progress, generate
from mno.data.imported import source_class, source_parameters
from pipelines.stage import Stage, run_stage

LINES = 5
QUIET_SECONDS = 2.0


@contextmanager
def shown(stage: Stage) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows how far a dataset is: a bar on a terminal, else a line now and then."""
    with progress.Progress(
        progress.TextColumn("generate  "), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn("samples"), progress.TimeRemainingColumn(),
        console=stage.console, transient=True, disable=stage.console is None,
    ) as bar:  # fmt: skip
        task, begun, kept, said = bar.add_task("", total=None), monotonic(), -1, 0

        def show(state: Progress) -> None:
            nonlocal kept, said
            done, seconds = state.samples_done, monotonic() - begun
            bar.update(task, completed=done, total=state.samples)
            part = LINES * done // state.samples
            if kept < 0:  # what earlier attempts have left
                kept, said = done, part
                if done:
                    stage.say(f"generate   continuing after {done} samples")
            elif stage.console is None and part > said and seconds > QUIET_SECONDS:
                rate, said = (done - kept) / seconds, part
                left = timedelta(seconds=round((state.samples - done) / rate))
                pace = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
                stage.say(
                    f"generate   {done}/{state.samples} samples, {pace} per second, {left} left"
                )

        yield show


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
    with shown(stage) as show:
        report = generate(plan, work, destination, execution, show)
    write_json(stage.reports / "dataset.json", asdict(report))
    checks = ", ".join(f"{n} {c.max:.1e} (≤ {c.tolerance:.1e})" for n, c in report.checks.items())
    passed = f"checks: {checks}" if checks else "no physics checks"
    stage.say(f"generate   {report.samples} samples in {report.shards} shards; {passed}")


if __name__ == "__main__":
    run_stage("generate", body)
