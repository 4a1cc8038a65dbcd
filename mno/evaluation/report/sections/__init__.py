"""The sections of the report, by name, in the order in which they are read."""

from __future__ import annotations

from mno.evaluation.report.sections import (
    accuracy,
    cost,
    data,
    decision,
    figures,
    limits,
    lineage,
    training,
    trust,
)

SECTIONS = {
    "decision": decision.section,
    "accuracy": accuracy.section,
    "figures": figures.section,
    "trust": trust.section,
    "cost": cost.section,
    "data": data.section,
    "training": training.section,
    "limits": limits.section,
    "lineage": lineage.section,
}
