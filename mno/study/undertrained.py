"""Whether a cell was trained long enough to be judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LAST_SHARE = 0.25
LARGEST_FALL = 0.1
RULE = (
    f"A cell is called under-trained where its lowest validation error of the last "
    f"{LAST_SHARE:.0%} of the epochs is more than {LARGEST_FALL:.0%} below the lowest of the "
    "epochs before: more epochs would probably lower its error further."
)


def is_undertrained(training: Mapping[str, Any]) -> bool:
    """Say whether the validation error was still falling at the end, by `RULE`.

    Args:
        training: `validation`, the error after each epoch; training that stopped early, for want of
            a better epoch, has a fall of zero.
    """
    errors = [error for error in training["validation"] if error is not None]
    first = len(errors) - max(1, round(LAST_SHARE * len(errors)))
    if first < 1:  # a single epoch says nothing of what the next would bring
        return True
    before, after = min(errors[:first]), min(errors[first:])
    return after < (1 - LARGEST_FALL) * before
