"""The one way to say that there is none of something, and why.

A function that finds a thing or none returns `Thing | Absent`, and its caller asks
`isinstance(found, Absent)`:

    def solver_of(schema: Schema) -> Scenario | Absent:
        if schema.sources:
            return Absent("solver.imported", {"scenario": schema.scenario})

Code looks at `code` and `values`, people at the words: `str(found)`, and so an f-string, is the
English text of the code in `mno/core/words/en.toml`, with the values in its placeholders; `text`
says it in another language. Files of JSON hold the English text (`json.dumps(…,
default=as_json)`), or code and values, too, where another stage goes on from them (`as_kept`, and
`json.loads(…, object_hook=from_kept)`).

To add a code, add a line to `en.toml`; other languages fall back to English (`mno.core.words`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mno.core.words import texts_of


@dataclass(frozen=True)
class Absent:
    """There is none, for a reason with a code, and values that its words need, by name."""

    code: str  # a key of `mno/core/words/en.toml`, as `solver.imported`
    values: Mapping[str, Any] = field(default_factory=dict)  # some may be absent themselves

    def text(self, language: str = "en") -> str:
        """Say why, in one line; a `KeyError` where the words or one of their values are missing."""
        values = {
            name: value.text(language) if isinstance(value, Absent) else value
            for name, value in self.values.items()
        }
        return texts_of("mno.core.words", language)[self.code].format_map(values)

    def __str__(self) -> str:
        return self.text()

    def __hash__(self) -> int:
        return hash(self.code)


def as_json(value: object) -> str:
    """Return what JSON holds of what is absent: its English text; the `default` of `json.dumps`."""
    if isinstance(value, Absent):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not serializable as JSON")


def as_kept(value: object) -> dict[str, Any]:
    """Return what JSON holds of what is absent where it is to be read again: code, values, text."""
    values = value.values if isinstance(value, Absent) else {}
    told = {k: v if isinstance(v, int | float | Absent) else str(v) for k, v in values.items()}
    return {"why": as_json(value), "code": getattr(value, "code", ""), "values": told}


def from_kept(content: dict[str, Any]) -> Any:
    """Return what is absent for what `as_kept` made of it, and any other object as it is."""
    if content.keys() == {"why", "code", "values"}:
        return Absent(content["code"], content["values"])
    return content
