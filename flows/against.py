"""`mno evaluate --against`: a model's error at the sensors of a plant, beside the solver's own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.params import load_params
from flows.prediction import load_model
from flows.workspace import find_workspace
from mno.core.errors import InputError

DATA = Path("data")
OUTPUT = Path("reports/against")
_MOST_SENSORS = 12  # in the terminal, of each quantity


@dataclass(frozen=True)
class AgainstOptions:
    """What a person may say of a comparison with sensors.

    Attributes:
        readings: The table of readings.
        model: As `mno predict` takes it; the champion of the current scenario if none.
        inputs: A Zarr store with the inputs of the measured run; `data/` if none, or the readings.
        sample: Number of the run's sample.
        start: When the run begins, in seconds on the clock of the readings.
        mapping: A mapping file that says what the table's columns are.
        output: Where the page is written.
    """

    readings: Path
    model: str | None = None
    inputs: Path | None = None
    sample: int | None = None
    start: float | None = None
    mapping: Path | None = None
    output: Path | None = None


def compare_with_sensors(options: AgainstOptions) -> tuple[Any, Path]:
    """Compare a model with readings and write the page.

    Returns:
        A `mno.sensors.comparison.Comparison`, and the path of the page.

    Raises:
        InputError: Readings, model or inputs cannot be used, or do not fit together.
    """
    from mno.imports.mapping import Mapping, read_mapping
    from mno.imports.sensors.readings import read_readings
    from mno.sensors.measured import compare_with_readings, renamed, units_in_file
    from mno.sensors.page import write_comparison
    from mno.sensors.sensors import can_begin_with, from_readings
    from mno.sensors.stores import from_store

    mapping = read_mapping(options.mapping) if options.mapping else Mapping()
    table = read_readings(options.readings, mapping.sensors, units_in_file(mapping))
    readings = renamed(table, mapping)
    model = options.model or _champion()
    surrogate = load_model(model)
    if options.inputs is None and can_begin_with(surrogate.description, set(readings.quantities)):
        given = from_readings(surrogate, options.readings, mapping, options.sample)
    else:
        store = options.inputs or (_workspace() or Path()) / DATA
        given = from_store(surrogate, _from_here(store), options.sample)
    facts = {"model": model, "readings": str(options.readings)}
    units = mapping.sensors.position_units
    comparison = compare_with_readings(surrogate, given, readings, units, options.start, facts)
    folder = options.output or (_workspace() or Path()) / OUTPUT
    try:
        return comparison, write_comparison(comparison, folder)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; name another with --output"
        ) from None


def print_comparison(comparison: Any, page: Path) -> None:
    """Draw it as tables, say what it means, and what to do next."""
    from mno.sensors.words import error_rows, left_out, sensor_rows, title_of, verdicts

    width = None if sys.stdout.isatty() else 150  # for files and pipes, which do not say theirs
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    facts = comparison.facts
    console.print(f"{facts['readings']}  against {facts['model']}, given {facts['inputs']}")
    several = [comparison.overall] if len(comparison.quantities) > 1 else []
    for scores in (*comparison.quantities, *several):
        console.print(
            f"\n{title_of(scores)}  {scores.readings} readings of {scores.sensors} sensors"
        )
        console.print(_table(error_rows(scores)))
    console.print()
    console.print(_table(sensor_rows(comparison, _MOST_SENSORS)))
    console.print()
    for line in verdicts(comparison):
        console.print(line)
    for remark in (*comparison.remarks, *filter(None, [left_out(comparison)])):
        console.print(f"remark   {remark}")
    console.print(f"\nNext: open {_from_here(page)}")


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(rows[0]):
        right = place > 0 and name != "quantity"
        table.add_column(name[:1].upper() + name[1:], justify="right" if right else "left")
    for row in rows:
        table.add_row(*row.values())
    return table


def _champion() -> str:
    from mno.registry.names import CHAMPION, model_name

    return f"models:/{model_name(load_params(find_workspace()).dataset_name)}@{CHAMPION}"


def _workspace() -> Path | None:
    try:
        return find_workspace()
    except InputError:
        return None
