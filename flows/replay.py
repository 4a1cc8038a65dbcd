"""`mno replay`: a model made again in a folder of its own, and compared."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flows.audit import DIFFERENCE_FOUND, Caches, Model, audited, print_audit, print_verdict
from flows.options import Json, Quiet, Say, answer, console, teller
from flows.stages import run_dvc
from flows.workspace import UNWATCHED, end_leftovers, handed_down, program, progress_bar
from mno.core.config import PARAMS_FILE, read_params
from mno.core.errors import MnoError, first_line
from mno.core.files import locked
from mno.lineage import replay as remaking
from mno.lineage import replay_folder as folders
from mno.lineage.audit import Evidence
from mno.lineage.record import CANDIDATE, PACKAGED, entry
from mno.lineage.replay import ConditionChange, Conditions, same_bits, targets_of
from mno.lineage.snapshot import FETCH
from mno.registry.catalogue import existing_workspace, registry_of
from mno.registry.evidence import model_with_digest

if TYPE_CHECKING:  # it needs NumPy and Zarr, which a help page should not wait for
    from mno.lineage.replay_compare import Outcome, Remade

_REPORTS = ("metrics.json", "per_sample.json", "robustness.json", "trust.json")
# Of a registry, a run, an experiment or another Python: nothing of them may reach a replay.
_FOREIGN = ("MLFLOW_", "MNO_", "DVC_", "PREFECT_", "GIT_")
_PYTHON = ("PYTHONHOME", "PYTHONSAFEPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
# Run with the snapshot's code, as old as the model: the record was written by the same functions.
# It is asked by names that snapshots have, so they stay where they are.
_PROBE = """
import json, mno, pipelines
from importlib import import_module
from mno.lineage.environment import installed_packages, machine_facts
facts = machine_facts()
for module in ("mno.training.processes", "mno.training.environment"):
    try:
        facts["device"] = import_module(module).training_device()
    except (ImportError, AttributeError):
        pass
told = {"code": [mno.__file__, pipelines.__file__], "packages": installed_packages()}
print(json.dumps({**told, "machine": facts}))
"""


def replay(
    model: Model,
    stage: Annotated[str | None, typer.Option(
        help="This stage alone: generate, train or evaluate.", metavar="NAME")] = None,
    pull: Annotated[bool, typer.Option(
        "--pull", help="Take the data from DVC's cache, as they were.")] = False,
    cache: Caches = None, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Audit a registered model and make it again from its record, to compare all that comes out.

    It is made in build/replay/; nothing of workspace, registry and cache is written to. When it is
    killed, the same command continues. Exit code 3 if the audit found a difference, or something
    came out differently.

    Examples: mno replay models:/mno-darcy/2

    mno replay models:/mno-darcy/2 --stage train
    """
    targets = targets_of(stage, pull)  # refuses what cannot be before anything is read
    with audited(model, quiet or as_json, cache or ()) as (evidence, found):
        if not as_json and (not quiet or not found.passed):
            print_audit(found)
        outcome = make_again(evidence, targets, quiet or as_json)
        found = replace(found, replay=outcome)
    silent = quiet and outcome.reproduced
    answer(found.to_dict(), as_json, silent, lambda _: print_replay(found.model, outcome))
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


