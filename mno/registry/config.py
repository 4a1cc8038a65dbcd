"""Settings of the registry."""

from __future__ import annotations

from pydantic import Field

from mno.config import Config


class RegistryConfig(Config):
    """What may be registered."""

    allow_uncommitted: bool = Field(
        default=False,
        description="Register a model whose code is not committed, and mark the version so",
    )
