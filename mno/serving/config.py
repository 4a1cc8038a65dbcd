"""How a model is served; no prediction depends on it."""

from __future__ import annotations

from pydantic import Field

from mno.core.config import Config


class ServingConfig(Config):
    """Limits of the service."""

    max_body_mib: float = Field(default=64.0, gt=0, description="largest request, MiB")
    max_batch: int = Field(default=32, ge=1, description="samples per forward pass")
    max_waiting: int = Field(
        default=256, ge=1, description="requests that may wait before one is refused"
    )
    read_timeout: float = Field(
        default=20.0, gt=0, description="seconds in which a request must arrive"
    )
    answer_timeout: float = Field(
        default=120.0, gt=0, description="seconds in which a request must be answered"
    )
    poll_interval: float = Field(
        default=2.0, gt=0, description="seconds between looks at which version has the alias"
    )
    solver_timeout: float = Field(
        default=60.0, gt=0, description="seconds that a call of the solver by the page may take"
    )
    counts_interval: float = Field(
        default=5.0, gt=0, description="seconds between writes of what was seen, where it changes"
    )
    token: str | None = Field(
        default=None,
        min_length=8,
        description="what clients must send as `Authorization: Bearer TOKEN`",
    )
    hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost", "[::1]"),
        description="names that requests may call this machine; `*` allows any",
    )

    @property
    def max_body(self) -> int:
        """Largest request, bytes."""
        return int(self.max_body_mib * 2**20)
