"""The forward pass of llama.cpp's scan, `ggml_ssm_scan`, where it is installed (extra `llama`).

It is called in the shared libraries of `llama-cpp-python`, by the signatures of the version that is
pinned. It has no backward pass, no direct path and no bias, and passes the step through softplus
itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_F32, _I32 = 0, 26  # numbers of ggml's types
_POINTER = ctypes.c_void_p


class _InitParams(ctypes.Structure):
    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


def is_installed() -> bool:
    """Say whether llama.cpp's libraries are there."""
    return find_spec("llama_cpp") is not None


def prepared_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, threads: int
) -> tuple[Callable[[], object], Tensor]:
    """Return a function that scans with llama.cpp, and the tensor that it writes its output to.

    All is prepared beforehand, and no tensor is copied when the function is called.

    Args:
        u: Input, `(batch, length, channels)`, as the raw step `delta` and the output.
        delta: Raw step.
        A: Diagonal of the state matrix, `(channels, state)`.
        B: Input weights, `(batch, length, groups, state)`.
        C: Output weights, as B.
        threads: How many it uses.
    """
    base, processor = _libraries()
    batch, length, channels = u.shape
    groups, state = B.shape[2:]
    start = torch.zeros(batch, channels, 1, state)
    given = (start, u[..., None], delta, A, B, C, torch.arange(batch, dtype=torch.int32))
    count = 2 * start.numel() + sum(x.numel() for x in (*given, u))
    overhead = base.ggml_graph_overhead() + 16 * base.ggml_tensor_overhead()
    context = base.ggml_init(_InitParams(4 * count + overhead + 2**20, None, False))
    tensors = [_copied(base, context, x) for x in given]
    result = base.ggml_ssm_scan(context, *tensors, 1)
    graph = base.ggml_new_graph(context)
    base.ggml_build_forward_expand(graph, result)

    def scan() -> None:
        if status := processor.ggml_graph_compute_with_ctx(context, graph, threads):
            raise RuntimeError(f"llama.cpp could not compute the scan: status {status}")

    numbers = (ctypes.c_float * u.numel()).from_address(base.ggml_get_data(result))
    return scan, torch.frombuffer(numbers, dtype=torch.float32).view(u.shape)


def _copied(base: Any, context: int, x: Tensor) -> int:
    """Return a tensor of ggml's, whose axes are named the other way round."""
    x = x.detach().contiguous()
    shape = (*reversed(x.shape), 1, 1, 1)[:4]
    tensor = base.ggml_new_tensor(
        context, _F32 if x.dtype == torch.float32 else _I32, x.ndim, (ctypes.c_int64 * 4)(*shape)
    )
    ctypes.memmove(base.ggml_get_data(tensor), x.data_ptr(), x.numel() * x.element_size())
    return tensor


def _libraries() -> tuple[Any, Any]:
    """Load ggml's two libraries, and say what its functions take and return."""
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    base, processor = (
        ctypes.CDLL(str(next(folder.glob(f"{name}.*")))) for name in ("libggml-base", "libggml-cpu")
    )
    for name, *signature in (
        ("ggml_init", _POINTER, _InitParams),
        ("ggml_graph_overhead", ctypes.c_size_t),
        ("ggml_tensor_overhead", ctypes.c_size_t),
        ("ggml_new_tensor", _POINTER, _POINTER, ctypes.c_int, ctypes.c_int, _POINTER),
        ("ggml_get_data", _POINTER, _POINTER),
        ("ggml_ssm_scan", _POINTER, *[_POINTER] * 8, ctypes.c_int64),
        ("ggml_new_graph", _POINTER, _POINTER),
        ("ggml_build_forward_expand", None, _POINTER, _POINTER),
    ):
        function = getattr(base, name)
        function.restype, function.argtypes = signature[0], signature[1:]
    compute = processor.ggml_graph_compute_with_ctx
    compute.restype, compute.argtypes = ctypes.c_int, (_POINTER, _POINTER, ctypes.c_int)
    return base, processor
