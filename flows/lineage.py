"""`mno lineage`: questions about all registered versions, asked of this workspace."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import Json, answer, command_group, console
from flows.schedule import local
from flows.workspace import VERSION_HEAD, aligned, cache_folder, find_workspace, prepare_environment
from mno.core.config import model_subject, read_params
from mno.core.errors import InputError
from mno.core.files import write_text
from mno.lineage.affected import AffectedVersions, Origin, by_commit, by_data, of_data, of_file
from mno.lineage.decision import CHAMPION
from mno.lineage.difference import Part, Side, compare
from mno.lineage.questions import RegisteredVersion, records_of
from mno.registry.catalogue import find_version_of, registry_of
from mno.registry.settings import Workspace, model_name

lineage_app = command_group(
    "Ask which models came from what, what changed between two, and what something affects."
)

_DATA = "A version of the data: DVC's md5 of data/, or six or more digits of it."
_FILE = "A file that data were imported from: the file itself, or its SHA-256."

Data = Annotated[str | None, typer.Option(help=_DATA, metavar="MD5")]
File = Annotated[str | None, typer.Option(help=_FILE, metavar="FILE")]


@lineage_app.command()
def models(data: Data = None, file: File = None, as_json: Json = False) -> None:
    """Show which registered versions came from a version of the data or an imported file.

    Example: mno lineage models --data b52ee53b    or: mno lineage models --file log.csv
    """
    found = Answers().models(data, file)
    versions = [version.to_dict() for version in found.versions]
    unknown = [version.uri for version in found.unknown]
    told = {"asked": found.asked, "versions": versions, "cannot_be_known": unknown}
    answer(told, as_json, False, lambda _: _print_origin(found))


@lineage_app.command()
def diff(
    before: Annotated[str, typer.Argument(
        help="Number of a version, models:/NAME/VERSION or models:/NAME@ALIAS.")],
    after: Annotated[str, typer.Argument(help="The version to compare it with.")],
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show what changed between two versions: parameters, data, code, metrics, environment.

    Example: mno lineage diff 3 5
    """
    one, other, parts = Answers().difference(before, after)
    told = {"before": one.version.to_dict(), "after": other.version.to_dict()}
    for name, changes, unknown in parts:
        told[name] = {"changes": [c._asdict() for c in changes], "cannot_be_known": unknown}
    answer(told, as_json, False, lambda _: _print_difference(one, other, parts))


