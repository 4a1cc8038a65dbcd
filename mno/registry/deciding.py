"""One decider at a time, and no decision half made.

Whoever decides on a model holds a lock on a file beside MLflow's database; the kernel releases it
when the holder dies. Deciders on other machines, who share a server, do not see it: they are told
apart by the champion that each has seen when it began (see `expect_champion`).

A person's decision is announced in a tag of the model before an alias moves, and the announcement
is removed after the decision is sealed. A kill between leaves it there, and the next decider
finishes what the aliases say was done, or forgets what was not.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mno.core.errors import MnoError
from mno.registry import names
from mno.registry.reading import find_alias
from mno.registry.settings import DATABASE, Workspace

LOCK = f"{DATABASE}.deciding"


@contextmanager
def deciding(workspace: Workspace, name: str, patience: float = 30.0) -> Iterator[None]:
    """Be the only one who decides on models of a workspace while the body runs.

    Args:
        workspace: The MLflow whose models are decided on.
        name: The registered model, for the message of whoever waits in vain.
        patience: Seconds to wait for another decider to end.

    Raises:
        MnoError: Another one is still at it after that time.
    """
    with (workspace.root / LOCK).open("a+", encoding="utf-8") as file:
        _acquire(file.fileno(), workspace, name, patience)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid()}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def expect_champion(workspace: Workspace, name: str, seen: int | None) -> None:
    """Refuse to go on where the champion is not the one that was seen before.

    Raises:
        MnoError: It has changed.
    """
    now = champion_of(workspace, name)
    if now != seen:
        raise MnoError(
            f"{_named(seen)} was the champion of {name} when you decided, {_named(now)} is now: "
            "somebody else has decided meanwhile and nothing was changed; see mno promote "
            "--history, then decide anew"
        )


def champion_of(workspace: Workspace, name: str) -> int | None:
    """Return the version that is champion; none where there is none."""
    found = find_alias(workspace.client, name, names.CHAMPION)
    return int(found.version) if found else None


def _named(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"


def _acquire(descriptor: int, workspace: Workspace, name: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise MnoError(
                f"somebody else is deciding on {name} ({_holder(workspace)}); "
                "wait for that to end, then run again"
            ) from None


def _holder(workspace: Workspace) -> str:
    try:
        content: Any = json.loads((workspace.root / LOCK).read_text(encoding="utf-8"))
        return f"process {content['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
