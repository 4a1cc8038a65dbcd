"""The audit of a model: every link of its lineage, held against its content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from mno.lineage.audit.objects import Tree, is_object_name, read_tree
from mno.lineage.record import RECORD_FILE, entry
from mno.lineage.seal import Seal


class Verdict(StrEnum):
    """What was found of a link.

    `verified`: its content is what was recorded. `changed`: it is there and is something else.
    `missing`: it was recorded and is not there. `unknown`: nothing was recorded that could tell, or
    nobody but the user can look.
    """

    VERIFIED = "verified"
    CHANGED = "changed"
    MISSING = "missing"
    UNKNOWN = "cannot be known"

    @property
    def is_difference(self) -> bool:
        """Whether an audit with such a finding fails."""
        return self in (Verdict.CHANGED, Verdict.MISSING)


@dataclass(frozen=True)
class Finding:
    """A verdict on one subject.

    Attributes:
        link: The part of the chain, for example `data`.
        subject: What was looked at, for example a file.
        verdict: What was found.
        expected: What the record says; empty where there is nothing to say.
        found: What is there.
        advice: What to do about it.
    """

    link: str
    subject: str
    verdict: Verdict
    expected: str = ""
    found: str = ""
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as plain values."""
        return {**asdict(self), "verdict": str(self.verdict)}


@dataclass(frozen=True)
class Link:
    """Makes the findings of one link.

    Attributes:
        name: The link.
    """

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


def differs(findings: Iterable[Finding]) -> bool:
    """Tell whether an audit has found a difference."""
    return any(finding.verdict.is_difference for finding in findings)


def worst(findings: Iterable[Finding], otherwise: Verdict = Verdict.VERIFIED) -> Verdict:
    """Return the verdict that weighs most.

    Args:
        findings: What was found.
        otherwise: What to say where there are none.
    """
    order = (Verdict.CHANGED, Verdict.MISSING, Verdict.UNKNOWN, Verdict.VERIFIED)
    return min((finding.verdict for finding in findings), key=order.index, default=otherwise)


@dataclass(frozen=True)
class Evidence:
    """One registered version, and where the rest of its lineage may be found.

    Attributes:
        root: A clone of the repository; also the workspace whose files are compared if they are of
            this version.
        name: The registered model.
        version: The version's number.
        facts: What `mno.registry.evidence.read_facts` returned.
        aliases: The version that each alias of the model stands for now.
        versions: Our tags of all versions of the model, by number.
        chain: The model's seals, the latest first.
        seal: The version's own latest seal; none where it has none.
        sealed_tag: What the version says of its seal; none where it says nothing.
        package: Folder with the version's files; none where they cannot be read.
        run: Folder with the run's files; none where they cannot be read.
        caches: Folders of DVC caches, in which objects are looked for in this order.
        originals: Folders in which files that were imported may lie.
    """

    root: Path
    name: str
    version: int
    facts: Mapping[str, Any]
    aliases: Mapping[str, int]
    versions: Mapping[int, Mapping[str, str]]
    chain: tuple[Seal, ...]
    seal: Seal | None
    sealed_tag: str | None
    package: Path | None
    run: Path | None
    caches: tuple[Path, ...]
    originals: tuple[Path, ...] = ()

    @property
    def tags(self) -> Mapping[str, str]:
        """The version's tags."""
        return self.facts["version"]["tags"]

    @property
    def sealed(self) -> Mapping[str, Any] | None:
        """What the version's seal holds; none where it has none, or it cannot be relied on."""
        return self.seal.content if self.seal is not None and not self.seal.problem else None

    @cached_property
    def record(self) -> Mapping[str, Any] | None:
        """The lineage record: the sealed one, else the run's; none where it cannot be read."""
        return self.sealed["record"] if self.sealed else self.run_record

    @property
    def data_md5(self) -> str | None:
        """DVC's hash of the data, as the record says; none where it says nothing of that kind."""
        md5 = entry(self.record, "data", "md5")
        return md5 if is_object_name(md5) else None

    @cached_property
    def run_record(self) -> Mapping[str, Any] | None:
        """The record among the run's files; none where it cannot be read."""
        content = self.run_json(RECORD_FILE)
        return content if isinstance(content, dict) else None

    @cached_property
    def tree(self) -> Tree:
        """The snapshot that the model was trained from."""
        return read_tree(self.root, entry(self.record, "snapshot", "commit"))

    @cached_property
    def registered_tree(self) -> Tree | None:
        """The snapshot that the model was registered from; none where it is not sealed."""
        if self.sealed is None:
            return None
        commit = self.sealed["snapshot"]["commit"]
        same = commit == self.tree.commit
        return self.tree if same else read_tree(self.root, commit)

    def run_json(self, name: str) -> Any:
        """Read a file of the run as JSON; none where it cannot be read."""
        if self.run is None:
            return None
        try:
            return json.loads((self.run / name).read_bytes())
        except (OSError, ValueError):
            return None
