"""`mno audit --replay`: the model made again in a folder of its own, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flows.auditing.environment import build_environment, present_conditions, replay_variables
from flows.leftovers import end_leftovers
from flows.progress import progress_bar
from flows.stages import run_dvc
from flows.workspace import program
from mno.core.config import PARAMS_FILE, read_params
from mno.core.errors import MnoError, first_line
from mno.core.files import locked
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.record import CANDIDATE
from mno.lineage.replay.compare import Tolerance, compare_dataset, compare_model, compare_report
from mno.lineage.replay.conditions import (
    changed_machine,
    changed_packages,
    recorded_conditions,
    same_bits,
)
from mno.lineage.replay.folder import ReplayFolder, altered, check_out, replay_params
from mno.lineage.replay.given import (
    PACKAGED,
    give,
    give_warm_start,
    recorded_data,
    started_from,
)
from mno.lineage.replay.options import EnvironmentOf, ReplayOptions
from mno.lineage.replay.outcome import Item, Outcome
from mno.lineage.replay.plan import Plan, make_plan, stages_of

_DATASET = "build/dataset"
_REPORTS = ("metrics.json", "per_sample.json", "robustness.json", "trust.json")
_EXACT = "none: every bit has to be the same"


def replay(
    evidence: Evidence, options: ReplayOptions, warm_start: Callable[[str], Path]
) -> Outcome:
    """Make a version again from its record; what an earlier, killed replay had finished is kept.

    Args:
        evidence: The version. Nothing of it is written to.
        options: What is wanted.
        warm_start: Returns the folder of the model with a digest.

    Raises:
        InputError: Something was asked for that cannot be.
        MnoError: The snapshot or something else that is needed is not at hand, or a stage failed.
        KeyboardInterrupt: Passed on; what is finished is kept.
    """
    plan = make_plan(options.stage, options.data)
    tree = evidence.tree
    if not tree.whole or tree.params is None:
        raise MnoError(
            f"no replay without the snapshot ({tree.missing or 'it is damaged'}); fetch it: "
            "git fetch ORIGIN 'refs/mno/*:refs/mno/*'"
        )
    model = f"{evidence.name}/{evidence.version}"
    wishes = (options.stage, *plan.targets, plan.data, options.environment)
    folder = ReplayFolder.of(evidence.root, model, tree.commit, *wishes)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(line: str) -> None:
        if not options.quiet or line.lower().startswith("error"):
            console.print(line)

    lock = evidence.root / "build/locks" / f"replay-{folder.path.name}"
    with locked(lock, f"a replay of {model}"):
        if folder.finished:
            folder.remove()
        end_leftovers(folder.line)
        shown = folder.path.relative_to(evidence.root.resolve())
        say(f"replay     {model} in {shown}; what is finished there is kept")
        try:
            outcome = _make(evidence, plan, folder, options, warm_start, say)
            folder.finish()
        except OSError as error:
            raise MnoError(
                f"{folder.path} cannot be written to ({first_line(error)}); make room there and "
                "run again: what is finished is kept"
            ) from None
        if not outcome.reproduced or options.keep:
            return outcome
        folder.remove()
    return replace(outcome, folder=None)


def _make(
    evidence: Evidence,
    plan: Plan,
    folder: ReplayFolder,
    options: ReplayOptions,
    warm_start: Callable[[str], Path],
    say: Callable[[str], None],
) -> Outcome:
    line = folder.line
    started = started_from(evidence) if "train" in plan.targets else None
    named = give_warm_start(warm_start(started), started, line) if started else None
    workers = entry(read_params(evidence.root), "execution", "workers")
    params, changed = replay_params(evidence.tree.files[PARAMS_FILE], workers, named)
    files = check_out(evidence.tree, line, params)
    with progress_bar(options.quiet, "files") as show:
        given = [*changed, *give(evidence, plan, line, show)]
    recorded = recorded_conditions(evidence)
    binaries = (
        build_environment(folder.environment, recorded, say)
        if options.environment is EnvironmentOf.BUILD
        else Path(program("dvc")).parent
    )
    variables = replay_variables(line, binaries, options.quiet)
    present = present_conditions(line, binaries, variables)
    packages = changed_packages(recorded, present)
    machine = changed_machine(recorded, present)
    for change in (*(packages or ()), *machine):
        if change.matters:
            say(f"other      {change}")
    known = (DATA_FILE, *stages_of(evidence.tree))
    targets = [name for name in plan.targets if name in known]
    for target in targets:
        result = run_dvc(_command(binaries, target), line, variables, say)
        done = "done" if result.action == "ran" else "kept from before"
        say(f"{target:<10} {done} ({result.seconds:.1f} s)")
    strange = altered(files, line)
    if strange:
        raise MnoError(f"{strange[0]} in {line} was edited while it ran; replay again")
    tolerance = None if same_bits(recorded, present) else Tolerance()
    return Outcome(
        stages=targets,
        given=given,
        packages=packages,
        machine=machine,
        tolerance=str(tolerance or _EXACT),
        items=_compare(evidence, plan, folder, tolerance),
        folder=str(folder.path),
    )


def _command(binaries: Path, target: str) -> Sequence[str]:
    """Return what makes a target, and it alone: what it needs was made, or was given."""
    return [str(binaries / "dvc"), "repro", "--single-item", target]


def _compare(
    evidence: Evidence, plan: Plan, folder: ReplayFolder, tolerance: Tolerance | None
) -> list[Item]:
    line, items = folder.line, list[Item]()
    if "generate" in plan.targets:
        md5 = entry(evidence.record, "data", "md5")
        recorded = recorded_data(evidence, folder.path / "recorded") if tolerance else None
        items.append(compare_dataset(md5, recorded, line / _DATASET, tolerance))
    if "train" in plan.targets:
        package = evidence.package / PACKAGED if evidence.package else None
        sha256 = entry(evidence.record, "model", "sha256")
        items.extend(compare_model(sha256, package, line / CANDIDATE, tolerance))
    if "evaluate" in plan.targets:
        kept = evidence.run / "evaluation" if evidence.run else None
        for name in _REPORTS:
            made, recorded = line / "reports" / name, kept / name if kept else None
            if made.exists() or (recorded is not None and recorded.exists()):
                items.append(compare_report(recorded, made, tolerance))
    return items
