"""What the page may ask for: a stored sample, or one drawn with a seed and moved parameters."""

from __future__ import annotations

from typing import Self

import orjson
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from mno.core.config import Config
from mno.core.errors import InputError

Number = int | FiniteFloat


class Wanted(Config):
    """A sample to try.

    Attributes:
        sample: Number of a stored one in the test split.
        seed: That one is drawn with.
        parameters: Of the scenario, in place of those of the model's dataset; with a seed.
    """

    sample: int | None = Field(default=None, ge=0)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    parameters: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.sample is None) == (self.seed is None):
            raise ValueError('expected either {"sample": number} or {"seed": number}')
        if self.parameters and self.seed is None:
            raise ValueError("parameters go with a seed: a stored sample has its own")
        return self


def wanted(body: bytes) -> Wanted:
    """Read a request.

    Raises:
        InputError: It cannot be read; says what was expected.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f'the request is not JSON ({error}); expected {{"sample": 0}}') from None
    try:
        return Wanted.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{where or 'the request'}: {problem['msg']}") from None
