"""`mno watch`: an observer tells all fields of a plant, at each reading that its log gets."""

import json
import re
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.data import workspace_or_none
from flows.options import Json, Model, Quiet, answer, interruptible, writing_to
from flows.predict import model_folder, trust_of
from flows.workspace import find_workspace, require
from mno.core.config import read_yaml
from mno.core.errors import InputError
from mno.core.files import locked, sha256

if TYPE_CHECKING:
    from mno.imports.growing import GrowingLog
    from mno.serving.plant import Observer, Plant

FOLDER = Path(".mno/watch")
_PAUSE = 1.0  # seconds between saves while nothing is told
_MOST_SHOWN = 3  # outputs in a line for people


def watch(
    model: Model,
    log: Annotated[str, typer.Argument(
        help="CSV file that grows, with a column for each sensor; - is stdin.")] = "-",
    run: Annotated[Path | None, typer.Option(
        help="YAML file of what is the same during the run.", metavar="FILE")] = None,
    mapping: Annotated[Path | None, typer.Option(
        help="File that says what the log's columns are.", metavar="FILE")] = None,
    once: Annotated[bool, typer.Option("--once", help="Read what is there, and end.")] = False,
    every: Annotated[float, typer.Option(
        min=0.0, help="Tell readings closer than this as one.", metavar="S")] = 0.0,
    state: Annotated[Path | None, typer.Option(
        help="Where what is known is kept; in .mno/watch/ if not given.")] = None,
    describe: Annotated[bool, typer.Option(
        "--describe", help="Say which columns and what of a run are wanted.")] = False,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Follow a plant: tell all its fields, with bounds, at each reading that a log gets.

    The model is an observer. Killed, the command goes on where it was when it is started again.

    Example: mno watch models:/NAME@champion charge-118.csv --run charge-118.yaml
    """
    path = None if log == "-" else Path(log)
    if not describe:
        require(path, "a log of readings (CSV), or - for the standard input")
    require(run, "a file of what is the same during the run (YAML)")
    require(mapping, "a mapping file")
    observer, root = _observer(model), workspace_or_none()
    from mno.imports.growing import GrowingLog
    from mno.imports.mapping import read_mapping
    from mno.serving.plant import keep

    if describe:
        answer(_wanted(observer), as_json, quiet, _print_wanted)
        return
    name = (run or path or Path("stdin")).stem
    place = root or (path.resolve().parent if path else Path())
    called = re.sub(r"[^\w.@-]+", "-", f"{model.removeprefix('models:/').strip('/')}-{name}")
    state = state or place / FOLDER / f"{called}.safetensors"
    beside = [state, *(state.with_suffix(end) for end in (".csv", ".1.csv", ".lock"))]
    if state.suffix not in ("", ".safetensors"):
        raise InputError(f"--state {state}: expected a name that ends in .safetensors")
    if path and path.resolve() in [kept.resolve() for kept in beside]:
        raise InputError(f"--state {state}: it would be written into {path}; name another")
    rows = GrowingLog(path, read_mapping(mapping).sensors, observer.units, once)
    with ExitStack() as stack:
        stack.enter_context(writing_to(state, "; name another with --state"))
        stack.enter_context(locked(state.with_suffix(".lock"), f"mno watch of {state.name}"))
        plant, more = _plant(observer, run, state, every)
        place = sha256(str(state.resolve()).encode())[:6]
        count = _counting(stack, root, f"{state.stem}-{place}", observer.name)
        stack.callback(lambda: quiet or print(_summary(plant), file=sys.stderr))
        stack.enter_context(interruptible())
        told = _follow(rows, plant, state, more.get("position", 0), more.get("mark", ""))
        for found in told:
            keep(state.with_suffix(".csv"), found)
            count(plant.seen(found))
            if not quiet:
                print(json.dumps(found) if as_json else _line(found, observer), flush=True)


def _observer(model: str) -> "Observer":
    folder, name = model_folder(model), Path(model).name
    from mno.lineage.record import candidate_digest
    from mno.serving.plant import Observer
    from mno.surrogate.surrogate import Surrogate

    if model.startswith("models:/"):
        from mno.registry.reading import NamedModel

        name = NamedModel(find_workspace(), model).named().removeprefix("models:/")
    surrogate = Surrogate.load(folder)
    return Observer(surrogate, trust_of(model, folder), candidate_digest(folder), name)


def _plant(
    observer: "Observer", run: Path | None, state: Path, every: float
) -> "tuple[Plant, dict[str, Any]]":
    """Return the plant of a run as it is known from a state's file, or at its beginning."""
    from mno.serving.plant import Plant

    begun = None
    if run is not None or not state.exists():
        given = {} if run is None else read_yaml(run)
        try:
            begun = observer.begin(given)
        except InputError as error:
            raise InputError(f"{run or '--run is not given'}: {error}") from None
    if begun is not None and not state.exists():
        return Plant(observer, begun, every), {}
    plant, more = Plant.load(state, observer, every)
    if begun is not None and not plant.is_of(begun):
        raise InputError(
            f"{state} is the state of another run than {run} says; remove it, or name another "
            "with --state"
        )
    return plant, more


def _counting(stack: ExitStack, root: Path | None, name: str, model: str) -> Any:
    """Return what counts for a drift trigger; nothing does of a model that is not registered."""
    if root is None or "/" not in model:
        return lambda _: None
    from mno.serving import counts

    counting = counts.Counts(root / counts.FOLDER / f"watch-{name}.json", 5.0)
    stack.enter_context(closing(counting))
    return lambda seen: counting.add(model, seen)


def _follow(rows: "GrowingLog", plant: "Plant", state: Path, position: int, mark: str) -> Any:
    """Yield what is told, and keep what is known once that was taken."""
    saved = time.monotonic()

    def save(position: int) -> None:
        nonlocal saved
        plant.save(state, position=position, mark=rows.mark(position))
        saved = time.monotonic()

    noted = False
    for row in rows.rows(position, mark):
        if not noted and (lacking := [c for c in plant.observer.columns if c not in rows.columns]):
            print(f"remark   not in the log: {', '.join(lacking)}", file=sys.stderr)
        noted = True
        if row is None:
            continue
        found = None
        if row.time is None:
            plant.counts["unreadable"] += 1
        else:
            with suppress(InputError):  # not in order, or its time cannot be read; it is counted
                found = plant.take(row.time, row.cells)
        if found is not None:
            yield found
        if len(plant.waiting) < 2 and (found or time.monotonic() - saved > _PAUSE):
            save(row.begin if plant.waiting else row.end)
        position = row.end
    if found := plant.flush():
        yield found
    save(position)


def _line(found: dict[str, Any], observer: "Observer") -> str:
    read, outputs = observer.description.sensors, observer.description.outputs
    parts = [str(found["time"])]
    for name in [n for n in outputs if n not in read][:_MOST_SHOWN]:
        told, band = found["outputs"][name], found["bands"][name]
        values = told.values() if isinstance(told, dict) else [told]
        within = "" if band is None else f" ±{band:.3g}"
        shown = " ".join(f"{v:.5g}" for v in values if v is not None)
        parts.append(f"{name} {shown}{within} {outputs[name]}".removesuffix(" 1"))
    out = found["left_out"]
    alarms = ", ".join(f"{c} (left out)" if c in out else c for c in found["unlike"])
    return "  ".join([*parts, f"UNLIKE TRAINING {alarms}" if alarms else ""]).rstrip()


def _summary(plant: "Plant") -> str:
    from mno.serving.plant import DROPPED

    counts = plant.counts
    dropped = ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in DROPPED[:3])
    cells = ", ".join(f"{counts[kind]} {kind}" for kind in DROPPED[3:])
    return f"{counts['told']} readings told; dropped {dropped}; cells {cells}"


def _wanted(observer: "Observer") -> dict[str, Any]:
    """Return the unit of each column, and the unit and places of what is the same during a run."""
    units, constants = observer.description.inputs, observer.constants
    run = {name: {"unit": units[name], "places": places} for name, places in constants.items()}
    return {"columns": observer.units, "run": run}


def _print_wanted(wanted: dict[str, Any]) -> None:
    print("columns of the log: time, and some of")
    print(*(f"  {column}  {unit}" for column, unit in wanted["columns"].items()), sep="\n")
    print("the run's file (null for what is not there)")
    for name, what in wanted["run"].items():
        places = f"[{', '.join(what['places'])}]" if what["places"] else "number"
        print(f"  {name}: {places}  {what['unit']}")
