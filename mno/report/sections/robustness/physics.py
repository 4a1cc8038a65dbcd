"""What predictions do to the physics: the scenario's own checks, and the equation's residual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mno.report.sections.robustness.part import reason

if TYPE_CHECKING:
    from mno.report.language import Words


def table(found: Any, words: Words) -> dict[str, Any]:
    """Return the rows of the table, and the sentences around it."""
    if isinstance(found, str):
        return {"rows": [], "sentences": [words("not_tried", reason=reason(found, words))]}
    rows = [
        _row(words.check(name, check["description"]), check, check["tolerance"], words)
        for name, check in found["checks"].items()
    ]
    sentences = [words("physics.what", samples=words.number(found["samples"]))]
    residual = found["residual"]
    if isinstance(residual, str):
        sentences.append(words("physics.no_residual", reason=reason(residual, words)))
    else:
        rows.append(_row(words("physics.residual"), residual, None, words))
    return {"rows": rows, "sentences": sentences}


def _row(what: str, values: Any, tolerance: float | None, words: Words) -> dict[str, Any]:
    prediction, truth = values["prediction"], values["truth"]
    numbers = [*(prediction[key] for key in ("median", "p95", "largest")), truth["largest"]]
    return {
        "what": what,
        "numbers": [words.number(value, 2) for value in numbers],
        "tolerance": "–" if tolerance is None else words.number(tolerance, 2),
    }
