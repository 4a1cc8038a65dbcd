"""`mno lineage`: questions about all registered versions, asked of this workspace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.audit import plain_console
from flows.options import Json, print_json
from flows.workspace import aligned, cache_folder, find_workspace, prepare_environment
from mno.core.errors import InputError
from mno.lineage.decision import CHAMPION
from mno.lineage.questions import INDEX_FOLDER, Index, Records, RegisteredVersion, whole_record
from mno.lineage.questions.affected import (
    AffectedVersions,
    Origin,
    by_commit,
    by_data,
    of_data,
    of_file,
    of_shard,
)
from mno.lineage.questions.difference import Part, Side, compare
from mno.lineage.questions.production import Period, periods
from mno.lineage.record import Tag
from mno.lineage.seal import SealPointer, read_seal, seal_path
from mno.registry.catalogue import read_catalogue
from mno.registry.settings import model_name

_MODEL = re.compile(r"(?:models:/)?([^/@]+)(?:/(\d+)|@([^/@]+))")
_SHOWN = 50  # rows; --json has them all
_HEAD = ("Model", "Version", "Alias", "Test error", "Registered")

lineage_app = typer.Typer(
    help="Ask which models came from what, what changed between two, and what is in production.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_DATA = "A version of the data: DVC's md5 of data/, or six or more digits of it."
_SHARD = "A file of a dataset: the file itself, or its MD5 or SHA-256."
_FILE = "A file that data were imported from: the file itself, or its SHA-256."

Data = Annotated[str | None, typer.Option(help=_DATA, metavar="MD5")]
Shard = Annotated[str | None, typer.Option(help=_SHARD, metavar="FILE")]
File = Annotated[str | None, typer.Option(help=_FILE, metavar="FILE")]


@lineage_app.command()
def models(
    data: Data = None, shard: Shard = None, file: File = None, as_json: Json = False
) -> None:
    """Show which registered versions came from a version of the data, a shard or an imported file.

    Example: mno lineage models --data b52ee53b    or: mno lineage models --shard data/x/c/0
    """
    found = Answers().models(Asked(data, shard, file))
    if as_json:
        print_json(found.to_dict())
    else:
        print_origin(found, plain_console())


@lineage_app.command()
def diff(
    before: Annotated[
        str, typer.Argument(help="Number of a version, models:/NAME/VERSION or models:/NAME@ALIAS.")
    ],
    after: Annotated[str, typer.Argument(help="The version to compare it with.")],
    as_json: Json = False,
) -> None:
    """Show what changed between two versions: parameters, data, code, metrics, environment.

    Example: mno lineage diff 3 5
    """
    one, other, parts = Answers().difference(before, after)
    if as_json:
        sides = {"before": one.version.to_dict(), "after": other.version.to_dict()}
        print_json({**sides, **{part.name: part.to_dict() for part in parts}})
    else:
        print_difference(one, other, parts, plain_console())


@lineage_app.command()
def affected(
    commit: Annotated[
        str | None,
        typer.Option(help="A commit, branch or tag, or a snapshot of a model.", metavar="SHA"),
    ] = None,
    data: Data = None,
    shard: Shard = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Show which versions are affected if a commit or data were bad, and what is in production.

    Of a commit, a version's own code is compared with what the commit changed. Versions whose
    training began from an affected one are affected, too.

    Example: mno lineage affected --commit 4f2a91c
    """
    found = Answers().affected(Asked(data, shard, file, commit))
    if as_json:
        print_json(found.to_dict())
    else:
        print_affected(found, plain_console())


