"""Imported data as a source of samples: what `mno import` has converted, checked and split."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import zarr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mno.core.config import IMPORTED, Config, validate
from mno.core.errors import InputError, MnoError
from mno.core.fields import LOG, PLAIN, Axis, Field
from mno.core.files import file_sha256
from mno.data.config import SPLITS, GenerateConfig
from mno.data.reading import Schema, difference, read_schema, verify
from mno.scenarios.base import FilesSource, SampleSource, scenario_class
from mno.scenarios.imported import ImportedFile, ImportedParameters, SplitRule


def joined(*keys: np.ndarray) -> np.ndarray:
    """Join samples that share any of several keys, directly or through others.

    Keys are integers of shape `(samples,)`; equal ones of the same array belong together. Returned
    is the number of each sample's group, int64, in order of appearance.
    """
    samples = len(keys[0])
    columns, first = [], samples
    for key in keys:
        values, place = np.unique(key, return_inverse=True)
        columns.append(first + place)
        first += len(values)
    pairs = (np.tile(np.arange(samples), len(keys)), np.concatenate(columns))
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(first, first))
    _, labels = connected_components(graph, directed=False)
    _, begun, place = np.unique(labels[:samples], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(begun))[place]


def assign(
    rule: SplitRule,
    config: GenerateConfig,
    groups: np.ndarray,
    starts: np.ndarray | None,
    numbers: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Assign samples to splits; return their names, shape `(samples,)`, dtype object.

    `groups` has the number of each sample's group, which is in one split; `starts` when each sample
    begins, where that is known; `numbers` the inputs that are one number per sample, by field; all
    of shape `(samples,)`. An `InputError` says that the rule does not fit, or leaves a split empty.
    """
    if rule.by == "parameter":
        if rule.field not in numbers:
            raise InputError(
                f"split by parameter: {rule.field!r} is no input with one number per sample; there "
                f"are: {', '.join(numbers) or 'none'}"
            )
        values = numbers[str(rule.field)]
        names = np.full(len(values), "train", dtype=object)
        for name, limits in (("validation", rule.validation), ("test", rule.test)):
            if limits is not None:
                names[(values >= limits[0]) & (values <= limits[1])] = name
    elif rule.by == "random":
        known, group_of = np.unique(groups, return_inverse=True)
        rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0, 0)))
        place = np.empty(len(known), dtype=np.int64)
        place[rng.permutation(len(known))] = np.arange(len(known))
        names = _shares(config, place)[group_of]
    elif starts is not None:
        names = _shares(config, np.unique(starts, return_inverse=True)[1])
    else:
        raise InputError(
            "split by time needs samples that begin at known times, which these do not; set "
            "scenarios.imported.split.by=random"
        )
    empty = [name for name in SPLITS if name not in names]
    if empty:
        raise InputError(
            f"splitting by {rule.by} leaves no sample for {' and '.join(empty)}; change "
            "scenarios.imported.split or generate.split, or import more samples"
        )
    return names


def _shares(config: GenerateConfig, place: np.ndarray) -> np.ndarray:
    """Return splits by place in a queue of `place.max() + 1`; every split gets one, if it can."""
    count = int(place.max()) + 1
    validation = max(1, round(count * config.split.validation))
    test = max(1, round(count * config.split.test))
    names = np.full(count, "train", dtype=object)
    names[count - test - validation :] = "validation"
    names[count - test :] = "test"
    return names[place]


WIDE = 100.0
"""Over how large a factor a positive input must reach for its logarithm to be taken."""
FOLDER = Path("build/imported")
"""Where converted files are, in a workspace."""


