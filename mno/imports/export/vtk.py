"""Export for ParaView: one file for each sample and frame, and collections that play them.

out/sample_0003/frame_0000.vtr    one frame of one sample; .vtu on unordered points
out/sample_0003.pvd               all frames of the sample
out/sample_0003.vtr, samples.pvd  where nothing is over time
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.imports.export.selection import Selection
from mno.imports.export.vtk_file import Values, write_collection, write_grid, write_points

SUFFIXES = (".vtr", ".vtu")
_MOST_FILES = 10_000


def check_vtk(selection: Selection, path: Path) -> None:
    """Refuse what cannot be written as VTK to that path.

    Args:
        selection: What is to be written.
        path: A file with one of the suffixes, or a folder.

    Raises:
        InputError: Nothing in it has a place, it is not one file's worth, or far too many files'.
    """
    frames = _frames(selection)
    files = len(selection.samples) * max(1, len(frames))
    if not _space(selection):
        raise InputError(
            "VTK files hold fields in space, and there are only numbers per sample; choose fields "
            "with --field, or export as npz"
        )
    if suffix(selection) == ".vtu" and not 1 <= len(_places(selection)) <= 3:
        raise InputError(
            "the store does not say where its points are; expected coordinates x, y or z with the "
            "dimensions (sample, point), as mno generate and mno predict write them"
        )
    if path.suffix in SUFFIXES and (files > 1 or path.suffix != suffix(selection)):
        raise InputError(
            f"{path} is one {path.suffix} file, but there are {len(selection.samples)} samples of "
            f"{max(1, len(frames))} frames, each a {suffix(selection)} file; name a folder and add "
            "--format vtk"
        )
    if files > _MOST_FILES:
        raise InputError(
            f"{len(selection.samples)} samples of {max(1, len(frames))} frames would be {files} "
            f"files; expected at most {_MOST_FILES}: choose some, as in --sample 0:10"
        )


def suffix(selection: Selection) -> str:
    """Return the suffix of files that hold one frame."""
    return ".vtu" if _space(selection)[0].name == "point" else ".vtr"


def write_vtk(selection: Selection, path: Path, progress: Callable[[int, int], None]) -> None:
    """Write a selection, a few samples at a time; `check_vtk` must have passed.

    Args:
        selection: What is written.
        path: A file or a folder that does not exist yet.
        progress: Is told how many samples of how many are written.
    """
    frames, ending = [float(time) for time in _frames(selection)], suffix(selection)
    written: list[tuple[float, str]] = []
    for number, values in _samples(selection):
        name = f"sample_{number:04d}"
        written.append((float(number), f"{name}{ending}"))
        if path.suffix in SUFFIXES:
            _write_frame(path, selection, values, 0 if frames else None)
        elif frames:
            (path / name).mkdir(parents=True)
            files = [f"{name}/frame_{frame:04d}{ending}" for frame in range(len(frames))]
            for frame, file in enumerate(files):
                _write_frame(path / file, selection, values, frame)
            write_collection(path / f"{name}.pvd", list(zip(frames, files, strict=True)))
        else:
            path.mkdir(parents=True, exist_ok=True)
            _write_frame(path / f"{name}{ending}", selection, values, None)
        progress(len(written), len(selection.samples))
    if not frames and path.suffix not in SUFFIXES:
        write_collection(path / "samples.pvd", written)


def _samples(selection: Selection) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for run in selection.runs():
        block = {field.name: selection.read(field, run) for field in selection.fields}
        for row, number in enumerate(range(run.start, run.stop)):
            yield number, {name: values[row] for name, values in block.items()}


def _write_frame(
    path: Path, selection: Selection, values: Mapping[str, np.ndarray], frame: int | None
) -> None:
    """Write one sample at one frame, with all that is not over time."""
    space = _space(selection)
    names = tuple(axis.name for axis in space)
    fields: dict[str, tuple[np.ndarray, str]] = {}
    numbers: list[Values] = []
    if frame is not None:
        time = np.array([_frames(selection)[frame]], dtype="f8")
        numbers.append(Values("TimeValue", time))
    for field in selection.fields:
        array, dims = values[field.name], field.dims
        if "time" in dims:
            array, dims = array[frame], dims[1:]
        if field.role == "coordinate":
            continue
        if not dims:
            numbers.append(Values(field.name, np.array([array], dtype="f4"), field.units))
            continue
        along = names if names == ("point",) else ("x", "y", "z")
        lengths = selection.lengths
        shape = tuple(lengths[name] if name in names else 1 for name in along)
        whole = array[tuple(slice(None) if name in dims else None for name in along)]
        fields[field.name] = np.broadcast_to(whole, shape), field.units
    if names == ("point",):
        places = [values[field.name] for field in _places(selection)]
        write_points(path, np.stack(places, axis=-1), fields, numbers)
    else:
        write_grid(path, {axis.name: axis.points for axis in space}, fields, numbers)


def _places(selection: Selection) -> list[Field]:
    """Return the fields that say where unordered points are, in the order of the axes."""
    places = (field for field in selection.fields if field.role == "coordinate")
    return sorted(places, key=lambda field: field.name)


def _space(selection: Selection) -> tuple[Axis, ...]:
    return tuple(axis for axis in selection.axes if axis.name != "time")


def _frames(selection: Selection) -> np.ndarray:
    """Return the times of the frames; none where no field is over time."""
    return next((axis.points for axis in selection.axes if axis.name == "time"), np.empty(0))