@lineage_app.command()
def production(
    model: Annotated[
        str | None, typer.Argument(help="Registered model, as mno-darcy; all of them if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is in production, since when, and what was before it.

    Example: mno lineage production mno-darcy
    """
    found, problems = Answers().production(model)
    if as_json:
        told = [period.to_dict() for period in found]
        print_json({"periods": told, "cannot_be_known": problems})
    else:
        print_production(found, problems, plain_console())


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
        self.catalogue = read_catalogue(self.root)

    def models(self, asked: Asked) -> Origin:
        """Return the versions that came from data, a shard or a file."""
        asked.check("data", "shard", "file")
        return self._origin(asked)

    def affected(self, asked: Asked) -> AffectedVersions:
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
            name, known = model.removeprefix("models:/"), {version.name for version in versions}
            versions = [version for version in versions if version.name == name]
            if not versions:
                shown = ", ".join(sorted(known)) or "none"
                raise InputError(f"{model}: no such registered model (known: {shown})")
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
        index = Index(self.root / INDEX_FOLDER / name)
        yield index
        index.save()

    @contextmanager
    def _records(self) -> Iterator[Records]:
        with self._index("records.json") as index:
            yield Records(self.catalogue.files, index)

    def _side(self, version: RegisteredVersion) -> Side:
        files, run = self.catalogue.files, version.run_id
        pointer = SealPointer.parse(version.tags.get(Tag.SEAL, ""))
        sealed = None
        if pointer is not None:
            text = files.read(pointer.run_id, seal_path(pointer))
            sealed = read_seal(pointer, text).content or None
        read = (lambda path: files.read(run, path)) if run else (lambda path: None)
        return Side(version, whole_record(version, files), sealed, read)

    def _find(self, target: str) -> RegisteredVersion:
        if target.isdecimal():  # of the scenario's own model
            from mno.core.config import dataset_name, read_params

            target = f"{model_name(dataset_name(read_params(self.root)))}/{target}"
        match = _MODEL.fullmatch(target)
        if match is None:
            raise InputError(
                f"{target!r}: expected the number of a version, models:/NAME/VERSION or "
                "models:/NAME@ALIAS"
            )
        name, number, alias = match.groups()
        for version in self.catalogue.versions:
            named = (number and version.number == int(number)) or alias in version.aliases
            if version.name == name and named:
                return version
        uri = f"models:/{target.removeprefix('models:/')}"
        raise InputError(f"{uri} is not in the registry; see what is with: mno status")


class _Caches:
    """The folders of a workspace's DVC caches: DVC is asked where its cache is if that matters."""

    def __init__(self, root: Path) -> None:
        self._root, self._asked = root, list[Path]()

    def __iter__(self) -> Iterator[Path]:
        yield self._root / ".dvc/cache"  # of objects that are verified, wherever they are found
        self._asked = self._asked or [cache_folder(self._root)]
        yield from self._asked


def print_origin(origin: Origin, console: Console) -> None:
    """Show the versions that came from data."""
    if not origin.versions:
        console.print(f"No registered version came from {origin.asked}.")
    else:
        console.print(f"{_count(len(origin.versions), 'came', 'came')} from {origin.asked}\n")
        _print(console, _HEAD, [_row(version) for version in origin.versions])
    for md5, names in origin.files.items():
        console.print(f"In data {md5}: {', '.join(names[:3])}{' and more' if names[3:] else ''}")
    why = "version(s); no list of its files is at hand"
    unknown = {f"data {md5}": f"of {count} {why}" for md5, count in origin.unknown.items()}
    _print_unknown(console, unknown)
    if origin.versions:
        console.print(f"\nNext: mno audit {origin.versions[0].uri}")


def print_affected(found: AffectedVersions, console: Console) -> None:
    """Show the versions that are affected, those in production first of all in the last lines."""
    console.print(f"If {found.asked} was bad:")
    if not found.affected:
        console.print("no registered version is affected.")
    else:
        console.print(f"{_count(len(found.affected), 'is', 'are')} affected\n")
        rows = [(*_row(f.version), ", ".join(f.stages), f.why) for f in found.affected]
        _print(console, (*_HEAD, "Stages", "Why"), rows)
    _print_unknown(console, found.unknown)
    champions = [f.version.uri for f in found.affected if CHAMPION in f.version.aliases]
    if champions:
        console.print(f"\nIN PRODUCTION: {', '.join(champions)}")
        console.print("Next: correct it and run again: mno run;  what it replaced: "
                      "mno lineage production")  # fmt: skip
    elif found.affected:
        console.print("\nNone of them is in production.")


def print_difference(before: Side, after: Side, parts: Sequence[Part], console: Console) -> None:
    """Show what changed between two versions, part by part."""
    one, other = before.version, after.version
    console.print(f"From {one.uri} to {other.uri}")
    for part in parts:
        size = "1 change" if len(part.changes) == 1 else f"{len(part.changes)} changes"
        if not part.changes:
            size = f"cannot be known: {part.unknown}" if part.unknown else "the same"
        console.print(f"\n{part.name}: {size}")
        if part.changes:
            head = ("", f"{one.name}/{one.number}", f"{other.name}/{other.number}")
            rows = [(f"  {c.subject}", _value(c.before), _value(c.after)) for c in part.changes]
            _print(console, head, rows)
        if part.changes and part.unknown:
            console.print(f"  cannot be known: {part.unknown}")
    if any(part.name == "code" and part.changes for part in parts):
        console.print(f"\nNext: git diff {before.snapshot} {after.snapshot}")
    else:
        console.print(f"\nNext: mno audit {other.uri}")


def print_production(found: Sequence[Period], problems: Sequence[str], console: Console) -> None:
    """Show who was champion from when to when."""
    if not found:
        console.print("No version was in production yet.\n\nNext: mno run")
        return
    rows = [
        (p.version.name, str(p.version.number), _time(p.since),
         "now" if p.current else _time(p.until), _error(p.version), p.by or "the rule", p.reason)
        for p in found
    ]  # fmt: skip
    _print(console, ("Model", "Version", "Since", "Until", "Test error", "By", "Why"), rows)
    for problem in problems:
        console.print(f"cannot be known: {problem}")
    current = next((period.version for period in found if period.current), None)
    if current is not None:
        console.print(f"\nNext: mno audit {current.uri}")


def _count(number: int, verb: str, verbs: str) -> str:
    return f"1 version {verb}" if number == 1 else f"{number} versions {verbs}"


def _row(version: RegisteredVersion) -> tuple[str, ...]:
    aliases, registered = ", ".join(version.aliases), _time(version.registered)
    return version.name, str(version.number), aliases, _error(version), registered


def _print(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print(aligned(head, rows[:_SHOWN]))
    if len(rows) > _SHOWN:
        console.print(f"… and {len(rows) - _SHOWN} more; all of them: --json")


def _print_unknown(console: Console, unknown: Mapping[str, str]) -> None:
    for subject, why in list(unknown.items())[:_SHOWN]:
        console.print(f"cannot be known: {subject}: {why}")
    if len(unknown) > _SHOWN:
        console.print(f"… and {len(unknown) - _SHOWN} more; all of them: --json")


def _error(version: RegisteredVersion) -> str:
    return "" if version.relative_l2 is None else f"{version.relative_l2:.2%}"


def _time(text: str | None) -> str:
    return (text or "unknown").replace("T", " ").replace("+00:00", "")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
