"""The tables of the section: surrogate beside solver, what was spent, when it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.reasons import told
from mno.report.sections.cost.amounts import duration, price

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Known

_NONE = "–"


def side_by_side(cost: Known, words: Words) -> list[tuple[str, str, str]]:
    """Return rows of a name, the surrogate's figure and the solver's."""
    solver = {} if isinstance(cost["solver"], str) else cost["solver"]
    batch = words.number(cost["batch_size"])

    def solving(key: str) -> str:
        return duration(1e-3 * solver[key], words) if solver else _NONE

    per_second = words.number(1e3 / solver["ms"], 3) if solver else _NONE
    return [
        (words("latency"), duration(1e-3 * cost["latency_ms"], words), solving("ms")),
        (words("latency_p95"), duration(1e-3 * cost["latency_p95_ms"], words), solving("p95_ms")),
        *_at_equal_error(cost["equal_error"], words),
        (
            words("throughput", batch=batch),
            words.number(cost["throughput_per_s"], 3),
            per_second,
        ),
        (
            words("memory"),
            _mebibytes(cost["peak_memory_mib"], words),
            _mebibytes(cost["solver_memory_mib"], words) if solver else _NONE,
        ),
        (words("flops"), words.number(float(cost["flops"]), 3), _NONE),
        (words("parameters"), words.number(cost["parameters"]), _NONE),
    ]


def spent_rows(spent: Known, words: Words) -> list[tuple[str, ...]]:
    """Return rows of a stage, its time by the clock and of all cores, and its energy."""
    rows = []
    for stage, found in spent.items():
        if isinstance(found, str):
            rows.append((words(f"stage.{stage}"), told(found, words), _NONE, _NONE))
            continue
        energy = f"{words.number(found['watt_hours'], 2)}\u202fWh"
        times = (duration(found[key], words) for key in ("seconds", "cpu_seconds"))
        rows.append((words(f"stage.{stage}"), *times, energy))
    return rows


def break_even_rows(found: Known, words: Words) -> list[tuple[str, str]]:
    """Return what the break-even is made of, and what it comes to."""
    source = found["solver_source"]
    rows = []
    if source is not None:
        rows += [(words(f"a_solve.{source}"), duration(found["solver_seconds"], words))]
    rows += [(words("a_prediction"), duration(found["surrogate_seconds"], words))]
    for part, seconds in found["spent"].items():
        name = f"data.{found['data_source']}" if part == "data" else part
        rows += [(words(f"spent_on.{name}"), _computing(seconds, words))]
    pays = words(f"pays.{found['state']}", solves=words.number(found["solves"] or 0))
    rows += [(words("pays_after"), pays)]
    if found["days"] is not None:
        rows += [(words("pays_in"), words("days", days=words.number(found["days"], 2)))]
    if found["saved_a_day"] is not None:
        rows += [(words("saved_a_day"), duration(found["saved_a_day"], words))]
    return [*rows, *_priced(found["money"], words)]


def _priced(money: Known | None, words: Words) -> list[tuple[str, str]]:
    if money is None:
        return []
    amounts = ((name, money[name]) for name in ("spent", "a_solve", "a_prediction", "saved_a_day"))
    currency = money["currency"]
    return [
        (words(f"money.{name}"), price(amount, currency, words))
        for name, amount in amounts
        if amount is not None
    ]


def _at_equal_error(compared: Known | str, words: Words) -> list[tuple[str, str, str]]:
    if isinstance(compared, str) or isinstance(compared["solver"], str):
        return []
    solver, model = compared["solver"], compared["model"]
    name = words("at_equal_error", error=words.percent(model["error"]))
    time = words(f"time.{solver['how']}", time=duration(1e-3 * solver["ms"], words))
    return [(name, duration(1e-3 * model["ms"], words), time)]


def _computing(seconds: Any, words: Words) -> str:
    return told(seconds, words) if isinstance(seconds, str) else duration(seconds, words)


def _mebibytes(size: Any, words: Words) -> str:
    return size if isinstance(size, str) else f"{words.number(size, 3)}\u202fMiB"
