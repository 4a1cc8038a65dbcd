"""Parts of an RO-Crate: ids that several modules name, references, and name-value pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Entity = dict[str, Any]

MODEL, DATASET, COMMIT, TOOL = "#model", "#dataset", "#snapshot", "#mno"


def reference(identity: str) -> Entity:
    """Return a reference to an entity."""
    return {"@id": identity}


def references(identities: Iterable[str]) -> Entity | list[Entity]:
    """Return references to entities; RO-Crate wants one alone outside a list."""
    found = [reference(identity) for identity in identities]
    return found[0] if len(found) == 1 else found


def property_values(group: str, values: Mapping[str, Any]) -> Iterator[Entity]:
    """Yield an entity for each named value."""
    for name, value in values.items():
        yield {
            "@id": f"#{group}-{name}",
            "@type": "PropertyValue",
            "name": name,
            "value": value if isinstance(value, str) else str(value),
        }
