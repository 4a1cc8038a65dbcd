"""The production line's graph, as DVC sees it."""

from __future__ import annotations

import re
import subprocess
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from flows.workspace import program
from mno.core.errors import InputError

_EDGE = re.compile(r'"([^"]+)" -> "([^"]+)";')
_NODE = re.compile(r'^"([^"]+)";$', re.MULTILINE)


def read_graph(root: Path) -> dict[str, set[str]]:
    """Return each target of the line (a stage, or `data.dvc`) with those it depends on.

    Raises:
        InputError: DVC cannot read `dvc.yaml`; its own message is passed on.
    """
    done = subprocess.run(
        [program("dvc"), "dag", "--dot"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.strip().removeprefix("ERROR: ").splitlines()
        raise InputError(f"dvc.yaml cannot be used: {reason[0] if reason else 'dvc dag failed'}")
    graph: dict[str, set[str]] = {name: set() for name in _NODE.findall(done.stdout)}
    for before, after in _EDGE.findall(done.stdout):
        graph[after].add(before)
    return graph


def run_order(graph: dict[str, set[str]], target: str | None = None) -> list[str]:
    """Return the targets in an order in which each comes after what it depends on.

    Args:
        graph: From `read_graph`.
        target: Keep only this one and what it depends on; None keeps all.

    Raises:
        InputError: The target is not in the graph, or the graph has a cycle.
    """
    if target is not None:
        graph = {name: graph[name] for name in _ancestors(graph, target)}
    try:
        ordered = {name: sorted(graph[name]) for name in sorted(graph)}
        return list(TopologicalSorter(ordered).static_order())
    except CycleError as error:
        raise InputError(f"dvc.yaml: stages depend on each other: {error.args[1]}") from None


def _ancestors(graph: dict[str, set[str]], target: str) -> set[str]:
    if target not in graph:
        raise InputError(f"dvc.yaml has no stage {target!r}; it has: {', '.join(sorted(graph))}")
    found, waiting = set(), [target]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return found
