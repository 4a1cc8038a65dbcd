"""The code that each stage of `dvc.yaml` depends on, computed from what it imports.

    python -m pipelines.deps            # what would change; exits 1 if something would
    python -m pipelines.deps --write    # writes it

A folder stands in place of its files where all are needed, so that nothing else becomes stale.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mno.core.files import write_text
from mno.core.imports import TRACKED, imported_files
from mno.lineage.dvcfiles import IGNORED

MARK = "# Code: python -m pipelines.deps --write"
# The deps of a stage, after all that comes before them in it.
_DEPS = re.compile(r"(^  (\w+):\n(?:    .*\n)*?    deps:\n)((?:      .*\n)+)", re.MULTILINE)
# What a module imports by a name that parameters give.
_BY_NAME = {
    "mno/scenarios/base.py": (
        "mno/scenarios/${scenario}.py",
        "mno/scenarios/kernels",
        "mno/scenarios/chamber",
    ),
    "mno/scenarios/residuals/__init__.py": ("mno/scenarios/residuals",),
    "mno/nn/backbones/__init__.py": ("mno/nn/backbones",),
    "mno/nn/mixers/__init__.py": ("mno/nn/mixers",),
    "mno/registry/packaging.py": ("mno/registry/pyfunc_model.py",),
    "mno/report/document.py": ("mno/report/sections",),
}
# Folders of which a module reads what is no code: templates, words.
_READ = {
    "mno/scenarios/base.py": ("plants",),
    "mno/core/words/__init__.py": ("mno/core/words",),
    "mno/report/document.py": ("mno/report",),
}


def stage_code(root: Path, stage: str) -> list[str]:
    """Return what `dvc.yaml` should name as the code of `pipelines/<stage>.py`, in order."""
    modules = imported_files(root, [f"pipelines/{stage}.py"])
    named = {name for module in modules for name in _BY_NAME.get(module, ())}
    files = {file for name in named for file in _files_in(root, name)}
    modules |= imported_files(root, (file for file in files if file.endswith(".py")))
    folders = {folder for module in modules for folder in _READ.get(module, ())}
    read = {file for folder in folders for file in _files_in(root, folder)}
    read = {file for file in read if not file.endswith(".py")}
    scenarios = {name for name in named if "${" in name}
    if scenarios:  # what scenarios share counts for all of them, each by itself does not
        modules |= imported_files(root, _shared_by_scenarios(root))
    return sorted(_as_folders(root, modules | read) | scenarios)


def _shared_by_scenarios(root: Path) -> set[str]:
    """Return what scenarios import, but for scenarios themselves."""
    files = (root / "mno/scenarios").glob("*.py")
    scenarios = [path for path in files if "\nSCENARIO = " in path.read_text(encoding="utf-8")]
    own = {path.relative_to(root).as_posix() for path in scenarios}
    return imported_files(root, own) - own


def _files_in(root: Path, name: str) -> Iterator[str]:
    """Yield what DVC looks at in a folder, or the file of that name."""
    for path in (root / name, *(root / name).rglob("*")):
        if path.is_file() and not IGNORED.search(path.as_posix()):
            yield path.relative_to(root).as_posix()


def _as_folders(root: Path, files: set[str]) -> set[str]:
    """Put folders in the place of their files, where all of them are there."""
    folders = {parent.as_posix() for name in files for parent in Path(name).parents if parent.name}
    whole = {folder for folder in folders if set(_files_in(root, folder)) <= files}
    inner = {f for f in whole if any(p.as_posix() in whole for p in Path(f).parents)}
    kept = {n for n in files if not any(p.as_posix() in whole for p in Path(n).parents)}
    return (whole - inner) | kept


def rewritten(root: Path) -> str:
    """Return `dvc.yaml` with the code of every stage as it should be."""

    def with_code(found: re.Match[str]) -> str:
        before, stage, deps = found.groups()
        others = [
            line
            for line in deps.splitlines()
            if line.strip() != MARK and line.strip(" -").split("/")[0] not in TRACKED
        ]
        code = [f"      {MARK}", *(f"      - {name}" for name in stage_code(root, stage))]
        return before + "\n".join([*others, *code]) + "\n"

    return _DEPS.sub(with_code, (root / "dvc.yaml").read_text(encoding="utf-8"))


def main() -> int:
    """Compare `dvc.yaml` with the imports, and write it if asked."""
    root = Path(__file__).parents[1]
    wanted = rewritten(root)
    if wanted != (root / "dvc.yaml").read_text(encoding="utf-8"):
        if "--write" not in sys.argv[1:]:
            print("dvc.yaml does not name all that stages import: python -m pipelines.deps --write")
            return 1
        write_text(root / "dvc.yaml", wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
