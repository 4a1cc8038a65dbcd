"""Which versions came from data, from a file of them, or from code, and are affected if it was bad.

A version names its data by DVC's hash of a folder. The objects of DVC's cache by that name list
the files in it, and the dataset's own root file names each file's SHA-256. A commit is held against
the content of each version's snapshot, file by file, since a model may have been trained before its
code was committed. Models that began their training from an affected one are affected, too.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError, MnoError
from mno.lineage.audit.objects import digests, find_object, listed_files
from mno.lineage.dvcfiles import MAKING
from mno.lineage.questions import RegisteredVersion, digest_prefix
from mno.lineage.record import Tag, entry
from mno.lineage.snapshot import CODE, git

RecordOf = Callable[[RegisteredVersion], Mapping[str, Any] | None]
_ROOT_FILE = "zarr.json"
_COMMIT = re.compile("[0-9a-f]{40,64}")
_SCENARIO = re.escape("${scenario}")
# What every stage is made by.
_OF_ALL_STAGES = ("dvc.yaml", "constraints.txt")


@dataclass(frozen=True)
class Origin:
    """The versions that a question about data is answered by.

    Attributes:
        asked: What was asked for, in words.
        versions: Those that came from it, the latest first.
        files: Where it was found, by version of the data: names of files in the dataset.
        unknown: Versions of the data of which it cannot be known, since no list of their files is
            at hand, with the number of registered versions that came from each.
    """

    asked: str
    versions: Sequence[RegisteredVersion]
    files: Mapping[str, Sequence[str]]
    unknown: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "asked": self.asked,
            "versions": [version.to_dict() for version in self.versions],
            "files": {md5: list(names) for md5, names in self.files.items()},
            "cannot_be_known": dict(self.unknown),
        }


def of_data(versions: Sequence[RegisteredVersion], md5: str) -> Origin:
    """Return the versions that were trained on a version of the data.

    Args:
        versions: All that are registered.
        md5: DVC's hash of `data/`, or its beginning.

    Raises:
        InputError: It is no such hash, or the beginning of several.
    """
    prefix = digest_prefix(md5, "a version of the data")
    found = [version for version in versions if version.tags.get(Tag.DATA, "").startswith(prefix)]
    data = sorted({version.tags[Tag.DATA] for version in found})
    if len(data) > 1:
        raise InputError(f"{md5!r} is the beginning of {', '.join(data[:3])}; give more of it")
    return Origin(f"data {data[0] if data else md5}", found, {}, {})


def of_shard(versions: Sequence[RegisteredVersion], shard: str, caches: Iterable[Path]) -> Origin:
    """Return the versions whose data have a file, wherever in the dataset it lies.

    Args:
        versions: All that are registered.
        shard: The file, or its MD5 or SHA-256, or the beginning of that.
        caches: DVC caches, in which the lists of files are looked up.

    Raises:
        InputError: It is neither a file nor a digest.
    """
    path = Path(shard)
    prefix = digests(path).md5 if path.is_file() else digest_prefix(shard, "a shard, nor a file")
    files: dict[str, list[str]] = {}
    unknown: dict[str, int] = {}
    named = [version.tags[Tag.DATA] for version in versions if Tag.DATA in version.tags]
    for md5 in dict.fromkeys(named):
        listing = listed_files(caches, md5)
        if listing is None:
            unknown[md5] = named.count(md5)
            continue
        found = _by_sha256(listing, caches) if len(prefix) > 32 else listing
        places = [name for name, digest in found.items() if digest.startswith(prefix)]
        if places:
            files[md5] = places
    made = [version for version in versions if version.tags.get(Tag.DATA) in files]
    return Origin(f"shard {shard}", made, files, unknown)


def of_file(versions: Sequence[RegisteredVersion], file: str, records: RecordOf) -> Origin:
    """Return the versions whose data were imported from a file.

    Args:
        versions: All that are registered.
        file: The file, or its SHA-256, or the beginning of that.
        records: Returns the lineage record of a version.

    Raises:
        InputError: It is neither a file nor a digest.
    """
    path = Path(file)
    prefix = digests(path).sha256 if path.is_file() else digest_prefix(file, "a file, nor a file")
    files: dict[str, list[str]] = {}
    unknown: dict[str, int] = {}
    found = []
    for version in versions:
        data, record = version.tags.get(Tag.DATA, "unknown"), records(version)
        if record is None:
            unknown[data] = unknown.get(data, 0) + 1
            continue
        given = entry(record, "data", "files") or []
        names = [str(item["file"]) for item in given if item["sha256"].startswith(prefix)]
        if names:
            found.append(version)
            files[data] = names
    return Origin(f"imported file {file}", found, files, unknown)


def _by_sha256(listing: Mapping[str, str], caches: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, as the dataset's root file names them."""
    path = find_object(caches, listing.get(_ROOT_FILE))
    try:
        shards = json.loads(path.read_bytes() if path else b"")["attributes"]["shards"]
        return {str(name): str(digest) for name, digest in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


@dataclass(frozen=True)
class Affected:
    """A version that is affected.

    Attributes:
        version: The version.
        why: In words.
        stages: The stages whose code the commit changed; empty where data are bad.
    """

    version: RegisteredVersion
    why: str
    stages: Sequence[str] = ()

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {**self.version.to_dict(), "why": self.why, "stages": list(self.stages)}


@dataclass(frozen=True)
class AffectedVersions:
    """The answer.

    Attributes:
        asked: What was asked for, in words.
        affected: The versions, the latest first.
        unknown: Versions of which it cannot be known, as `models:/…`, with the reason.
    """

    asked: str
    affected: Sequence[Affected]
    unknown: Mapping[str, str]

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "asked": self.asked,
            "affected": [found.to_dict() for found in self.affected],
            "cannot_be_known": dict(self.unknown),
        }


