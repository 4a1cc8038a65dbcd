"""What is in a dataset: every shard is read once and measured, one field of it at a time.

`inspect_store` works on any released dataset, without a workspace.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mno.core.errors import InputError, reading
from mno.core.fields import Axis
from mno.core.numbers import percent
from mno.data.reading import Schema, read_schema, verify
from mno.data.statistics import count_duplicates
from mno.report.inspected_fields import FieldMeasurement
from mno.report.inspected_sensors import Judgement, Sensors, find_sensors, judge

_EXPECTED = 'a dataset as "mno generate" releases it'
_MUCH_AT_CUTOFF = 0.01  # share of the variance
_MUCH_NOISE = 0.02  # share of the deviation
_FAR_OFF = 4.0  # standard errors
_EQUAL = 1e-4  # largest difference between distances that count as equal, as a share of their mean
_ROUNDING = 1e-6
_PAIRS = 3
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is in a dataset."""

    store: Path
    schema: Schema
    splits: np.ndarray  # of each sample
    fields: tuple[FieldMeasurement, ...]
    duplicates: tuple[tuple[int, int], ...]  # the first sample with some inputs, and another
    leaks: int  # inputs that are in more than one split
    checks: Mapping[str, Any]  # the physics checks of the dataset's own report, by name
    sensors: Sensors | None = None  # of data with gaps, or of points in fixed places

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """What data of sensors must keep to suffice for training; empty for other data."""
        return judge(self.sensors, self.fields, self.split_counts) if self.sensors else ()

    @property
    def verdict(self) -> str:
        """Whether data of sensors suffice, and what is missing; empty for other data."""
        if not self.sensors:
            return ""
        aim = f"training on {', '.join(field.name for field in self.schema.outputs)}"
        lacking = "; ".join(f"{j.subject}: {j.lacking}" for j in self.judgements if not j.holds)
        if not lacking:
            return f"these data suffice for {aim}"
        return f"these data do not suffice for {aim}: {lacking}"

    @cached_property
    def split_counts(self) -> dict[str, int]:
        """Number of samples by split, in the order of their use."""
        return {name: int((self.splits == name).sum()) for name in _SPLITS if name in self.splits}

    @property
    def problems(self) -> list[str]:
        """What should not be in a dataset, one sentence each."""
        found = []
        if self.duplicates:
            pairs = ", ".join(f"{a} and {b}" for a, b in self.duplicates[:_PAIRS])
            found.append(
                f"{len(self.duplicates)} samples have the inputs of another ({pairs}); "
                f"{self.leaks} inputs are in two splits: leakage"
            )
        for measured in self.fields:
            name, total = measured.field.name, measured.total
            if measured.field.gaps:
                continue  # what is missing, or never changes, is judged sensor by sensor
            if total.missing:
                share = percent(total.missing / (total.missing + total.count))
                found.append(f"{name}: {total.missing} values ({share}) are not finite")
            if measured.constant:
                where = ", ".join(map(str, measured.constant[:5]))
                found.append(f"{name}: {len(measured.constant)} samples are constant ({where})")
        return found

    @property
    def remarks(self) -> list[str]:
        """What is worth knowing, one sentence each."""
        found = []
        for measured in self.fields:
            name, spectrum, total = measured.field.name, measured.spectrum, measured.total
            if total.count and total.min == total.max and not measured.constant:
                found.append(f"{name} is {total.min:.3g} in all samples")
            if measured.still:
                found.append(
                    f"{name}: {measured.repeated_frames} frames repeat the one before, in "
                    f"{len(measured.still)} samples (a steady state, or a gap)"
                )
            found += [
                f"{name}: the mean norm of {split} is {off:+.1f} standard errors from that of all "
                "samples"
                for split, off in self.imbalance(measured).items()
                if abs(off) > _FAR_OFF
            ]
            if spectrum and spectrum.share_at_cutoff > _MUCH_AT_CUTOFF:
                found.append(
                    f"{name}: {percent(spectrum.share_at_cutoff)} of its variance is at the "
                    "cut-off: it has jumps or noise, or the resolution is too coarse for it"
                )
            if measured.noise > _MUCH_NOISE * total.std:
                share = percent(measured.noise / total.std)
                found.append(f"{name}: noise of up to {share} of its deviation (curvature counts)")
        return found

    def imbalance(self, measured: FieldMeasurement) -> dict[str, float]:
        """Return by split how many standard errors its mean norm is from that of all samples."""
        known = np.isfinite(measured.norms)
        if not known.any():
            return {}
        mean, std = measured.norms[known].mean(), measured.norms[known].std()
        if std <= _ROUNDING * abs(mean):  # the same everywhere, but for the last digits
            return {}
        found = {}
        for split in self.split_counts:
            norms = measured.norms[known & (self.splits == split)]
            rest = 1 - len(norms) / max(int(known.sum()), 1)  # the split is a part of all samples
            if len(norms) > 1 and std and rest:
                found[split] = float((norms.mean() - mean) / (std * math.sqrt(rest / len(norms))))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; what could not be measured is None."""
        return {
            "data": str(self.store), "scenario": self.schema.scenario,
            "samples": len(self.splits), "splits": self.split_counts,
            "fields": {m.field.name: self._field(m) for m in self.fields},
            "axes": {axis.name: _axis(axis) for axis in self.schema.axes},
            "duplicates": {"samples": len(self.duplicates), "inputs_in_two_splits": self.leaks},
            "checks": {name: dict(check) for name, check in self.checks.items()},
            "problems": self.problems, "remarks": self.remarks,
            "sufficiency": self.sensors and {
                "suffices": all(j.holds for j in self.judgements), "verdict": self.verdict,
                "judgements": [judgement._asdict() for judgement in self.judgements],
                "sensors": self.each_sensor(),
            },
        }  # fmt: skip

    def each_sensor(self) -> list[dict[str, Any]]:
        """Return how each sensor of each field is, by its name; those that work come last."""
        sensors = self.sensors or Sensors((), None, (), np.zeros(0))
        found = [
            {
                "sensor": sensors.name(one, number),
                "field": one.field.name,
                "missing": float(one.missing[number]),
                "longest_gap": _finite(float(one.gaps[number] * one.interval)),
                "deviation": float(one.deviation[number]),
                "condition": condition,
            }
            for one in sensors.presence
            for number, condition in enumerate(one.conditions.tolist())
        ]
        return sorted(found, key=lambda sensor: sensor["condition"] == "works")

    def _field(self, measured: FieldMeasurement) -> dict[str, Any]:
        total, field, spectrum = measured.total, measured.field, measured.spectrum
        return {
            **{name: getattr(field, name) for name in ("role", "units", "long_name", "scale")},
            "dims": list(field.dims),
            "shape": [len(axis.points) for axis in measured.axes],
            **{name: _finite(getattr(total, name)) for name in ("mean", "std", "min", "max")},
            "not_finite": total.missing, "standard_errors_by_split": self.imbalance(measured),
            "constant_samples": len(measured.constant), "repeated_frames": measured.repeated_frames,
            "noise": _finite(measured.noise),
            "share_at_cutoff": spectrum and spectrum.share_at_cutoff,
        }  # fmt: skip


def _axis(axis: Axis) -> dict[str, Any]:
    """Return what is known of an axis; distances are equal where only rounding differs."""
    distances = np.diff(axis.points) if len(axis.points) > 1 else np.array([math.nan])
    low, high = float(distances.min()), float(distances.max())
    return {
        "units": axis.units,
        "points": len(axis.points),
        "extent": list(axis.extent),
        "spacing": [_finite(low), _finite(high)],
        "equal": high - low <= _EQUAL * abs(float(distances.mean())),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def inspect_store(
    store: Path,
    report: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Measure what is in a released dataset; of its own `reports/dataset.json` it takes the checks.

    Every file's checksum is verified first. Memory holds one shard of one field, and beside it less
    than a hundred bytes per sample and field. `progress` is told how many samples are read, of all.

    Raises:
        InputError: The folder is not a released dataset, or a file of it is missing or altered.
    """
    with reading(store, expected=_EXPECTED):
        if problems := verify(store):
            more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
            raise InputError(
                f'{store}/{problems[0]}{more}; make the dataset again with "mno generate --repair"'
            )
        schema = read_schema(store)
        group: Any = zarr.open_group(store, mode="r", zarr_format=3)
        splits = np.array([str(name) for name in group["split"][:]])
        fields = tuple(FieldMeasurement(field, schema, len(splits)) for field in schema.fields)
        sensors = find_sensors(group, schema, len(splits))
    digests = _measure(group, splits, fields, sensors, progress)
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(digest, sample), sample) for sample, digest in enumerate(digests)]
    duplicates = tuple((one, other) for one, other in pairs if one != other)
    _, leaks = count_duplicates(digests, splits.tolist())
    ranges = {m.field.name: (m.total.min, m.total.max) for m in fields}
    report = report or {}
    told = {name: (f.get("min"), f.get("max")) for name, f in report.get("fields", {}).items()}
    ours = (report.get("scenario"), report.get("samples")) == (schema.scenario, len(splits))
    checks = report.get("checks", {}) if ours and told == ranges else {}
    return Inspection(store, schema, splits, fields, duplicates, leaks, checks, sensors)


