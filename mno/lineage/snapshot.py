"""The snapshot: a git commit of what runs, whether or not anyone committed it.

The commit has no parent, a fixed author and a fixed date, so that it is a function of the files
alone: the same code and parameters give the same commit in every clone.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mno.core.errors import InputError, MnoError, first_line
from mno.lineage.dvcfiles import DATA_FILE, without_hashes

# A hook or an alias that runs us sets these for its own repository.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
PARAMS = "params.yaml"
CODE = (
    "dvc.yaml", "mno", "pipelines", "flows", "plants", "pyproject.toml", "constraints.txt",
    ".dvcignore",
)  # fmt: skip
_COMMITTED = tuple(name for name in CODE if name != "plants")  # plants are like parameters
FETCH = "git fetch ORIGIN 'refs/mno/*:refs/mno/*'"  # brings snapshots of another clone
_WHO = {"NAME": "mno", "EMAIL": "mno@localhost", "DATE": "2000-01-01T00:00:00+0000"}
_AUTHOR = {f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in _WHO.items()}


def git(
    root: Path, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> bytes:
    """Run git in a folder and return what it prints; an MnoError has git's own words."""
    base = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], input=stdin or b"", capture_output=True, check=False,
            env={**base, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(env or {})},
        )  # fmt: skip
    except FileNotFoundError:
        why = "git is not installed, but a model's lineage names commits; install git"
        raise MnoError(why) from None
    if done.returncode:
        message = first_line(Exception(done.stderr.decode(errors="replace")))
        raise MnoError(f"git {args[0]} failed in {root}: {message}")
    return done.stdout


def asked(root: Path, *args: str) -> str | None:
    """Return what git prints, as a text without its last line break; none where it fails."""
    try:
        return git(root, *args).decode(errors="replace").strip()
    except MnoError:
        return None


def toplevel(root: Path) -> Path:
    """Return the root of the repository that a folder lies in; refuse where it is in none."""
    try:
        return Path(os.fsdecode(git(root, "rev-parse", "--show-toplevel").rstrip(b"\n")))
    except MnoError as error:
        if "not a git repository" not in str(error):
            raise
        raise InputError(
            f"{root} is not in a git repository, but a model's lineage names commits; "
            "clone the project with git, or run: git init && git add . && git commit"
        ) from None


class Snapshot(NamedTuple):
    """A commit of what runs, kept by a ref under `refs/mno/`."""

    commit: str
    tree: str
    head: str | None  # the commit that was checked out; none in a repository without commits
    changed: tuple[str, ...]  # files of the code part that differ from that; others may


def take_snapshot(root: Path) -> Snapshot:
    """Write the parameters and code of a workspace, as they are, as a commit of its repository.

    Branch, index and work tree stay as they are. The same files give the same commit and ref. A
    workspace that is in no repository is refused.
    """
    toplevel(root)
    tree = _write_tree(root)
    commit = git(root, "commit-tree", tree, "-m", "Snapshot of a run", env=_AUTHOR).decode().strip()
    git(root, "update-ref", f"refs/mno/{tree[:16]}", commit)
    head = asked(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return Snapshot(commit, tree, head, changed_code(root, commit, head))


def changed_code(root: Path, snapshot: str, commit: str | None) -> tuple[str, ...]:
    """Name the files of a snapshot's code part that differ from a commit, or from nothing.

    The code part is all of it but `params.yaml`, plants and the hashes in `data.dvc`. A commit that
    is not in the repository is an MnoError.
    """
    if commit is None:
        names = git(root, "ls-tree", "-r", "-z", "--name-only", snapshot, "--", *_COMMITTED)
    else:
        trees = (commit, snapshot, "--", *_COMMITTED)
        names = git(root, "diff-tree", "-r", "--name-only", "-z", "--relative", *trees)
    changed = [os.fsdecode(name) for name in names.split(b"\0") if name]
    if _data_file(root, snapshot) != _data_file(root, commit):
        changed.append(DATA_FILE)
    return tuple(sorted(changed))


def _data_file(root: Path, commit: str | None) -> object:
    if commit is None or not git(root, "ls-tree", commit, "--", DATA_FILE):
        return None
    return without_hashes(git(root, "show", f"{commit}:./{DATA_FILE}").decode(errors="replace"))


def _write_tree(root: Path) -> str:
    paths = [name for name in (PARAMS, DATA_FILE, *CODE) if (root / name).exists()]
    # What the repository tracks or does not ignore; the index of the user is only read.
    listed = git(root, "ls-files", "-z", "-c", "-o", "--exclude-standard", "--", *paths)
    files = {name: root / os.fsdecode(name) for name in listed.split(b"\0") if name}
    present = sorted(name for name, path in files.items() if path.is_symlink() or path.is_file())
    with tempfile.TemporaryDirectory(prefix="mno-index-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "update-index", "--add", "-z", "--stdin", stdin=b"\0".join(present), env=env)
        return git(root, "write-tree", env=env).decode().strip()
