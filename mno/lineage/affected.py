"""Which versions came from data, an imported file, or code, and are affected if it was bad.

A version names its data by DVC's hash of a folder, and its record the files that were imported. A
commit is held against the content of each version's snapshot, file by file, since a model may have
been trained before its code was committed. Models that began their training from an affected one
are affected, too.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError
from mno.core.files import file_sha256
from mno.lineage.audit.objects import is_id
from mno.lineage.dvcfiles import MAKING
from mno.lineage.questions import RegisteredVersion, digest_prefix
from mno.lineage.record import Tag, entry
from mno.lineage.snapshot import CODE, FETCH, asked, git

Versions = Sequence[RegisteredVersion]
RecordOf = Callable[[RegisteredVersion], Mapping[str, Any] | None]
_SCENARIO = re.escape("${scenario}")
_NO_RECORD = "it has no lineage record that can be relied on"
_OF_ALL_STAGES = ("dvc.yaml", "constraints.txt")  # what every stage is made by


class Origin(NamedTuple):
    """The versions that a question about data is answered by."""

    asked: str  # in words
    versions: Versions  # those that came from it, the latest first
    unknown: Versions = ()  # those of which it cannot be known, for lack of a record


def of_data(versions: Versions, md5: str) -> Origin:
    """Return the versions trained on data, by DVC's hash or its beginning, if not of several."""
    prefix = digest_prefix(md5, "a version of the data")
    found = [version for version in versions if version.tags.get(Tag.DATA, "").startswith(prefix)]
    data = sorted({version.tags[Tag.DATA] for version in found})
    if len(data) > 1:
        raise InputError(f"{md5!r} is the beginning of {', '.join(data[:3])}; give more of it")
    return Origin(f"data {data[0] if data else md5}", found)


def of_file(versions: Versions, file: str, records: RecordOf) -> Origin:
    """Return the versions whose data were imported from a file, or one whose SHA-256 begins so."""
    path = Path(file)
    prefix = file_sha256(path) if path.is_file() else digest_prefix(file, "a file, nor a file")

    def came_from_it(version: RegisteredVersion) -> bool:
        given = entry(records(version), "data", "files") or []
        return any(imported["sha256"].startswith(prefix) for imported in given)

    found = [version for version in versions if came_from_it(version)]
    unknown = [version for version in versions if records(version) is None]
    return Origin(f"imported file {file}", found, unknown)


class Affected(NamedTuple):
    """A version that is affected, and why."""

    version: RegisteredVersion
    why: str
    stages: Sequence[str] = ()  # those whose code the commit changed; none where data are bad


class AffectedVersions(NamedTuple):
    """The answer: what was asked for, in words, and the versions, the latest first."""

    asked: str
    affected: Sequence[Affected]
    unknown: Mapping[str, str]  # why it cannot be known, by `models:/…`


def by_data(versions: Versions, origin: Origin, records: RecordOf) -> AffectedVersions:
    """Return which of all versions came from bad data, directly or by way of another model."""
    direct = [Affected(version, "it was trained on these data") for version in origin.versions]
    unknown = {version.uri: _NO_RECORD for version in origin.unknown}
    return _with_heirs(origin.asked, versions, direct, unknown, records)


