"""Asking git, without its settings of the moment getting in the way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mno.core.errors import InputError, MnoError, first_line

# A hook or an alias that runs us sets these for its own repository.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


def git(
    root: Path, *args: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> bytes:
    """Run git in a folder and return what it prints.

    Raises:
        MnoError: git is not installed, or the command failed; the message is git's own.
    """
    base = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            env={**base, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(env or {})},
            check=False,
        )
    except FileNotFoundError:
        raise MnoError(
            "git is not installed, but a model's lineage names commits; install git"
        ) from None
    if done.returncode:
        message = first_line(Exception(done.stderr.decode(errors="replace")))
        raise MnoError(f"git {args[0]} failed in {root}: {message}")
    return done.stdout


def toplevel(root: Path) -> Path:
    """Return the root of the repository that a folder lies in.

    Raises:
        InputError: The folder is not part of a git repository.
        MnoError: git is not installed or refuses the repository.
    """
    try:
        return Path(os.fsdecode(git(root, "rev-parse", "--show-toplevel").rstrip(b"\n")))
    except MnoError as error:
        if "not a git repository" not in str(error):
            raise
        raise InputError(
            f"{root} is not in a git repository, but a model's lineage names commits; "
            "clone the project with git, or run: git init && git add . && git commit"
        ) from None


def head_commit(root: Path) -> str | None:
    """Return the commit that is checked out; none in a repository without commits."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").decode().strip()
    except MnoError:
        return None
