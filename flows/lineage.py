"""`mno lineage`: the questions, asked of this workspace's registry, clone and cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows.workspace import cache_folder, find_workspace, prepare_environment
from mno.core.errors import InputError
from mno.lineage.questions.affected import Verdict, by_commit, by_data
from mno.lineage.questions.difference import Part, Side, compare
from mno.lineage.questions.index import FOLDER, Index
from mno.lineage.questions.origins import Origin, of_data, of_file, of_shard
from mno.lineage.questions.production import Period, periods
from mno.lineage.questions.records import Records, whole_record
from mno.lineage.questions.version import SEAL, RegisteredVersion
from mno.lineage.seal import SealPointer, read_seal
from mno.registry.catalogue import Catalogue, read_catalogue
from mno.registry.names import model_name

_MODEL = re.compile(r"(?:models:/)?([^/@]+)(?:/(\d+)|@([^/@]+))")


@dataclass(frozen=True)
class Asked:
    """What a question about data is about; exactly one of these is given.

    Attributes:
        data: DVC's hash of a version of the data, or its beginning.
        shard: A file of a dataset, or its digest.
        file: A file that data were imported from, or its digest.
        commit: A commit or snapshot.
    """

    data: str | None = None
    shard: str | None = None
    file: str | None = None
    commit: str | None = None

    def check(self, *options: str) -> None:
        """Refuse anything but exactly one of some options.

        Raises:
            InputError: None of them, or several, are given.
        """
        given = [f"--{name}" for name in options if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(f"--{name}" for name in options)
            what = " and ".join(given) or "nothing"
            raise InputError(f"{what} is given; give exactly one of {names}")


class Answers:
    """The questions, asked of the workspace around the current folder.

    Raises:
        InputError: There is no workspace here.
        MnoError: MLflow cannot be used.
    """

    def __init__(self) -> None:
        self.root = find_workspace()
        prepare_environment(self.root)
        self.catalogue: Catalogue = read_catalogue(self.root)

    def models(self, asked: Asked) -> Origin:
        """Return the versions that came from data, a shard or a file."""
        asked.check("data", "shard", "file")
        return self._origin(asked)

    def affected(self, asked: Asked) -> Verdict:
        """Return the versions that are affected if something was bad."""
        asked.check("commit", "data", "shard", "file")
        versions = self.catalogue.versions
        with self._records() as records:
            if asked.commit is not None:
                return by_commit(self.root, versions, asked.commit, records)
            return by_data(versions, self._origin(asked), records)

    def difference(self, before: str, after: str) -> tuple[Side, Side, list[Part]]:
        """Return what changed between two versions."""
        one, other = (self._side(self._find(target)) for target in (before, after))
        return one, other, compare(self.root, _Caches(self.root), one, other)

    def production(self, model: str | None) -> tuple[list[Period], list[str]]:
        """Return who was champion from when to when, of one model or all, and what is not known."""
        versions = self.catalogue.versions
        if model is not None:
            name = model.removeprefix("models:/")
            versions = self.catalogue.of(name)
            if not versions:
                known = ", ".join(sorted({v.name for v in self.catalogue.versions})) or "none"
                raise InputError(f"{model}: no such registered model (known: {known})")
        with self._index("decisions.json") as index:
            return periods(versions, self.catalogue.seals, self.catalogue.files, index)

    def _origin(self, asked: Asked) -> Origin:
        versions = self.catalogue.versions
        if asked.data is not None:
            return of_data(versions, asked.data)
        if asked.shard is not None:
            return of_shard(versions, asked.shard, _Caches(self.root))
        with self._records() as records:
            return of_file(versions, str(asked.file), records)

    @contextmanager
    def _index(self, name: str) -> Iterator[Index]:
        index = Index(self.root / FOLDER / name)
        yield index
        index.save()

    @contextmanager
    def _records(self) -> Iterator[Records]:
        with self._index("records.json") as index:
            yield Records(self.catalogue.files, index)

    def _side(self, version: RegisteredVersion) -> Side:
        files, run = self.catalogue.files, version.run_id
        pointer = SealPointer.parse(version.tags.get(SEAL, ""))
        sealed = None
        if pointer is not None:
            text = files.read(pointer.run_id, f"seals/{pointer.sha256}.json")
            sealed = read_seal(pointer, text).content or None
        read = (lambda path: files.read(run, path)) if run else (lambda path: None)
        return Side(version, whole_record(version, files), sealed, read)

    def _find(self, target: str) -> RegisteredVersion:
        name, number, alias = self._named(target)
        for version in self.catalogue.of(name):
            if version.number == number or (alias and alias in version.aliases):
                return version
        uri = f"models:/{name}@{alias}" if alias else f"models:/{name}/{number}"
        raise InputError(f"{uri} is not in the registry; see what is with: mno status")

    def _named(self, target: str) -> tuple[str, int | None, str | None]:
        if target.isdecimal():  # of the scenario's own model
            from mno.core.config import dataset_name, read_params

            return model_name(dataset_name(read_params(self.root))), int(target), None
        match = _MODEL.fullmatch(target)
        if match is None:
            raise InputError(
                f"{target!r}: expected the number of a version, models:/NAME/VERSION or "
                "models:/NAME@ALIAS"
            )
        return match[1], int(match[2]) if match[2] else None, match[3]


class _Caches:
    """The folders of a workspace's DVC caches: DVC is asked where its cache is if that matters."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __iter__(self) -> Iterator[Path]:
        yield self._root / ".dvc/cache"  # of objects that are verified, wherever they are found
        yield self._configured

    @cached_property
    def _configured(self) -> Path:
        return cache_folder(self._root)
