"""A model as an ONNX file, checked by the runtime that others will ask it with."""

import io
import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import write_bytes
from mno.portable.graph import Graph

OPSETS = range(18, 23)
"""Versions of the set of operators: from that which has norms on, to what runtimes of 2025 take."""
TOLERANCE = 1e-5  # of what the runtime answers, relative to the largest number of an output


def write_onnx(graph: Graph, path: Path, about: Mapping[str, Any], opset: int) -> dict[str, Any]:
    """Write a model beside, and then in place of, a file.

    Any number of samples may be asked for at a time. `about`, JSON of the model as a whole, becomes
    metadata, with units and axes of all that is given and told.

    Returns:
        What the metadata say, and `largest_difference` from torch, relative.

    Raises:
        InputError: The set of operators is too old, or too new.
        MnoError: The model has no such form, or the runtime answers otherwise than torch.
    """
    if opset not in OPSETS:
        raise InputError(
            f"--opset {opset}: expected {OPSETS[0]} to {OPSETS[-1]}; older ones lack what models "
            "are made of, and newer ones are not known to runtimes in use"
        )
    said = {
        kind: {name: {"unit": unit, "axes": ["sample", *axes]} for name, (unit, axes) in of.items()}
        for kind, of in (("given", graph.given), ("told", graph.told))
    }
    content = _content(graph, {**about, **said}, opset)
    difference = _difference(graph, content)
    if not difference <= TOLERANCE:
        raise MnoError(
            f"the file would answer otherwise than the model, by {difference:.1g} of the largest "
            f"number; expected at most {TOLERANCE:g}: report this, with the model's description"
        )
    write_bytes(path, content)
    return {**said, "largest_difference": difference}


def _content(graph: Graph, about: Mapping[str, Any], opset: int) -> bytes:
    example, any_number = graph.example(2), {0: torch.export.Dim.DYNAMIC}
    how: Any = {
        "input_names": [*graph.given], "output_names": [*graph.told], "opset_version": opset,
        "dynamic_shapes": (tuple(any_number for _ in example),), "dynamo": True, "verbose": False,
    }  # fmt: skip
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(graph.eval(), (*example.values(),), None, **how)
        except torch.onnx.OnnxExporterError as error:
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, KeyboardInterrupt):  # which the exporter catches, too
                    raise cause from None
                reason, cause = first_line(cause), cause.__cause__ or cause.__context__
            raise MnoError(f"the model has no form in ONNX ({reason[:200]})") from None
    proto = program.model_proto
    for key, value in about.items():
        said = value if isinstance(value, str) else json.dumps(value)
        proto.metadata_props.add(key=key, value=said)
    return proto.SerializeToString()


@contextmanager
def _quiet():
    """Leave unsaid what the exporter says of packages that are not there, and of its steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _difference(graph: Graph, content: bytes) -> float:
    """Return how far the runtime's answers are from torch's, relative to the largest of each."""
    example = graph.example(3)
    with torch.no_grad():
        expected = graph.answer(example)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: values.numpy() for name, values in example.items()})
    worst = 0.0
    for name, values in zip(graph.told, found, strict=True):
        want, have = expected[name].double().numpy(), np.asarray(values, dtype=np.float64)
        known = np.isfinite(want)
        if not np.array_equal(known, np.isfinite(have)):
            return np.inf
        want, have = want[known], have[known]
        worst = max(worst, np.abs(have - want).max(initial=0.0) / np.abs(want).max(initial=1e-30))
    return float(worst)
