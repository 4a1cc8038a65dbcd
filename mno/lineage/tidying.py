"""Tidying without lying: what no model, certificate or workspace needs may go, nothing else.

Every hash that a seal, a record, a tag or a lock file names counts as needed, whatever it is the
hash of. So nothing goes that an audit may look up; a little more may stay than has to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from mno.core.config import Config
from mno.core.errors import MnoError
from mno.lineage.audit.objects import FOLDER_MARK, find_object, is_object_name, md5_of, read_listing
from mno.lineage.dvcfiles import DATA_FILE, LOCK_FILE
from mno.lineage.questions import RegisteredVersion, RunFiles
from mno.lineage.record import RECORD_FILE, Tag
from mno.lineage.seal import SEALS, SealPointer, read_seal, seal_path
from mno.lineage.snapshot import git


class RetentionConfig(Config):
    """What `mno gc --retention` keeps beyond what it must keep; changes no result."""

    keep_runs: int = Field(
        default=20,
        ge=0,
        description="latest training runs that stay, with their snapshots and data, though no "
        "registered version needs them",
    )
    max_gib: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="what the workspace may take on disk, GiB; above it even these runs go, the "
        "oldest first; null is no limit",
    )


Kind = Literal["leftovers", "runs", "models", "files", "cache", "snapshots"]
# In the order in which they go: what names others goes before what it names.
KINDS: tuple[Kind, ...] = ("leftovers", "runs", "models", "files", "cache", "snapshots")


@dataclass(frozen=True)
class Unneeded:
    """One thing that nothing needs.

    Attributes:
        kind: `leftovers` of killed work in the workspace, `runs` of MLflow with their files,
            `models` that were packaged and never registered, `files` that MLflow has forgotten,
            objects of DVC's `cache`, `snapshots` in git.
        name: What it is called: an id, a hash, a path or a ref.
        size: Bytes on disk.
        path: Where it lies; none where it is not a file or folder of its own.
    """

    kind: Kind
    name: str
    size: int
    path: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size}


def size_of(path: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Return the bytes of a file, or of all files in a folder; a linked file counts once.

    Args:
        path: It need not exist.
        seen: Files that were counted before, by device and inode; those in the folder are added.
    """
    seen = set() if seen is None else seen
    total = 0
    waiting = [path]
    while waiting:
        place = waiting.pop()
        try:
            status = place.lstat()
            if place.is_dir() and not place.is_symlink():
                waiting.extend(place.iterdir())
                continue
        except OSError:  # it has gone meanwhile
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total


_HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{40}|[0-9a-f]{32}(?:\.dir)?)(?![0-9a-f])")
# Branches, tags, and DVC's experiments; snapshots are judged by themselves.
_REFS = ("refs/heads", "refs/tags", "refs/remotes", "refs/exps", "refs/stash")
_LOCKS = (LOCK_FILE, DATA_FILE)


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
        if Tag.DATA in version.tags:
            self.data.setdefault(version.tags[Tag.DATA], version.uri)
        if version.run_id:
            self.add_run(version.run_id, files)
        pointer = SealPointer.parse(version.tags.get(Tag.SEAL, ""))
        if pointer is None:
            return
        self.runs.add(pointer.run_id)
        text = files.read(pointer.run_id, seal_path(pointer))
        seal = read_seal(pointer, text)
        if seal.problem:
            self.doubts.append(f"the seal of {version.uri} is {seal.problem}; mno audit says more")
        self._add_text((text or b"").decode(errors="replace"))

    def add_run(self, run_id: str, files: RunFiles) -> None:
        """Add a run: itself, and all that its record and its seals name."""
        self.runs.add(run_id)
        for name in (RECORD_FILE, *files.names(run_id, SEALS)):
            self._add_text((files.read(run_id, name) or b"").decode(errors="replace"))

    def add_workspace(self, root: Path) -> None:
        """Add what DVC's files name: those on disk, and those of branches, tags and experiments."""
        for path in (root / LOCK_FILE, *root.glob("*.dvc")):
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


OBJECTS, RUNS = Path("files/md5"), Path("runs")
_OUT = re.compile(r"\bmd5: ([0-9a-f]{32}(?:\.dir)?)\b")


def needed_objects(cache: Path, needed: Needed) -> set[str]:
    """Return the names of all objects that are needed, files of needed folders among them.

    Where the list of files of a version of the data is lost, that is added to `needed.doubts`.
    """
    found = {name for name in needed.hashes if is_object_name(name)}
    for name in [name for name in found if name.endswith(FOLDER_MARK)]:
        path = find_object([cache], name)
        content = path.read_bytes() if path else b""
        try:
            if md5_of(content) != name.removesuffix(FOLDER_MARK):
                raise ValueError("it does not hold what its name promises")
            found.update(read_listing(content).values())
        except (ValueError, TypeError, KeyError):
            if name in needed.data:
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
    entries = [
        Unneeded("cache", path.relative_to(cache).as_posix(), path.stat().st_size, path)
        for path in _files(cache / RUNS)
        if not _outs(path) <= needed
    ]
    objects = [
        Unneeded("cache", name, path.stat().st_size, path)
        for name, path in _objects(cache)
        if name not in needed
    ]
    return entries + sorted(objects, key=lambda item: not item.name.endswith(FOLDER_MARK))


