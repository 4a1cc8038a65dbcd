"""The packages that a model was made with, and their licences as the packages themselves state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

_CLASSIFIER = "License ::"
_LONGEST = 60  # a longer one is the text of a licence, and no name


@dataclass(frozen=True)
class Package:
    """An installed package.

    Attributes:
        name: Its name.
        version: Its version.
        licence: As its metadata say: an SPDX expression or a name; empty where it is not known.
        is_expression: Whether the licence is an SPDX expression.
    """

    name: str
    version: str
    licence: str = ""
    is_expression: bool = False


def recorded_packages(listing: bytes) -> tuple[Package, ...]:
    """Return the packages of a run's list, each line `NAME==VERSION`.

    A licence is known of a package that is installed here in the recorded version.
    """
    lines = listing.decode(errors="replace").splitlines()
    pairs = (line.partition("==") for line in lines if "==" in line)
    return tuple(_package(name.strip(), version.strip()) for name, _, version in pairs)


def licence_counts(packages: Iterable[Package]) -> list[tuple[str, int]]:
    """Return how many packages are under each licence, the most frequent first."""
    counts = Counter(package.licence or "not known" for package in packages)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _package(name: str, version: str) -> Package:
    try:
        installed = distribution(name)
        same = installed.version == version
    except (PackageNotFoundError, ValueError, KeyError):
        return Package(name, version)
    return Package(name, version, *_licence(installed)) if same else Package(name, version)


def _licence(installed: Distribution) -> tuple[str, bool]:
    """Return a package's licence and whether it is an SPDX expression (PEP 639)."""
    metadata = installed.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"].strip(), True
    stated = [c for c in metadata.get_all("Classifier") or () if c.startswith(_CLASSIFIER)]
    names = [c.rpartition(" :: ")[2] for c in stated if c.count("::") > 1]
    if names:
        return ", ".join(sorted(set(names))), False
    text = next(iter(metadata.get_all("License") or ()), "")
    lines = text.strip().splitlines()
    return (lines[0].strip(), False) if lines and len(lines[0]) <= _LONGEST else ("", False)
