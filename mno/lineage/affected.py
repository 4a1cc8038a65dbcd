"""Which versions came from data, from a file of them, or from code, and are affected if it was bad.

A version names its data by DVC's hash of a folder. The objects of DVC's cache by that name list
the files in it, and the dataset's own root file names each file's SHA-256. A commit is held against
the content of each version's snapshot, file by file, since a model may have been trained before its
code was committed. Models that began their training from an affected one are affected, too.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError
from mno.core.files import file_md5, file_sha256
from mno.lineage.audit.objects import find_object, is_id, listed_files
from mno.lineage.dvcfiles import MAKING
from mno.lineage.questions import RegisteredVersion, digest_prefix
from mno.lineage.record import Tag, entry
from mno.lineage.snapshot import CODE, FETCH, asked, git

Versions = Sequence[RegisteredVersion]
RecordOf = Callable[[RegisteredVersion], Mapping[str, Any] | None]
_ROOT_FILE = "zarr.json"
_SCENARIO = re.escape("${scenario}")
# What every stage is made by.
_OF_ALL_STAGES = ("dvc.yaml", "constraints.txt")


class Origin(NamedTuple):
    """The versions that a question about data is answered by."""

    asked: str  # in words
    versions: Versions  # those that came from it, the latest first
    files: Mapping[str, Sequence[str]]  # where it was found: names of files by version of the data
    # Versions of the data of which it cannot be known, since no list of their files is at hand,
    # with the number of registered versions that came from each.
    unknown: Mapping[str, int]


def of_data(versions: Versions, md5: str) -> Origin:
    """Return the versions that were trained on data, by DVC's hash of them or its beginning.

    Raises:
        InputError: It is no such hash, or the beginning of several.
    """
    prefix = digest_prefix(md5, "a version of the data")
    found = [version for version in versions if version.tags.get(Tag.DATA, "").startswith(prefix)]
    data = sorted({version.tags[Tag.DATA] for version in found})
    if len(data) > 1:
        raise InputError(f"{md5!r} is the beginning of {', '.join(data[:3])}; give more of it")
    return Origin(f"data {data[0] if data else md5}", found, {}, {})


def of_shard(versions: Versions, shard: str, caches: Iterable[Path]) -> Origin:
    """Return the versions whose data have a file, wherever in the dataset it lies.

    Args:
        versions: All that are registered.
        shard: The file, or its MD5 or SHA-256, or the beginning of that.
        caches: DVC caches, in which the lists of files are looked up.

    Raises:
        InputError: It is neither a file nor a digest.
    """
    path = Path(shard)
    prefix = file_md5(path) if path.is_file() else digest_prefix(shard, "a shard, nor a file")

    @cache
    def listed(md5: str) -> Iterable[tuple[str, str]] | None:
        listing = listed_files(caches, md5)
        if listing is not None and len(prefix) > 32:
            listing = _by_sha256(listing, caches)
        return None if listing is None else listing.items()

    def files(version: RegisteredVersion) -> Iterable[tuple[str, str]] | None:
        md5 = version.tags.get(Tag.DATA)
        return listed(md5) if md5 is not None else ()

    return _from_files(f"shard {shard}", versions, files, prefix)


def of_file(versions: Versions, file: str, records: RecordOf) -> Origin:
    """Return the versions whose data were imported from a file, or one of a SHA-256.

    Raises:
        InputError: It is neither a file nor a digest or the beginning of one.
    """
    path = Path(file)
    prefix = file_sha256(path) if path.is_file() else digest_prefix(file, "a file, nor a file")

    def files(version: RegisteredVersion) -> Iterable[tuple[str, str]] | None:
        record = records(version)
        given = entry(record, "data", "files") or []
        return None if record is None else [(str(f["file"]), f["sha256"]) for f in given]

    return _from_files(f"imported file {file}", versions, files, prefix)


def _from_files(
    asked: str,
    versions: Versions,
    files: Callable[[RegisteredVersion], Iterable[tuple[str, str]] | None],
    prefix: str,
) -> Origin:
    """Return the versions of which a file has a digest, by the names and digests of their files."""
    found, unknown, places = [], Counter[str](), dict[str, list[str]]()
    for version in versions:
        data, known = version.tags.get(Tag.DATA, "unknown"), files(version)
        if known is None:
            unknown[data] += 1
        elif names := [name for name, digest in known if digest.startswith(prefix)]:
            found.append(version)
            places[data] = names
    return Origin(asked, found, places, dict(unknown))


def _by_sha256(listing: Mapping[str, str], caches: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, as the dataset's root file names them."""
    path = find_object(caches, listing.get(_ROOT_FILE))
    try:
        shards = json.loads(path.read_bytes() if path else b"")["attributes"]["shards"]
        return {str(name): str(digest) for name, digest in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


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


def by_commit(root: Path, versions: Versions, commit: str, records: RecordOf) -> AffectedVersions:
    """Return the versions whose code has what a commit changed.

    Args:
        root: A clone of the repository.
        versions: All that are registered.
        commit: A commit, or a snapshot, by its name or the beginning of it, or a branch or tag.
        records: Returns the lineage record of a version.

    Raises:
        InputError: There is no such commit here.
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
    change = _Change(root, full)
    direct, unknown = change.held_against(versions, records)
    files = _few(list(change.files)) or "no code that models are made from"
    return _with_heirs(f"commit {full} (changes {files})", versions, direct, unknown, records)


def by_data(versions: Versions, origin: Origin, records: RecordOf) -> AffectedVersions:
    """Return which of all versions came from bad data, directly or by way of another model."""
    direct = [Affected(version, "it was trained on these data") for version in origin.versions]
    unknown = {
        version.uri: f"no list of the files of its data {version.tags[Tag.DATA]} is at hand"
        for version in versions
        if version.tags.get(Tag.DATA) in origin.unknown
    }
    return _with_heirs(origin.asked, versions, direct, unknown, records)


def _with_heirs(
    asked: str,
    versions: Versions,
    direct: Sequence[Affected],
    unknown: Mapping[str, str],
    records: RecordOf,
) -> AffectedVersions:
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


class _Change:
    """What a commit of a clone, by its full name, changed of the code that models are made from."""

    def __init__(self, root: Path, commit: str) -> None:
        self._root, self._commit = root, commit
        how = ("-r", "-z", "--root", "--relative", "--no-renames", "--no-commit-id",
               "--diff-merges=first-parent")  # fmt: skip
        listed = git(root, "diff-tree", *how, commit, "--", *CODE)
        parts = listed.decode(errors="replace").split("\0")
        # Each is `:mode mode blob blob letter`, then the path.
        blobs = {path: head.split()[3] for head, path in zip(parts[::2], parts[1::2], strict=False)}
        self._patterns = _stage_patterns(root, commit)
        self.files = {path: blob for path, blob in blobs.items() if self._stages(path, None)}

    def held_against(
        self, versions: Versions, records: RecordOf
    ) -> tuple[list[Affected], dict[str, str]]:
        """Return the versions that have it, and those of which it cannot be known."""
        affected: list[Affected] = []
        unknown: dict[str, str] = {}
        if not self.files:
            return affected, unknown
        blobs = self._blobs(sorted({v.tags.get(Tag.SNAPSHOT, "") for v in versions} - {""}))
        kept = [(version, records(version)) for version in versions]
        descendants = self._descendants({str(entry(record, "head")) for _, record in kept})

        @cache
        def relevant(scenario: str) -> dict[str, list[str]]:
            return {f: stages for f in self.files if (stages := self._stages(f, scenario))}

        for version, record in kept:
            snapshot = version.tags.get(Tag.SNAPSHOT)
            if record is None or snapshot is None:
                unknown[version.uri] = "it has no lineage record that can be relied on"
                continue
            files = relevant(str(record.get("scenario")))
            if files and snapshot not in blobs:
                unknown[version.uri] = f"its snapshot {snapshot[:12]} is not in this clone"
            elif files:
                same = sorted(f for f in files if blobs[snapshot].get(f) == self.files[f])
                if same or record.get("head") in descendants:
                    changed = {stage for stages in files.values() for stage in stages}
                    known = dict.fromkeys(stage for stage, _ in self._patterns)
                    stages = [stage for stage in known if stage in changed]
                    why = _why(same, sorted(files.keys() - set(same)))
                    affected.append(Affected(version, why, stages))
        return affected, unknown

    def _stages(self, path: str, scenario: str | None) -> list[str]:
        """Return the stages that depend on a file, for one scenario or for any."""
        name = re.escape(scenario) if scenario else "[a-z0-9_]+"
        return [
            stage
            for stage, stated in self._patterns
            if re.fullmatch(f"{re.escape(stated).replace(_SCENARIO, name)}(/.*)?", path)
        ]

    def _blobs(self, snapshots: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the blob of each changed file in each snapshot that is in this clone."""
        prefix = git(self._root, "rev-parse", "--show-prefix").decode().strip()
        wanted = [(s, path) for s in snapshots for path in (None, *self.files)]
        lines = [f"{s}:{prefix}{path}\n" if path else f"{s}^{{commit}}\n" for s, path in wanted]
        answers = git(self._root, "cat-file", "--batch-check=%(objectname)",
                      stdin="".join(lines).encode()).decode().splitlines()  # fmt: skip
        found: dict[str, dict[str, str]] = {}
        for (snapshot, path), answer in zip(wanted, answers, strict=True):
            if not is_id(answer):
                continue  # missing
            if path is None:
                found[snapshot] = {}
            elif snapshot in found:
                found[snapshot][path] = answer
        return found

    def _descendants(self, heads: Iterable[str]) -> set[str]:
        """Return the commit and what has it among its ancestors, up to commits that may be lost."""
        names = "".join(f"{head}\n" for head in heads if is_id(head)) + f"^{self._commit}\n"
        how = ("--ancestry-path", "--ignore-missing", "--stdin")
        found = git(self._root, "rev-list", *how, stdin=names.encode())
        return {self._commit, *found.decode().split()}


def _stage_patterns(root: Path, commit: str) -> list[tuple[str, str]]:
    """Return stages of a model with the code that each depends on, as a commit's `dvc.yaml` says.

    A path is a file or folder; `${scenario}` in it stands for any scenario. Where the commit has no
    `dvc.yaml`, that of the workspace is taken. Where it cannot be read, any stage depends on all.
    """
    text = asked(root, "show", f"{commit}:./dvc.yaml")
    if text is None:
        text = (root / "dvc.yaml").read_text(encoding="utf-8")
    try:
        stages: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
        deps = {name: (stages.get(name) or {}).get("deps") or () for name in MAKING}
    except (YAMLError, KeyError, TypeError, AttributeError):
        return [("any stage", path) for path in CODE]
    found = [(stage, str(path)) for stage, paths in deps.items() for path in paths]
    return found + [(stage, path) for path in _OF_ALL_STAGES for stage in MAKING]


def _why(same: Sequence[str], changed: Sequence[str]) -> str:
    parts = [("as in the commit", same), ("has the commit, changed again since", changed)]
    return "; ".join(f"{words}: {_few(files)}" for words, files in parts if files)


def _few(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
