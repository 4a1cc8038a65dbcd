"""The audit of a model: every link of its lineage, held against its content."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from mno.lineage.audit.objects import Tree, is_object_name, read_tree
from mno.lineage.record import RECORD_FILE, entry
from mno.lineage.seal import Seal


class Verdict(StrEnum):
    """What was found of a link; an audit fails by what is changed or missing."""

    VERIFIED = "verified"  # its content is what was recorded
    CHANGED = "changed"  # it is there and is something else
    MISSING = "missing"  # it was recorded and is not there
    UNKNOWN = "cannot be known"  # nothing was recorded that could tell, or only the user can look

    @property
    def is_difference(self) -> bool:
        """Whether an audit with such a finding fails."""
        return self in (Verdict.CHANGED, Verdict.MISSING)


@dataclass(frozen=True)
class Finding:
    """A verdict on one subject of a link: what the record says, what is there, and what to do."""

    link: str
    subject: str
    verdict: Verdict
    expected: str = ""
    found: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Link:
    """Makes the findings of one link of the chain."""

    name: str

    def verified(self, subject: str, found: str = "") -> Finding:
        """Say that a subject is what was recorded."""
        return Finding(self.name, subject, Verdict.VERIFIED, found=found)

    def changed(self, subject: str, expected: object, found: object, advice: str = "") -> Finding:
        """Say that a subject is something else than was recorded."""
        return Finding(self.name, subject, Verdict.CHANGED, str(expected), str(found), advice)

    def missing(self, subject: str, expected: object = "", advice: str = "") -> Finding:
        """Say that a subject is not there."""
        return Finding(self.name, subject, Verdict.MISSING, str(expected), "nothing", advice)

    def unknown(self, subject: str, why: str, advice: str = "") -> Finding:
        """Say that nothing can be said, and why."""
        return Finding(self.name, subject, Verdict.UNKNOWN, found=why, advice=advice)

    def equal(self, subject: str, expected: object, found: object, advice: str = "") -> Finding:
        """Compare a value with what was recorded; None is one that is not there."""
        if found is None and expected is not None:
            return self.missing(subject, expected, advice)
        if found != expected:
            return self.changed(subject, expected, found, advice)
        return self.verified(subject, str(found))

    def all_equal(
        self, subject: str, expected: Mapping[str, Any], found: Mapping[str, Any], good: Finding,
        advice: str = "", lacking: object = None,
    ) -> Iterator[Finding]:  # fmt: skip
        """Yield a difference for each key with another value, or the good finding if none has.

        The subject has `{}` for the key; `lacking` is said to be expected of a key too many.
        """
        keys = sorted(expected.keys() | found.keys())
        apart = [key for key in keys if expected.get(key) != found.get(key)]
        for key in apart:
            value = expected.get(key, lacking)
            yield self.equal(subject.format(key), value, found.get(key), advice)
        if not apart:
            yield good


def differs(findings: Iterable[Finding]) -> bool:
    """Tell whether an audit has found a difference."""
    return any(finding.verdict.is_difference for finding in findings)


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings have each verdict."""
    found = [finding.verdict for finding in findings]
    return {str(verdict): found.count(verdict) for verdict in Verdict}


def worst(findings: Iterable[Finding], otherwise: Verdict = Verdict.VERIFIED) -> Verdict:
    """Return the verdict that weighs most, or `otherwise` of no findings."""
    order = (Verdict.CHANGED, Verdict.MISSING, Verdict.UNKNOWN, Verdict.VERIFIED)
    return min((finding.verdict for finding in findings), key=order.index, default=otherwise)


@dataclass(frozen=True)
class Evidence:
    """One registered version, and where the rest of its lineage may be found."""

    root: Path  # a clone; also the workspace whose files are compared if they are of this version
    name: str
    version: int
    facts: Mapping[str, Any]  # what `mno.registry.evidence.read_facts` returned
    aliases: Mapping[str, int]  # the version that each alias of the model stands for now
    versions: Mapping[int, Mapping[str, str]]  # our tags of all versions of the model, by number
    chain: tuple[Seal, ...]  # the model's seals, the latest first
    seal: Seal | None  # the version's own latest
    sealed_tag: str | None  # what the version says of its seal
    package: Path | None  # folder with the version's files; none where they cannot be read
    run: Path | None  # likewise with the run's files
    caches: tuple[Path, ...]  # DVC caches, in which objects are looked for in this order
    originals: tuple[Path, ...] = ()  # folders in which files that were imported may lie

    @property
    def tags(self) -> Mapping[str, str]:
        """The version's tags."""
        return self.facts["version"]["tags"]

    @property
    def whole_chain(self) -> list[Seal]:
        """Those of the model's seals that can be relied on."""
        return [seal for seal in self.chain if not seal.problem]

    @property
    def sealed(self) -> Mapping[str, Any] | None:
        """What the version's seal holds; none where it has none, or it cannot be relied on."""
        return self.seal.content if self.seal is not None and not self.seal.problem else None

    @cached_property
    def record(self) -> Mapping[str, Any] | None:
        """The lineage record: the sealed one, else the run's; none where it cannot be read."""
        return self.sealed["record"] if self.sealed else self.run_record

    def recorded(self, *keys: str) -> Any:
        """Return what the record says at a path of keys; none where it says nothing."""
        return entry(self.record, *keys)

    @property
    def data_md5(self) -> str | None:
        """DVC's hash of the data, as the record says; none where it says nothing of that kind."""
        md5 = self.recorded("data", "md5")
        return md5 if is_object_name(md5) else None

    @cached_property
    def run_record(self) -> Mapping[str, Any] | None:
        """The record among the run's files; none where it cannot be read."""
        content = self.run_json(RECORD_FILE)
        return content if isinstance(content, dict) else None

    @cached_property
    def tree(self) -> Tree:
        """The snapshot that the model was trained from."""
        return read_tree(self.root, self.recorded("snapshot", "commit"))

    @cached_property
    def registered_tree(self) -> Tree | None:
        """The snapshot that the model was registered from; none where it is not sealed."""
        if (commit := entry(self.sealed, "snapshot", "commit")) is None:
            return None
        return self.tree if commit == self.tree.commit else read_tree(self.root, commit)

    def run_file(self, name: str) -> Path | None:
        """Return a file of the run; none where there is none."""
        path = self.run / name if self.run else None
        return path if path is not None and path.is_file() else None

    def run_json(self, name: str) -> Any:
        """Read a file of the run as JSON; none where it cannot be read."""
        path = self.run_file(name)
        try:
            return json.loads(path.read_bytes()) if path else None
        except (OSError, ValueError):
            return None
