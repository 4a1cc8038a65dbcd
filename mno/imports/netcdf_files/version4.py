"""NetCDF files of version 4: HDF5 files in which dimensions are arrays of their own."""

from __future__ import annotations

import h5py

from mno.core.errors import InputError
from mno.imports.hdf5.array import StoredArray
from mno.imports.hdf5.files import Hdf5File, readable
from mno.imports.netcdf_files.variable import Variable

# A variable that has the name of a dimension, but not that dimension alone.
_PREFIX = "_nc4_non_coord_"
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


class Netcdf4File:
    """The variables of an HDF5 file with named dimensions.

    Args:
        file: The file.

    Attributes:
        variables: Those of numbers, by name.
        others: Names of what else there is.
        attributes: What the file says of itself.

    Raises:
        InputError: A variable has a dimension without a name, or cannot be trusted.
    """

    def __init__(self, file: Hdf5File) -> None:
        self._file = file
        self.variables: dict[str, Variable] = {}
        self.others: list[str] = []
        self.attributes = file.attributes(file.root)
        for member in file.members(file.root):
            if not file.is_numeric(file.root, member):
                self.others.append(member)
                continue
            marked = file.attribute(file.root[member], "NAME")
            if not (isinstance(marked, str) and marked.startswith(_NO_VARIABLE)):
                name = member.removeprefix(_PREFIX)
                self.variables[name] = self._variable(name, file.needed(file.root, member))

    def _variable(self, name: str, array: StoredArray) -> Variable:
        return Variable(
            name=name,
            dims=self._dims(name, array.dataset),
            shape=array.shape,
            dtype=array.dataset.dtype,
            attributes=self._file.attributes(array.dataset),
            part=array.part,
        )

    def _dims(self, name: str, dataset: h5py.Dataset) -> tuple[str, ...]:
        if self._file.attribute(dataset, "CLASS") == "DIMENSION_SCALE" and len(dataset.shape) == 1:
            return (name,)
        with readable(self._file.path, f"the dimensions of {name}"):
            scales = [axis[0].name if len(axis) else None for axis in dataset.dims]
        if None in scales:
            raise InputError(
                f"{self._file.path}: {name} has shape {dataset.shape} and dimensions without "
                "names; expected NetCDF: import HDF5 files of other layouts as pdebench or "
                f"the-well, or leave it out by `fields: {{{name}: {{drop: true}}}}`"
            )
        return tuple(str(scale).rsplit("/", 1)[-1] for scale in scales)
