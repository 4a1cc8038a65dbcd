"""What a person may say of a run; apart from `flows.run`, so that `mno --help` is instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """What a person may say of a run.

    Attributes:
        target: A stage's name or `data.dvc`; None is the whole line.
        preset: A group of parameters to take first.
        assignments: `key=value` edits of the parameters.
        quiet: Print no progress.
        repair: First remove copies of the dataset whose bytes are damaged.
        language: Of the report that is named at the end.
    """

    target: str | None = None
    preset: str | None = None
    assignments: Sequence[str] = ()
    quiet: bool = False
    repair: bool = False
    language: str = "en"
