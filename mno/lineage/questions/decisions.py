"""The decisions on a model, read from its chain of seals.

A seal is long, and a model may have had thousands. After its digest was checked, only what a
decision consists of is parsed: `mno.lineage.seal.seal_text` writes keys in order, the outermost
with one space before them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mno.lineage.questions.version import DECISION, REASON, RunFiles
from mno.lineage.seal import SealPointer, seal_sha256

_OUTERMOST = re.compile(rb'^ "(number|previous|sealed)": (.+?),?$', re.MULTILINE)
_ALIASES, _END, _VERSION = b'\n "aliases": {', b"\n }", b'\n "version": {'
_HOW = "mno.promotion"  # who decided, and how, as JSON


@dataclass(frozen=True)
class Decision:
    """What one seal says.

    Attributes:
        version: The version that it seals.
        at: When it was sealed, in UTC.
        champion: The version that was champion then; none where none was.
        decision: `champion`, `challenger` or what else was decided on the version.
        reason: Why.
        by: Who decided; none where that is not recorded.
        previous: Where the seal before it lies.
    """

    version: int
    at: str
    champion: int | None
    decision: str
    reason: str
    by: str | None
    previous: SealPointer | None


def decisions(pointer: str, files: RunFiles) -> Iterator[Decision | str]:
    """Yield the decisions on a model, the latest first; at last a sentence if a seal is not whole.

    Args:
        pointer: Where the model's latest seal lies, as its tag says.
        files: The files of the runs.
    """
    place = SealPointer.parse(pointer)
    while place is not None:
        text = files.read(place.run_id, f"seals/{place.sha256}.json")
        if text is None or seal_sha256(text) != place.sha256:
            problem = "missing" if text is None else "changed"
            yield f"the seal {place} is {problem}: what was decided before is not known"
            return
        found = _parse(text)
        yield found
        place = found.previous


def _parse(text: bytes) -> Decision:
    values = {key.decode(): json.loads(value) for key, value in _OUTERMOST.findall(text)}
    aliases = _inner(text, _ALIASES)
    tags = _inner(text, _VERSION).get("tags", {})
    champion = aliases.get("champion")
    how = json.loads(tags.get(_HOW, "{}"))
    return Decision(
        version=int(values["number"]),
        at=str(values["sealed"]),
        champion=None if champion is None else int(champion),
        decision=tags.get(DECISION, "unknown"),
        reason=tags.get(REASON, ""),
        by=how.get("by"),
        previous=SealPointer.parse(values.get("previous") or ""),
    )


def _inner(text: bytes, key: bytes) -> dict[str, Any]:
    """Return the object that is the value of an outermost key."""
    start = text.find(key)
    if start < 0:  # an empty object is written in one line
        return {}
    return json.loads(text[start + len(key) - 1 : text.index(_END, start) + len(_END)])
