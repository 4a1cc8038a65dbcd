"""Inspecting a store: every shard is read once, one field of it at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mno.core.errors import InputError, first_line
from mno.core.fields import Field
from mno.data.generate.report import count_duplicates
from mno.data.reading import Schema, read_schema, verify
from mno.report.inspection.measure import FieldMeasurement
from mno.report.inspection.result import Duplicates, Inspection
from mno.report.inspection.sensors import Sensors, find_sensors

_PAIRS = 3


def inspect_store(
    store: Path,
    report: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Measure what is in a released dataset.

    Every file's checksum is verified first. Memory holds one shard of one field, and beside it less
    than a hundred bytes per sample and field.

    Args:
        store: The dataset.
        report: Its own report, the content of `reports/dataset.json`, for its physics checks.
        progress: Is told how many samples of how many have been read.

    Raises:
        InputError: The folder is not a released dataset, or cannot be read, or a file of it is
            missing or altered.
    """
    with _reading(store):
        problems = verify(store)
        if problems:
            more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
            raise InputError(
                f'{store}/{problems[0]}{more}; make the dataset again with "mno generate --repair"'
            )
        schema = read_schema(store)
        group: Any = zarr.open_group(store, mode="r", zarr_format=3)
        splits = np.array([str(name) for name in group["split"][:]])
        axes = {axis.name: axis for axis in schema.axes}
        fields = tuple(
            FieldMeasurement(field, [axes[name] for name in field.dims], len(splits))
            for field in schema.fields
        )
        sensors = find_sensors(group, schema, len(splits))
    digests = _measure(group, schema, splits, fields, sensors, progress)
    checks, missing = _checks(report, schema.scenario, splits, fields)
    twice = _duplicates(digests, splits)
    return Inspection(store, schema, splits, fields, twice, checks, missing, sensors)


def _measure(
    group: Any,
    schema: Schema,
    splits: np.ndarray,
    fields: tuple[FieldMeasurement, ...],
    sensors: Sensors | None,
    progress: Callable[[int, int], None],
) -> list[bytes]:
    """Read all samples, shard by shard; return the digest of each one's inputs."""
    size = max((group[m.field.name].shards or group[m.field.name].chunks)[0] for m in fields)
    given = {field.name for field in schema.fields if field.role != "output"} or set(group)
    presence = {one.field.name: one for one in sensors.presence} if sensors else {}
    digests: list[bytes] = []
    progress(0, len(splits))
    for start in range(0, len(splits), size):
        here = splits[start : start + size]
        hashes = [hashlib.blake2b(digest_size=16) for _ in here]
        for measured in fields:
            with _reading(Path(group.store.root)):
                values = np.asarray(group[measured.field.name][start : start + size])
            measured.add(start, values, here)
            if measured.field.name in presence:
                presence[measured.field.name].add(start, values)
            if measured.field.name in given:
                for hasher, sample in zip(hashes, values, strict=True):
                    hasher.update(_given(measured.field, sample))
        digests += [hasher.digest() for hasher in hashes]
        progress(len(digests), len(splits))
    return digests


def _given(field: Field, sample: np.ndarray) -> bytes:
    """Return what is given of a field: of states, the first frame.

    The first frames of two recordings are the same where nothing was measured in either.
    """
    first = sample[0] if field.role == "state" and not field.gaps else sample
    return np.ascontiguousarray(first).tobytes()


def _duplicates(digests: list[bytes], splits: np.ndarray) -> Duplicates:
    first: dict[bytes, int] = {}
    pairs = []
    for sample, digest in enumerate(digests):
        earlier = first.setdefault(digest, sample)
        if earlier != sample and len(pairs) < _PAIRS:
            pairs.append((earlier, sample))
    return Duplicates(*count_duplicates(digests, splits.tolist()), tuple(pairs))


def _checks(
    report: Mapping[str, Any] | None,
    scenario: str,
    splits: np.ndarray,
    fields: tuple[FieldMeasurement, ...],
) -> tuple[Mapping[str, Any], str]:
    """Return the checks of a report if it belongs to the data, else why there are none."""
    if report is None:
        return {}, "not known: there is no reports/dataset.json beside the data"
    ranges = {name: (f.get("min"), f.get("max")) for name, f in report.get("fields", {}).items()}
    measured = {m.field.name: (m.total.min, m.total.max) for m in fields}
    ours = (report.get("scenario"), report.get("samples")) == (scenario, len(splits))
    if not ours or ranges != measured:
        return {}, "not known: reports/dataset.json is of other data"
    checks = report.get("checks", {})
    return checks, "" if checks else "none: the scenario has no physics checks"


@contextmanager
def _reading(store: Path) -> Iterator[None]:
    """Turn a failure to read into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"{store} cannot be read ({type(error).__name__}: {first_line(error)}); expected a "
            'dataset as "mno generate" releases it'
        ) from error
