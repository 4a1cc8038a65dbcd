"""`mno replay`: a model made again in a folder of its own, and compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from flows.audit import DIFFERENCE_FOUND, Caches, Model, Places, Remote, audited, print_audit
from flows.options import Json, Quiet, console, print_json
from flows.stages import run_dvc
from flows.workspace import end_leftovers, handed_down, program, progress_bar
from mno.core.config import PARAMS_FILE, read_params
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import locked
from mno.lineage.audit import Evidence
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.record import CANDIDATE, PACKAGED, entry
from mno.lineage.replay import (
    ConditionChange,
    Conditions,
    DataFrom,
    EnvironmentOf,
    ReplayOptions,
    ReplayPlan,
    changed_machine,
    changed_packages,
    make_plan,
    recorded_conditions,
    same_bits,
    stages_of,
)
from mno.lineage.replay_folder import (
    altered,
    check_out,
    give,
    give_warm_start,
    recorded_data,
    replay_folder,
    replay_params,
    started_from,
)
from mno.lineage.snapshot import FETCH
from mno.registry.catalogue import existing_workspace, registry_of
from mno.registry.evidence import model_with_digest

if TYPE_CHECKING:  # it needs NumPy and Zarr, which a help page should not wait for
    from mno.lineage.replay_compare import Outcome, Remade, Tolerance

Say = Callable[[str], None]
_DATASET = "build/dataset"
_REPORTS = ("metrics.json", "per_sample.json", "robustness.json", "trust.json")
_SHOWN = 8
# Of a registry, a run, an experiment or another Python: nothing of them may reach a replay.
_FOREIGN = ("MLFLOW_", "MNO_", "DVC_", "PREFECT_", "GIT_")
_PYTHON = ("PYTHONHOME", "PYTHONSAFEPATH", "PYTHONSTARTUP", "VIRTUAL_ENV")
_LINE = re.compile(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
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
    data: Annotated[
        DataFrom | None,
        typer.Option(
            help="Regenerate the data (as without --stage), pull them from DVC's cache or "
            "--remote (as with it), or both: make them again and compare, and train on those "
            "pulled.",
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Replay this stage alone, on what was recorded: generate, train or evaluate.",
            metavar="NAME",
        ),
    ] = None,
    environment: Annotated[
        EnvironmentOf,
        typer.Option(
            help="Use the packages that are present, and name those that differ; or build an "
            "environment of the recorded ones for it (minutes, gigabytes).",
        ),
    ] = EnvironmentOf.PRESENT,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder of a replay that has ended well.")
    ] = False,
    cache: Caches = None,
    remote: Remote = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Audit a registered model and make it again from its record, to compare all that comes out.

    It is made in build/replay/; nothing of workspace, registry and cache is written to. When it is
    killed, the same command continues. Exit code 3 if the audit found a difference, or something
    came out differently.

    Examples: mno replay models:/mno-darcy/2

    mno replay models:/mno-darcy/2 --stage train
    """
    options = ReplayOptions(data, stage, environment, keep, quiet or as_json)
    make_plan(stage, data)  # refuses what cannot be before anything is read
    with audited(model, Places(cache or (), (), remote), quiet or as_json) as (evidence, found):
        if not as_json and (not quiet or not found.passed):
            print_audit(found)
        found = replace(found, replay=make_again(evidence, options))
    if as_json:
        print_json(found.to_dict())
    elif found.replay and (not quiet or not found.replay.reproduced):
        print_replay(found.model, found.replay)
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