def make_again(evidence: Evidence, targets: Sequence[str], quiet: bool) -> "Outcome":
    """Make a version again from its record; what an earlier, killed replay had finished is kept."""
    tree = evidence.tree
    if not tree.whole or tree.params is None:
        why = tree.missing or "it is damaged"
        raise MnoError(f"no replay without the snapshot ({why}); fetch it: {FETCH}")
    model = f"{evidence.name}/{evidence.version}"
    folder = folders.replay_folder(evidence.root, model, tree.commit, *targets)
    say = teller(quiet)
    with locked(evidence.root / f"build/locks/replay-{folder.name}", f"a replay of {model}"):
        if (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
        end_leftovers(folder / "line")
        shown = folder.relative_to(evidence.root.resolve())
        say(f"replay     {model} in {shown}; what is finished there is kept")
        try:
            outcome = _make(evidence, targets, folder, quiet, say)
            (folder / "finished").touch()
        except OSError as error:
            raise MnoError(
                f"{folder} cannot be written to ({first_line(error)}); make room there and run "
                "again: what is finished is kept"
            ) from None
        if not outcome.reproduced:
            return outcome
        shutil.rmtree(folder, ignore_errors=True)
    return replace(outcome, folder=None)


def _make(
    evidence: Evidence, targets: Sequence[str], folder: Path, quiet: bool, say: Say
) -> "Outcome":
    from mno.lineage.replay_compare import Outcome, allowed

    line = folder / "line"
    warm_start = _give_warm_start(evidence, line) if "train" in targets else None
    workers = entry(read_params(evidence.root), "execution", "workers")
    params, changed = folders.replay_params(evidence.tree.files[PARAMS_FILE], workers, warm_start)
    folders.check_out(evidence.tree, line, params)
    with progress_bar(quiet, "files") as show:
        given = [*changed, *folders.give(evidence, targets, line, show)]
    variables = replay_variables(line, quiet)
    recorded, present = remaking.recorded_conditions(evidence), present_conditions(line, variables)
    packages = remaking.changed_packages(recorded, present)
    machine = remaking.changed_machine(recorded, present)
    for change in (*(packages or ()), *machine):
        if change.matters:
            say(f"other      {change}")
    for target in targets:  # each alone: what it needs was made, or was given
        result = run_dvc([program("dvc"), "repro", "--single-item", target], line, variables, say)
        done = "done" if result.action == "ran" else "kept from before"
        say(f"{target:<10} {done} ({result.seconds:.1f} s)")
    exact = same_bits(recorded, present)
    items = _compare(evidence, targets, folder, exact)
    return Outcome(targets, given, packages, machine, allowed(exact), items, str(folder))


def _give_warm_start(evidence: Evidence, line: Path) -> str | None:
    """Copy the model that training starts from; return what `train.warm_start` has to be."""
    if (sha256 := folders.started_from(evidence)) is None:
        return None
    registry = registry_of(existing_workspace(evidence.root))
    with TemporaryDirectory(prefix="mno-replay-") as scratch:
        model = model_with_digest(registry, sha256, Path(scratch))
        return folders.give_warm_start(model, sha256, line)


def _compare(
    evidence: Evidence, targets: Sequence[str], folder: Path, exact: bool
) -> "list[Remade]":
    from mno.lineage.replay_compare import compare_dataset, compare_model, compare_report

    line, items = folder / "line", []
    if "generate" in targets:
        recorded = None if exact else folders.recorded_data(evidence, folder / "recorded")
        md5 = evidence.recorded("data", "md5")
        items.append(compare_dataset(md5, recorded, line / "build/dataset", exact))
    if "train" in targets:
        package = evidence.package / PACKAGED if evidence.package else None
        sha256 = evidence.recorded("model", "sha256")
        items.extend(compare_model(sha256, package, line / CANDIDATE, exact))
    if "evaluate" in targets:
        for name in _REPORTS:
            made, recorded = line / "reports" / name, evidence.run_file(f"evaluation/{name}")
            if made.exists() or recorded is not None:
                items.append(compare_report(recorded, made, exact))
    return items


def replay_variables(line: Path, quiet: bool) -> dict[str, str]:
    """Return all variables of a replay's processes: code, MLflow and DVC are of its folder."""
    own = [n for n in os.environ if not n.startswith(_FOREIGN) and n not in _PYTHON]
    kept = {name: os.environ[name] for name in own}
    binaries = str(Path(sys.executable).parent)
    return {
        **kept, **handed_down(line, quiet), **UNWATCHED,
        "PATH": os.pathsep.join([binaries, kept.get("PATH", os.defpath)]), "PYTHONPATH": str(line),
        "DVC_ROOT": str(line), "MLFLOW_TRACKING_URI": f"sqlite:///{line / 'mlflow.db'}",
    }  # fmt: skip


def present_conditions(line: Path, variables: Mapping[str, str]) -> Conditions:
    """Return the packages and the machine that the replay runs with.

    Refused is a Python that does not start there, or would run other code than the snapshot's.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], cwd=line, env=dict(variables), capture_output=True,
        text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise MnoError(
            f"the snapshot's code does not start with these packages: {reason[-1]}; install those "
            "that it was made with, which environment.txt of its MLflow run lists"
        )
    told = json.loads(done.stdout.splitlines()[-1])
    elsewhere = [path for path in told["code"] if not Path(path).resolve().is_relative_to(line)]
    if elsewhere:
        raise MnoError(f"{elsewhere[0]} would run instead of the snapshot's code in {line}")
    return Conditions(told["packages"], told["machine"])


def print_replay(model: str, outcome: "Outcome") -> None:
    """Draw what was made again, under which conditions, and a verdict for each item."""
    from mno.lineage.replay_compare import Agreement

    styles, out = {Agreement.IDENTICAL: "green", Agreement.DIFFERENT: "bold red"}, console()
    out.print(f"\nReplay of {model}\n")
    conditions = {"packages": outcome.packages, "machine": outcome.machine}
    for name, lines in {
        "ran": [", ".join(outcome.stages)],
        "given": outcome.given,
        **{name: _told(changes) for name, changes in conditions.items()},
        "tolerance": [outcome.tolerance],
    }.items():
        for line in lines:
            out.print(f"{name:<24}{line}")
    out.print()
    for item in outcome.items:
        verdict = Text(f"{item.agreement:<20}", style=styles.get(item.agreement, "yellow"))
        same = item.agreement is Agreement.IDENTICAL
        out.print(Text.assemble(f"{item.name:<24}", verdict, item.found if same else item.note))
        if not same:
            out.print(f"  recorded {item.recorded or 'nothing'}")
            out.print(f"  found    {item.found or 'nothing'}")
    counted = {agreement: outcome.count(agreement) for agreement in Agreement}
    told = ", ".join(f"{number} {agreement}" for agreement, number in counted.items() if number)
    said = "REPRODUCED" if outcome.reproduced else "NOT REPRODUCED"
    print_verdict(outcome.reproduced, f"{said}: {told or 'nothing to compare'}")
    if outcome.folder is not None:
        out.print(f"What was made is in {outcome.folder}; remove it when you have looked")


def _told(changes: Sequence[ConditionChange] | None) -> list[str]:
    if not changes:
        return ["as recorded" if changes is not None else "those recorded cannot be known"]
    lines = [str(change) for change in changes if change.matters]
    rest = len(changes) - len(lines)
    return [*lines, f"{rest} that decide no bits; see them with --json"] if rest else lines
