"""A plant that an observer follows: what sensors read comes in by name, what it tells goes out.

    thermocouple_temperature.roof_front     FIELD.PLACE, what a sensor or a control says
    setpoint                                FIELD, where a field has one place

What is told at each reading is a mapping that JSON takes: `time` and `elapsed` since the run began;
`outputs` by field and place; `bands`, what each is within at this time, and `bands_over_run` at all
times of a run together, none where nothing is known; `readings` as they were told; which columns
are `missing`, which `unlike` training (or fields of the run as a whole), and which of these were
`left_out` of what is told; how many were `told` so far, and `dropped`, what was not, by kind.
"""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mno.core.absent import Absent
from mno.core.clock import Clock
from mno.core.errors import InputError
from mno.core.observing import READ
from mno.core.readings import is_made
from mno.serving.counts import Seen
from mno.surrogate.following import Run
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.out_of_distribution import Box
from mno.surrogate.trust.trust import Trust

DROPPED = ("out_of_order", "repeated", "unreadable", "missing", "impossible")  # readings or cells
_LARGEST = 3.4e38  # of a float32
_DIGITS = 7  # of a float32
_MOST_KEPT = 2**24  # bytes of a file of readings


class NotInOrderError(InputError):
    """A reading is not later than the one before."""


class Observer:
    """An observer, what its answers are judged by, and the name that its states are known by.

    Attributes:
        columns: Input and number of the place that each column of a reading is, by its name.
        units: Of each column.
        constants: What is the same during a run, by name: its places; none of a number.

    Raises:
        InputError: It is another model, or one of fields in space.
    """

    def __init__(self, surrogate: Surrogate, trust: Trust | Absent, sha256: str, name: str) -> None:
        description = self.description = surrogate.description
        if not description.observes or description.part != "readings":
            raise InputError(
                f"{name} is no observer of readings; train one with: mno run --preset "
                "furnace-observer"
            )
        self.surrogate, self.trust, self.sha256, self.name = surrogate, trust, sha256, name
        self.columns: dict[str, tuple[str, int]] = {}
        self.units: dict[str, str] = {}
        for moving in description.forcings:
            for number, column in enumerate(columns_of(moving, description.places(moving))):
                self.columns[column] = moving, number
                self.units[column] = description.inputs[moving]
        self.constants = {
            name: description.places(name) if name in description.readings else ()
            for name in description.given_names
            if not is_made(name) and name not in description.forcings
        }
        self._ranges = {} if isinstance(trust, Absent) else _ranges(trust)

    def begin(self, given: Mapping[str, Any]) -> Run:
        """Begin a run with its `constants`, numbers or lists of such, or raise an `InputError`."""
        if wrong := sorted(set(given) ^ set(self.constants)):
            raise InputError(
                f"the run lacks, or has too much of, {', '.join(wrong)}; expected exactly "
                f"{self.run_in_words()}"
            )
        return Run(self.surrogate, {name: self._constant(name, given[name]) for name in given})

    def run_in_words(self) -> str:
        """Say what is given of a run as a whole."""
        units = self.description.inputs
        return "; ".join(
            f"{name} [{units[name]}]" + (f" of {', '.join(places)}" if places else "")
            for name, places in self.constants.items()
        )

    def _constant(self, name: str, given: Any) -> np.ndarray:
        places, gaps = self.constants[name], name in self.description.gaps
        values = given if isinstance(given, list) else [given]
        fits = isinstance(given, list) == bool(places) and len(values) == max(len(places), 1)
        known = [v for v in values if not (v is None and gaps)]
        if not fits or not all(type(v) in (int, float) and self.possible(v, name) for v in known):
            expected = f"a list of {len(places)} numbers" if places else "a number"
            null = ", null where there is none" if gaps and places else ""
            raise InputError(
                f"{name}={json.dumps(given, default=str)[:100]} of the run; expected {expected}"
                f"{null}, in {self.description.inputs[name]}"
            )
        return np.array(given, np.float32)

    def possible(self, value: Any, name: str) -> bool:
        """Whether something may have this value, rather than be wrong as it is written."""
        return (0.0 if self.description.inputs[name] == "K" else -_LARGEST) <= value < _LARGEST

    def unlike(
        self, told: Mapping[str, np.ndarray], cells: Mapping[str, float]
    ) -> dict[str, float]:
        """Return which columns are unlike anything trained on, and how far beyond the limit.

        They are out of the range of training (infinitely far), or too far from what is told.
        """
        if isinstance(self.trust, Absent):
            return {}
        found: dict[str, float] = {}
        for column, value in cells.items():
            moving, number = self.columns[column]
            field, share = moving.removesuffix(READ), 0.0
            limit = self.trust.misfit.get(field) if moving.endswith(READ) else None
            if limit is not None:
                share = abs(value - np.ravel(told[field])[number]) / max(limit, 1e-30)
            if self.outside(moving, value):
                share = math.inf
            if share > 1.0:
                found[column] = share
        return found

    def outside(self, name: str, values: np.ndarray | float) -> bool:
        """Whether some of these values of an input are out of the range of training."""
        low, high = self._ranges.get(name, (-math.inf, math.inf))
        return bool(np.any((values < low) | (values > high)))

    def band(self, field: str, frame: float, over_run: bool = False) -> float | None:
        """Return what the errors of a field at all places are within, so many frames into a run."""
        if isinstance(self.trust, Absent) or "max_error" not in self.trust.bounds.get(field, {}):
            return None
        bound, before, after = self.trust.bounds[field]["max_error"], int(frame), math.ceil(frame)
        values = (bound.over_run or ()) if over_run else bound.values
        low, high = (values[k] if k < len(values) else None for k in (before, after))
        return None if low is None or high is None else _rounded(low + frame % 1.0 * (high - low))


