import pytest
from registry_shop import open_shop

from mno.registry.settings import prepare


@pytest.fixture(scope="session")
def prepared_database(tmp_path_factory):
    """An empty database of MLflow; making one takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shop(tmp_path, prepared_database):
    return open_shop(tmp_path / "shop", prepared_database)
