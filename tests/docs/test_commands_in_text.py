"""Every command that a page tells its reader to type exists, with the options it is given."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from markdown_files import PAGES, ROOT, name_of, shell_lines

MNO = re.compile(r"(?:^|[\s;/|])mno ([a-z][a-z-]*)([^;|]*)")
MAKE = re.compile(r"(?:^|[\s;|])make ([a-z]+(?:, [a-z]+)*)")
OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")


def hook(name: str) -> ModuleType:
    """Load a hook of the documentation as MkDocs does, from its file."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/hooks/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = hook("commands")
PARAMETERS = hook("parameters")


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def mno_calls(page: Path) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    return [_command(*call) for line in shell_lines(text) for call in MNO.findall(line)]


def _command(name: str, rest: str) -> tuple[str, str]:
    """Take the second word to the name where the first is a group of commands."""
    second, _, after = rest.strip().partition(" ")
    return (
        (f"{name} {second}", after) if f"{name} {second}" in COMMANDS.commands() else (name, rest)
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_mno_command_exists_and_takes_its_options(page: Path) -> None:
    commands = COMMANDS.commands()
    wrong = [
        f"mno {name} {option}"
        for name, rest in mno_calls(page)
        for option in OPTION.findall(rest) or [""]
        if name not in commands or (option and option not in COMMANDS.options(commands[name]))
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page: Path) -> None:
    lines = shell_lines(page.read_text(encoding="utf-8"))
    named = {t for line in lines for found in MAKE.findall(line) for t in found.split(", ")}
    assert sorted(named - make_targets()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_preset_and_parameter_that_is_set_exists(page: Path) -> None:
    rests = " ".join(rest for _, rest in mno_calls(page))
    presets = set(re.findall(r"--preset ([\w-]+)", rests))
    made = {"tuned-darcy"}  # by the search that is shipped
    assert presets - made <= set(PARAMETERS.preset_names(ROOT))
    keys = set(re.findall(r"--set ([\w.]+)=", rests))
    # The how-to pages set parameters of what they add.
    added = {"model.mixer", "scenarios.screened_poisson.screening"}
    documented = PARAMETERS.parameter_tables()
    assert [key for key in sorted(keys - added) if f"| `{key}` |" not in documented] == []


def test_the_readme_shows_commands_at_all() -> None:
    calls = mno_calls(ROOT / "README.md")
    assert {name for name, _ in calls} >= {"run", "status", "predict"}
    assert make_targets() >= {"run", "test", "check", "bench", "ui", "docs"}


def test_the_reference_names_every_parameter_of_the_workspace() -> None:
    from flows.params import parameter_keys

    tables = PARAMETERS.parameter_tables()
    keys = [key for key in parameter_keys(ROOT) if not key.startswith("scenarios.")]
    assert len(keys) > 20
    assert [key for key in keys if f"| `{key}` |" not in tables] == []


def test_every_parameter_in_the_reference_has_a_meaning() -> None:
    rows = [row for row in PARAMETERS.parameter_tables().splitlines() if row.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if not row.split(" | ")[-1].strip(" |")] == []


def test_the_reference_names_every_command_and_option() -> None:
    text = COMMANDS.reference()
    for name, command in COMMANDS.commands().items():
        assert f"## `mno {name}`" in text
        assert [
            o for o in COMMANDS.options(command) - {"--help", "-h"} if f"`{o}`" not in text
        ] == []
