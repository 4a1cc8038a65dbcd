"""The `mno` command: finds each command where it is, and turns what goes wrong into one line."""

import errno
import sys
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.options import print_json
from mno import __version__
from mno.core.errors import InputError, MnoError

GROUP = "mno.commands"
"""Entry points of this group bring further commands: `NAME = "MODULE:OBJECT [EXTRA]"`, where the
object is a function with typer's annotations or a `typer.Typer` with commands of its own, and the
extra is what is to be installed where a package that it imports is missing."""

# The commands of the core; each is imported when it is asked for.
_CORE = {
    "run": "flows.line:run", "generate": "flows.line:generate", "train": "flows.line:train",
    "evaluate": "flows.line:evaluate", "register": "flows.line:register",
    "inspect": "flows.data:inspect_app", "predict": "flows.predict:predict",
    "watch": "flows.watch:watch", "schedule": "flows.schedule:schedule_app",
    "promote": "flows.promotion:promote", "audit": "flows.audit:audit",
    "replay": "flows.replay:replay", "lineage": "flows.lineage:lineage_app",
    "gc": "flows.tidying:gc", "ui": "flows.pages:ui", "status": "flows.status:status",
    "doctor": "flows.status:doctor",
}  # fmt: skip
# What a file system refuses, and what to do.
_YOURS = "work in a checkout of your own, or let its owner allow it: mno doctor says what"
_REFUSED = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _YOURS)
_REFUSED[errno.ENOSPC] = "make room"
_OURS = ("mno", "flows", "pipelines")
_MISTAKE: Any = typer.BadParameter.__base__  # UsageError, which typer has at no place of its own

# The help's groups, in the order of the work; what others bring stands below them.
_PANELS = {
    "The line, from a solver to a registered model": "run generate train evaluate register",
    "What there is": "status inspect ui doctor",
    "Use a model": "predict serve watch compare infer optimise",
    "Data of your own": "import export",
    "Operate": "promote schedule gc",
    "Where a model comes from": "lineage audit replay certify",
    "Many models": "study",
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names.split()}


class _Commands(Mapping[str, Any]):
    """The commands by name: those of the core, then those of entry points."""

    @cached_property
    def added(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=GROUP) if e.name not in _CORE}

    def __getitem__(self, name: str) -> Any:
        return _load(self.entry(name))

    def entry(self, name: str) -> EntryPoint:
        return EntryPoint(name, _CORE[name], GROUP) if name in _CORE else self.added[name]

    def __contains__(self, name: object) -> bool:
        return name in _CORE or name in self.added

    def __iter__(self) -> Iterator[str]:
        present = [*_CORE, *self.added]
        return iter(sorted(present, key=[*_PANEL_OF, *present].index))

    def __len__(self) -> int:
        return len(_CORE) + len(self.added)


@cache
def _load(entry: EntryPoint) -> Any:
    """Return an entry's command; one that says what is missing where it cannot be loaded."""
    settings, panel = {}, _PANEL_OF.get(entry.name, "Of other packages")
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        if entry.name in _CORE:
            raise
        found, settings = _stand_in(_missing(entry, error)), {"ignore_unknown_options": True}
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name, group.rich_help_panel = entry.name, panel
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(entry.name, context_settings=settings, rich_help_panel=panel)(found)
    return typer.main.get_command(alone)


def _stand_in(problem: str) -> Any:
    def refuse(rest: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise InputError(problem)

    refuse.__doc__ = f"Not available: {problem}"
    return refuse


def _missing(entry: EntryPoint, error: Exception) -> str:
    name = getattr(error, "name", None) or ""
    if not isinstance(error, ModuleNotFoundError) or name.split(".")[0] in _OURS:
        return f"mno {entry.name} cannot be loaded from {entry.value}: {error}"
    package = getattr(entry.dist, "name", "mno")
    remedy = f"'{package}[{','.join(entry.extras)}]'" if entry.extras else name
    return f"mno {entry.name} needs {name}, which is not installed: pip install {remedy}"


class _Group(TyperGroup):
    """Knows commands without importing them."""

    commands: Any

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


app = typer.Typer(
    cls=_Group,
    name="mno",
    help=(
        "The production line for neural operators.\n\n"
        "[bold]mno run[/bold] goes from a PDE solver to a registered model: it generates the data, "
        "trains, evaluates and registers, and redoes only what a change has made stale.\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong use, 3 audit or replay found a difference."
    ),
    epilog=(
        "Start with: mno run --preset quick    then: mno status    "
        "and: mno predict models:/mno-darcy@champion data predictions.zarr"
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mno {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option(
        "--version", help="Print the version.", callback=_print_version, is_eager=True)] = False,
) -> None:  # fmt: skip
    """Options of all commands."""


def main() -> None:
    """Run the command line; turn what goes wrong into one line and an exit code."""
    try:
        code = app(prog_name="mno", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except MnoError as error:
        _fail(error)
    except ModuleNotFoundError as error:  # which a command imports as late as it can
        commands, named = _Commands(), sys.argv[1:2]
        name = (error.name or "").split(".")[0]
        if not named or named[0] not in commands or name in (*_OURS, ""):
            raise
        _fail(InputError(_missing(commands.entry(named[0]), error)))
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        said = f"{error.filename or Path.cwd()}: {error.strerror}"
        _fail(InputError(f"{said}; {_REFUSED[error.errno]}"))
    except _MISTAKE as error:
        if not (said := error.format_message()):  # its help has been printed
            sys.exit(2)
        path = error.ctx.command_path if error.ctx else "mno"
        _fail(InputError(f"{said.rstrip('.')}; see {path} --help"))


def _fail(error: MnoError) -> None:
    from flows.stages import StageFailedError

    if not isinstance(error, StageFailedError):  # which has printed its own line already
        print(f"error: {error}", file=sys.stderr)
    if "--json" in sys.argv:
        print_json({"error": str(error), "exit_code": error.exit_code})
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
