"""Tidying without lying: what no model, certificate or workspace needs may go, nothing else.

Every hash that a seal, a record, a tag or a lock file names counts as needed, whatever it is the
hash of. So nothing goes that an audit may look up; a little more may stay than has to.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from mno.core.config import Config
from mno.core.files import folder_files
from mno.lineage.audit.objects import FOLDER_MARK, is_object_name, listed_files
from mno.lineage.dvcfiles import DATA_FILE, LOCK_FILE
from mno.lineage.questions import RegisteredVersion, RunFiles
from mno.lineage.record import RECORD_FILE, Tag
from mno.lineage.seal import SEALS, SealPointer, read_seal, seal_path
from mno.lineage.snapshot import asked, git


class RetentionConfig(Config):
    """What `mno gc --retention` keeps beyond what it must keep; changes no result."""

    keep_runs: int = Field(default=20, ge=0)
    """latest training runs that stay, with their snapshots and data, though no registered version
    needs them"""


# `leftovers` of killed work in the workspace, `runs` of MLflow with their files, `models` that were
# packaged and never registered, `files` that MLflow has forgotten, objects of DVC's `cache`, and
# `snapshots` in git. So they go: what names others goes before what it names.
Kind = Literal["leftovers", "runs", "models", "files", "cache", "snapshots"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OBJECTS, RUNS = Path("files/md5"), Path("runs")
# Where a stage keeps what a killed run resumes from; of no use once the stage is done.
RESUMABLE = {
    "generate": Path("build/work"),
    "train": Path("build/checkpoints"),
    "learning_curve": Path("build/learning_curve"),
}
_PARTIAL = ("build/*.partial*", "reports/*.partial", "models/*.partial*", "models/*/*.partial")
_HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{40}|[0-9a-f]{32}(?:\.dir)?)(?![0-9a-f])")
_OUT = re.compile(r"\bmd5: ([0-9a-f]{32}(?:\.dir)?)\b")
# Branches, tags, DVC's experiments, the latest stash; snapshots are judged by themselves.
_REFS = ("refs/heads", "refs/tags", "refs/remotes", "refs/exps", "refs/stash")
_SNAPSHOTS = "refs/mno/"


class Unneeded(NamedTuple):
    """One thing that nothing needs."""

    kind: Kind
    name: str  # an id, a hash, a path or a ref
    size: int  # bytes on disk
    path: Path | None = None  # none where it is not a file or folder of its own


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; nothing where there is none."""
    files = [path] if path.is_symlink() or path.is_file() else folder_files(path).values()
    return sum(file.lstat().st_size for file in files)


@dataclass
class Needed:
    """What must stay."""

    hashes: set[str] = field(default_factory=set)  # objects in DVC's cache, and commits
    # Versions of the data, and who needs them: without their list of files it is not known what
    # else is needed.
    data: dict[str, str] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)  # logged ones, or where a version's files are
    # Why it is not known what all is needed; then neither cache nor snapshots may be touched.
    doubts: list[str] = field(default_factory=list)

    def add_version(self, version: RegisteredVersion, files: RunFiles) -> None:
        """Add a registered version: its files, run, seal, data and snapshots."""
        if version.source:
            self.models.add(version.source.removeprefix("models:/"))
        self._add_text(" ".join(version.tags.values()))
        if Tag.DATA in version.tags:
            self.data.setdefault(version.tags[Tag.DATA], version.uri)
        if version.run_id:
            self.add_run(version.run_id, files)
        if (pointer := SealPointer.parse(version.tags.get(Tag.SEAL, ""))) is None:
            return
        self.runs.add(pointer.run_id)
        text = files.read(pointer.run_id, seal_path(pointer))
        if problem := read_seal(pointer, text).problem:
            self.doubts.append(f"the seal of {version.uri} is {problem}; mno audit says more")
        self._add_text((text or b"").decode(errors="replace"))

    def add_run(self, run_id: str, files: RunFiles) -> None:
        """Add a run: itself, and all that its record and its seals name."""
        self.runs.add(run_id)
        for name in (RECORD_FILE, *files.names(run_id, SEALS)):
            self._add_text((files.read(run_id, name) or b"").decode(errors="replace"))

    def add_workspace(self, root: Path) -> None:
        """Add what DVC's files name: on disk, and in branches, tags, experiments and stashes."""
        for path in (root / LOCK_FILE, *root.glob("*.dvc")):
            if path.is_file():
                self._add_text(path.read_text(encoding="utf-8", errors="replace"))
        named = asked(root, "for-each-ref", "--format=%(objectname)", *_REFS)
        prefix = asked(root, "rev-parse", "--show-prefix")
        if named is None or prefix is None:
            return
        named += "\n" + (asked(root, "rev-list", "-g", "refs/stash") or "")  # the older ones, too
        commits, files = ["HEAD", *sorted(set(named.split()))], (LOCK_FILE, DATA_FILE)
        lines = "".join(f"{commit}:{prefix}{name}\n" for commit in commits for name in files)
        # All in one: headers and what is missing hold no hash of an object of DVC's.
        text = git(root, "cat-file", "--batch", stdin=lines.encode())
        self._add_text(text.decode(errors="replace"))

    def _add_text(self, text: str) -> None:
        self.hashes.update(_HASH.findall(text))


