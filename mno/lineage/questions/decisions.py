"""The decisions on a model, read from its chain of seals.

A seal is long, and a model may have had thousands. After its digest was checked, only what a
decision consists of is parsed: `mno.lineage.seal.seal_text` writes keys in order, the outermost
with one space before them. That is kept in an index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from mno.lineage.history import Decision, decision_of, lost
from mno.lineage.questions.index import Index
from mno.lineage.questions.version import RunFiles
from mno.lineage.seal import SealPointer, seal_sha256

_END = b"\n }"


def decisions(pointer: str, files: RunFiles, index: Index) -> Iterator[Decision | str]:
    """Yield the decisions on a model, the latest first; at last a sentence if a seal is not whole.

    Args:
        pointer: Where the model's latest seal lies, as its tag says.
        files: The files of the runs.
        index: Keeps what was read.
    """
    place = SealPointer.parse(pointer)
    while place is not None:
        path = f"seals/{place.sha256}.json"
        signature = files.signature(place.run_id, path)
        told = index.kept(str(place), signature, partial(_told, place, path, files))
        if isinstance(told, str):
            yield lost(place, told)
            return
        yield decision_of(told)
        place = SealPointer.parse(told["previous"] or "")


def _told(seal: SealPointer, path: str, files: RunFiles) -> dict[str, Any] | str:
    """Return what a decision consists of in a seal, or what is wrong with that."""
    text = files.read(seal.run_id, path)
    if text is None or seal_sha256(text) != seal.sha256:
        return "missing" if text is None else "changed"
    return {
        **{key: _value(text, key) for key in ("number", "previous", "sealed")},
        "aliases": _inner(text, "aliases"),
        "version": {"tags": _inner(text, "version").get("tags", {})},
    }


def _value(text: bytes, key: str) -> Any:
    """Return the value of an outermost key that is written in one line."""
    mark = f'\n "{key}": '.encode()
    start = text.index(mark) + len(mark)
    return json.loads(text[start : text.index(b"\n", start)].removesuffix(b","))


def _inner(text: bytes, key: str) -> dict[str, Any]:
    """Return the object that is the value of an outermost key."""
    mark = f'\n "{key}": '.encode()
    start = text.find(mark + b"{\n")
    if start < 0:  # an empty object is written in one line
        return {}
    return json.loads(text[start + len(mark) : text.index(_END, start) + len(_END)])
