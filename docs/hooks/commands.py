"""The reference of all commands, from the commands themselves; `reference.py` puts it in a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from flows.cli import app


def commands() -> dict[str, Any]:
    """Return the commands of `mno` by name, such as `inspect data`, in the order of its help."""
    return dict(_commands(typer.main.get_command(app)))


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if name == getattr(group, "otherwise", None):  # it stands under the group's own name
            continue
        if hasattr(command, "commands"):
            if command.invoke_without_command:  # it does something by itself
                yield before + name, command
            if hasattr(command, "otherwise"):  # what it does with what is no command of it
                yield before + name, command.commands[command.otherwise]
            yield from _commands(command, f"{before}{name} ")
        elif not command.hidden:
            yield before + name, command


def options(command: Any) -> set[str]:
    """Return the options that a command takes, long and short, `--help` included."""
    given = {name for parameter in command.params for name in _spellings(parameter)}
    return given | {"--help", "-h"}


def reference() -> str:
    """Return a section per command: usage, what it does, its arguments and options."""
    parts: list[str] = []
    described: dict[str, str] = {}
    for name, command in commands().items():
        table = _table(command)
        like = described.setdefault(table, name)
        parts += _heading(name, command)
        parts.append(f"Options as for [`mno {like}`](#{_anchor(like)})." if like != name else table)
    return "\n\n".join(part for part in parts if part)


def _anchor(name: str) -> str:
    return f"mno-{name.replace(' ', '-')}"


def _heading(name: str, command: Any) -> Iterator[str]:
    names = [(p.name.upper(), p.required) for p in command.params if not _is_option(p)]
    arguments = [name if required else f"[{name}]" for name, required in names]
    yield f"## `mno {name}`"
    yield f"```text\n{' '.join(['mno', name, *arguments, '[OPTIONS]'])}\n```"
    yield _plain(command.help or "")


def _table(command: Any) -> str:
    rows = [f"| `{p.name.upper()}` | {_cell(p)} |" for p in command.params if not _is_option(p)] + [
        f"| {', '.join(f'`{s}`' for s in _spellings(p))}{_value(p)} | {_cell(p)}{_default(p)} |"
        for p in command.params
        if _is_option(p)
    ]
    return "\n".join(["| | |", "| --- | --- |", *rows]) if rows else ""


def _is_option(parameter: Any) -> bool:
    return any(name.startswith("-") for name in parameter.opts)


def _spellings(parameter: Any) -> list[str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    return sorted((n for n in names if n.startswith("-")), key=len, reverse=True)


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    return f" `{parameter.metavar or parameter.name.rpartition('_')[2].upper()}`"


def _default(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False) or parameter.default is None:
        return " Required." if parameter.required else ""
    return f" Default: `{parameter.default}`."


def _cell(parameter: Any) -> str:
    return _plain(getattr(parameter, "help", None) or "").replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Turn the markup of the terminal into Markdown."""
    return re.sub(r"\[/?bold\]", "**", text).strip()
