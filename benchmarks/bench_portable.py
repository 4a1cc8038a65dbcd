"""A model as an ONNX file: what the runtime takes for an answer, beside torch."""

from __future__ import annotations

import io
import logging
import warnings
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.lean import lean

THREADS = 1
KINDS: dict[str, dict[str, Any]] = {
    "latent": {"backbone": "latent", "mixer": "own", "patch": 4},
    "softmax": {"mixer": "softmax"},
    "SSD, axial": {"mixer": "ssd"},
    "scan, axial": {"mixer": "mamba"},
    "scan, Hilbert": {"mixer": "mamba", "path": "hilbert"},
    "Galerkin": {"backbone": "galerkin", "mixer": "own"},
}
ASKED = {"softmax": 2, "SSD, axial": 2, "scan, axial": 10, "scan, Hilbert": 10}
GRIDS = 24, 64
ROUNDS, SETTLE = 25, 0.05
ABOUT = """One sample, two layers of width 32, state 2, float32, weights as they are drawn; the
operator alone, without scales, bounds and flag. Torch is the lean form that `Surrogate.predict`
calls, with compiled scans; the file has chunks of plain operations in their place, and is asked by
ONNX Runtime. At most 2 times torch is asked for where there is attention or SSD, 10 times for the
scan. Errors are the largest differences from torch, in units of the largest value."""


def run() -> Section:
    rows = [_row(kind, n) for n in GRIDS for kind in KINDS]
    head = ("operator", "grid", "file, ms", "torch, ms", "ratio", "asked for", "error")
    return Section("Portable", (ABOUT, Table(head, rows)))


class OnGrid(nn.Module):
    """An operator of one field on a grid."""

    def __init__(self, operator: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.operator, self.grid = operator, grid

    def forward(self, a: Tensor) -> Tensor:
        """Answer to a field, `(batch, *grid)`."""
        return self.operator(Batch({"a": a}, self.grid)).fields["u"]


def _row(kind: str, n: int) -> tuple[str, ...]:
    torch.manual_seed(0)
    sizes = {"width": 32, "layers": 2, "d_state": 2, "modes": 8}
    config = ModelConfig.model_validate({**sizes, **KINDS[kind]})
    grid = Grid((n, n), (1 / n, 1 / n), (1 / n, 1 / n))
    operator = build_operator(config, inputs=["a"], outputs=["u"], dims=2).eval()
    ours = OnGrid(lean(operator), grid)
    session = _session(OnGrid(operator, grid), torch.randn(2, n, n))
    one = torch.randn(1, n, n)
    given = {"a": one.numpy()}
    with torch.inference_mode():
        expected = ours(one).numpy()
        found = session.run(None, given)[0]
        times = in_turn(
            {"file": partial(session.run, None, given), "torch": partial(ours, one)},
            ROUNDS, settle=SETTLE,
        )  # fmt: skip
    error = np.abs(found - expected).max() / np.abs(expected).max()
    file, lean_form = (figure(median_ms(times, name)) for name in ("file", "torch"))
    ratio = figure(median_ratio(times, "file", "torch"))
    return kind, f"{n} x {n}", file, lean_form, ratio, str(ASKED.get(kind, "–")), f"{error:.0e}"


def _session(graph: nn.Module, example: Tensor) -> onnxruntime.InferenceSession:
    logging.disable(logging.WARNING)
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph, (example,), input_names=["a"], output_names=["u"], opset_version=20,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), dynamo=True, verbose=False,
        )  # fmt: skip
    logging.disable(logging.NOTSET)
    program.save(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(
        content.getvalue(), options, providers=["CPUExecutionProvider"]
    )
