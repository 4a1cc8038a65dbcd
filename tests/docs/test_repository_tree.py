"""The annotated tree in the READMEs is the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from markdown_files import READMES, ROOT, fences, name_of

FILE_NAMES = re.compile(r"[\w.-]+/?")


def tree(readme: Path) -> list[str]:
    """The tree's paths: entries at the margin, and those indented below a folder."""
    blocks = [
        block for block in fences(readme.read_text(encoding="utf-8"), "text") if "mno/" in block
    ]
    trees = [block for block in blocks if block.startswith("README.md")]
    assert len(trees) == 1, "one tree, which begins with README.md"
    paths, folder = [], ""
    for line in trees[0].splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
            paths.append(folder)
        elif "   " in line.strip():
            paths.append(folder + line.split()[0])
        else:  # several files of one kind, without a remark
            paths += [folder + name for name in FILE_NAMES.findall(line)]
    return paths


def tracked() -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not in a git checkout")
    files = [name for name in done.stdout.split("\0") if name]
    return {f"{name.split('/')[0]}/" if "/" in name else name for name in files}


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_everything_in_the_tree_exists(readme: Path) -> None:
    paths = tree(readme)
    assert len(paths) > 30
    missing = [
        path
        for path in paths
        if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())
    ]
    assert missing == []


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_every_tracked_entry_at_the_top_is_in_the_tree(readme: Path) -> None:
    assert sorted(tracked() - set(tree(readme))) == []


def test_both_languages_show_the_same_tree() -> None:
    english, japanese = (tree(readme) for readme in READMES)
    assert english == japanese


@pytest.mark.parametrize("readme", READMES, ids=name_of)
def test_what_runs_are_said_to_make_is_ignored_by_git(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    after_the_tree = text[text.index("README.md           ") :].partition("```")[2]
    paragraph = after_the_tree.strip().partition("\n\n")[0]
    made = re.findall(r"`([^`]+)`", paragraph)
    assert len(made) > 5
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    patterns = {line.strip("/").rstrip("*") for line in ignored}
    assert [name for name in made if name.strip("/") not in patterns] == []