def _objects(cache: Path) -> Iterator[tuple[str, Path]]:
    for path in _files(cache / OBJECTS):
        name = path.parent.name + path.name
        if is_object_name(name):
            yield name, path


def _outs(entry: Path) -> set[str]:
    """Return the objects that an entry of the run cache promises."""
    _, _, outs = entry.read_text(encoding="utf-8", errors="replace").partition("\nouts:")
    return set(_OUT.findall(outs))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


_SNAPSHOTS = "refs/mno/"


def unneeded_snapshots(root: Path, needed: Needed) -> list[Unneeded]:
    """Return the refs of snapshots that nothing needs; git frees their objects by itself later.

    The size of all of them together is that of the first: they share most objects.
    """
    listed = git(root, "for-each-ref", "--format=%(refname) %(objectname)", _SNAPSHOTS).decode()
    refs = dict(line.split() for line in listed.splitlines())
    gone = {ref: commit for ref, commit in refs.items() if commit not in needed.hashes}
    kept = [commit for ref, commit in refs.items() if ref not in gone]
    size = _freed(root, list(gone.values()), kept) if gone else 0
    return [Unneeded("snapshots", ref, 0 if n else size) for n, ref in enumerate(gone)]


def remove_snapshot(root: Path, ref: str) -> None:
    """Remove the ref of a snapshot.

    Raises:
        MnoError: It is no snapshot, or git failed.
    """
    if not ref.startswith(_SNAPSHOTS):
        raise MnoError(f"{ref} is no snapshot")
    git(root, "update-ref", "-d", ref)


def _freed(root: Path, gone: list[str], kept: list[str]) -> int:
    lines = "".join(f"{commit}\n" for commit in gone) + "".join(f"^{commit}\n" for commit in kept)
    try:
        used = git(root, "rev-list", "--objects", "--disk-usage", "--stdin", "--not", "--branches",
                   "--tags", "--remotes", stdin=lines.encode())  # fmt: skip
        return int(used)
    except (MnoError, ValueError):  # a git that cannot tell
        return 0


# Where a stage keeps what a killed run resumes from; of no use once the stage is done.
RESUMABLE = {
    "generate": Path("build/work"),
    "train": Path("build/checkpoints"),
    "learning_curve": Path("build/learning_curve"),
}
_PARTIAL = ("build/*.partial*", "reports/*.partial", "models/*.partial*", "models/*/*.partial")


def leftovers(root: Path, done: Iterable[str]) -> list[Unneeded]:
    """Return what killed work has left and nothing resumes from.

    Args:
        root: The workspace; no run may be active in it.
        done: The stages that are up to date.
    """
    paths = [
        path
        for stage in done
        if stage in RESUMABLE
        for path in sorted((root / RESUMABLE[stage]).glob("*"))
    ]
    paths += [path for pattern in _PARTIAL for path in sorted(root.glob(pattern))]
    return [
        Unneeded("leftovers", path.relative_to(root).as_posix(), size_of(path), path)
        for path in paths
    ]


GIB = 2**30


@dataclass(frozen=True)
class TidyingPlan:
    """What may go, and why the rest may not.

    Attributes:
        items: In the order in which they go.
        kept: Why something is not touched at all, in sentences.
        spared: How many runs stay only because the latest are to stay.
        total: Bytes that the workspace takes on disk.
    """

    items: Sequence[Unneeded]
    kept: Sequence[str] = field(default_factory=tuple)
    spared: int = 0
    total: int = 0

    @property
    def size(self) -> int:
        """Bytes that would be free."""
        return sum(item.size for item in self.items)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return number and bytes of what may go, of each kind."""
        found = {kind: (0, 0) for kind in KINDS}
        for item in self.items:
            number, size = found[item.kind]
            found[item.kind] = number + 1, size + item.size
        return found

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        kinds = self.by_kind().items()
        return {
            "total_bytes": self.total,
            "bytes": self.size,
            "kinds": {kind: {"count": n, "bytes": size} for kind, (n, size) in kinds},
            "spared_runs": self.spared,
            "not_touched": list(self.kept),
            "items": [item.to_dict() for item in self.items],
        }


def fit(
    plan_with: Callable[[int], TidyingPlan], keep_runs: int, max_gib: float | None
) -> TidyingPlan:
    """Return the plan that spares as many runs as the room on disk allows.

    Args:
        plan_with: Makes the plan that spares a number of runs, the latest.
        keep_runs: How many are to be spared.
        max_gib: Room on disk, GiB; none where there is no limit.
    """
    plan = plan_with(keep_runs)
    if max_gib is None:
        return plan
    spared = min(keep_runs, plan.spared)
    while plan.total - plan.size > max_gib * GIB and spared > 0:
        spared -= 1
        plan = plan_with(spared)
    left = plan.total - plan.size
    if left > max_gib * GIB:
        over = (
            f"{left / GIB:.2f} GiB are needed, more than retention.max_gib={max_gib:g}; to need "
            "less, delete registered versions in MLflow, or branches and experiments in git"
        )
        return replace(plan, kept=(*plan.kept, over))
    return plan