def columns_of(moving: str, places: Sequence[str]) -> list[str]:
    """Return what the columns of an input that is given with each reading are called."""
    field = moving.removesuffix(READ)
    return [f"{field}.{place}" if place else field for place in places]


def _ranges(trust: Trust) -> dict[str, tuple[float, float]]:
    """Return within what the inputs of training were, by name, and somewhat beyond."""
    found: dict[str, tuple[float, float]] = {}
    for test, reach in zip(trust.likeness.tests, trust.likeness.reach, strict=True):
        if not isinstance(test, Box) or trust.likeness.threshold is None:
            continue
        for feature, low, high in zip(test.names, test.lowest, test.highest, strict=True):
            name, _, what = feature.partition(" ")
            beyond = reach * trust.likeness.threshold * (high - low)
            lowest, highest = found.get(name, (-math.inf, math.inf))
            lowest = low - beyond if what in ("minimum", "value") else lowest
            highest = high + beyond if what in ("maximum", "value") else highest
            found[name] = lowest, highest
    return found


class Plant:
    """A plant from the beginning of its run, whose readings are told one after the other.

    Those that come within `every` after the first of them are told as one, with the means of their
    cells and the time of the last, when the next is there.
    """

    def __init__(self, observer: Observer, run: Run, every: float = 0.0) -> None:
        self.observer, self.run, self._every = observer, run, every
        self.counts: Counter[str] = Counter()  # how many were `told`, and what was dropped
        self._clock, self._begun = Clock(), 0.0
        self._last = run.time
        # Not told yet: seconds, time as it is written, and cells.
        self.waiting: list[tuple[float, str | float, Mapping[str, float | None]]] = []
        self._there: dict[str, np.ndarray] = {}  # by axis, places that the run says something of
        for name, values in run.constant.items():
            if axis := run.description.readings.get(name, ("",))[0]:
                known = ~np.isnan(values)
                self._there[axis] = self._there.get(axis, known) | known
        self._unlike = [n for n, values in run.constant.items() if observer.outside(n, values)]

    def take(self, time: str | float, cells: Mapping[str, float | None]) -> dict[str, Any] | None:
        """Take a reading in, none or what is no number for cells without; return what is told.

        Nothing is where others have to be waited for. What is not told is counted. A
        `NotInOrderError` says that it is not later than the one before; an `InputError` that its
        time cannot be read, or a column is not known.
        """
        if unknown := sorted(set(cells) - set(self.observer.columns)):
            raise InputError(
                f"{', '.join(unknown)[:200]} is not what the model is given; expected some of "
                f"{', '.join(self.observer.columns)}"
            )
        try:
            seconds = self._clock.seconds(str(time))
        except ValueError as error:
            self.counts["unreadable"] += 1
            raise InputError(f"time {str(time)[:40]!r}; {error}") from None
        if self._last is not None and seconds <= self._last:
            self.counts["repeated" if seconds == self._last else "out_of_order"] += 1
            raise NotInOrderError(f"time {time} is not later than that of the reading before")
        self._last = seconds
        over = bool(self.waiting) and seconds - self.waiting[0][0] >= self._every
        answer = self.flush() if over else None
        self.waiting.append((seconds, time, cells))
        return answer if self._every else self.flush()

    def flush(self) -> dict[str, Any] | None:
        """Tell what waits."""
        if not self.waiting:
            return None
        (seconds, time, _), known = self.waiting[-1], {}
        for _, _, cells in self.waiting:
            for column, value in cells.items():
                name, _ = self.observer.columns[column]
                if value is not None and self.observer.possible(value, name):
                    known.setdefault(column, []).append(value)
                else:
                    self.counts["missing" if value is None else "impossible"] += 1
        self.waiting = []
        return self._tell(seconds, time, {c: sum(v) / len(v) for c, v in known.items()})

    def _tell(self, seconds: float, time: str | float, cells: dict[str, float]) -> dict[str, Any]:
        run, observer, description = self.run, self.observer, self.observer.description
        if run.time is None:
            self._begun = seconds
        torch.set_num_threads(1)  # so little is done at once that others would only be waited for
        read = [c for c in cells if observer.columns[c][0].endswith(READ)]
        left_out, before = [], run.known()
        while True:  # the worst first, as long as most sensors agree
            kept = {column: value for column, value in cells.items() if column not in left_out}
            told = run.told(seconds, self._given(kept))
            found = observer.unlike(told, kept)
            worst = max((c for c in found if c in read), key=found.__getitem__, default=None)
            if worst is None or 2 * len(left_out) + 2 >= len(read):
                break
            left_out.append(worst)
            run.restore(before)
        unlike = {*left_out, *found}
        self.counts["told"] += 1
        assert description.forecast is not None
        frame = (seconds - self._begun) / description.forecast.interval
        return {
            "time": time, "elapsed": _rounded(seconds - self._begun, 12), "model": observer.name,
            "outputs": {name: self._named(name, np.ravel(told[name])) for name in told},
            "bands": {name: observer.band(name, frame) for name in told},
            "bands_over_run": {name: observer.band(name, frame, over_run=True) for name in told},
            "readings": {c: _rounded(cells.get(c, math.nan)) for c in observer.columns},
            "missing": [column for column in observer.columns if column not in cells],
            "unlike": [*self._unlike, *(column for column in cells if column in unlike)],
            "left_out": left_out, "told": self.counts["told"],
            "dropped": {kind: self.counts[kind] for kind in DROPPED},
        }  # fmt: skip

    def _given(self, cells: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return what a run is given of some columns; the others were not read."""
        given, description = {}, self.observer.description
        for name in self.run.moving:
            places = columns_of(name, description.places(name))
            values = np.array([cells.get(column, math.nan) for column in places], np.float32)
            given[name] = values if description.readings.get(name, ("",))[0] else values[0]
        return given

    def _named(self, field: str, values: np.ndarray) -> dict[str, float | None] | float | None:
        """Return values by place; none at places that are not there in this run."""
        axis = self.observer.description.readings[field][0]
        there = self._there.get(axis, np.ones(len(values), bool))
        shown = [_rounded(float(v)) if ok else None for v, ok in zip(values, there, strict=True)]
        places = self.observer.description.places(field)
        return dict(zip(places, shown, strict=True)) if axis else shown[0]

    def is_of(self, run: Run) -> bool:
        """Whether its run is the same as one that begins."""
        mine, other = self.run.constant, run.constant
        return all(np.array_equal(mine[n], other[n], equal_nan=True) for n in mine | other)

    def seen(self, answer: Mapping[str, Any]) -> Seen:
        """Return what a drift trigger counts of what was told."""
        trust = self.observer.trust
        if isinstance(trust, Absent):
            return Seen(samples=1)
        bounds = [bound["relative_l2"].values[0] for bound in trust.bounds.values()]
        known, flagged = [b for b in bounds if b is not None], int(bool(answer["unlike"]))
        return Seen(
            samples=1, judged=1, flagged=flagged, bounded=int(bool(known)),
            bound=max(known, default=0.0),
        )  # fmt: skip

    def save(self, path: Path, **more: Any) -> None:
        """Write all that is known, and more that JSON takes, beside and then in place of a file."""
        said = {"clock": self._clock.said, "begun": self._begun, "counts": dict(self.counts)}
        self.run.save(path, self.observer.sha256, plant=json.dumps(said), more=json.dumps(more))

    @classmethod
    def load(cls, path: Path, observer: Observer, every: float = 0.0) -> tuple[Self, dict]:
        """Read what `save` wrote, without readings that waited; errors are those of `Run.load`."""
        run, told = Run.load(path, observer.surrogate, observer.sha256)
        plant, said = cls(observer, run, every), json.loads(told["plant"])
        plant._clock, plant._begun = Clock(said["clock"]), said["begun"]
        plant.counts.update(said["counts"])
        return plant, json.loads(told["more"])


def _rounded(value: float, digits: int = _DIGITS) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def keep(path: Path, answer: Mapping[str, Any], most: int = _MOST_KEPT) -> None:
    """Add a reading that was told to a CSV file.

    Beyond a size, or with other columns than before, the file becomes `NAME.1.csv`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["time", *answer["readings"]]
    if path.exists() and (size := path.stat().st_size):
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file))
        if size >= most or header != columns:
            os.replace(path, path.with_suffix(".1.csv"))
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(columns)
        writer.writerow([answer["time"], *answer["readings"].values()])
