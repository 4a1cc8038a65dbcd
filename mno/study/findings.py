"""What the cells of a study say together: a row per model and scenario, comparisons, a verdict."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from mno.core.errors import InputError
from mno.evaluation.decision import solves_to_break_even
from mno.study.design import ALL_PAIRS, WITHIN_BACKBONE, StudySpec
from mno.study.results import Found
from mno.study.statistics import Comparison, Mean, compare, mean_with_interval

LAST_SHARE = 0.25
LARGEST_FALL = 0.1
RULE = (
    f"A cell is called under-trained where its lowest validation error of the last "
    f"{LAST_SHARE:.0%} of the epochs is more than {LARGEST_FALL:.0%} below the lowest of the "
    "epochs before: more epochs would probably lower its error further."
)


def is_undertrained(training: Mapping[str, Any]) -> bool:
    """Say whether the error of each epoch, `validation`, was still falling at the end, by `RULE`.

    Training that stopped early, for want of a better epoch, has a fall of zero.
    """
    errors = [error for error in training["validation"] if error is not None]
    first = len(errors) - max(1, round(LAST_SHARE * len(errors)))
    if first < 1:  # a single epoch says nothing of what the next would bring
        return True
    before, after = min(errors[:first]), min(errors[first:])
    return after < (1 - LARGEST_FALL) * before


@dataclass(frozen=True)
class Row:
    """One model on one scenario, over its seeds; what is not known or not measured is none."""

    model: str
    backbone: str
    mixer: str  # the model's name where backbones and mixers are not crossed
    parameters: int  # trainable ones
    errors: Mapping[int, float]  # relative L2 on the test split, by seed
    train_seconds: float | None  # processor seconds of a training
    latency_ms: float  # of one prediction on one core, at rest where that was timed
    memory_mib: float | None  # peak of a process that predicts
    finer: float | None  # mean relative L2 on the finest grid that was tried
    finer_ratio: float | None  # its points along an axis, relative to those of training
    noisy: Mean | None  # relative L2 under the strongest noise that was tried, if any was
    undertrained: tuple[int, ...]  # seeds whose training ended too early, by `RULE`
    break_even: int | None  # solves that pay for data and training; none if never, or not known

    @property
    def mean(self) -> Mean:
        """Mean error over seeds, with its interval."""
        return mean_with_interval(list(self.errors.values()))

    @property
    def error(self) -> float:
        """Mean error over seeds."""
        return self.mean.value


@dataclass(frozen=True)
class ScenarioFindings:
    """One scenario of a study."""

    scenario: str  # its name in the study
    rows: list[Row]  # its models, in the order of the study
    baseline: float  # error of predicting the mean field
    solver_ms: float | str  # of one solve on one core; or why not known
    solver_mib: float | None  # peak memory of a process that solves; none where not known
    comparisons: list[Comparison]  # those that the study asks for, one family
    all_pairs: list[Comparison]  # all pairs, one family: what the verdict is drawn from

    @property
    def best(self) -> Row:
        """The model of the lowest mean error."""
        return min(self.rows, key=lambda row: row.mean.value)

    @property
    def not_told_apart(self) -> list[str]:
        """Models whose error is not shown to be higher than that of the best."""
        best = self.best.model
        worse = {c.b for c in self.all_pairs if (c.a, c.verdict) == (best, "lower")}
        worse |= {c.a for c in self.all_pairs if (c.b, c.verdict) == (best, "higher")}
        return [row.model for row in self.rows if row.model not in {best, *worse}]

    @property
    def verdict(self) -> str:
        """Who wins on accuracy, in a sentence; or that nobody does."""
        best, ties = self.best, self.not_told_apart
        mean, others = best.mean, len(self.rows) - 1
        said = f"the lowest error is that of {best.model}, {mean.text('{:.2%}'.format, least=0.0)}"
        if not others:
            return f"{said}; there is no other model to compare with"
        if len(ties) == others:
            return (
                f"nobody wins: {said}, but by {mean.seeds} seed{'s' if mean.seeds > 1 else ''} no "
                "difference is shown from any other"
            )
        if not ties:
            return f"{best.model} wins: {said}, lower than that of every other"
        return (
            f"{said}, lower than that of {others - len(ties)} of {others} others; no difference is "
            f"shown from {', '.join(ties)}"
        )


def machines_of(found: Iterable[Found]) -> list[tuple[str | None, int, int]]:
    """Return processor, cores and cells at a time of each machine that made cells."""
    made = [item.record["machine"] for item in found]
    return sorted({(m["cpu"], m["cores"], m["workers"]) for m in made}, key=str)


def usable(
    found: Iterable[Found], equivalent: frozenset[tuple[str, str]] = frozenset()
) -> list[Found]:
    """Return the cells that were made, if they go together; refuse them by the name of one, else.

    Code that has changed since takes nothing away, but all cells of a scenario must come of the
    same code and data, and of the study file as it is. What code was shown to be `equivalent`
    (`Code.equivalent`) is the same.
    """
    used, made_by = [], dict[str, tuple[str, str]]()
    for item in found:
        if item.state not in ("fresh", "stale"):
            continue
        identity, cell = item.record["identity"], item.cell
        remedy = f"run: mno study run {cell.study}"
        if identity["params"] != item.identity.params:
            raise InputError(f"{cell.name} is of another study file; {remedy}")
        is_fresh = item.state == "fresh"
        code, data = ("", "") if is_fresh else (identity["code"], identity["data"])
        first, of = made_by.setdefault(cell.scenario, (code, data))
        same = first == code or {(first, code), (code, first)} & equivalent
        if not same or of != data:
            why = f": {item.reason}" if item.reason else ""
            raise InputError(
                f"cells of {cell.scenario} come of different code or data ({cell.name}{why}); "
                f"{remedy}"
            )
        used.append(item)
    return used


def findings_of(
    spec: StudySpec, used: Sequence[Found], latencies: Iterable[Found] = ()
) -> dict[str, ScenarioFindings]:
    """Put cells together, by scenario, with `latencies` at rest; those without are left out."""
    ms = {(i.cell.scenario, i.cell.model.name): i.record["latency_ms"] for i in latencies}
    of = {name: [item for item in used if item.cell.scenario == name] for name in spec.scenarios}
    found = {name: _scenario(spec, name, own) for name, own in of.items() if own}
    for name, part in found.items():
        for i, row in enumerate(part.rows):
            part.rows[i] = replace(row, latency_ms=ms.get((name, row.model), row.latency_ms))
    return found


def front(points: Iterable[tuple[str, float, float]]) -> list[str]:
    """Return the names of the points that no other beats in both coordinates, the cheapest first.

    A point is a name, a cost and an error; the less the better.
    """
    kept, lowest = [], float("inf")
    for name, _, error in sorted(points, key=lambda point: (point[1], point[2])):
        if error < lowest:
            kept.append(name)
            lowest = error
    return kept


def _scenario(spec: StudySpec, scenario: str, own: list[Found]) -> ScenarioFindings:
    by_model: dict[str, list[Found]] = {}
    for item in own:
        by_model.setdefault(item.cell.model.name, []).append(item)
    records = [item.record for item in own]
    solvers = [r["cost"]["solver"] for r in records]
    solver = _known(s.get("ms") for s in solvers if isinstance(s, Mapping))
    why = next((s for s in solvers if isinstance(s, str)), "")
    data = _known(_cpu(r["seconds"]["generate"]) for r in records)
    rows = [_row(items, solver, data) for items in by_model.values()]
    errors = {row.model: row.errors for row in rows}
    return ScenarioFindings(
        scenario=scenario, rows=rows,
        baseline=float(records[0]["metrics"]["baseline_relative_l2"]),
        solver_ms=solver if solver is not None else why,
        solver_mib=_known(r["cost"]["solver_memory_mib"] for r in records),
        comparisons=compare(errors, _pairs(spec.compare, rows)),
        all_pairs=compare(errors, _pairs(ALL_PAIRS, rows)),
    )  # fmt: skip


def _row(items: list[Found], solver_ms: float | None, data_seconds: float | None) -> Row:
    records = {item.cell.seed: item.record for item in items}
    of, first = list(records.values()), items[0].cell.model
    latency = statistics.median(r["cost"]["latency_ms"] for r in of)
    train = _known(_cpu(r["seconds"]["train"]) for r in of)
    finer = [f for f in (_finer(r["resolution"]) for r in of) if f is not None]
    pays = None
    if solver_ms is not None and train is not None and data_seconds is not None:
        pays = solves_to_break_even(data_seconds + train, 1e-3 * solver_ms, 1e-3 * latency)
    return Row(
        model=first.name, backbone=first.backbone, mixer=first.mixer,
        parameters=of[0]["parameters"],
        errors={seed: r["metrics"]["relative_l2"] for seed, r in records.items()},
        train_seconds=train, latency_ms=latency,
        memory_mib=_known(r["cost"]["peak_memory_mib"] for r in of),
        finer=statistics.fmean(error for _, error in finer) if finer else None,
        finer_ratio=finer[0][0] if finer else None, noisy=_noisy(of),
        undertrained=tuple(s for s, r in records.items() if is_undertrained(r["training"])),
        break_even=pays,
    )  # fmt: skip


def _finer(resolution: Mapping[str, Any] | str | None) -> tuple[float, float] | None:
    """Return points along an axis, as a multiple of those of training, and the error there."""
    if not isinstance(resolution, Mapping):
        return None
    levels, errors = resolution["level"], resolution["relative_l2"]["model"]["mean"]
    level, error = max(zip(levels, errors, strict=True))
    if error is None or level <= resolution["trained"]:
        return None
    return level / resolution["trained"], error


def _noisy(records: Sequence[Mapping[str, Any]]) -> Mean | None:
    curves = [c for r in records if isinstance(c := r.get("noise"), Mapping)]
    errors = [e for c in curves if (e := c["relative_l2"]["model"]["mean"][-1]) is not None]
    return mean_with_interval(errors) if errors else None


def _pairs(kind: str, rows: list[Row]) -> list[tuple[str, str]]:
    if kind not in (ALL_PAIRS, WITHIN_BACKBONE):
        others = [row.model for row in rows if row.model != kind]
        return [(other, kind) for other in others] if len(others) < len(rows) else []
    return [
        (a.model, b.model)
        for a, b in combinations(rows, 2)
        if kind == ALL_PAIRS or a.backbone == b.backbone
    ]


def _cpu(spent: Mapping[str, float] | str) -> float | None:
    return spent["cpu_seconds"] if isinstance(spent, Mapping) else None


def _known(values: Iterable[Any]) -> float | None:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return statistics.median(known) if known else None
