"""Public names of a package that are loaded on first use, so that importing it stays quick."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def loaded_on_use(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return what a package's `__init__` assigns to `__getattr__`, given each name's module."""

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(names[name]), name)

    return get
