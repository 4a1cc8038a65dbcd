"""Which versions are affected if a commit or a version of the data was bad.

A commit is held against the content of each version's snapshot, file by file, since a model may
have been trained before its code was committed. Models that began their training from an affected
one are affected, too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mno.core.errors import InputError, MnoError
from mno.lineage.git import git
from mno.lineage.questions.origins import Origin, RecordOf
from mno.lineage.questions.stage_code import stage_patterns
from mno.lineage.questions.version import (
    CANDIDATE,
    DATA,
    SNAPSHOT,
    RegisteredVersion,
    digest_prefix,
)
from mno.lineage.snapshot import CODE

SAME_SNAPSHOT = "it was trained from this snapshot"
DATA_OF_IT = "it was trained on these data"


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
class Verdict:
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
) -> Verdict:
    """Return the versions whose code has what a commit changed.

    Args:
        root: A clone of the repository.
        versions: All that are registered.
        commit: A commit, or a snapshot, by its name or the beginning of it, or a branch or tag.
        records: Returns the lineage record of a version.

    Raises:
        InputError: There is no such commit here.
    """
    full = _resolve(root, commit)
    if full is None:
        full = digest_prefix(commit, "a commit")
        named = [v for v in versions if v.tags.get(SNAPSHOT, "").startswith(full)]
        if not named:
            raise InputError(
                f"{commit} is no commit of this clone and no snapshot of a version; "
                "fetch it: git fetch, git fetch ORIGIN 'refs/mno/*:refs/mno/*'"
            )
    snapshots = [v for v in versions if v.tags.get(SNAPSHOT, "").startswith(full)]
    if snapshots:
        direct = {v.uri: Affected(v, SAME_SNAPSHOT) for v in snapshots}
        return _verdict(f"snapshot {full}", versions, direct, {}, records)
    changed = _Change(root, full)
    direct, unknown = changed.held_against(versions, records)
    files = _few(list(changed.files)) or "no code that models are made from"
    return _verdict(f"commit {full} (changes {files})", versions, direct, unknown, records)


def by_data(versions: Sequence[RegisteredVersion], origin: Origin, records: RecordOf) -> Verdict:
    """Return the versions that came from bad data, directly or by way of another model.

    Args:
        versions: All that are registered.
        origin: Those that were trained on it.
        records: Returns the lineage record of a version.
    """
    direct = {version.uri: Affected(version, DATA_OF_IT) for version in origin.versions}
    unknown = {
        version.uri: f"no list of the files of its data {version.tags[DATA]} is at hand"
        for version in versions
        if version.tags.get(DATA) in origin.unknown
    }
    return _verdict(origin.asked, versions, direct, unknown, records)


def _verdict(
    asked: str,
    versions: Sequence[RegisteredVersion],
    direct: Mapping[str, Affected],
    unknown: Mapping[str, str],
    records: RecordOf,
) -> Verdict:
    """Add what began its training from an affected model, and so on."""
    affected = dict(direct)
    if affected:
        heirs: dict[str, list[RegisteredVersion]] = defaultdict(list)
        for version in versions:
            begun = ((records(version) or {}).get("warm_start") or {}).get("sha256")
            if begun:
                heirs[begun].append(version)
        waiting = [found.version for found in affected.values()]
        while waiting:
            parent = waiting.pop()
            for heir in heirs.get(parent.tags.get(CANDIDATE, ""), ()):
                if heir.uri not in affected:
                    affected[heir.uri] = Affected(heir, f"its training began from {parent.uri}")
                    waiting.append(heir)
    ordered = [affected[version.uri] for version in versions if version.uri in affected]
    return Verdict(asked, ordered, {u: w for u, w in unknown.items() if u not in affected})


class _Change:
    """What a commit changed of the code that models are made from.

    Args:
        root: A clone of the repository.
        commit: The full name of a commit in it.
    """

    def __init__(self, root: Path, commit: str) -> None:
        self._root, self._commit = root, commit
        self._by_scenario: dict[str, tuple[list[str], list[str]]] = {}
        how = ("-r", "-z", "--root", "--relative", "--no-renames", "--no-commit-id",
               "--diff-merges=first-parent")  # fmt: skip
        listed = git(root, "diff-tree", *how, commit, "--", *CODE)
        parts = listed.decode(errors="replace").split("\0")
        # Each is `:mode mode blob blob letter`, then the path.
        blobs = {path: head.split()[3] for head, path in zip(parts[::2], parts[1::2], strict=False)}
        self._patterns = stage_patterns(root, commit)
        self.files = {
            path: blob for path, blob in blobs.items() if any(
                pattern.fits(path) for pattern in self._patterns)
        }  # fmt: skip

    def held_against(
        self, versions: Sequence[RegisteredVersion], records: RecordOf
    ) -> tuple[dict[str, Affected], dict[str, str]]:
        """Return the versions that have it, and those of which it cannot be known."""
        affected: dict[str, Affected] = {}
        unknown: dict[str, str] = {}
        if not self.files:
            return affected, unknown
        snapshots = sorted({v.tags[SNAPSHOT] for v in versions if SNAPSHOT in v.tags})
        blobs = self._blobs(snapshots)
        kept = {version.uri: records(version) for version in versions}
        heads = {str((record or {}).get("head")) for record in kept.values()}
        descendants = self._descendants(heads)
        for version in versions:
            record, snapshot = kept[version.uri], version.tags.get(SNAPSHOT)
            if record is None or snapshot is None:
                unknown[version.uri] = "it has no lineage record that can be relied on"
                continue
            stages, files = self._relevant(str(record.get("scenario")))
            if not files:
                continue
            if snapshot not in blobs:
                unknown[version.uri] = f"its snapshot {snapshot[:12]} is not in this clone"
                continue
            present = blobs[snapshot]
            same = [f for f in files if present.get(f) == self.files[f]]
            if same or record.get("head") in descendants:
                rest = [f for f in files if f not in same]
                affected[version.uri] = Affected(version, _why(same, rest), stages)
        return affected, unknown

    def _relevant(self, scenario: str) -> tuple[list[str], list[str]]:
        """Return the stages of a scenario that the commit changes, and which of their files."""
        if scenario not in self._by_scenario:
            fitting = [
                (pattern.stage, path)
                for pattern in self._patterns
                for path in self.files
                if pattern.fits(path, scenario)
            ]
            stages = list(dict.fromkeys(stage for stage, _ in fitting))
            self._by_scenario[scenario] = stages, sorted({path for _, path in fitting})
        return self._by_scenario[scenario]

    def _blobs(self, snapshots: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the blob of each changed file in each snapshot that is in this clone."""
        prefix = git(self._root, "rev-parse", "--show-prefix").decode().strip()
        asked = [(s, path) for s in snapshots for path in (None, *self.files)]
        lines = [f"{s}:{prefix}{path}" if path else f"{s}^{{commit}}" for s, path in asked]
        found: dict[str, dict[str, str]] = {}
        answers = git(self._root, "cat-file", "--batch-check=%(objectname)",
                      stdin="".join(f"{line}\n" for line in lines).encode())  # fmt: skip
        for (snapshot, path), answer in zip(asked, answers.decode().splitlines(), strict=True):
            if not re.fullmatch("[0-9a-f]{40,64}", answer):
                continue  # missing
            if path is None:
                found[snapshot] = {}
            elif snapshot in found:
                found[snapshot][path] = answer
        return found

    def _descendants(self, heads: Iterable[str]) -> set[str]:
        """Return which of some commits have the commit among their ancestors, or are it."""
        names = sorted(head for head in heads if re.fullmatch("[0-9a-f]{40,64}", head))
        known = git(self._root, "cat-file", "--batch-check=%(objectname) %(objecttype)",
                    stdin="".join(f"{name}\n" for name in names).encode())  # fmt: skip
        pairs = (line.split() for line in known.decode().splitlines())
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


def _why(same: Sequence[str], changed: Sequence[str]) -> str:
    parts = [("as in the commit", same), ("has the commit, changed again since", changed)]
    return "; ".join(f"{words}: {_few(files)}" for words, files in parts if files)


def _few(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _resolve(root: Path, commit: str) -> str | None:
    """Return the full name of a commit; none where it is not in this clone."""
    if commit.startswith("-"):
        raise InputError(f"{commit!r} is no commit; give its name, a branch or a tag")
    try:
        found = git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except MnoError:
        return None
    return found.decode().strip()