def by_commit(
    root: Path, versions: Sequence[RegisteredVersion], commit: str, records: RecordOf
) -> AffectedVersions:
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
    try:
        found = git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
        full, here = found.decode().strip(), True
    except MnoError:
        full, here = digest_prefix(commit, "a commit"), False
    named = [v for v in versions if v.tags.get(Tag.SNAPSHOT, "").startswith(full)]
    if not named and not here:
        raise InputError(
            f"{commit} is no commit of this clone and no snapshot of a version; "
            "fetch it: git fetch, git fetch ORIGIN 'refs/mno/*:refs/mno/*'"
        )
    if named:
        direct = {v.uri: Affected(v, "it was trained from this snapshot") for v in named}
        return _with_heirs(f"snapshot {full}", versions, direct, {}, records)
    change = _Change(root, full)
    direct, unknown = change.held_against(versions, records)
    files = _few(list(change.files)) or "no code that models are made from"
    return _with_heirs(f"commit {full} (changes {files})", versions, direct, unknown, records)


def by_data(
    versions: Sequence[RegisteredVersion], origin: Origin, records: RecordOf
) -> AffectedVersions:
    """Return the versions that came from bad data, directly or by way of another model.

    Args:
        versions: All that are registered.
        origin: Those that were trained on it.
        records: Returns the lineage record of a version.
    """
    why = "it was trained on these data"
    direct = {version.uri: Affected(version, why) for version in origin.versions}
    unknown = {
        version.uri: f"no list of the files of its data {version.tags[Tag.DATA]} is at hand"
        for version in versions
        if version.tags.get(Tag.DATA) in origin.unknown
    }
    return _with_heirs(origin.asked, versions, direct, unknown, records)


