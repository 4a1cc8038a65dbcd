"""Inputs that were asked for: solved beside those that are drawn, and trained on.

build/asked/<sha256>.npz    `(samples, …)` by name, and `question`, the text in which they came up
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.core.files import file_sha256, sha256, write_bytes
from mno.scenarios.base import SampleSource, Scenario

_QUESTION = "question"


def write_asked(
    root: Path, inputs: Mapping[str, np.ndarray], question: str, known: Mapping[str, np.ndarray]
) -> str | None:
    """Write inputs, `(samples, …)` as `Scenario.sample` returns them, in which none comes twice.

    Those of a sample that the dataset has are `known`, and left out. Returned is the digest that
    `generate.asked` names the others by; none where there are no others.
    """
    arrays = {name: np.asarray(values, np.float32) for name, values in inputs.items()}
    rows = zip(*([row.tobytes() for row in values] for values in arrays.values()), strict=True)
    kept = {row: number for number, row in enumerate(rows)}
    kept.pop(tuple(np.asarray(known[name], np.float32).tobytes() for name in arrays), None)
    if not kept:
        return None
    content = io.BytesIO()
    told: dict[str, Any] = {name: values[[*kept.values()]] for name, values in arrays.items()}
    told[_QUESTION] = np.frombuffer(question.encode(), np.uint8)
    np.savez(content, **told)
    digest = sha256(content.getvalue())
    write_bytes(_file(root, digest), content.getvalue())
    return digest


def read_asked(root: Path, digest: str, source: SampleSource) -> tuple[dict[str, np.ndarray], str]:
    """Read inputs that were asked for, `(samples, …)` float32, and the question.

    An `InputError` says that there are none, or that they are others, or of another scenario.
    """
    path, name = _file(root, digest), f"generate.asked={digest[:12]}…"
    if not isinstance(source, Scenario):
        raise InputError(f"{name}: {source.dataset_name} comes from files; set it to null")
    if not path.is_file() or file_sha256(path) != digest:
        raise InputError(
            f"{name}: {path} is missing or altered; ask again with mno optimise, or set it to null"
        )
    with np.load(path, allow_pickle=False) as file:
        found = {key: np.asarray(file[key]) for key in file.files}
    question = found.pop(_QUESTION).tobytes().decode()
    shapes = {
        one.name: source.shapes[one.name][one.role == "state" :]
        for one in source.fields
        if one.role != "output"
    }
    if {key: values.shape[1:] for key, values in found.items()} != shapes:
        raise InputError(
            f"{name}: {path} has other inputs than {source.dataset_name} has with these parameters "
            "at this resolution; set it to null"
        )
    return found, question


def _file(root: Path, digest: str) -> Path:
    return root / "build/asked" / f"{digest}.npz"