class Imported(FilesSource):
    """The samples of all files of an imported dataset, in order.

    Of more samples than are wanted, some are taken, evenly spread over the files. An input that is
    positive everywhere and spans a factor of more than `WIDE` is on the scale `log`, unless its
    files say another one. An `InputError` says that a file is not imported, is changed, or unfit.
    """

    name: ClassVar[str] = "imported"
    Parameters: ClassVar[type[Config]] = ImportedParameters
    may_repeat: ClassVar[bool] = True

    def __init__(self, parameters: ImportedParameters, config: Any, root: Path) -> None:
        self.parameters = parameters
        if not parameters.files:
            raise InputError("scenarios.imported.files is empty; import some: mno import --help")
        folder = root / FOLDER / parameters.name / "parts"
        self._parts = [_Part(folder / file.content[:16], file) for file in parameters.files]
        self._schema = self._parts[0].schema
        for part in self._parts[1:]:
            other = difference(self._schema, part.schema)
            if other:
                raise InputError(f"{part.file.file} {other}: import it under another --name")
        self.title = f"{parameters.name}, imported from {len(self._parts)} file(s)"
        wide = {name for name, (low, high) in self.spans().items() if high > WIDE * low}
        self.fields: tuple[Field, ...] = tuple(
            replace(f, scale=LOG) if f.name in wide and f.scale == PLAIN else f
            for f in self._schema.fields
        )
        self._ends = np.cumsum([part.samples for part in self._parts])
        count = min(self.limit, config.samples)
        self._picks = np.arange(count) * self.limit // count

    @classmethod
    def open(cls, parameters: ImportedParameters, config: Any, root: Path) -> Self:
        """Open what was imported in the workspace `root`."""
        return cls(parameters, config, root)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The coordinate axes, the same in all files."""
        return self._schema.axes

    @property
    def dataset_name(self) -> str:
        """The name given at the import."""
        return self.parameters.name

    @property
    def limit(self) -> int:
        """The samples in all files."""
        return int(self._ends[-1])

    @property
    def provenance(self) -> dict[str, Any]:
        """The files, their checksums and importers."""
        return {"sources": [source for part in self._parts for source in part.schema.sources]}

    def spans(self) -> dict[str, tuple[float, float]]:
        """Return the span of inputs that are positive (`mno.data.generate.work.SPAN`), by name."""
        spans = {}
        for field in self._schema.fields:
            found = [part.span(field.name) for part in self._parts]
            known = [span for span in found if span]
            if len(known) == len(found):
                spans[field.name] = (min(s[0] for s in known), max(s[1] for s in known))
        return spans

    def compile(self) -> None:
        """Verify every byte of what was imported."""
        for part in self._parts:
            problems = verify(part.folder)
            if problems:
                raise MnoError(
                    f"{part.folder}/{problems[0]}; import {part.file.file} again, after removing "
                    "that folder"
                )

    def read(self, samples: range) -> dict[str, np.ndarray]:
        """Read samples as they were converted."""
        picks = self._picks[samples.start : samples.stop]
        return {field.name: self._rows(field.name, picks) for field in self.fields}

    def coordinates(self) -> dict[str, np.ndarray]:
        """The group of each sample, and when it begins where the files tell."""
        starts = self._numbers("start")
        return {"group": self._groups()} | ({} if starts is None else {"start": starts})

    def splits(self, config: Any) -> np.ndarray:
        """Assign samples to splits by the rule of the import."""
        scalars = [f.name for f in self.fields if f.is_scalar and f.role == "input"]
        numbers = {name: self._rows(name, self._picks) for name in scalars}
        rule, starts = self.parameters.split, self._numbers("start")
        return assign(rule, config, self._groups(), starts, numbers)

    def _groups(self) -> np.ndarray:
        """Return groups that no split may divide: those of the files, and of equal inputs."""
        first, keys = 0, []
        for part in self._parts:
            group = part.numbers("group")
            own = np.arange(part.samples) if group is None else joined(group)
            keys.append(own + first)
            first += int(own.max()) + 1
        identities = [part.numbers("identity") for part in self._parts]
        same = np.concatenate([i for i in identities if i is not None])
        return joined(np.concatenate(keys), same)[self._picks]

    def _numbers(self, name: str) -> np.ndarray | None:
        parts = [part.numbers(name) for part in self._parts]
        known = [values for values in parts if values is not None]
        return np.concatenate(known)[self._picks] if len(known) == len(parts) else None

    def _rows(self, name: str, picks: np.ndarray) -> np.ndarray:
        rows = []
        for part, end in zip(self._parts, self._ends, strict=True):
            begin = end - part.samples
            here = picks[(picks >= begin) & (picks < end)] - begin
            if len(here):
                rows.append(part.rows(name, here))
        return np.concatenate(rows)


class _Part:
    def __init__(self, folder: Path, file: ImportedFile) -> None:
        self.folder, self.file = folder, file
        try:
            content = file_sha256(folder / "zarr.json")
        except OSError:
            raise InputError(
                f"{folder} is missing, so {file.file} (sha256 {file.sha256[:12]}…) is not imported "
                "here; import it again: mno import --help"
            ) from None
        if content != file.content:
            raise InputError(
                f"{folder} is not what params.yaml names as scenarios.imported (it was altered); "
                f"remove it and import {file.file} again"
            )
        self.schema: Schema = read_schema(folder)
        self._group: Any = zarr.open_group(folder, mode="r", zarr_format=3)
        self.samples = int(self._group["split"].shape[0])

    def span(self, name: str) -> tuple[float, float] | None:
        span = self._group[name].attrs.get("span")
        return (float(span[0]), float(span[1])) if span else None

    def numbers(self, name: str) -> np.ndarray | None:
        return np.asarray(self._group[name][:]) if name in self._group else None

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        array = self._group[name]
        if rows[-1] - rows[0] + 1 == len(rows):
            return np.asarray(array[rows[0] : rows[-1] + 1])
        return np.stack([np.asarray(array[row]) for row in rows])


def source_class(name: str) -> type[SampleSource]:
    """Return a scenario by its name, or the source of imported data."""
    return Imported if name == IMPORTED else scenario_class(name)


def source_parameters(name: str, parameters: Mapping[str, Any] | None) -> Config:
    """Validate `scenarios.<name>`, of a scenario or of imported data, or raise an `InputError`."""
    if name == IMPORTED and not parameters:
        raise InputError(
            "scenario=imported, but nothing has been imported; run, for example: mno import npz "
            "my_arrays.npz"
        )
    return validate(source_class(name).Parameters, dict(parameters or {}), f"scenarios.{name}")
