"""Which modules of ours, and which packages of others, a module needs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

_OTHERWISE_NAMED = {"neuralop": "neuraloperator", "ruamel": "ruamel.yaml"}
_MODULE = re.compile(r"mno(\.\w+)+")


@dataclass(frozen=True)
class Closure:
    """What is needed to import a module.

    Attributes:
        files: Our own files, relative to the folder that holds the package.
        packages: Names of other top-level modules, without the standard library.
    """

    files: tuple[Path, ...]
    packages: tuple[str, ...]


def import_closure(folder: Path, module: str) -> Closure:
    """Walk the imports of a module of ours, those within functions included.

    Modules named in a string (`"mno.nn.mixers"`) count as imported, since lazy names are
    looked up that way.

    Args:
        folder: The folder that holds the package `mno`.
        module: For example `mno.surrogate`.
    """
    files: dict[str, Path] = {}
    packages: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(folder, name)
        if path is None:
            name = name.rpartition(".")[0]  # a name within a module
            path = _file_of(folder, name) if name else None
        if path is None or name in files:
            continue
        files[name] = path.relative_to(folder)
        waiting.append(name.rpartition(".")[0] or name)
        is_package = path.name == "__init__.py"
        for imported in _imports(path, name if is_package else name.rpartition(".")[0]):
            if imported == "mno" or imported.startswith("mno."):
                waiting.append(imported)
            else:
                packages.add(imported.partition(".")[0])
    others = packages - set(sys.stdlib_module_names)
    return Closure(tuple(sorted(files.values())), tuple(sorted(others)))


def requirements(packages: tuple[str, ...]) -> list[str]:
    """Return ranges around the installed versions, for example `torch>=2.6,<3`.

    Local versions such as `+cpu` are left out: the range fits any build.
    """
    found = set()
    for package in packages:
        name = _distribution(package)
        major, minor = (version(name).split("+")[0].split(".") + ["0"])[:2]
        found.add(f"{name}>={major}.{minor},<{int(major) + 1}")
    return sorted(found)


def _distribution(package: str) -> str:
    """Return the name under which a top-level module is installed."""
    try:
        distribution(package)
    except PackageNotFoundError:
        # Looks at every installed file, which takes seconds: only for names like `ruamel`.
        return _OTHERWISE_NAMED.get(package) or packages_distributions()[package][0]
    return package


def _file_of(folder: Path, module: str) -> Path | None:
    path = folder.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _imports(path: Path, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = package.split(".")[: None if level < 2 else 1 - level] if level else []
                base = ".".join([*parts, *([module] if module else [])])
                yield base
                if base == "mno" or base.startswith("mno."):
                    yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Constant(value=str(text)) if _MODULE.fullmatch(text):
                yield text
