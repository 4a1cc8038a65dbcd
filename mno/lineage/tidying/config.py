"""Settings of what is kept though nothing needs it."""

from __future__ import annotations

from pydantic import Field

from mno.core.config import Config


class RetentionConfig(Config):
    """What `mno gc --retention` keeps beyond what it must keep; changes no result."""

    keep_runs: int = Field(
        default=20,
        ge=0,
        description="latest training runs that stay, with their snapshots and data, though no "
        "registered version needs them",
    )
    max_gib: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="what the workspace may take on disk, GiB; above it even these runs go, the "
        "oldest first; null is no limit",
    )
