"""The stage `learning_curve`: train on shares of the training split, if `params.yaml` gives any.

Nothing that a training needs is imported where it gives none, as is the rule.
"""

from __future__ import annotations

from mno.core.absent import Absent
from mno.core.config import section
from mno.core.files import write_json
from mno.training.config import LearningCurveConfig
from pipelines.stage import Stage, run_stage


def body(stage: Stage) -> None:
    """Measure the error at every share, or say that none was asked for."""
    config, report = (
        section(stage.params, "learning_curve", LearningCurveConfig),
        stage.reports / "learning_curve.json",
    )
    if not config.shares:
        write_json(report, {"points": [], "why_off": str(Absent("learning.off"))})
        return
    from pipelines.learning_curve_points import measured_points

    points = measured_points(stage, config)
    training = "as many steps of the optimiser on every share"
    write_json(report, {"points": points, "why_off": None, "training": training})
    said = ", ".join(
        f"{p['samples']}: {p['validation']['relative_l2']:.2%}"
        for p in points
        if p["validation"]["relative_l2"] is not None
    )
    stage.say(f"learning_curve  validation error by training samples: {said}")


if __name__ == "__main__":
    run_stage("learning_curve", body)
