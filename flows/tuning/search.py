"""A search of a workspace: its file, its parameters and its data, held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.params import check_params, load_params
from flows.workspace import find_workspace
from mno.core.config import IMPORTED, dataset_name, read_params
from mno.core.errors import InputError
from mno.data.imported import source_class, source_parameters
from mno.data.plan import make_plan
from mno.study.matching import count, signature_of
from mno.study.tuning.space import (
    TuneSpec,
    at,
    default_params,
    default_point,
    read_tune,
    search_digest,
    tune_file,
)
from mno.study.tuning.training import data_digest, made_from

DATA = Path("data")
FOLDER = Path("build/tune")


@dataclass(frozen=True)
class Search:
    """A search that can be run.

    Attributes:
        root: The workspace.
        name: Its name, that of its file.
        spec: What the file says.
        default: Parameters that it starts from, complete.
        data: Digest of the dataset.
        digest: What tells it from other searches of that name.
    """

    root: Path
    name: str
    spec: TuneSpec
    default: Mapping[str, Any]
    data: str
    digest: str

    @property
    def key(self) -> str:
        """What the databases know it by."""
        return f"{self.name}--{self.digest[:12]}"

    @property
    def work(self) -> Path:
        """Folder of its trainings."""
        return self.root / FOLDER / self.name / self.digest[:12]

    @property
    def start(self) -> dict[str, Any] | None:
        """Where the default lies in the space; none where it lies outside."""
        return default_point(self.default, self.spec)

    def refusal(self, params: Mapping[str, Any]) -> str | None:
        """Return why parameters are not to be trained; none if they are."""
        try:
            check_params(params, self.root)
            parameters = count(params["model"], signature_of(params, self.root))
        except (InputError, ValueError, ImportError) as error:
            return str(error).replace("params.yaml: ", "")
        most = self.spec.limits.parameters
        if most is not None and parameters > most:
            return f"{parameters} parameters; at most {most}"
        return None


def load_search(given: str, root: Path | None = None) -> Search:
    """Read a search and check that it fits the workspace; nothing is made.

    Args:
        given: Its file, or its name in `studies/tune/`.
        root: The workspace; the one around the working folder if not given.

    Raises:
        InputError: One line that names what cannot be used.
    """
    root = root or find_workspace()
    file = tune_file(root, given)
    spec = read_tune(file)
    load_params(root)
    params = default_params(read_params(root), spec)
    _check_data(root, params)
    data = data_digest(root / DATA)
    digest = search_digest(root, params, spec, data)
    search = Search(root, file.stem, spec, params, data, digest)
    _check_space(search, file.name)
    return search


def _check_data(root: Path, params: Mapping[str, Any]) -> None:
    """Refuse data that are not those of the parameters."""
    found = made_from(root / DATA)
    wanted = dataset_name(params)
    if found["scenario"] != wanted:
        raise InputError(
            f"data/ holds {found['scenario']}, but the scenario of params.yaml is {wanted}; "
            "run mno generate"
        )
    if params["scenario"] == IMPORTED:
        return
    checked = load_params(root)
    own = source_parameters(checked.scenario, checked.scenarios.get(checked.scenario))
    plan = make_plan(source_class(checked.scenario), own, checked.generate, "", root)
    if found != plan.content:
        raise InputError(
            "data/ was made from other parameters than params.yaml says; run mno generate"
        )


def _check_space(search: Search, file: str) -> None:
    """Refuse a default that cannot be used, and an axis none of whose values can."""
    try:
        check_params(search.default, search.root)
    except InputError as error:
        raise InputError(f"{file}: base: {str(error).replace('params.yaml: ', '')}") from None
    for key, axis in search.spec.space.items():
        problems = []
        for value in axis.samples:
            try:
                check_params(at(search.default, {key: value}), search.root)
                break
            except InputError as error:
                problems.append(str(error).replace("params.yaml: ", ""))
        else:
            raise InputError(f"{file}: space.{key}: {problems[0]}")
