"""What a person may say of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DataFrom(StrEnum):
    """Where a replay has the data from."""

    REGENERATE = "regenerate"
    PULL = "pull"
    BOTH = "both"


class EnvironmentOf(StrEnum):
    """Which packages a replay runs with."""

    PRESENT = "present"
    BUILD = "build"


@dataclass(frozen=True)
class ReplayOptions:
    """What a user may say of a replay.

    Attributes:
        data: Where the data come from; see `mno.lineage.replay.plan.make_plan`.
        stage: The only stage to replay; all if none.
        environment: Run with the packages that are there, or build an environment of the recorded
            ones.
        keep: Keep the folder when all is done.
        quiet: Print failures only.
    """

    data: DataFrom | None = None
    stage: str | None = None
    environment: EnvironmentOf = EnvironmentOf.PRESENT
    keep: bool = False
    quiet: bool = False
