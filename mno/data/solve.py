"""Solve the samples of one shard: what a task computes, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.errors import MnoError
from mno.data.plan import DatasetPlan
from mno.data.statistics import Margins, Moments
from mno.data.store import sample_shape
from mno.scenarios.base import FilesSource, SampleSource, split_samples


@dataclass
class SolvedShard:
    """The samples of one shard, and what was measured on them.

    Attributes:
        values: Arrays of shape `(samples, *sample shape)`, float32, by field name.
        inputs: Digest of each sample's inputs and initial states, of states with gaps the whole.
        statistics: Moments of each field.
        checks: Moments of each physics check over the samples.
        margins: How far each physics check stays below its tolerance.
        begun: When work on it began, UTC.
    """

    values: dict[str, np.ndarray]
    inputs: list[str]
    statistics: dict[str, Moments]
    checks: dict[str, Moments]
    margins: dict[str, Margins]
    begun: datetime


def solve_shard(plan: DatasetPlan, shard: int) -> SolvedShard:
    """Sample, solve and check every sample of a shard.

    Raises:
        MnoError: A value is not finite, a check exceeds its tolerance, or the scenario yields
            arrays that are not what it declares.
    """
    begun = datetime.now(UTC)
    scenario = plan.build()
    samples = plan.samples_of(shard)
    read = scenario.read(samples) if isinstance(scenario, FilesSource) else None
    values = read or {
        field.name: np.empty((len(samples), *sample_shape(scenario, field)), np.float32)
        for field in scenario.fields
    }
    measured = {check.name: np.empty(len(samples)) for check in scenario.checks}
    # Their first frames are the same where nothing was measured: whole recordings tell them apart.
    recorded = [f.name for f in scenario.fields if f.role == "state" and f.gaps]
    inputs: list[str] = []
    statistics: dict[str, Moments] = {}
    # One thread, so that the order of summation in BLAS does not depend on the machine's cores.
    with threadpool_limits(limits=1):
        made = split_samples(scenario.fields, read) if read else scenario.make(samples, plan.rng)
        for row, (sample, (given, solved)) in enumerate(zip(samples, made, strict=True)):
            if not read:
                _store_row(scenario, {**given, **solved}, row, values)
            for field in scenario.fields:
                array = values[field.name][row]
                moments = Moments.of(array)
                statistics[field.name] = statistics[field.name] + moments if row else moments
                if moments.missing and not (field.gaps and not np.isinf(array).any()):
                    raise scenario.not_finite(field, array, sample)
            inputs.append(_digest({**given, **{name: solved[name] for name in recorded}}))
            for name, value in scenario.check(given, solved).items():
                measured[name][row] = value
            _require_checks(
                scenario, {name: array[row] for name, array in measured.items()}, sample
            )
    checks = {name: Moments.of(array) for name, array in measured.items()}
    margins = {c.name: Margins.of(measured[c.name], c.tolerance) for c in scenario.checks}
    return SolvedShard(values, inputs, statistics, checks, margins, begun)


def _store_row(
    scenario: SampleSource,
    arrays: Mapping[str, np.ndarray],
    row: int,
    values: dict[str, np.ndarray],
) -> None:
    dataset = scenario.dataset_name
    if set(arrays) != set(values):
        raise MnoError(
            f"scenario {dataset} yields fields {sorted(arrays)}; it declares {sorted(values)}"
        )
    for name, array in arrays.items():
        expected = values[name].shape[1:]
        if array.dtype != np.float32 or array.shape != expected:
            raise MnoError(
                f"scenario {dataset} yields {name} as {array.dtype} of shape {array.shape}; "
                f"expected float32 of shape {expected}"
            )
        values[name][row] = array


def _require_checks(scenario: SampleSource, measured: Mapping[str, float], sample: int) -> None:
    for check in scenario.checks:
        # Written so that NaN fails too.
        if not measured[check.name] <= check.tolerance:
            raise MnoError(
                f"sample {sample} of {scenario.dataset_name}: {check.name} ({check.description}) "
                f"is {measured[check.name]:.3g}; tolerance {check.tolerance:.3g}; nothing is "
                "released"
            )


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()
