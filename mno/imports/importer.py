"""What an importer is: it says what is in a file, and reads it a few samples at a time.

An importer is one module of this package, named like its kind with underscores, that assigns its
class to `IMPORTER`; its kind is listed in `mno.imports.KINDS`. Files are untrusted: whatever is in
one, an importer raises `InputError` with one line (what was found, what was expected, what to do)
and never runs code from it. Commands run it in `mno.imports.cage`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import PLAIN, Axis, Field, difference_from
from mno.imports import KINDS

if TYPE_CHECKING:
    from mno.imports.mapping import Mapping as FieldMapping

SPACE = ("x", "y", "z")
ORDER = ("time", *SPACE, "point")

MAX_SAMPLE_BYTES = 256 * 2**20
"""Largest size of one sample of one field, as float32: what a shard of one sample would hold."""

MAX_SAMPLES = 10_000_000

_EVEN, _ROUNDED = 1e-5, 1e-2  # of a cell: how far off points are that are even, or were so

Reader = Callable[[int, int], np.ndarray]
"""Returns the samples from one number to another, shape `(samples, *dims)`, numbers of any kind."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds, in the terms of a dataset."""

    samples: int
    axes: tuple[Axis, ...]  # time first, then those of space; `point` for unordered points
    fields: tuple[Field, ...]
    sources: Mapping[str, str]  # what the file calls each field, for people; by name of the field
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of the whole file, plain values
    groups: np.ndarray | None = None
    """Which run or trajectory each sample is of, `(samples,)`, int64; each stays in one split."""
    starts: np.ndarray | None = None
    """When each sample begins, in seconds, `(samples,)`, float64, where that has a meaning."""
    remarks: tuple[str, ...] = ()  # what is worth knowing before an import, one sentence each


Layout = tuple[Contents, Mapping[str, Reader]]
"""What a file holds, and how the samples of each field are read."""


class Importer(AbstractContextManager["Importer", None]):
    """One open file.

    Memory stays far below 1 GiB whatever the size of the file: `lay_out` reads no field, and
    `read` no more than it is asked for (and a few chunks around it). MATLAB's version 5 and sensor
    logs alone are read as a whole.

    Args:
        path: The file, or the folder of a Zarr store.
        mapping: What the user says of it. Importers heed only what they need in order to find
            fields (`mapping.fields[name].role` where the file does not tell, `sensors`); names,
            units and extents are applied to `contents` for all importers alike (`MappedFile`).

    Attributes:
        contents, fields, remarks: What it holds; while it is laid out, what was found so far.

    Raises:
        InputError: The file is not what it should be; so do all methods that read.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # raised with every change that makes other data of the same file

    def __init__(self, path: Path, mapping: "FieldMapping") -> None:
        self.path = self.require(path)
        self.fields: dict[str, Field] = {}
        self.remarks: list[str] = []
        self._sources: dict[str, str] = {}
        self._found: dict[str, Reader] = {}
        with ExitStack() as self._stack:  # which closes what was opened of a file that is refused
            self.contents, self._readers = self.lay_out(mapping, self._stack)
            self._stack = self._stack.pop_all()

    @abstractmethod
    def lay_out(self, mapping: "FieldMapping", stack: ExitStack) -> Layout:
        """Open the file and find its fields; what is opened is given to `stack` to close.

        `add` takes each, and `layout` returns them.
        """

    def add(self, field: Field, source: str, reader: Reader) -> None:
        """Take a field; the file calls it `source`."""
        self.fields[field.name], self._sources[field.name] = field, source
        self._found[field.name] = reader

    def layout(
        self, samples: int, axes: Sequence[Axis], parameters: Mapping[str, Any] | None = None,
        groups: np.ndarray | None = None, starts: np.ndarray | None = None,
    ) -> Layout:  # fmt: skip
        """Return all of it (see `Contents`); axes whose points are not even are remarked on."""
        for axis in axes:
            if axis.name != "point" and _off_even(axis.points) > _ROUNDED:
                steps = np.diff(axis.points)
                or_else = ", or set task.time=axis" if axis.name == "time" else ""
                self.remarks.append(
                    f"points along {axis.name} are not evenly spaced (steps {steps.min():g} to "
                    f"{steps.max():g}), which training refuses: bring them to even steps{or_else}"
                )
        fields, remarks = tuple(self.fields.values()), tuple(self.remarks)
        contents = Contents(
            samples, tuple(axes), fields, self._sources, parameters or {}, groups, starts, remarks
        )
        return contents, self._found

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read samples of a field as the file has them, `(stop - start, *dims)`, float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinite, which is refused
            return np.ascontiguousarray(self._readers[name](start, stop), dtype=np.float32)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def require(cls, path: Path) -> Path:
        """Return the path; refuse what cannot be such a file, before anything of it is read."""
        if not path.is_file():
            raise InputError(
                f"{path} cannot be read: it is not a file; expected one to import as {cls.kind}"
            )
        return path

    def error(self, text: str) -> InputError:
        """Return an error that names the file."""
        return InputError(f"{self.path}: {text}")

    def check_sample(self, name: str, shape: Sequence[int], samples: int) -> None:
        """Refuse shapes of a sample that no honest file has, or that would not fit into memory."""
        if samples < 1 or any(length < 1 for length in shape):
            raise self.error(
                f"{name} has {samples} samples of shape {tuple(shape)}; expected at least one "
                "value: give a file with data"
            )
        if samples > MAX_SAMPLES or 4 * math.prod(shape) > MAX_SAMPLE_BYTES:
            raise self.error(
                f"{name} claims {samples} samples of shape {tuple(shape)}; expected at most "
                f"{MAX_SAMPLES} samples of {MAX_SAMPLE_BYTES // 2**20} MiB each: cut or coarsen "
                "the arrays before the import"
            )

    def given_axis(
        self, name: str, source: str, points: np.ndarray, length: int, units: str = "1"
    ) -> Axis:
        """Return the axis of coordinates that a file gives, and calls `source`.

        There must be as many as the arrays have along it (`length`), and they must increase; if
        samples have theirs, `(samples, length)`, these must be the same. They are even where they
        were so before they were rounded, as to float32. The extent of one of space ends half a cell
        beyond them; a point that is alone has a cell of length 1.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim == 2 and len(points):
            if (points != points[0]).any():
                raise self.error(
                    f"{source} gives other points along {name} for other samples; expected one "
                    "axis for all: import files with the same points"
                )
            points = points[0]
        if points.shape != (length,):
            raise self.error(
                f"{source} has shape {points.shape}, but the arrays have {length} points along "
                f"{name}; expected one coordinate for each: correct or remove {source}"
            )
        if not np.isfinite(points).all() or (np.diff(points) <= 0).any():
            raise self.error(
                f"{source} does not increase from point to point; expected finite coordinates in "
                f"order along {name}: sort the arrays, or remove {source}"
            )
        if _EVEN < _off_even(points) <= _ROUNDED:
            points = np.linspace(points[0], points[-1], length)
        cell = (points[-1] - points[0]) / (length - 1) if length > 1 else 1.0
        # Points on the ends of a domain cannot be told from cell centres: they are taken for these.
        beyond = 0.0 if name == "time" else cell / 2
        extent = float(points[0] - beyond), float(points[-1] + beyond)
        return Axis(name, units, name, points, extent)

    def remark_missing(self, axis: str, what: str) -> None:
        """Say what is missing, so that an axis is its `default_axis`."""
        centres = "points are taken as the centres of cells from 0 to 1"
        meanwhile = "frames are numbered from 0" if axis == "time" else centres
        self.remarks.append(f"{what}; {meanwhile}")


