"""What bare arrays are, with a name and a shape and no more.

Every array has one row for each sample. Names tell inputs from outputs, shapes tell the grid; what
neither tells, the mapping file must.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.imports.base import Contents, check_numbers, check_sample
from mno.imports.mapping import FieldRule
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.shared.arrays import Found, Piece
from mno.imports.shared.layout import uneven
from mno.imports.shared.shapes import Reading, common
from mno.imports.shared.vectors import Vectors

Role = Literal["input", "output", "state", "coordinate"]

INPUTS = {
    "x", "a", "coeff", "input", "inputs", "feature", "features", "permeability", "conductivity",
    "diffusivity", "viscosity", "nu", "forcing", "source",
}  # fmt: skip
OUTPUTS = {
    "y", "u", "sol", "output", "outputs", "target", "targets", "label", "labels", "solution",
    "pressure",
}  # fmt: skip
_RENAMED = {"x": "input", "y": "output"}
_RESERVED = {"split", "group", "start", "sample", "time", "point", "z"}
# What our own exports say of samples, and an import decides anew.
_OF_SAMPLES = ("split", "sample")


def role_by_name(name: str) -> Role | None:
    """Return what an array is by its name, if that tells."""
    plain = re.sub(r"_(train|test|valid|val)$", "", name.lower())
    return "input" if plain in INPUTS else "output" if plain in OUTPUTS else None


def arrange(
    path: Path,
    arrays: Mapping[str, Found],
    mapping: FieldMapping,
    whole: Callable[[str], np.ndarray],
) -> tuple[Contents, dict[str, Piece]]:
    """Find out what the arrays of a file are.

    Args:
        path: The file.
        arrays: Its arrays by name, in order.
        mapping: What the user says of them.
        whole: Reads an array that has no more than one axis.

    Returns:
        Them as a dataset would have them, and where each field's values are.

    Raises:
        InputError: The arrays are no dataset, or it cannot be told what one of them is.
    """
    return _Arrangement(path, arrays, mapping, whole).result()


class _Arrangement:
    def __init__(
        self,
        path: Path,
        arrays: Mapping[str, Found],
        mapping: FieldMapping,
        whole: Callable[[str], np.ndarray],
    ) -> None:
        self.path, self.whole = path, whole
        self.rules = {name: rule_of(mapping, name) for name in arrays}
        self.remarks: list[str] = []
        self.arrays = {name: a for name, a in arrays.items() if not self.rules[name].drop}
        for name in _OF_SAMPLES:
            if name in self.arrays and len(self.arrays[name].shape) == 1:
                del self.arrays[name]
                self.remarks.append(f"{name} is left out: the import assigns samples anew")
        for name, array in self.arrays.items():
            check_numbers(path, name, array.dtype)
        self.fields: list[Field] = []
        self.pieces: dict[str, Piece] = {}
        self.sources: dict[str, str] = {}

    def result(self) -> tuple[Contents, dict[str, Piece]]:
        self.samples = self._count()
        check_sample(self.path, "the file", (), self.samples)
        large = {name: a.shape for name, a in self.arrays.items() if len(a.shape) > 1}
        for name, shape in large.items():
            check_sample(self.path, name, shape[1:], self.samples)
        states = {name for name in large if self.rules[name].role == "state"}
        frames = self._frames(large, states)
        forced = {name for name in large if frames and self._is_forcing(name, large, states)}
        rests = {
            name: shape[2:] if name in states | forced else shape[1:]
            for name, shape in large.items()
            if not (name in forced and len(shape) == 2)
        }
        read = self._space(rests)
        places = [name for name in large if self.rules[name].role == "coordinate"]
        space = next(iter(read.values())).space if read else ()
        if places and len(space) != 1:
            raise InputError(
                f"{self.path}: {places[0]} is to be a coordinate of points, but the fields have "
                f"shape {space} in each sample; expected one axis, the points"
            )
        names = ("point",) if places else tuple("xyz"[: len(space)])
        lengths = dict(zip(names, space, strict=True)) | ({"time": frames} if frames else {})
        small = {name: a.shape for name, a in self.arrays.items() if len(a.shape) < 2}
        told = Vectors(self.path, small, self.rules, self.whole).tell(self.samples, lengths)
        for name in told.numbers:
            self._add(name, (), None, "input")
        for name in large:
            over = ("time",) if name in states | forced else ()
            self._add(name, (*over, *(names if name in read else ())), read.get(name))
        order = list(self.arrays)
        contents = Contents(
            samples=self.samples,
            axes=told.axes,
            fields=tuple(sorted(self.fields, key=lambda f: order.index(self.sources[f.name]))),
            sources=self.sources,
            parameters=told.parameters,
            groups=told.groups,
            starts=told.starts,
            remarks=(*self.remarks, *uneven(told.axes)),
        )
        return contents, self.pieces

    def _count(self) -> int:
        """Return the number of samples: the length of the first axis of all arrays."""
        most = max((len(a.shape) for a in self.arrays.values()), default=0)
        if most == 0:
            raise InputError(
                f"{self.path} has no array with an axis of samples; expected arrays of shape "
                "(samples, x, y), one row for each sample"
            )
        counts = {n: a.shape[0] for n, a in self.arrays.items() if len(a.shape) >= min(most, 2)}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {self.arrays[name].shape}" for name in counts)
            one = next(iter(counts))
            raise InputError(
                f"{self.path}: arrays differ in their number of samples, the first axis: {listed}; "
                "expected one number: leave out what does not belong by "
                f"`fields: {{{one}: {{drop: true}}}}` in a mapping file"
            )
        return next(iter(counts.values()))

    def _frames(self, large: Mapping[str, tuple[int, ...]], states: set[str]) -> int | None:
        """Return the number of frames of the states."""
        for name in states:
            if len(large[name]) < 3:
                raise InputError(
                    f"{self.path}: {name} is to be a state, but has shape {large[name]}; expected "
                    "(samples, time, x) or with further axes of space"
                )
        found = {large[name][1] for name in states}
        if len(found) > 1:
            listed = ", ".join(f"{name} {large[name]}" for name in sorted(states))
            raise InputError(
                f"{self.path}: states differ in their number of frames, the second axis: {listed}; "
                "expected one number"
            )
        return found.pop() if found else None

    def _is_forcing(
        self, name: str, large: Mapping[str, tuple[int, ...]], states: set[str]
    ) -> bool:
        """Whether an array that is no state has the states' axis of time."""
        shape, state = large[name], large[next(iter(states))]
        if name in states or shape[1] != state[1]:
            return False
        return shape == state or len(shape) == 2 and shape[1:] != state[2:]

    def _space(self, rests: Mapping[str, tuple[int, ...]]) -> dict[str, Reading]:
        if not rests:
            return {}
        read = common(rests)
        if read is None:
            listed = ", ".join(f"{name} {self.arrays[name].shape}" for name in rests)
            raise InputError(
                f"{self.path}: arrays have no grid in common: {listed}; expected (samples, x, y) "
                "or (samples, channels, x, y) with one grid: leave out what does not belong by "
                f"`fields: {{{next(iter(rests))}: {{drop: true}}}}` in a mapping file"
            )
        return read

    def _add(
        self, name: str, dims: tuple[str, ...], reading: Reading | None, default: Role | None = None
    ) -> None:
        """Add the field or the fields that an array holds."""
        shape = self.arrays[name].shape
        role = self.rules[name].role or role_by_name(name) or default
        if role is None:
            raise InputError(
                f"{self.path}: it cannot be told whether {name}, of shape {shape}, is given or "
                f"predicted; say so in a mapping file, as in `fields: {{{name}: {{role: input}}}}` "
                "(or output, or state where the second axis is time)"
            )
        plain = name if role == "coordinate" else field_name(name)
        channels = reading.channels if reading else None
        axis = 1 + ("time" in dims)
        if channels is None:
            pieces = {plain: Piece(name)}
        elif channels == 1:
            pieces = {plain: Piece(name, axis, 0)}
        else:
            pieces = {f"{plain}_{i}": Piece(name, axis, i) for i in range(channels)}
            self.remarks.append(
                f"{name}, of shape {shape}, is read as {channels} fields on one grid; if that axis "
                "is one of space, put an axis of length 1 before it; if it is time, say role: "
                "state in a mapping file"
            )
        for field, piece in pieces.items():
            if field in self.pieces:
                raise InputError(
                    f"{self.path}: {self.sources[field]} and {name} would both be called {field}; "
                    "rename one of them in the file"
                )
            self.fields.append(Field(field, "1", field.replace("_", " "), role, dims))
            self.pieces[field] = piece
            self.sources[field] = name


def field_name(name: str) -> str:
    """Return a name that a dataset's field can have."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "field"
    if not plain[0].isalpha():
        plain = f"field_{plain}"
    return _RENAMED.get(plain) or (f"{plain}_value" if plain in _RESERVED else plain)


def rule_of(mapping: FieldMapping, name: str) -> FieldRule:
    """Return what the user says of an array, by its own name or by that of its field."""
    return mapping.fields.get(name) or mapping.fields.get(field_name(name)) or FieldRule()
