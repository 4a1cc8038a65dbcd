"""Fetching a version of the data from a DVC remote into a cache of its own, for a while."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.workspace import program
from mno.core.errors import InputError

_CONFIGS = ("config", "config.local")
_DATA = "outs:\n- md5: {md5}\n  hash: md5\n  path: data\n"


@contextmanager
def fetched(root: Path, remote: str, md5: str | None) -> Iterator[Path]:
    """Yield a cache with what a remote has of a version of the data.

    What the remote lacks is not in it; the caller finds that out object by object.

    Args:
        root: The workspace whose DVC remotes are known.
        remote: Name of a remote.
        md5: DVC's hash of the data; none where nobody knows it.

    Raises:
        InputError: There is no such remote.
    """
    remotes = _remotes(root)
    if remote not in remotes:
        known = ", ".join(remotes) or "none"
        raise InputError(
            f"--remote {remote}: no such DVC remote (known: {known}); add it: dvc remote add"
        )
    with TemporaryDirectory(prefix="mno-remote-") as name:
        folder, cache = Path(name) / "workspace", Path(name) / "cache"
        folder.mkdir()
        _dvc(folder, "init", "-q", "--no-scm")
        for config in _CONFIGS:
            if (root / ".dvc" / config).exists():
                shutil.copy(root / ".dvc" / config, folder / ".dvc" / config)
        # The workspace's settings say nothing of being outside git.
        _dvc(folder, "config", "-q", "--local", "core.no_scm", "true")
        _dvc(folder, "config", "-q", "--local", "cache.dir", str(cache))
        # A relative address is relative to the workspace.
        _dvc(folder, "remote", "modify", "-q", "--local", remote, "url", remotes[remote])
        if md5 is not None:
            (folder / "data.dvc").write_text(_DATA.format(md5=md5), encoding="utf-8")
            _call(folder, "fetch", "-q", "-r", remote, "data.dvc")  # fails if anything is missing
        yield cache


def _remotes(root: Path) -> dict[str, str]:
    """Return the address of each remote by its name."""
    # The list of the word `remote` is folded to the width of a terminal.
    lines = (line.partition("=") for line in _dvc(root, "config", "--list").splitlines())
    keys = ((key.split("."), value) for key, _, value in lines)
    return {".".join(k[1:-1]): value for k, value in keys if k[0] == "remote" and k[-1] == "url"}


def _dvc(folder: Path, *arguments: str) -> str:
    done = _call(folder, *arguments)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or [f"dvc {arguments[0]} failed"]
        raise InputError(f"{folder}: {reason[-1].removeprefix('ERROR: ')}")
    return done.stdout


def _call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [program("dvc"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
