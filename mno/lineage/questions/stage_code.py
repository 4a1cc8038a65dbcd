"""Which stages depend on a file, by the `dvc.yaml` of a commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import MnoError
from mno.lineage.dvcfiles import MAKING
from mno.lineage.git import git
from mno.lineage.snapshot import CODE

_SCENARIO = "${scenario}"
# All code, where it is not known what depends on what.
_UNREADABLE = "any stage"
# What every stage is made by.
_ALL = ("dvc.yaml", "constraints.txt")


@dataclass(frozen=True)
class Pattern:
    """A dependency of a stage, as `dvc.yaml` states it.

    Attributes:
        stage: The stage.
        path: A file or folder; `${scenario}` stands for any scenario.
    """

    stage: str
    path: str

    def fits(self, path: str, scenario: str | None = None) -> bool:
        """Tell whether a file is this dependency, or in it, for one scenario or for any."""
        name = re.escape(scenario) if scenario else "[a-z0-9_]+"
        stated = re.escape(self.path).replace(re.escape(_SCENARIO), name)
        return re.fullmatch(f"{stated}(/.*)?", path) is not None


def stage_patterns(root: Path, commit: str) -> list[Pattern]:
    """Return the code that the stages of a model depend on, as a commit's `dvc.yaml` states it.

    Where the commit has none, that of the workspace is taken. Where it cannot be read, all code is
    what any stage depends on.
    """
    try:
        text = git(root, "show", f"{commit}:./dvc.yaml").decode(errors="replace")
    except MnoError:
        text = (root / "dvc.yaml").read_text(encoding="utf-8")
    try:
        stages: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
        made = {name: stages.get(name) or {} for name in MAKING}
    except (YAMLError, KeyError, TypeError, AttributeError):
        return [Pattern(_UNREADABLE, path) for path in CODE]
    found = [Pattern(s, str(dep)) for s, stage in made.items() for dep in stage.get("deps") or ()]
    return found + [Pattern(stage, path) for path in _ALL for stage in MAKING]
