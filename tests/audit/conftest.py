from __future__ import annotations

import pytest
from audited_line import TINY, Line

from flows.params import edit_params
from tests.workspaces import make_workspace


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """Tests may damage it, and must mend it."""
    workspace = make_workspace(tmp_path_factory.mktemp("audited") / "workspace")
    for epochs in (1, 3):
        edit_params(workspace.root, "quick", [*TINY, f"train.epochs={epochs}"])
        workspace.run("dvc", "repro", "-q", check=True)
    return Line(workspace.root)


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
