"""NetCDF files by the CF conventions, classic (version 3) or on HDF5 (version 4).

Names of dimensions say what an axis is; attributes say units, what is missing, and how values are
packed. A variable over time and space is a state, another an input, unless its attribute `role`,
which files that were exported here have, or the mapping says otherwise.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.imports.base import Contents, check_sample
from mno.imports.hdf5.files import Hdf5File, plain
from mno.imports.mapping import Mapping
from mno.imports.netcdf_files.axes import Dimensions
from mno.imports.netcdf_files.classic import Netcdf3File
from mno.imports.netcdf_files.variable import Variable
from mno.imports.netcdf_files.version4 import Netcdf4File
from mno.imports.shared.layout import SPACE, Layout, LayoutImporter, Reader, uneven

_ROLES = ("input", "output", "state", "coordinate")
# Numbers of each sample that a dataset has besides its fields.
_PER_SAMPLE = {"group": np.int64, "start": np.float64}


class Netcdf(LayoutImporter):
    """A NetCDF file."""

    kind = "netcdf"
    version = 1

    def lay_out(self, path: Path, mapping: Mapping, stack: ExitStack) -> Layout:
        """Open the file and find its fields."""
        if h5py.is_hdf5(path):
            file = Netcdf4File(stack.enter_context(Hdf5File(path)))
        else:
            file = Netcdf3File(path)
        return _Variables(path, file, mapping).layout()


class _Variables:
    """The variables of a file, and what becomes of them."""

    def __init__(self, path: Path, file: Netcdf3File | Netcdf4File, mapping: Mapping) -> None:
        self._path = path
        dropped = {name for name, rule in mapping.fields.items() if rule.drop}
        kept = {name: v for name, v in file.variables.items() if name not in dropped}
        self._dimensions = Dimensions(path, kept)
        self._parameters = {k: v for k, v in file.attributes.items() if v is not None}
        self._remarks = [f"{name} holds no numbers; it is left out" for name in file.others]
        self._per_sample: dict[str, np.ndarray] = {}
        self._fields: dict[str, Field] = {}
        self._sources: dict[str, str] = {}
        self._readers: dict[str, Reader] = {}
        self._found = self._sorted_out(kept)

    def layout(self) -> Layout:
        """Return what the file holds, and how it is read."""
        dims = [self._dimensions.dims_of(variable) for variable in self._found]
        space = {d for found in dims for d in found if d in (*SPACE, "point")}
        for variable, found in zip(self._found, dims, strict=True):
            told = variable.attributes.get("role") in _ROLES
            along = space & set(found)
            partial = bool(along) and along != space
            if partial and not told and not self._is_place(variable, found):
                self._remarks.append(
                    f"{variable.name} is not given along {', '.join(sorted(space - set(found)))}; "
                    "it is left out"
                )
            else:
                self._add(variable, found)
        if not self._fields:
            raise InputError(
                f"{self._path} has no variable over axes that are known here; expected dimensions "
                "called sample, time, x, y, z, lon, lat or point: rename them, for example by "
                f"ncrename ({'; '.join(self._remarks) or 'there is none'})"
            )
        used = {dim for field in self._fields.values() for dim in field.dims}
        axes = self._dimensions.axes(used)
        contents = Contents(
            samples=self._dimensions.samples,
            axes=axes,
            fields=tuple(self._fields.values()),
            sources=self._sources,
            parameters=self._parameters,
            groups=self._per_sample.get("group"),
            starts=self._per_sample.get("start"),
            remarks=(*self._remarks, *self._dimensions.remarks, *uneven(axes)),
        )
        return Layout(contents, self._readers)

    def _sorted_out(self, variables: dict[str, Variable]) -> list[Variable]:
        """Return the variables that may become fields; take note of the others."""
        found = []
        for name, variable in variables.items():
            unknown = [dim for dim in variable.dims if not self._dimensions.is_known(dim)]
            if variable.dims == (name,):  # coordinates
                continue
            if not variable.dims:
                self._parameters[name] = plain(variable.values()[()])
            elif unknown:
                self._remarks.append(
                    f"{name} is left out: dimension {unknown[0]} is not known as an axis here"
                )
            elif name in _PER_SAMPLE and self._dimensions.dims_of(variable) == ():
                self._per_sample[name] = variable.values().astype(_PER_SAMPLE[name])
            else:
                found.append(variable)
        return found

    def _is_place(self, variable: Variable, dims: tuple[str, ...]) -> bool:
        """Whether a variable says where unordered points are."""
        return dims == ("point",) and self._dimensions.axis_called(variable.name) in SPACE

    def _add(self, variable: Variable, dims: tuple[str, ...]) -> None:
        check_sample(
            self._path, variable.name, self._dimensions.lengths(dims), self._dimensions.samples
        )
        attributes = variable.attributes
        role, name = attributes.get("role"), variable.name
        if role not in _ROLES and self._is_place(variable, dims):
            role, name = "coordinate", self._dimensions.axis_called(name) or name
        exported = role in _ROLES and "role" in attributes
        if role not in _ROLES:
            role = "state" if "time" in dims and len(dims) > 1 else "input"
        gaps = bool(attributes.get("gaps")) or (not exported and bool(variable.missing))
        if gaps and not exported:
            self._remarks.append(
                f"{variable.name} says how a missing value is marked, so it may have gaps; "
                "`gaps: false` in a mapping file says that it has none"
            )
        label = str(attributes.get("long_name") or name.replace("_", " "))
        units = str(attributes.get("units") or "1")
        self._fields[name] = Field(name, units, label, role, dims, gaps)
        self._sources[name] = variable.name
        self._readers[name] = partial(self._dimensions.read, variable, dims)


IMPORTER = Netcdf
