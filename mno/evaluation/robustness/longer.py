"""A dataset's scenario with other frames: more of them, or closer to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.data.reading import Split
from mno.evaluation.robustness.reasons import NO_TIME
from mno.evaluation.robustness.solved import solved_anew
from mno.evaluation.solving import solver_of

if TYPE_CHECKING:
    from mno.data.reading import Schema


def solved_longer(schema: Schema, count: int, seed: int, times: int) -> Split | str:
    """Solve for a number of times the duration, frames following each other as in the dataset."""
    return _with_frames(schema, count, seed, times, times)


def solved_closer(schema: Schema, count: int, seed: int, times: int) -> Split | str:
    """Solve for as long as in the dataset, with so many frames where it has one."""
    return _with_frames(schema, count, seed, 1, times)


def _with_frames(schema: Schema, count: int, seed: int, longer: int, intervals: int) -> Split | str:
    scenario = solver_of(schema)
    if isinstance(scenario, str):
        return scenario
    parameters = schema.parameters
    if not {"duration", "frames"} <= set(parameters):
        return NO_TIME
    changed = {
        "duration": longer * parameters["duration"],
        "frames": intervals * (parameters["frames"] - 1) + 1,
    }
    return solved_anew(schema, count, seed, changed=changed)
