from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from registry_shop import Shop

from mno.registry import prepare


@pytest.fixture(scope="session")
def prepared_database(tmp_path_factory) -> Path:
    """An empty database of MLflow; making one takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shop(tmp_path: Path, prepared_database: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    (shop.root / "mno").mkdir(parents=True)
    shutil.copy(prepared_database, shop.root / "mlflow.db")
    (shop.root / "mno/code.py").write_text("A = 1\n")
    (shop.root / "params.yaml").write_text("scenario: darcy\nseed: 1\n")
    (shop.root / ".gitignore").write_text("/mlflow.db*\n/mlartifacts/\n/models/\n/reports/\n")
    shop.use_data("a")
    shop.git("init", "-q")
    shop.git("add", "-A")
    shop.git("commit", "-q", "-m", "work")
    return shop