def needed_objects(cache: Path, needed: Needed) -> set[str]:
    """Return the names of all objects that are needed, files of needed folders among them.

    Where the list of files of a version of the data is lost, that is added to `needed.doubts`.
    """
    found = {name for name in needed.hashes if is_object_name(name)}
    for name in [name for name in found if name.endswith(FOLDER_MARK)]:
        if (listing := listed_files([cache], name)) is not None:
            found.update(listing.values())
        elif name in needed.data:
            needed.doubts.append(
                f"the list of files of data {name}, which {needed.data[name]} needs, is lost "
                "or damaged: which files are its own is not known; bring it back: dvc fetch"
            )
    return found


def unneeded_objects(cache: Path, needed: set[str]) -> list[Unneeded]:
    """Return what of a cache nothing needs, in the order in which it may be removed.

    First entries of the run cache, then lists of folders, then files: so what a kill leaves behind
    never names what is gone.
    """

    def files(folder: Path) -> list[Path]:
        return [path for path in folder_files(cache / folder).values() if not path.is_symlink()]

    promised = {path: path.read_text(encoding="utf-8", errors="replace") for path in files(RUNS)}
    entries = [
        Unneeded("cache", path.relative_to(cache).as_posix(), path.stat().st_size, path)
        for path, text in promised.items()
        if not needed.issuperset(_OUT.findall(text.partition("\nouts:")[2]))
    ]
    named = {path.parent.name + path.name: path for path in files(OBJECTS)}
    objects = [
        Unneeded("cache", name, path.stat().st_size, path)
        for name, path in named.items()
        if is_object_name(name) and name not in needed
    ]
    return entries + sorted(objects, key=lambda item: not item.name.endswith(FOLDER_MARK))


def unneeded_snapshots(root: Path, needed: Needed) -> list[Unneeded]:
    """Return refs of snapshots that nothing needs, without a size: they share most objects."""
    listed = git(root, "for-each-ref", "--format=%(refname) %(objectname)", _SNAPSHOTS).decode()
    refs = (line.split() for line in listed.splitlines())
    return [Unneeded("snapshots", r, 0) for r, commit in refs if commit not in needed.hashes]


def leftovers(root: Path, done: Iterable[str]) -> list[Unneeded]:
    """Return what killed work left and nothing resumes from, of stages up to date; no run is on."""
    patterns = [f"{RESUMABLE[stage]}/*" for stage in done if stage in RESUMABLE]
    return [
        Unneeded("leftovers", path.relative_to(root).as_posix(), size_of(path), path)
        for pattern in (*patterns, *_PARTIAL)
        for path in sorted(root.glob(pattern))
    ]


@dataclass(frozen=True)
class TidyingPlan:
    """What may go, and why the rest may not."""

    items: Sequence[Unneeded]  # in the order in which they go
    kept: Sequence[str] = ()  # why something is not touched at all, in sentences
    spared: int = 0  # how many runs stay only because the latest are to stay

    @property
    def size(self) -> int:
        """Bytes that would be free."""
        return sum(item.size for item in self.items)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return number and bytes of what may go, of each kind."""
        sizes = {kind: [item.size for item in self.items if item.kind == kind] for kind in KINDS}
        return {kind: (len(found), sum(found)) for kind, found in sizes.items()}

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        kinds = self.by_kind().items()
        return {
            "bytes": self.size,
            "kinds": {kind: {"count": n, "bytes": size} for kind, (n, size) in kinds},
            "spared_runs": self.spared,
            "not_touched": list(self.kept),
            "items": [{"kind": i.kind, "name": i.name, "bytes": i.size} for i in self.items],
        }