def _with_heirs(
    asked: str,
    versions: Sequence[RegisteredVersion],
    direct: Mapping[str, Affected],
    unknown: Mapping[str, str],
    records: RecordOf,
) -> AffectedVersions:
    """Add what began its training from an affected model, and so on."""
    affected = dict(direct)
    heirs: dict[str, list[RegisteredVersion]] = defaultdict(list)
    for version in versions if affected else ():
        heirs[entry(records(version), "warm_start", "sha256")].append(version)
    waiting = [found.version for found in affected.values()]
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
    """What a commit changed of the code that models are made from.

    Args:
        root: A clone of the repository.
        commit: The full name of a commit in it.
    """

    def __init__(self, root: Path, commit: str) -> None:
        self._root, self._commit = root, commit
        how = ("-r", "-z", "--root", "--relative", "--no-renames", "--no-commit-id",
               "--diff-merges=first-parent")  # fmt: skip
        listed = git(root, "diff-tree", *how, commit, "--", *CODE)
        parts = listed.decode(errors="replace").split("\0")
        # Each is `:mode mode blob blob letter`, then the path.
        blobs = {path: head.split()[3] for head, path in zip(parts[::2], parts[1::2], strict=False)}
        self._patterns = stage_patterns(root, commit)
        self.files = {path: blob for path, blob in blobs.items() if self._stages(path, None)}

    def held_against(
        self, versions: Sequence[RegisteredVersion], records: RecordOf
    ) -> tuple[dict[str, Affected], dict[str, str]]:
        """Return the versions that have it, and those of which it cannot be known."""
        affected: dict[str, Affected] = {}
        unknown: dict[str, str] = {}
        if not self.files:
            return affected, unknown
        blobs = self._blobs(sorted({v.tags.get(Tag.SNAPSHOT, "") for v in versions} - {""}))
        kept = {version.uri: records(version) for version in versions}
        descendants = self._descendants({str((found or {}).get("head")) for found in kept.values()})
        relevant = {
            scenario: {f: stages for f in self.files if (stages := self._stages(f, scenario))}
            for scenario in {str((found or {}).get("scenario")) for found in kept.values()}
        }
        for version in versions:
            record, snapshot = kept[version.uri], version.tags.get(Tag.SNAPSHOT)
            if record is None or snapshot is None:
                unknown[version.uri] = "it has no lineage record that can be relied on"
                continue
            files = relevant[str(record.get("scenario"))]
            if files and snapshot not in blobs:
                unknown[version.uri] = f"its snapshot {snapshot[:12]} is not in this clone"
            elif files:
                same = sorted(f for f in files if blobs[snapshot].get(f) == self.files[f])
                if same or record.get("head") in descendants:
                    changed = {stage for stages in files.values() for stage in stages}
                    stages = [
                        p for p in dict.fromkeys(s for s, _ in self._patterns) if p in changed
                    ]
                    rest = sorted(files.keys() - set(same))
                    affected[version.uri] = Affected(version, _why(same, rest), stages)
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
        asked = [(s, path) for s in snapshots for path in (None, *self.files)]
        lines = [f"{s}:{prefix}{path}" if path else f"{s}^{{commit}}" for s, path in asked]
        answers = self._in_batch("%(objectname)", lines)
        found: dict[str, dict[str, str]] = {}
        for (snapshot, path), answer in zip(asked, answers, strict=True):
            if not _COMMIT.fullmatch(answer):
                continue  # missing
            if path is None:
                found[snapshot] = {}
            elif snapshot in found:
                found[snapshot][path] = answer
        return found

    def _descendants(self, heads: Iterable[str]) -> set[str]:
        """Return which of some commits have the commit among their ancestors, or are it."""
        names = sorted(head for head in heads if _COMMIT.fullmatch(head))
        pairs = (line.split() for line in self._in_batch("%(objectname) %(objecttype)", names))
        present = [name for name, kind in pairs if kind == "commit"]
        if not present:
            return set()
        walked = git(self._root, "rev-list", "--parents", "--topo-order", "--reverse", "--stdin",
                     stdin="".join(f"{name}\n" for name in present).encode())  # fmt: skip
        found = {self._commit}
        for line in walked.decode().splitlines():  # parents come before their children
            commit, *parents = line.split()
            if found.intersection(parents):
                found.add(commit)
        return found

    def _in_batch(self, answer: str, names: Sequence[str]) -> list[str]:
        stdin = "".join(f"{name}\n" for name in names).encode()
        told = git(self._root, "cat-file", f"--batch-check={answer}", stdin=stdin)
        return told.decode().splitlines()


def stage_patterns(root: Path, commit: str) -> list[tuple[str, str]]:
    """Return stages of a model with the code that each depends on, as a commit's `dvc.yaml` says.

    A path is a file or folder; `${scenario}` in it stands for any scenario. Where the commit has no
    `dvc.yaml`, that of the workspace is taken. Where it cannot be read, any stage depends on all.
    """
    try:
        text = git(root, "show", f"{commit}:./dvc.yaml").decode(errors="replace")
    except MnoError:
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
