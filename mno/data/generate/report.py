"""The report of a dataset: counts, statistics and physics checks."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from mno.data.config import SPLITS
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.work import ShardRecord
from mno.data.statistics import Margins
from mno.data.store import sample_shape


@dataclass(frozen=True)
class FieldReport:
    """One field over the whole dataset; figures in its unit; `missing` counts those not finite."""

    role: str
    units: str
    shape: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float
    missing: int


@dataclass(frozen=True)
class CheckReport:
    """One physics check over all samples; `margins` tells where they lie below the tolerance."""

    description: str
    tolerance: float
    max: float
    mean: float
    margins: Margins


@dataclass(frozen=True)
class Faults:
    """What a dataset must not have; counted, although generation refuses what is not zero."""

    duplicate_samples: int  # whose inputs an earlier sample has too
    samples_in_two_splits: int  # inputs that are in more than one split
    values_not_finite: int


@dataclass(frozen=True)
class DatasetReport:
    """What a dataset holds; `dataclasses.asdict` gives it as plain values."""

    scenario: str
    samples: int
    shards: int
    splits: dict[str, int]  # samples
    fields: dict[str, FieldReport]
    checks: dict[str, CheckReport]
    faults: Faults


def summarise(plan: DatasetPlan, records: Iterable[ShardRecord]) -> DatasetReport:
    """Add up the records of all shards, in the order of their numbers."""
    ordered = sorted(records, key=lambda record: record.shard)
    scenario = plan.build()
    fields: dict[str, FieldReport] = {}
    checks: dict[str, CheckReport] = {}
    not_finite = 0
    for field in scenario.fields:
        total = reduce(add, (record.statistics[field.name] for record in ordered))
        figures = (total.min, total.max, total.mean, total.std, total.missing)
        shape = sample_shape(scenario, field)
        fields[field.name] = FieldReport(field.role, field.units, shape, *figures)
        not_finite += 0 if field.gaps else total.missing
    for check in scenario.checks:
        total = reduce(add, (record.checks[check.name] for record in ordered))
        margins = reduce(add, (record.margins[check.name] for record in ordered))
        checks[check.name] = CheckReport(
            check.description, check.tolerance, total.max, total.mean, margins
        )
    splits = plan.splits().tolist()
    digests = [digest for record in ordered for digest in record.inputs]
    return DatasetReport(
        scenario=scenario.dataset_name,
        samples=plan.config.samples,
        shards=plan.num_shards,
        splits={name: splits.count(name) for name in dict.fromkeys([*SPLITS, *splits])},
        fields=fields,
        checks=checks,
        faults=Faults(*count_duplicates(digests, splits), not_finite),
    )


def count_duplicates(inputs: Sequence[Hashable], splits: Sequence[str]) -> tuple[int, int]:
    """Count samples whose inputs an earlier one has, and inputs found in more than one split."""
    found: dict[Hashable, set[str]] = {}
    for digest, split in zip(inputs, splits, strict=True):
        found.setdefault(digest, set()).add(split)
    return len(inputs) - len(found), sum(len(names) > 1 for names in found.values())
