"""What a report tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.data.reading import Schema
    from mno.evaluation.influence import Influence
    from mno.evaluation.result import Evaluation

Known = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Results:
    """What a report tells. Mappings hold exactly what is in the JSON files; empty, it is unknown.

    Attributes:
        scenario: The family of problems, for example `darcy`.
        schema: The dataset's fields and axes.
        evaluation: What `evaluate` returned.
        metrics: `reports/metrics.json`.
        cost: `reports/cost.json`.
        decision: `reports/decision.json`.
        robustness: `reports/robustness.json`.
        learning_curve: `reports/learning_curve.json`.
        trust: `reports/trust.json`.
        dataset: The dataset's own report, `reports/dataset.json`.
        model: Facts of the operator, for example its configuration.
        training: Training's own report, `reports/train.json`: epochs and the best of them.
        settings: What training was asked to do, `train` in `params.yaml`.
        lineage: What the model was made from, for example the dataset's hash.
        influence: What one prediction listened to; none where nobody asked.
    """

    scenario: str
    schema: Schema
    evaluation: Evaluation
    metrics: Known
    cost: Known = field(default_factory=dict)
    decision: Known = field(default_factory=dict)
    robustness: Known = field(default_factory=dict)
    learning_curve: Known = field(default_factory=dict)
    trust: Known = field(default_factory=dict)
    dataset: Known = field(default_factory=dict)
    model: Known = field(default_factory=dict)
    training: Known = field(default_factory=dict)
    settings: Known = field(default_factory=dict)
    lineage: Known = field(default_factory=dict)
    influence: Influence | None = None
