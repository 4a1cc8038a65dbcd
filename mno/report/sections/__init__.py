"""The sections of the report, by name, in the order in which they are read."""

from __future__ import annotations

from mno.report.sections import (
    accuracy,
    cost,
    data,
    decision,
    explainability,
    figures,
    learning,
    limits,
    lineage,
    robustness,
    training,
    trust,
)

SECTIONS = {
    "decision": decision.section,
    "accuracy": accuracy.section,
    "figures": figures.section,
    "robustness": robustness.section,
    "trust": trust.section,
    "cost": cost.section,
    "learning": learning.section,
    "explainability": explainability.section,
    "data": data.section,
    "training": training.section,
    "limits": limits.section,
    "lineage": lineage.section,
}
