"""Files of neuraloperator's, such as `darcy_train_16.pt`: tensors `x` and `y`, saved by torch.

They are read with `weights_only`, which builds tensors and runs no code of the file, and mapped
into memory a part at a time.
"""

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mno.core.errors import InputError, reading
from mno.imports.arrays import Array, arrange
from mno.imports.cage import make_room
from mno.imports.importer import Importer, Layout
from mno.imports.mapping import Mapping
from mno.imports.stored import Box, FileArray

if TYPE_CHECKING:
    from torch import Tensor

_EXPECTED = "tensors saved by torch.save, as {'x': inputs, 'y': outputs} or (inputs, outputs)"
_MOST_MAPPED = 256 * 2**20  # bytes read until the file is mapped anew, so that memory is given back
_TORCH = 2 * 2**30  # what the library takes of addresses


class TensorFile(Importer):
    """An open file of tensors."""

    kind = "neuralop"

    def lay_out(self, mapping: Mapping, stack: ExitStack) -> Layout:
        """Map the tensors and find out what they are."""
        make_room(_TORCH + 2 * self.path.stat().st_size)
        self._mapped = 0
        self._tensors = self._load()
        stack.callback(self._tensors.clear)
        arrays = {}
        for name, tensor in self._tensors.items():
            kind = str(tensor.dtype).removeprefix("torch.")
            with reading(self.path, name, _EXPECTED):
                dtype = np.dtype("float32" if kind == "bfloat16" else kind)
            part = partial(self._part, name)
            arrays[name] = Array(FileArray(self.path, name, tuple(tensor.shape), dtype, part))
        return arrange(self, arrays, mapping)

    def _part(self, name: str, where: Box) -> np.ndarray:
        if self._mapped > _MOST_MAPPED:
            self._mapped = 0
            self._tensors.clear()
            self._tensors |= self._load()
        values = self._tensors[name][where]
        self._mapped += values.numel() * values.element_size()
        return np.array((values.float() if values.dtype.itemsize == 2 else values).numpy())

    def _load(self) -> "dict[str, Tensor]":
        import torch

        with reading(self.path, expected=_EXPECTED):
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        if isinstance(content, (tuple, list)) and len(content) == 2:
            content = {"x": content[0], "y": content[1]}
        if not isinstance(content, dict) or not content:
            kind = type(content).__name__
            raise InputError(f"{self.path} holds one {kind}; expected {_EXPECTED}")
        for name, value in content.items():
            plain = isinstance(name, str) and type(value) is torch.Tensor
            if not plain or value.layout != torch.strided or value.device.type != "cpu":
                kind = f"{getattr(value, 'layout', '')} {type(value).__name__}".strip()
                raise InputError(
                    f"{self.path} holds a {kind} under {str(name)[:40]!r}; expected {_EXPECTED}"
                )
        return {name: value.detach() for name, value in content.items()}


IMPORTER = TensorFile