@lineage_app.command()
def affected(
    commit: Annotated[str | None, typer.Option(
        help="A commit, branch or tag, or a snapshot of a model.", metavar="SHA")] = None,
    data: Data = None, file: File = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show which versions are affected if a commit or data were bad, and what is in production.

    Of a commit, a version's own code is compared with what the commit changed. Versions whose
    training began from an affected one are affected, too.

    Example: mno lineage affected --commit 4f2a91c
    """
    found = Answers().affected(commit, data, file)
    versions = [{**v.to_dict(), "why": why, "stages": stages} for v, why, stages in found.affected]
    told = {"asked": found.asked, "affected": versions, "cannot_be_known": found.unknown}
    answer(told, as_json, False, lambda _: _print_affected(found))


def only(**given: str | None) -> None:
    """Refuse anything but exactly one of some options."""
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if len(named) != 1:
        what, names = " and ".join(named) or "nothing", ", ".join(f"--{name}" for name in given)
        raise InputError(f"{what} is given; give exactly one of {names}")


class Answers:
    """The questions, asked of the workspace around the current folder."""

    def __init__(self) -> None:
        self.root = find_workspace()
        prepare_environment(self.root)
        self.registry = registry_of(Workspace(self.root))
        self.versions = self.registry.versions()
        self.records = records_of(self.registry)

    def models(self, data: str | None = None, file: str | None = None) -> Origin:
        """Return the versions that came from data, by DVC's hash of them, or a file."""
        only(data=data, file=file)
        if data is not None:
            return of_data(self.versions, data)
        return of_file(self.versions, str(file), self.records)

    def affected(
        self, commit: str | None = None, data: str | None = None, file: str | None = None
    ) -> AffectedVersions:
        """Return the versions that are affected if a commit, a snapshot, data or a file was bad."""
        only(commit=commit, data=data, file=file)
        if commit is not None:
            return by_commit(self.root, self.versions, commit, self.records)
        return by_data(self.versions, self.models(data, file), self.records)

    def difference(self, before: str, after: str) -> tuple[Side, Side, list[Part]]:
        """Return what changed between two versions."""
        one, other = (self._side(target) for target in (before, after))
        return one, other, compare(self.root, [cache_folder(self.root)], one, other)

    def _side(self, target: str) -> Side:
        if target.isdecimal():  # of the scenario's own model
            name = model_name(model_subject(read_params(self.root)))
            target = f"models:/{name}/{target}"
        version = find_version_of(self.registry, target)
        run, read = version.run_id, self.registry.read
        return Side(version, self.records(version), lambda path: read(run, path) if run else None)


def write_change_note(decided: Mapping[str, Any]) -> Path:
    """Write what a new champion changes, and who decided it, into `reports/changes/`.

    Given is what `mno.registry.decision.promote` returns; returned is the path in the workspace.
    """
    name, version, then = (decided[key] for key in ("name", "version", "champion_then"))
    before = "where there was no champion" if then is None else f"in place of version {then}"
    lines = [f"# {name}: version {version} {before}", "", f"{decided['reason']}", ""]
    lines += [f"Decided by {decided['by']} on {decided['at']} ({decided['how']})."]
    lines += [f"Tried before: {decided['tried']}."] if decided["tried"] else []
    answers = Answers()
    sides = () if then is None else (f"models:/{name}/{then}", f"models:/{name}/{version}")
    for part, changes, unknown in answers.difference(*sides)[2] if sides else ():
        lines += ["", f"## {part.capitalize()}", ""]
        if changes:
            lines += ["| | before | after |", "| --- | --- | --- |"]
            lines += [f"| {c.subject} | {_value(c.before)} | {_value(c.after)} |" for c in changes]
        else:
            lines.append(f"Cannot be known: {unknown}." if unknown else "The same.")
    moment = decided["at"][:19].replace(":", "")
    path = Path("reports/changes") / f"{moment}-{name}-{version}.md"
    write_text(answers.root / path, "\n".join(lines) + "\n")
    return path


def _print_origin(origin: Origin) -> None:
    out = console()
    if not origin.versions:
        out.print(f"No registered version came from {origin.asked}.")
    else:
        out.print(f"Versions that came from {origin.asked}: {len(origin.versions)}\n")
        out.print(aligned(VERSION_HEAD, [_row(version) for version in origin.versions]))
    for version in origin.unknown:
        out.print(f"cannot be known: {version.uri}: it has no record that can be relied on")
    if origin.versions:
        out.print(f"\nNext: mno audit {origin.versions[0].uri}")


def _print_affected(found: AffectedVersions) -> None:
    out = console()
    out.print(f"If {found.asked} was bad, versions that are affected: {len(found.affected)}\n")
    if rows := [(*_row(f.version), ", ".join(f.stages), f.why) for f in found.affected]:
        out.print(aligned((*VERSION_HEAD, "Stages", "Why"), rows))
    for uri, why in found.unknown.items():
        out.print(f"cannot be known: {uri}: {why}")
    if champions := [f.version.uri for f in found.affected if CHAMPION in f.version.aliases]:
        out.print(f"\nIN PRODUCTION: {', '.join(champions)}")
        out.print("Next: correct it, then mno run;  what it replaced: mno promote --history")
    elif rows:
        out.print("\nNone of them is in production.")


def _print_difference(before: Side, after: Side, parts: Sequence[Part]) -> None:
    out, one, other = console(), before.version, after.version
    out.print(f"From {one.uri} to {other.uri}")
    head = ("", f"{one.name}/{one.number}", f"{other.name}/{other.number}")
    for name, changes, unknown in parts:
        size = f"{len(changes)} changed" if changes or unknown else "the same"
        out.print(f"\n{name}: {size}")
        if changes:
            rows = [(f"  {c.subject}", _value(c.before), _value(c.after)) for c in changes]
            out.print(aligned(head, rows))
        if unknown:
            out.print(f"  cannot be known: {unknown}")
    code = any(part.name == "code" and part.changes for part in parts)
    next_one = f"git diff {before.snapshot} {after.snapshot}" if code else f"mno audit {other.uri}"
    out.print(f"\nNext: {next_one}")


def _row(version: RegisteredVersion) -> tuple[str, ...]:
    error = "" if version.relative_l2 is None else f"{version.relative_l2:.2%}"
    number, registered = str(version.number), local(version.registered)
    return version.name, number, ", ".join(version.aliases), error, registered


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
