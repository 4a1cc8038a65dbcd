"""The Markdown files of the repository, and what stands in their code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "README.ja.md"]
PAGES = [
    *READMES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


def name_of(path):
    """Return a page's path in the repository, as a test's id."""
    return path.relative_to(ROOT).as_posix()


def fences(text, language):
    return [code for found, code in _FENCE.findall(text) if found == language]


def prose(text):
    return _FENCE.sub("", text)


def shell_lines(text):
    """Return all that a reader may type: lines of shell blocks, and code within sentences."""
    lines = [line for block in fences(text, "bash") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines] + _INLINE.findall(prose(text))
