"""Where cells are kept: one JSON file each, in `studies/results/<study>/`, and what they are worth.

Every file is written beside and then put in place, so that a study can be killed at any moment and
continued anywhere: the files are all that is needed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mno.core.errors import MnoError
from mno.study.design import Cell
from mno.study.identity import Code, Identity, identify, identify_scaling
from mno.study.spec import ScalingConfig

FOLDER = Path("studies/results")
SCHEMA = 1
State = Literal["fresh", "stale", "failed", "missing"]


@dataclass(frozen=True)
class Found:
    """A cell as it is planned, and what is kept of it.

    Attributes:
        cell: As the study file and the code say now.
        identity: Of that cell.
        state: `fresh`; `stale`, made otherwise than it would be now; `failed`; or `missing`.
        reason: Why it is stale, or has failed; empty otherwise.
        record: The content of its file; none where there is none.
    """

    cell: Cell
    identity: Identity
    state: State
    reason: str
    record: Mapping[str, Any] | None


class Results:
    """The results of one study.

    Args:
        root: The workspace.
        study: Name of the study.
    """

    def __init__(self, root: Path, study: str) -> None:
        self.folder = root / FOLDER / study

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the content of a file of this study by its name without `.json`; none if missing.

        Raises:
            MnoError: It is not one of ours.
        """
        path = self.folder / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise MnoError(
                f"{path} is not a result that this version can read; git checkout it, or remove "
                "it: it is then made again"
            )
        return content

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        """Keep a result; numbers that are not finite become null."""
        path = self.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        text = json.dumps(_finite({"schema": SCHEMA, **content}), indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, path)
        return path

    def datasets(self) -> dict[str, str]:
        """Return DVC's md5 of the datasets of this study that have been made, by their digest."""
        found = {}
        for path in sorted((self.folder / "datasets").glob("*.json")):
            record = self.read(f"datasets/{path.stem}")
            if record is not None:
                found[record["dataset"]] = record["md5"]
        return found

    def keep_dataset(self, cell: Cell, digest: str, md5: str) -> None:
        """Note which version of the data came of a dataset's parameters and code."""
        content = {"dataset": digest, "md5": md5, "scenario": cell.scenario}
        self.write(f"datasets/{cell.scenario}-{digest[:12]}", content)

    def find(self, cells: list[Cell], code: Code) -> list[Found]:
        """Hold what is kept against what the cells would be now."""
        datasets = self.datasets()
        return [self._found(cell, identify(cell, code, datasets), code) for cell in cells]

    def find_scaling(self, cells: list[Cell], code: Code, scaling: ScalingConfig) -> list[Found]:
        """Do the same with the measurements of operators on several grids, one for each model."""
        found = []
        for cell in scaling_cells(cells, scaling):
            identity, record = identify_scaling(cell, code, scaling), self.read(scaling_name(cell))
            reason = None
            if record is not None:
                reason = identity.differs_from(record["identity"], code.equivalent)
            state: State = "missing" if record is None else "stale" if reason else "fresh"
            found.append(Found(cell, identity, state, reason or "", record))
        return found

    def strays(self, cells: list[Cell]) -> list[str]:
        """Return the names of kept cells that the study no longer has."""
        known = {cell.name for cell in cells}
        kept = (path.stem for path in self.folder.glob("*--*--*.json"))
        return sorted(name for name in kept if name not in known)

    def _found(self, cell: Cell, identity: Identity, code: Code) -> Found:
        record = self.read(cell.name)
        if record is None:
            return Found(cell, identity, "missing", "", None)
        reason = identity.differs_from(record["identity"], code.equivalent)
        if record["state"] == "failed":
            if reason is None:
                return Found(cell, identity, "failed", record["reason"], record)
            return Found(cell, identity, "missing", "", None)  # what failed was another cell
        if reason is not None:
            return Found(cell, identity, "stale", reason, record)
        return Found(cell, identity, "fresh", "", record)


def scaling_cells(cells: list[Cell], scaling: ScalingConfig) -> list[Cell]:
    """Return one cell for each model whose operator is to be measured on several grids."""
    wanted = scaling.scenarios or [cells[0].scenario]
    return [c for c in cells if c.scenario in wanted and c.seed == cells[0].seed]


def scaling_name(cell: Cell) -> str:
    """Return the name under which the measurements of a cell's operator are kept."""
    return f"scaling/{cell.scenario}--{cell.model.name}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
