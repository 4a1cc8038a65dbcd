"""`make size`: how large the project is, beside what is asked for where something is."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("mno", "flows", "pipelines")
CORE = (
    "core", "scenarios", "data", "scan", "nn", "training", "surrogate", "evaluation", "report",
    "lineage", "registry",
)  # fmt: skip


def main() -> None:
    """Print a row for each figure."""
    files = tracked(*(f"{room}/*.py" for room in CODE))
    folders = {Path(name).parent for name in files}
    core = tracked(*(f"mno/{room}/*.py" for room in CORE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows: list[tuple[str, object, object]] = [
        ("lines in mno, flows and pipelines", lines(files), 62_000),
        ("modules", len(files), 400),
        ("folders", len(folders), None),
        ("lines of the core rooms", lines(core), None),
        ("top-level commands", commands(), 26),
        ("lines of tests", lines(tracked("tests/*.py")), None),
        ("direct dependencies of the library", len(project["dependencies"]), 14),
    ]
    for name, value, most in rows:
        print(f"{name:<48} {value:>7}{'' if most is None else f'   at most {most}'}")


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


if __name__ == "__main__":
    main()
