"""What importing a module of ours may run: other modules of ours, and packages of others.

Stages depend on it, and registered models carry it along.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

OURS = ("mno", "pipelines", "flows")
TRACKED = (*OURS, "plants")
"""Folders of a workspace whose files stages depend on: code, and what is read as if it were."""
_MODULE = re.compile(r"mno(\.\w+)+")


def imported_files(root: Path, start: Iterable[str], *, lazy: bool = False) -> set[str]:
    """Return every file of ours that importing some files may run, themselves included.

    Files are relative to the root, the folder that holds the package. A module that is named in a
    string (`"mno.nn.mixers"`), as lazy names are looked up, counts, too, if that is wanted.
    """
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            parents = [f"{path.as_posix()}/__init__.py" for path in Path(name).parents if path.name]
            waiting += [path for path in parents if (root / path).is_file()]
            for module in imports_of(root, name, lazy):
                waiting += _files_of(root, module)
    return found


def other_packages(root: Path, files: Iterable[str]) -> list[str]:
    """Return the top-level modules of others that files of ours import, in alphabetical order."""
    tops = {module.partition(".")[0] for file in files for module in imports_of(root, file, False)}
    return sorted(tops - {*OURS, ""} - set(sys.stdlib_module_names))


@cache
def imports_of(root: Path, name: str, lazy: bool) -> tuple[str, ...]:
    """Return the dotted names that a file imports, within functions, too."""
    tree = ast.parse((root / name).read_text(encoding="utf-8"))
    return tuple(dict.fromkeys(_imports(tree, lazy)))


def _imports(node: ast.AST, lazy: bool) -> Iterator[str]:
    """Yield what a syntax tree imports, but for what only type checkers read."""
    match node:
        case ast.If(test=test, orelse=otherwise) if "TYPE_CHECKING" in ast.dump(test):
            for child in otherwise:
                yield from _imports(child, lazy)
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names):
            yield module or ""
            yield from (f"{module}.{alias.name}" for alias in names)
        case ast.Constant(value=str(text)) if lazy and _MODULE.fullmatch(text):
            yield text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, lazy)


def _files_of(root: Path, module: str) -> Iterator[str]:
    parts = module.split(".")
    for count in range(1, len(parts) + 1) if parts[0] in OURS else ():
        path = "/".join(parts[:count])
        yield from (n for n in (f"{path}.py", f"{path}/__init__.py") if (root / n).is_file())
