"""Files of neuraloperator's, such as `darcy_train_16.pt`: tensors `x` and `y`, saved by torch.

They are read with `weights_only`, which builds tensors and runs no code of the file, and mapped
into memory a part at a time.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.errors import InputError, first_line
from mno.imports.arrays import Array, arrange
from mno.imports.cage import make_room
from mno.imports.importer import Importer, Layout
from mno.imports.mapping import Mapping
from mno.imports.npz import open_archive, reading

if TYPE_CHECKING:
    from torch import Tensor

_EXPECTED = "tensors saved by torch.save, as {'x': inputs, 'y': outputs} or (inputs, outputs)"
_LARGEST_INDEX = 2**20  # of the pickle, which names tensors and holds none
_MOST_MAPPED = 256 * 2**20  # bytes read until the file is mapped anew, so that memory is given back
_TORCH = 2 * 2**30  # what the library takes of addresses
_KINDS = {"bool": "?", "uint8": "u1", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8"}


class TensorFile(Importer):
    """An open file of tensors."""

    kind = "neuralop"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Map the tensors and find out what they are."""
        self._mapped = 0
        stack.callback(lambda: self._tensors.clear())
        self._tensors: dict[str, Tensor] = {}
        _check_archive(self.path)
        make_room(_TORCH + 2 * self.path.stat().st_size)
        self._tensors = _load(self.path)
        found = {
            name: Array(tuple(tensor.shape), _dtype(self.path, name, tensor))
            for name, tensor in self._tensors.items()
            if name not in mapping.dropped
        }
        whole = lambda name: self._tensors[name].double().numpy()  # noqa: E731
        return arrange(self, found, mapping, whole, self._rows)

    def _rows(self, array: str, start: int, stop: int) -> np.ndarray:
        if self._mapped > _MOST_MAPPED:
            self._mapped, self._tensors = 0, {}
            self._tensors = _load(self.path)
        rows = self._tensors[array][start:stop]
        self._mapped += rows.numel() * rows.element_size()
        return rows.float().numpy()


def _load(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a file into memory."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of a hostile file it may be any
        reason = first_line(error).split(". ")[0][:200] or type(error).__name__
        raise InputError(f"{path} cannot be loaded ({reason}); expected {_EXPECTED}") from None
    if isinstance(content, (tuple, list)) and len(content) == 2:
        content = {"x": content[0], "y": content[1]}
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds {_named(content)}; expected {_EXPECTED}")
    for name, value in content.items():
        plain = type(name) is str and type(value) is torch.Tensor
        if not plain or value.layout != torch.strided or value.device.type != "cpu":
            raise InputError(
                f"{path} holds {_named(value)} under {str(name)[:40]!r}; expected {_EXPECTED}"
            )
    return {name: value.detach() for name, value in content.items()}


def _check_archive(path: Path) -> None:
    with reading(path, _EXPECTED), path.open("rb") as file:
        magic = file.read(4)
    if magic != b"PK\x03\x04":
        raise InputError(
            f"{path} is no file of torch 1.6 or later; expected {_EXPECTED}: an older one can be "
            "loaded with torch and saved again"
        )
    with open_archive(path, _EXPECTED) as archive:
        members = archive.infolist()
        index = [member for member in members if member.filename.endswith("/data.pkl")]
        packed = any(member.compress_type for member in members)
        if len(index) != 1 or packed or index[0].file_size > _LARGEST_INDEX:
            raise InputError(f"{path} is an archive of another kind; expected {_EXPECTED}")


def _dtype(path: Path, name: str, tensor: Tensor) -> np.dtype:
    """Return the type in which rows are read."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in _KINDS and not tensor.is_floating_point():
        raise InputError(f"{path}: {name} holds {kind}; expected real numbers: convert it")
    return np.dtype(_KINDS.get(kind, "f4"))


def _named(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        layout = str(value.layout).removeprefix("torch.")
        return f"a {layout} {type(value).__name__} on {value.device.type}"
    length = f" of {len(value)}" if isinstance(value, (tuple, list, dict)) else ""
    return f"a {type(value).__name__}{length}"


IMPORTER = TensorFile