def _measure(
    group: Any, splits: np.ndarray, fields: tuple[FieldMeasurement, ...], sensors: Sensors | None,
    progress: Callable[[int, int], None],
) -> list[bytes]:  # fmt: skip
    """Read all samples, shard by shard; return the digest of what is given of each one.

    That is its inputs, and of states the first frame; with gaps all of them, since the first frames
    of two recordings are the same where nothing was measured in either.
    """
    size = max((group[m.field.name].shards or group[m.field.name].chunks)[0] for m in fields)
    all_given = all(measured.field.role == "output" for measured in fields)
    presence = {one.field.name: one for one in sensors.presence} if sensors else {}
    digests: list[bytes] = []
    progress(0, len(splits))
    for start in range(0, len(splits), size):
        here = splits[start : start + size]
        hashes = [hashlib.blake2b(digest_size=16) for _ in here]
        for measured in fields:
            field = measured.field
            with reading(Path(group.store.root), expected=_EXPECTED):
                values = np.asarray(group[field.name][start : start + size])
            measured.add(start, values, here)
            if field.name in presence:
                presence[field.name].add(start, values)
            if all_given or field.role != "output":
                for hasher, sample in zip(hashes, values, strict=True):
                    given = sample[0] if field.role == "state" and not field.gaps else sample
                    hasher.update(np.ascontiguousarray(given).tobytes())
        digests += [hasher.digest() for hasher in hashes]
        progress(len(digests), len(splits))
    return digests
