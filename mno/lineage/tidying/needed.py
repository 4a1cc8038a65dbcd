"""What registered versions and workspaces need, by what their records name.

Every hash that a seal, a record, a tag or a lock file names counts as needed, whatever it is the
hash of. So nothing goes that an audit may look up; a little more may stay than has to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mno.core.errors import MnoError
from mno.lineage.git import git
from mno.lineage.questions.version import DATA, SEAL, RegisteredVersion, RunFiles
from mno.lineage.seal import SealPointer, read_seal

SEALS, CERTIFICATES = "seals", "certificates"
_RECORD = "record.json"
_HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{40}|[0-9a-f]{32}(?:\.dir)?)(?![0-9a-f])")
# Branches, tags, and DVC's experiments; snapshots are judged by themselves.
_REFS = ("refs/heads", "refs/tags", "refs/remotes", "refs/exps", "refs/stash")
_LOCKS = ("dvc.lock", "data.dvc")


@dataclass
class Needed:
    """What must stay.

    Attributes:
        hashes: Names of objects in DVC's cache, and of commits.
        data: Of these, the versions of the data whose list of files must be at hand to know what
            else is needed, with who needs them.
        runs: Ids of MLflow runs.
        models: Ids of logged models, or other places of a version's files.
        doubts: Why it is not known what all is needed; where there is one, neither cache nor
            snapshots may be touched.
    """

    hashes: set[str] = field(default_factory=set)
    data: dict[str, str] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    doubts: list[str] = field(default_factory=list)

    def add_version(self, version: RegisteredVersion, files: RunFiles) -> None:
        """Add a registered version: its files, run, seal, data and snapshots."""
        if version.source:
            self.models.add(version.source.removeprefix("models:/"))
        self._add_text(" ".join(version.tags.values()))
        if DATA in version.tags:
            self.data.setdefault(version.tags[DATA], version.uri)
        if version.run_id:
            self.add_run(version.run_id, files)
        pointer = SealPointer.parse(version.tags.get(SEAL, ""))
        if pointer is None:
            return
        self.runs.add(pointer.run_id)
        text = files.read(pointer.run_id, f"{SEALS}/{pointer.sha256}.json")
        seal = read_seal(pointer, text)
        if seal.problem:
            self.doubts.append(f"the seal of {version.uri} is {seal.problem}; mno audit says more")
        self._add_text((text or b"").decode(errors="replace"))

    def add_run(self, run_id: str, files: RunFiles) -> None:
        """Add a run: itself, and all that its record and its seals name."""
        self.runs.add(run_id)
        for name in (_RECORD, *files.names(run_id, SEALS)):
            self._add_text((files.read(run_id, name) or b"").decode(errors="replace"))

    def add_workspace(self, root: Path) -> None:
        """Add what DVC's files name: those on disk, and those of branches, tags and experiments."""
        for path in (root / "dvc.lock", *root.glob("*.dvc")):
            if path.is_file():
                self._add_text(path.read_text(encoding="utf-8", errors="replace"))
        self._add_text("\n".join(_committed_locks(root)))

    def _add_text(self, text: str) -> None:
        self.hashes.update(_HASH.findall(text))


def _committed_locks(root: Path) -> Iterable[str]:
    """Return the contents of DVC's files in the commits that the repository has names for."""
    try:
        named = git(root, "for-each-ref", "--format=%(objectname)", *_REFS).decode().split()
        prefix = git(root, "rev-parse", "--show-prefix").decode().strip()
    except MnoError:
        return ()
    lines = "".join(
        f"{commit}:{prefix}{name}\n" for commit in ("HEAD", *sorted(set(named))) for name in _LOCKS
    )
    # All in one: headers and what is missing hold no hash of an object of DVC's.
    return [git(root, "cat-file", "--batch", stdin=lines.encode()).decode(errors="replace")]
