"""HDF5 files of The Well (Ohana et al., 2024), https://polymathic-ai.org/the_well/data_format.

Groups `t0_fields`, `t1_fields` and `t2_fields` hold scalars, vectors and tensors with the axes
(trajectory, time, space…, component…); attributes say along which of these an array varies, and
along the others it has no axis, or one of length 1.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.imports.base import Contents
from mno.imports.hdf5.files import Hdf5File, plain
from mno.imports.mapping import Mapping
from mno.imports.shared.layout import SPACE, Layout, LayoutImporter, given_axis, plain_field, uneven
from mno.imports.the_well_fields import FieldGroups, Frame


class TheWell(LayoutImporter):
    """A file of The Well."""

    kind = "the-well"
    version = 1

    def lay_out(self, path: Path, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        file = stack.enter_context(Hdf5File(path))
        axes, names = _axes(file)
        samples = _samples(file)
        found = FieldGroups(file, Frame(samples, axes, tuple(names)), mapping)
        for rank in range(3):
            found.add_group(f"t{rank}_fields", rank)
        parameters, remarks = _parameters(file), [*found.remarks, *uneven(axes)]
        _add_scalars(file, found, parameters, remarks)
        others = {axis.name: name for axis, name in zip(axes[1:], names, strict=True)}
        if any(ours != theirs for ours, theirs in others.items()):
            called = ", ".join(f"{theirs} is called {ours}" for ours, theirs in others.items())
            remarks.append(f"of the axes of the file, {called}")
        contents = Contents(
            samples=samples,
            axes=axes,
            fields=tuple(found.fields.values()),
            sources=found.sources,
            parameters=parameters,
            remarks=tuple(remarks),
        )
        return Layout(contents, found.readers)


def _samples(file: Hdf5File) -> int:
    count = file.attribute(file.root, "n_trajectories")
    if not isinstance(count, (int, float)) or count < 1 or count != int(count):
        raise InputError(
            f"{file.path}: attribute n_trajectories is {count!r}; expected the number of "
            "trajectories, as The Well's files have it: choose another importer"
        )
    return int(count)


def _axes(file: Hdf5File) -> tuple[tuple[Axis, ...], list[str]]:
    """Return the axes, time first, and what the file calls those of space."""
    dimensions = file.group(file.root, "dimensions")
    names = dimensions and file.attribute(dimensions, "spatial_dims")
    names = [names] if isinstance(names, str) else names
    if dimensions is None or not isinstance(names, list) or not 1 <= len(names) <= 3:
        raise InputError(
            f"{file.path} has no group dimensions with one to three spatial_dims; expected a file "
            "of The Well: choose another importer"
        )
    axes = []
    for axis, source in zip(("time", *SPACE), ["time", *map(str, names)], strict=False):
        points = file.needed(dimensions, source).whole()
        if points.ndim == 2 and len(points) and (points == points[0]).all():
            points = points[0]
        if points.ndim != 1:
            raise InputError(
                f"{file.path}: dimensions/{source} has shape {points.shape} and differs from "
                "trajectory to trajectory; expected one axis for all: import trajectories with the "
                "same points"
            )
        found = given_axis(file.path, axis, f"dimensions/{source}", points, len(points))
        axes.append(Axis(axis, "1", source, found.points, found.extent))
    return tuple(axes), [str(name) for name in names]


def _parameters(file: Hdf5File) -> dict[str, Any]:
    """Return what the root says, and the kinds of boundaries by name."""
    parameters = file.attributes(file.root)
    conditions = file.group(file.root, "boundary_conditions")
    if conditions is not None:
        kinds: dict[str, Any] = {}
        for name in file.members(conditions):
            boundary = file.group(conditions, name)
            assert boundary is not None  # it is one of the members
            kinds[name] = file.attribute(boundary, "bc_type")
        parameters["boundary_conditions"] = kinds
    return parameters


def _add_scalars(
    file: Hdf5File, found: FieldGroups, parameters: dict[str, Any], remarks: list[str]
) -> None:
    """Make parameters of the numbers of the whole file, inputs of the others."""
    scalars = file.group(file.root, "scalars")
    for name in file.members(scalars) if scalars is not None else []:
        assert scalars is not None
        if not file.is_numeric(scalars, name):
            remarks.append(f"scalars/{name} holds no number; it is left out")
            continue
        array = file.needed(scalars, name)
        varies = [
            bool(file.attribute(array.dataset, flag)) for flag in ("sample_varying", "time_varying")
        ]
        values = array.whole()
        if not any(varies) and values.size:
            parameters[name] = plain(values.ravel()[0])
            continue
        lengths = [n if flag else 1 for n, flag in zip(found.frame.lengths, varies, strict=False)]
        if values.size != math.prod(lengths):
            raise InputError(
                f"{file.path}: scalars/{name} has shape {array.shape}; expected numbers for "
                f"{lengths[0]} trajectories and {lengths[1]} times: correct the file"
            )
        numbers = values.reshape(lengths).astype(np.float32)
        numbers = np.broadcast_to(numbers, (found.frame.samples, lengths[1]))
        label = name if name not in found.fields else f"scalar_{name}"
        found.fields[label] = plain_field(label, "input", ("time",) if varies[1] else ())
        found.sources[label] = f"scalars/{name}"
        found.readers[label] = partial(_rows, numbers if varies[1] else numbers[:, 0])


def _rows(numbers: np.ndarray, start: int, stop: int) -> np.ndarray:
    return numbers[start:stop].copy()


IMPORTER = TheWell
