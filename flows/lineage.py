"""`mno lineage`: questions about all registered versions, asked of this workspace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from flows.options import Json, console, print_json
from flows.workspace import aligned, cache_folder, find_workspace, prepare_environment
from mno.core.errors import InputError
from mno.lineage.affected import (
    AffectedVersions,
    Origin,
    by_commit,
    by_data,
    of_data,
    of_file,
    of_shard,
)
from mno.lineage.decision import CHAMPION
from mno.lineage.difference import Part, Side, compare
from mno.lineage.production import Period, periods
from mno.lineage.questions import INDEX_FOLDER, Index, Records, RegisteredVersion, whole_record
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
        versions = [version.to_dict() for version in found.versions]
        print_json({"asked": found.asked, "versions": versions, "files": found.files,
                    "cannot_be_known": found.unknown})  # fmt: skip
    else:
        _print_origin(found)


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
        told = {
            name: {"changes": [c._asdict() for c in changes], "cannot_be_known": unknown}
            for name, changes, unknown in parts
        }
        print_json({**sides, **told})
    else:
        _print_difference(one, other, parts)


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
        told = [{**v.to_dict(), "why": why, "stages": stages} for v, why, stages in found.affected]
        print_json({"asked": found.asked, "affected": told, "cannot_be_known": found.unknown})
    else:
        _print_affected(found)


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
        rest = Period._fields[1:]
        told = [{**p.version.to_dict(), **{key: getattr(p, key) for key in rest}} for p in found]
        print_json({"periods": told, "cannot_be_known": problems})
    else:
        _print_production(found, problems)


class Asked(NamedTuple):
    """What a question is about; exactly one of these is given."""

    data: str | None = None  # DVC's hash of a version of the data, or its beginning
    shard: str | None = None  # a file of a dataset, or its digest
    file: str | None = None  # a file that data were imported from, or its digest
    commit: str | None = None  # a commit or snapshot

    def check(self, *options: str) -> None:
        """Refuse anything but exactly one of some options."""
        given = [f"--{name}" for name in options if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(f"--{name}" for name in options)
            what = " and ".join(given) or "nothing"
            raise InputError(f"{what} is given; give exactly one of {names}")


class Answers:
    """The questions, asked of the workspace around the current folder."""

    def __init__(self) -> None:
        self.root = find_workspace()
        prepare_environment(self.root)
        self.catalogue = read_catalogue(self.root)

    def models(self, asked: Asked) -> Origin:
        """Return the versions that came from data, a shard or a file."""
        asked.check("data", "shard", "file")
        with self._index("records.json") as index:
            return self._origin(asked, Records(self.catalogue.files, index))

    def affected(self, asked: Asked) -> AffectedVersions:
        """Return the versions that are affected if something was bad."""
        asked.check("commit", "data", "shard", "file")
        versions = self.catalogue.versions
        with self._index("records.json") as index:
            records = Records(self.catalogue.files, index)
            if asked.commit is not None:
                return by_commit(self.root, versions, asked.commit, records)
            return by_data(versions, self._origin(asked, records), records)

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

    def _origin(self, asked: Asked, records: Records) -> Origin:
        versions = self.catalogue.versions
        if asked.data is not None:
            return of_data(versions, asked.data)
        if asked.shard is not None:
            return of_shard(versions, asked.shard, _Caches(self.root))
        return of_file(versions, str(asked.file), records)

    def _index(self, name: str) -> Index:
        return Index(self.root / INDEX_FOLDER / name)

    def _side(self, version: RegisteredVersion) -> Side:
        files, run, sealed = self.catalogue.files, version.run_id, None
        pointer = SealPointer.parse(version.tags.get(Tag.SEAL, ""))
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


def _print_origin(origin: Origin) -> None:
    out = console()
    if not origin.versions:
        out.print(f"No registered version came from {origin.asked}.")
    else:
        out.print(f"{_count(len(origin.versions), 'came', 'came')} from {origin.asked}\n")
        _print_rows(_HEAD, [_row(version) for version in origin.versions])
    for md5, names in origin.files.items():
        out.print(f"In data {md5}: {', '.join(names[:3])}{' and more' if names[3:] else ''}")
    why = "version(s); no list of its files is at hand"
    _print_unknown({f"data {md5}": f"of {count} {why}" for md5, count in origin.unknown.items()})
    if origin.versions:
        out.print(f"\nNext: mno audit {origin.versions[0].uri}")


def _print_affected(found: AffectedVersions) -> None:
    """Show the versions that are affected, those in production again in the last lines."""
    out = console()
    out.print(f"If {found.asked} was bad:")
    if not found.affected:
        out.print("no registered version is affected.")
    else:
        out.print(f"{_count(len(found.affected), 'is', 'are')} affected\n")
        rows = [(*_row(f.version), ", ".join(f.stages), f.why) for f in found.affected]
        _print_rows((*_HEAD, "Stages", "Why"), rows)
    _print_unknown(found.unknown)
    champions = [f.version.uri for f in found.affected if CHAMPION in f.version.aliases]
    if champions:
        out.print(f"\nIN PRODUCTION: {', '.join(champions)}")
        out.print("Next: correct it and run again: mno run;  what it replaced: "
                  "mno lineage production")  # fmt: skip
    elif found.affected:
        out.print("\nNone of them is in production.")


def _print_difference(before: Side, after: Side, parts: Sequence[Part]) -> None:
    out, one, other = console(), before.version, after.version
    out.print(f"From {one.uri} to {other.uri}")
    for name, changes, unknown in parts:
        size = "1 change" if len(changes) == 1 else f"{len(changes)} changes"
        if not changes:
            size = f"cannot be known: {unknown}" if unknown else "the same"
        out.print(f"\n{name}: {size}")
        if changes:
            head = ("", f"{one.name}/{one.number}", f"{other.name}/{other.number}")
            _print_rows(
                head, [(f"  {c.subject}", _value(c.before), _value(c.after)) for c in changes]
            )
            if unknown:
                out.print(f"  cannot be known: {unknown}")
    if any(part.name == "code" and part.changes for part in parts):
        out.print(f"\nNext: git diff {before.snapshot} {after.snapshot}")
    else:
        out.print(f"\nNext: mno audit {other.uri}")


def _print_production(found: Sequence[Period], problems: Sequence[str]) -> None:
    out = console()
    if not found:
        out.print("No version was in production yet.\n\nNext: mno run")
        return
    rows = [
        (p.version.name, str(p.version.number), _time(p.since),
         "now" if p.current else _time(p.until), _error(p.version), p.by or "the rule", p.reason)
        for p in found
    ]  # fmt: skip
    _print_rows(("Model", "Version", "Since", "Until", "Test error", "By", "Why"), rows)
    for problem in problems:
        out.print(f"cannot be known: {problem}")
    current = next((period.version for period in found if period.current), None)
    if current is not None:
        out.print(f"\nNext: mno audit {current.uri}")


def _count(number: int, verb: str, verbs: str) -> str:
    return f"1 version {verb}" if number == 1 else f"{number} versions {verbs}"


def _row(version: RegisteredVersion) -> tuple[str, ...]:
    aliases, registered = ", ".join(version.aliases), _time(version.registered)
    return version.name, str(version.number), aliases, _error(version), registered


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console().print(aligned(head, rows[:_SHOWN]))
    _print_more(len(rows))


def _print_unknown(unknown: Mapping[str, str]) -> None:
    for subject, why in list(unknown.items())[:_SHOWN]:
        console().print(f"cannot be known: {subject}: {why}")
    _print_more(len(unknown))


def _print_more(number: int) -> None:
    if number > _SHOWN:
        console().print(f"… and {number - _SHOWN} more; all of them: --json")


def _error(version: RegisteredVersion) -> str:
    return "" if version.relative_l2 is None else f"{version.relative_l2:.2%}"


def _time(text: str | None) -> str:
    return (text or "unknown").replace("T", " ").replace("+00:00", "")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
