"""Messages between the service and the process that solves: a JSON object and arrays by name.

A message is its length, eight bytes, and an `.npz`; nothing in it is pickled.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

LENGTH = 8


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a message, its length first."""
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    file = io.BytesIO()
    numbered = {f"a{number}": array for number, array in enumerate(arrays.values())}
    order = np.frombuffer(json.dumps(list(arrays)).encode(), dtype=np.uint8)
    np.savez(file, allow_pickle=False, header=text, order=order, **numbered)
    content = file.getvalue()
    return len(content).to_bytes(LENGTH, "big") + content


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what was packed, from all that follows the length."""
    with np.load(io.BytesIO(content), allow_pickle=False) as read:
        header = json.loads(read["header"].tobytes())
        names = json.loads(read["order"].tobytes())
        return header, {name: read[f"a{number}"] for number, name in enumerate(names)}