def make_again(evidence: Evidence, options: ReplayOptions) -> Outcome:
    """Make a version again from its record; what an earlier, killed replay had finished is kept.

    Raises:
        InputError: Something was asked for that cannot be.
        MnoError: The snapshot or something else that is needed is not at hand, or a stage failed.
    """
    plan, tree = make_plan(options.stage, options.data), evidence.tree
    if not tree.whole or tree.params is None:
        why = tree.missing or "it is damaged"
        raise MnoError(f"no replay without the snapshot ({why}); fetch it: {FETCH}")
    model = f"{evidence.name}/{evidence.version}"
    wishes = (options.stage, *plan.targets, plan.data, options.environment)
    folder = replay_folder(evidence.root, model, tree.commit, *wishes)
    out = console(stderr=True)

    def say(line: str) -> None:
        if not options.quiet or line.lower().startswith("error"):
            out.print(line)

    with locked(evidence.root / f"build/locks/replay-{folder.name}", f"a replay of {model}"):
        if (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
        end_leftovers(folder / "line")
        shown = folder.relative_to(evidence.root.resolve())
        say(f"replay     {model} in {shown}; what is finished there is kept")
        try:
            outcome = _make(evidence, plan, folder, options, say)
            (folder / "finished").touch()
        except OSError as error:
            raise MnoError(
                f"{folder} cannot be written to ({first_line(error)}); make room there and run "
                "again: what is finished is kept"
            ) from None
        if not outcome.reproduced or options.keep:
            return outcome
        shutil.rmtree(folder, ignore_errors=True)
    return replace(outcome, folder=None)


def _make(
    evidence: Evidence, plan: ReplayPlan, folder: Path, options: ReplayOptions, say: Say
) -> Outcome:
    from mno.lineage.replay_compare import Outcome, Tolerance

    line = folder / "line"
    warm_start = _give_warm_start(evidence, line) if "train" in plan.targets else None
    workers = entry(read_params(evidence.root), "execution", "workers")
    params, changed = replay_params(evidence.tree.files[PARAMS_FILE], workers, warm_start)
    files = check_out(evidence.tree, line, params)
    with progress_bar(options.quiet, "files") as show:
        given = [*changed, *give(evidence, plan, line, show)]
    recorded = recorded_conditions(evidence)
    binaries = Path(program("dvc")).parent
    if options.environment is EnvironmentOf.BUILD:
        binaries = build_environment(folder / "environment", recorded, say)
    variables = replay_variables(line, binaries, options.quiet)
    present = present_conditions(line, binaries, variables)
    packages, machine = changed_packages(recorded, present), changed_machine(recorded, present)
    for change in (*(packages or ()), *machine):
        if change.matters:
            say(f"other      {change}")
    known = (DATA_FILE, *stages_of(evidence.tree))
    targets = [name for name in plan.targets if name in known]
    for target in targets:  # each alone: what it needs was made, or was given
        command = [str(binaries / "dvc"), "repro", "--single-item", target]
        result = run_dvc(command, line, variables, say)
        done = "done" if result.action == "ran" else "kept from before"
        say(f"{target:<10} {done} ({result.seconds:.1f} s)")
    strange = altered(files, line)
    if strange:
        raise MnoError(f"{strange[0]} in {line} was edited while it ran; replay again")
    tolerance = None if same_bits(recorded, present) else Tolerance()
    items = _compare(evidence, plan, folder, tolerance)
    allowed = str(tolerance or "none: every bit has to be the same")
    return Outcome(targets, given, packages, machine, allowed, items, str(folder))


def _give_warm_start(evidence: Evidence, line: Path) -> str | None:
    """Copy the model that training starts from; return what `train.warm_start` has to be."""
    sha256 = started_from(evidence)
    if sha256 is None:
        return None
    registry = registry_of(existing_workspace(evidence.root))
    with TemporaryDirectory(prefix="mno-replay-") as scratch:
        return give_warm_start(model_with_digest(registry, sha256, Path(scratch)), sha256, line)


def _compare(
    evidence: Evidence, plan: ReplayPlan, folder: Path, tolerance: Tolerance | None
) -> list[Remade]:
    from mno.lineage.replay_compare import compare_dataset, compare_model, compare_report

    line, items = folder / "line", []
    if "generate" in plan.targets:
        recorded = recorded_data(evidence, folder / "recorded") if tolerance else None
        md5 = evidence.recorded("data", "md5")
        items.append(compare_dataset(md5, recorded, line / _DATASET, tolerance))
    if "train" in plan.targets:
        package = evidence.package / PACKAGED if evidence.package else None
        sha256 = evidence.recorded("model", "sha256")
        items.extend(compare_model(sha256, package, line / CANDIDATE, tolerance))
    if "evaluate" in plan.targets:
        kept = evidence.run / "evaluation" if evidence.run else None
        for name in _REPORTS:
            made, recorded = line / "reports" / name, kept / name if kept else None
            if made.exists() or (recorded is not None and recorded.exists()):
                items.append(compare_report(recorded, made, tolerance))
    return items


def replay_variables(line: Path, binaries: Path, quiet: bool) -> dict[str, str]:
    """Return all variables of a replay's processes, by its repository and the folder of `dvc`.

    The code is that of the replay's folder, and MLflow and DVC stay in it.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _PYTHON
    }
    return {
        **kept,
        **handed_down(line, quiet),
        "PATH": os.pathsep.join([str(binaries), kept.get("PATH", os.defpath)]),
        "PYTHONPATH": str(line),
        "DVC_ROOT": str(line),
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{line / 'mlflow.db'}",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{line / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


def present_conditions(line: Path, binaries: Path, variables: Mapping[str, str]) -> Conditions:
    """Return the packages and the machine that the replay runs with.

    Raises:
        MnoError: Python does not start there, or would run other code than the snapshot's.
    """
    done = subprocess.run(
        [binaries / "python", "-c", _PROBE], cwd=line, env=dict(variables), capture_output=True,
        text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no reason given"]
        raise MnoError(
            f"the snapshot's code does not start with these packages: {reason[-1]}; try "
            "--environment build, for the packages that it was made with"
        )
    told = json.loads(done.stdout.splitlines()[-1])
    elsewhere = [path for path in told["code"] if not Path(path).resolve().is_relative_to(line)]
    if elsewhere:
        raise MnoError(f"{elsewhere[0]} would run instead of the snapshot's code in {line}")
    return Conditions(told["packages"], told["machine"])


def build_environment(folder: Path, recorded: Conditions, say: Say) -> Path:
    """Build a Python environment of just the recorded packages; return its folder of programs.

    One that is there is used again.

    Raises:
        InputError: The packages are not known, or there is no such Python.
        MnoError: A package cannot be installed; the message is the installer's own.
    """
    packages = _trusted(recorded.packages)
    python = _python(str(recorded.machine.get("python", "")))
    binaries, built = folder / "bin", folder / "built.json"
    wanted = json.dumps([python, *packages])
    if built.is_file() and built.read_text(encoding="utf-8") == wanted:
        return binaries
    say(f"environment {len(packages)} packages, as recorded; this may take minutes")
    _do([python, "-m", "venv", "--without-pip", "--clear", str(folder)])
    listed = folder / "packages.txt"
    listed.write_text("\n".join(packages) + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install"]
    _do([*install, "--quiet", "--no-deps", "--no-compile", "-r", str(listed)])
    built.write_text(wanted, encoding="utf-8")
    return binaries


def _trusted(packages: Sequence[str] | None) -> Sequence[str]:
    """Return packages that name nothing but names and versions: no options, no addresses."""
    if packages is None:
        raise InputError(
            "--environment build: the list of packages is not known, or is not the one that was "
            "recorded; use --environment present"
        )
    strange = [line for line in packages if _LINE.fullmatch(line) is None]
    names = [line.partition("==")[0] for line in packages]
    strange += [name for name in names if names.count(name) > 1]
    if strange:
        raise InputError(
            f"--environment build: {strange[0]!r} in the recorded packages is not one package and "
            "its version; use --environment present"
        )
    return packages


def _python(version: str) -> str:
    """Return a Python of the recorded version, as far as its files fit: 3.11 for 3.11.4."""
    minor = ".".join(version.split(".")[:2])
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{minor}") if re.fullmatch(r"3\.\d+", minor) else None
    if found is None:
        raise InputError(
            f"--environment build: the model was made with Python {version or 'unknown'}, and "
            f"there is no python{minor} on the path; install it, or use --environment present"
        )
    return found


def _do(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise MnoError(
            f"the recorded environment cannot be built: {errors[-1].removeprefix('ERROR: ')}; use "
            "--environment present, and the packages that differ are named"
        )


def print_replay(model: str, outcome: Outcome) -> None:
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
    if outcome.reproduced:
        said = Text(f"REPRODUCED: {told}", style="bold green")
    else:
        said = Text(f"NOT REPRODUCED: {told or 'nothing to compare'}", style="bold red")
    out.print(Text.assemble("\n", said))
    if outcome.folder is not None:
        out.print(f"What was made is in {outcome.folder}; remove it when you have looked")


def _told(changes: Sequence[ConditionChange] | None) -> list[str]:
    if not changes:
        return ["as recorded" if changes is not None else "those recorded cannot be known"]
    bits = {True: "", False: " (decides no bits)"}
    lines = [f"{change}{bits[change.matters]}" for change in changes[:_SHOWN]]
    rest = len(changes) - _SHOWN
    return [*lines, f"and {rest} more; all of them with --json"] if rest > 0 else lines
