"""What a cell is: its parameters, the version of its data and the code that it depends on.

Code that has moved or changed may have been shown to make the same cells, bit for bit
(`python -m benchmarks.equivalence`). Its identity then counts as that of the code before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mno.lineage.stages import stage_inputs
from mno.study.design import Cell
from mno.study.spec import ScalingConfig

EQUIVALENCES = Path("studies/results/equivalences.json")
CELL_STAGES = ("train", "learning_curve", "evaluate")
# Modules and templates that only show what has been measured.
_SHOWN = ("mno/report/",)
_SHOWN_SUFFIXES = (".j2", ".css", ".toml")


@dataclass
class Code:
    """Digests of the code that cells of a workspace depend on, each file read once.

    Attributes:
        root: The workspace.
    """

    root: Path
    _files: dict[str, str] = field(default_factory=dict)
    _lists: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def equivalent(self) -> frozenset[tuple[str, str]]:
        """Pairs of identities, of old and new code, that were shown to make the same cells."""
        path = self.root / EQUIVALENCES
        if not path.exists():
            return frozenset()
        entries = json.loads(path.read_text(encoding="utf-8"))["equivalences"]
        return frozenset(
            pair for e in entries for part in ("code", "datasets") for pair in e[part].items()
        )

    def cell_digest(self, cell: Cell) -> str:
        """Return the digest of what trains and measures a cell.

        What only draws and writes the line's report is left out: it changes no figure.
        """
        names = {
            name
            for stage in CELL_STAGES
            for name in self._names(stage, cell.params)
            if not name.startswith(_SHOWN) and not name.endswith(_SHOWN_SUFFIXES)
        }
        return self._digest(sorted(names))

    def dataset_digest(self, cell: Cell) -> str:
        """Return the digest of what makes a cell's data: parameters and code of `generate`."""
        scenario = cell.params["scenario"]
        made_from = {
            "scenario": scenario,
            "generate": cell.params["generate"],
            "parameters": cell.params["scenarios"].get(scenario, {}),
        }
        code = self._digest(self._names("generate", cell.params))
        return _sha256({"params": made_from, "code": code})

    def _names(self, stage: str, params: Mapping[str, Any]) -> tuple[str, ...]:
        key = (stage, params["scenario"])
        if key not in self._lists:
            self._lists[key] = stage_inputs(self.root, stage, params).code
        return self._lists[key]

    def _digest(self, names: list[str] | tuple[str, ...]) -> str:
        for name in names:
            if name not in self._files:
                content = (self.root / name).read_bytes()
                self._files[name] = hashlib.sha256(content).hexdigest()
        return _sha256([[name, self._files[name]] for name in names])


@dataclass(frozen=True)
class Identity:
    """What determines a cell's figures, but for measured times.

    Attributes:
        params: Digest of the parameters.
        dataset: Digest of what its data are made from: parameters and code.
        data: DVC's md5 of the data; none while nobody has made them.
        code: Digest of the code that trains and measures.
    """

    params: str
    dataset: str
    data: str | None
    code: str

    @property
    def digest(self) -> str:
        """One digest of all; two cells with the same one are the same cell."""
        return _sha256([self.params, self.data, self.code])

    def differs_from(
        self, recorded: Mapping[str, Any], equivalent: frozenset[tuple[str, str]] = frozenset()
    ) -> str | None:
        """Return why a recorded cell is not this one; none if it is.

        Args:
            recorded: Its identity, as it is kept.
            equivalent: See `Code.equivalent`.
        """

        def same(part: str, now: str) -> bool:
            known = str(recorded.get(part))
            return known == now or (known, now) in equivalent

        if recorded.get("params") != self.params:
            return "its parameters have changed"
        if not same("code", self.code):
            return "the code that trains and measures it has changed"
        if self.data is None:
            if not same("dataset", self.dataset):
                return "what makes its data has changed, and nobody has made them since"
            return None
        return None if recorded.get("data") == self.data else "its data have changed"


def identify(cell: Cell, code: Code, datasets: Mapping[str, str]) -> Identity:
    """Return the identity of a cell.

    Args:
        cell: The cell.
        code: Of the workspace.
        datasets: DVC's md5 of each dataset that has been made, by `Code.dataset_digest`.
    """
    dataset = code.dataset_digest(cell)
    return Identity(
        params=_sha256(cell.tracked),
        dataset=dataset,
        data=datasets.get(dataset),
        code=code.cell_digest(cell),
    )


def identify_scaling(cell: Cell, code: Code, scaling: ScalingConfig) -> Identity:
    """Return the identity of the measurements of a cell's operator on several grids."""
    measured = {key: cell.params[key] for key in ("scenario", "task", "model")}
    own = cell.params["scenarios"].get(cell.params["scenario"], {})
    resolution = cell.params["generate"]["resolution"]
    params = _sha256([measured, own, resolution, scaling.model_dump()])
    return Identity(params=params, dataset="", data="", code=code.cell_digest(cell))


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
