"""Parameters of imported data: which files, and how their samples are split.

`mno.data.imported` reads them.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from mno.core.config import Config

Range = tuple[float, float]


class SplitRule(Config):
    """Which samples are trained on, chosen by and tested on.

    `random` takes the shares `generate.split`, whole groups at a time. `parameter` takes the
    samples whose field, a number per sample, lies in a range (ends included); what lies in neither
    is trained on. `time` takes them in the order of their beginning, by the shares
    `generate.split`: the earliest are trained on, the latest tested on.
    """

    by: Literal["random", "parameter", "time"] = "random"
    field: str | None = None
    """for `parameter`: an input, one per sample"""
    validation: Range | None = Field(default=None, strict=False)
    """for `parameter`"""
    test: Range | None = Field(default=None, strict=False)
    """for `parameter`"""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = [self.field, self.validation, self.test]
        if self.by == "parameter" and None in given:
            raise ValueError(
                "split by parameter needs field, validation and test, as in {by: parameter, field: "
                "viscosity, validation: [0.002, 0.004], test: [0.004, 0.008]}"
            )
        if self.by != "parameter" and any(value is not None for value in given):
            raise ValueError(f"field, validation and test belong to by: parameter, not {self.by}")
        return self


class ImportedFile(Config):
    """One file that was imported."""

    file: str
    """its name"""
    sha256: str
    """SHA-256 of the file"""
    content: str
    """SHA-256 of what it was converted to: of its store's root"""


class ImportedParameters(Config):
    """Which imported data; written by `mno import`."""

    name: str
    """name of the dataset and of its models"""
    files: list[ImportedFile]
    """its files, in the order of their samples"""
    split: SplitRule = SplitRule()
    """how samples are split"""