def by_commit(root: Path, versions: Versions, commit: str, records: RecordOf) -> AffectedVersions:
    """Return the versions whose code has what a commit of a clone changed.

    The commit, or snapshot, is given by its name or the beginning of it, or as a branch or tag;
    refused is what is none of these here.
    """
    if commit.startswith("-"):
        raise InputError(f"{commit!r} is no commit; give its name, a branch or a tag")
    here = asked(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    full = here or digest_prefix(commit, "a commit")
    why = "it was trained from this snapshot"
    named = [Affected(v, why) for v in versions if v.tags.get(Tag.SNAPSHOT, "").startswith(full)]
    if named:
        return _with_heirs(f"snapshot {full}", versions, named, {}, records)
    if here is None:
        raise InputError(
            f"{commit} is no commit of this clone and no snapshot of a version; "
            f"fetch it: git fetch, {FETCH}"
        )
    patterns = _stage_patterns(root, full)
    changed = _changed_files(root, full)
    changed = {file: blob for file, blob in changed.items() if _stages(patterns, file, None)}
    direct, unknown = [], {}
    if changed:
        direct, unknown = _holding(root, full, changed, patterns, versions, records)
    files = _few(list(changed)) or "no code that models are made from"
    return _with_heirs(f"commit {full} (changes {files})", versions, direct, unknown, records)


def _with_heirs(
    asked: str, versions: Versions, direct: Sequence[Affected], unknown: Mapping[str, str],
    records: RecordOf,
) -> AffectedVersions:  # fmt: skip
    """Add what began its training from an affected model, and so on."""
    affected = {found.version.uri: found for found in direct}
    heirs: dict[str, list[RegisteredVersion]] = defaultdict(list)
    for version in versions if affected else ():
        heirs[entry(records(version), "warm_start", "sha256")].append(version)
    waiting = [found.version for found in direct]
    while waiting:
        parent = waiting.pop()
        for heir in heirs.get(parent.tags.get(Tag.CANDIDATE, ""), ()):
            if heir.uri not in affected:
                affected[heir.uri] = Affected(heir, f"its training began from {parent.uri}")
                waiting.append(heir)
    ordered = [affected[version.uri] for version in versions if version.uri in affected]
    left = {uri: why for uri, why in unknown.items() if uri not in affected}
    return AffectedVersions(asked, ordered, left)


def _holding(
    root: Path, commit: str, changed: Mapping[str, str], patterns: Sequence[tuple[str, str]],
    versions: Versions, records: RecordOf,
) -> tuple[list[Affected], dict[str, str]]:  # fmt: skip
    """Return the versions that have a commit's files, by blob; and of which it cannot be known."""
    affected: list[Affected] = []
    unknown: dict[str, str] = {}
    snapshots = sorted({v.tags.get(Tag.SNAPSHOT, "") for v in versions} - {""})
    blobs = _blobs(root, snapshots, changed)
    # The commit and what has it among its ancestors, up to commits that may be lost.
    heads = {str(entry(records(version), "head")) for version in versions}
    names = "".join(f"{head}\n" for head in heads if is_id(head)) + f"^{commit}\n"
    how = ("--ancestry-path", "--ignore-missing", "--stdin")
    having = {commit, *git(root, "rev-list", *how, stdin=names.encode()).decode().split()}

    @cache
    def relevant(scenario: str) -> dict[str, list[str]]:
        return {f: stages for f in changed if (stages := _stages(patterns, f, scenario))}

    for version in versions:
        record, snapshot = records(version), version.tags.get(Tag.SNAPSHOT)
        if record is None or snapshot is None:
            unknown[version.uri] = _NO_RECORD
            continue
        files = relevant(str(record.get("scenario")))
        if files and snapshot not in blobs:
            unknown[version.uri] = f"its snapshot {snapshot[:12]} is not in this clone"
        elif files:
            held, none = blobs[snapshot], "0" * len(commit)
            same = sorted(f for f in files if held.get(f, none) == changed[f])
            if same or record.get("head") in having:
                others = sorted(files.keys() - set(same))
                parts = {"as in the commit": same, "has the commit, changed again since": others}
                why = "; ".join(f"{how}: {_few(some)}" for how, some in parts.items() if some)
                concerned = {stage for stages in files.values() for stage in stages}
                known = dict.fromkeys(stage for stage, _ in patterns)
                affected.append(Affected(version, why, [s for s in known if s in concerned]))
    return affected, unknown


def _changed_files(root: Path, commit: str) -> dict[str, str]:
    """Return what a commit changed of the code, by path the blob that it left; zeros for none."""
    how = ("-r", "-z", "--root", "--relative", "--no-renames", "--no-commit-id",
           "--diff-merges=first-parent")  # fmt: skip
    parts = git(root, "diff-tree", *how, commit, "--", *CODE).decode(errors="replace").split("\0")
    # Each is `:mode mode blob blob letter`, then the path.
    return {path: head.split()[3] for head, path in zip(parts[::2], parts[1::2], strict=False)}


def _blobs(root: Path, snapshots: Sequence[str], files: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the blob of each file in each snapshot that is in this clone."""
    prefix = git(root, "rev-parse", "--show-prefix").decode().strip()
    wanted = [(s, path) for s in snapshots for path in (None, *files)]
    lines = [f"{s}:{prefix}{path}\n" if path else f"{s}^{{commit}}\n" for s, path in wanted]
    answers = git(root, "cat-file", "--batch-check=%(objectname)", stdin="".join(lines).encode())
    found: dict[str, dict[str, str]] = {}
    for (snapshot, path), answer in zip(wanted, answers.decode().splitlines(), strict=True):
        if is_id(answer):  # and not missing
            blobs = found.setdefault(snapshot, {})
            if path is not None:
                blobs[path] = answer
    return found


def _stages(patterns: Sequence[tuple[str, str]], path: str, scenario: str | None) -> list[str]:
    """Return the stages that depend on a file, for one scenario or for any."""
    name = re.escape(scenario) if scenario else "[a-z0-9_]+"
    return [
        stage
        for stage, stated in patterns
        if re.fullmatch(f"{re.escape(stated).replace(_SCENARIO, name)}(/.*)?", path)
    ]


def _stage_patterns(root: Path, commit: str) -> list[tuple[str, str]]:
    """Return stages of a model with the code that each depends on, as a commit's `dvc.yaml` says.

    A path is a file or folder; `${scenario}` in it stands for any scenario. Where the commit has no
    `dvc.yaml`, that of the workspace is taken. Where it cannot be read, any stage depends on all.
    """
    if (text := asked(root, "show", f"{commit}:./dvc.yaml")) is None:
        text = (root / "dvc.yaml").read_text(encoding="utf-8")
    try:
        stages: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
        deps = {name: (stages.get(name) or {}).get("deps") or () for name in MAKING}
    except (YAMLError, KeyError, TypeError, AttributeError):
        return [("any stage", path) for path in CODE]
    found = [(stage, str(path)) for stage, paths in deps.items() for path in paths]
    return found + [(stage, path) for path in _OF_ALL_STAGES for stage in MAKING]


def _few(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
