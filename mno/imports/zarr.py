"""Zarr groups, of version 2 or 3: ours, xarray's, or any other with arrays of numbers.

Arrays are told apart by the names of their axes; where none has any, by shapes, as in npz files. A
dataset that we released comes back as it was; what is read of it is compared with the checksums
recorded at its release, since Zarr reads a missing file as missing values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.errors import InputError
from mno.imports.base import Contents
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.shared.arrangement import Role, arrange, rule_of
from mno.imports.shared.arrays import ArrayFile, Found, Piece
from mno.imports.shared.dimensions import NamedArrays, Variable, meaning_of
from mno.imports.zarr_metadata import ArrayMetadata, check_array, read_group
from mno.imports.zarr_rows import ZarrRows

_LONGEST_TEXT = 200
_MOST_PARAMETERS = 64


class ZarrGroup(ArrayFile):
    """An open Zarr group.

    Args:
        path: Its folder.
        mapping: What the user says of it.
        default: Role of arrays of which nothing tells it; they are refused if not given.
    """

    kind = "zarr"
    version = 2

    def __init__(self, path: Path, mapping: FieldMapping, default: Role | None = None) -> None:
        self._default: Role | None = default
        super().__init__(path, mapping)

    def _open(self, mapping: FieldMapping) -> tuple[Contents, Mapping[str, Piece]]:
        self.attributes, arrays = read_group(self.path)
        self._texts = {name: array for name, array in arrays.items() if array.text}
        recorded = _mapping(self.attributes.get("shards"))
        numbers = {}
        for name, array in _ordered(arrays, self.attributes).items():
            if rule_of(mapping, name).drop or array.text or _is_derived(name, self.attributes):
                continue
            dtype = array.number_type
            if dtype is None:
                raise InputError(
                    f"{self.path}: {name} holds {array.dtype[:40]!r}; expected real numbers: leave "
                    f"it out by `fields: {{{name}: {{drop: true}}}}` in a mapping file"
                )
            check_array(self.path, array)
            numbers[name] = (array, dtype)
        self._arrays = {
            name: ZarrRows(self.path, array, self._sample_axis(array), recorded)
            for name, (array, _) in numbers.items()
        }
        named = [array.dims is not None for array, _ in numbers.values() if array.shape]
        if not any(named):
            found = {name: Found(array.shape, dtype) for name, (array, dtype) in numbers.items()}
            contents, pieces = arrange(self.path, found, mapping, self._whole)
        else:
            variables = {
                name: Variable(array.shape, dtype, self._dims(array), self._attributes(array))
                for name, (array, dtype) in numbers.items()
            }
            extent = _mapping(self.attributes.get("extent"))
            contents, pieces = NamedArrays(
                self.path, variables, extent, mapping, self._whole, self._default
            ).arrange()
        texts = tuple(f"{name} is left out: it holds text" for name in self._texts)
        said = {**_plain(self.attributes), **contents.parameters}
        return replace(contents, parameters=said, remarks=(*contents.remarks, *texts)), pieces

    def labels(self, name: str) -> np.ndarray | None:
        """Return the text that an array holds for each sample, dtype object; none if it has none.

        Raises:
            InputError: It cannot be read.
        """
        array = self._texts.get(name)
        if array is None or array.shape != (self.contents.samples,):
            return None
        check_array(self.path, array)
        return np.array([str(label) for label in ZarrRows(self.path, array, 0, {}).whole()], object)

    def close(self) -> None:
        """Close the group."""
        self._arrays = {}

    def _rows(self, array: str, start: int, stop: int) -> np.ndarray:
        return self._arrays[array].read(start, stop)

    def _whole(self, array: str) -> np.ndarray:
        return self._arrays[array].whole()

    def _dims(self, array: ArrayMetadata) -> tuple[str, ...]:
        if array.dims is None and array.shape:
            raise InputError(
                f"{self.path}: the axes of {array.name} have no names, as those of other arrays "
                "have; name them (dimension_names, or _ARRAY_DIMENSIONS in version 2)"
            )
        return array.dims or ()

    def _attributes(self, array: ArrayMetadata) -> dict[str, Any]:
        gaps = bool(array.attributes.get("gaps")) or self._arrays[array.name].has_gaps
        return {**array.attributes, "gaps": gaps}

    def _sample_axis(self, array: ArrayMetadata) -> int | None:
        if array.dims is None:
            return 0
        meanings = [meaning_of(dim) for dim in array.dims]
        return meanings.index("sample") if "sample" in meanings else None


def _ordered(
    arrays: Mapping[str, ArrayMetadata], attributes: Mapping[str, Any]
) -> dict[str, ArrayMetadata]:
    """Return the arrays, those that the group lists as its fields first, in that order."""
    first = [name for name in _listed(attributes) if isinstance(name, str)]
    names = dict.fromkeys([*(name for name in first if name in arrays), *arrays])
    return {name: arrays[name] for name in names}


def _listed(attributes: Mapping[str, Any]) -> list[Any]:
    """Return the fields that a dataset of ours lists; none of another group."""
    listed = attributes.get("fields")
    return listed if isinstance(listed, list) else []


def _is_derived(name: str, attributes: Mapping[str, Any]) -> bool:
    """Whether an array tells which samples of our dataset have the same inputs, or were chosen.

    That is no field: it belongs to that dataset, not to the samples.
    """
    listed = _listed(attributes)
    return name in ("identity", "round", "score") and bool(listed) and name not in listed


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the attributes say in plain values: of our datasets, the scenario's, too."""
    said = {**_mapping(attributes.get("parameters")), **attributes}
    said = {
        name: value
        for name, value in said.items()
        if isinstance(value, (bool, int, float))
        or isinstance(value, str)
        and len(value) <= _LONGEST_TEXT
    }
    return {name: said[name] for name in list(said)[:_MOST_PARAMETERS]}


IMPORTER = ZarrGroup
