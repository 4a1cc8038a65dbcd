"""`make size`: how large the project is, measured; beside each figure stands what is asked for.

Besides lines, modules, folders and commands two walks are measured: from the function that
registers a model, and from the one that plans a dataset. A walk follows each name that a function
mentions to the function of ours that bears it, as a reader would. It counts the functions that are
handed the request (or the plan), and how often the walk comes back to a file that it had left.

The walks are not calibrated: they count by this file's own call graph, which finds other numbers
than a reader who follows the calls. Compare them with each other, not with counts made otherwise.
"""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("mno", "flows", "pipelines")
CORE = (
    "core", "scenarios", "data", "scan", "nn", "training", "surrogate", "evaluation", "report",
    "lineage", "registry",
)  # fmt: skip
WALKS = {  # where it begins, and the classes of what is handed on
    "register: the request": ("mno/registry/registration.py", "register", ("Request", "Evaluated")),
    "generate: the plan": ("mno/data/generate/run.py", "generate", ("Plan", "DatasetPlan")),
}
_DEPTH = 12


def main() -> None:
    """Print a row for each figure."""
    files = tracked(*(f"{room}/*.py" for room in CODE))
    folders = {Path(name).parent for name in files}
    core = tracked(*(f"mno/{room}/*.py" for room in CORE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows: list[tuple[str, object, object]] = [
        ("lines in mno, flows and pipelines", lines(files), 50_000),
        ("modules", len(files), 320),
        ("folders", len(folders), 30),
        ("lines of the core rooms", lines(core), 33_000),
        ("top-level commands", commands(), 26),
        ("lines of tests", lines(tracked("tests/*.py")), 32_000),
        ("direct dependencies of the library", len(project["dependencies"]), 14),
    ]
    index = Index(files)
    for name, (file, function, kinds) in WALKS.items():
        carrying, back = index.walk(file, function, kinds)
        most = (30, 15) if name.startswith("register") else (15, 8)
        rows.append((f"{name}, functions that carry it", carrying, most[0]))
        rows.append((f"{name}, ways back to a file left", back, most[1]))
    for name, value, most in rows:
        print(f"{name:<48} {value:>7}   at most {most}")


def tracked(*patterns: str) -> list[str]:
    """Return the files that git knows or would take."""
    command = ["git", "ls-files", "-co", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({name for name in listed.splitlines() if (ROOT / name).is_file()})


def lines(names: list[str]) -> int:
    """Return how many lines files have together."""
    return sum((ROOT / name).read_bytes().count(b"\n") for name in names)


def commands() -> int:
    """Return how many words may follow `mno`."""
    import typer

    from flows.cli import app

    return len({name.split()[0] for name in typer.main.get_command(app).commands})


@dataclass(frozen=True)
class Function:
    """A function of ours.

    Attributes:
        file: Where it is.
        name: Its own.
        mentions: The names that its body mentions, in order.
        handed: The names in the annotations of its arguments.
    """

    file: str
    name: str
    mentions: tuple[str, ...]
    handed: frozenset[str]


class Index:
    """The functions and methods of ours, by name."""

    def __init__(self, files: list[str]) -> None:
        self.by_name: dict[str, list[Function]] = {}
        self.imports: dict[str, set[str]] = {}
        for file in files:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            self.imports[file] = {file, *_imported(tree)}
            for function in _functions(tree, file):
                self.by_name.setdefault(function.name, []).append(function)

    def walk(self, file: str, name: str, kinds: tuple[str, ...]) -> tuple[int, int]:
        """Return how many functions carry what is handed on, and the ways back to a file left."""
        start = next(found for found in self.by_name[name] if found.file == file)
        order: list[Function] = []
        self._visit(start, order, 0)
        carrying = sum(bool(function.handed.intersection(kinds)) for function in order)
        left, back, here = set(), 0, file
        for function in order:
            if function.file != here:
                left.add(here)
                back += function.file in left
                here = function.file
        return carrying, back

    def _visit(self, function: Function, order: list[Function], depth: int) -> None:
        if function in order or depth > _DEPTH:
            return
        order.append(function)
        for name in function.mentions:
            for called in self.by_name.get(name, ()):
                if called.file in self.imports[function.file]:
                    self._visit(called, order, depth + 1)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in CODE:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                path = str(name).replace(".", "/")
                yield from (f"{path}.py", f"{path}/__init__.py")


def _functions(tree: ast.AST, file: str) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            handed = {
                part.id
                for argument in arguments if argument.annotation
                for part in ast.walk(argument.annotation) if isinstance(part, ast.Name)
            }  # fmt: skip
            mentions = [
                part.id if isinstance(part, ast.Name) else part.attr
                for statement in node.body
                for part in ast.walk(statement)
                if isinstance(part, ast.Name | ast.Attribute)
            ]
            yield Function(file, node.name, tuple(dict.fromkeys(mentions)), frozenset(handed))


if __name__ == "__main__":
    main()