def importer_class(kind: str) -> type[Importer]:
    """Return the importer of a kind; refuse what is none."""
    if kind not in KINDS:
        raise InputError(f"import {kind!r}: expected one of {', '.join(KINDS)}")
    return import_module(f"mno.imports.{kind.replace('-', '_')}").IMPORTER


def check_numbers(path: Path, name: str, dtype: np.dtype) -> None:
    """Refuse an array that holds text, objects, complex numbers or records."""
    if dtype.kind not in "fiub":
        raise InputError(
            f"{path}: {name} holds {dtype}; expected real numbers: convert it, or {leave_out(name)}"
        )


def leave_out(name: str) -> str:
    """Return how a person leaves an array out."""
    return f"leave it out by `fields: {{{name}: {{drop: true}}}}` in a mapping file"


def plain_field(name: str, role: str, dims: tuple[str, ...]) -> Field:
    """Return a field of a file that says neither units nor what a figure's label should say."""
    return Field(name, "1", name.replace("_", " "), role, dims)  # type: ignore[arg-type]


def place(axis: str) -> tuple[int, str]:
    """Return what axes are sorted by: those of `ORDER`, then others by name."""
    return ORDER.index(axis) if axis in ORDER else len(ORDER), axis


def _off_even(points: np.ndarray) -> float:
    """Return how far points are from even ones at most, as a share of a cell."""
    cell = (points[-1] - points[0]) / max(len(points) - 1, 1)
    even = np.linspace(points[0], points[-1], len(points))
    return float(abs(points - even).max() / (cell or 1.0))


def default_axis(name: str, length: int) -> Axis:
    """Return the axis of a file that has no coordinates; of space, cell centres from 0 to 1."""
    numbers = np.arange(float(length))
    if name in SPACE:
        return Axis(name, "1", name, (numbers + 0.5) / length, (0.0, 1.0))
    end, label = (length - 1, name) if name == "time" else (length, f"number of the {name}")
    return Axis(name, "1", label, numbers, (0.0, float(end)))


def scale_said(attributes: Mapping[str, Any]) -> str:
    """Return the scale of a field of a dataset of ours; plain of others, whatever they call so."""
    scale = attributes.get("scale")
    with suppress(ValueError):
        if isinstance(scale, str) and "role" in attributes:
            difference_from(scale)
            return scale
    return PLAIN


def plain(value: Any) -> Any:
    """Return a value of an attribute as text, number or list of these; none if it is neither."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        items = [plain(item) for item in value.ravel().tolist()]
        if any(item is None for item in items):
            return None
        return items[0] if len(items) == 1 else items
    if isinstance(value, str):
        return value if len(value) <= 65_536 else None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float)) else None
