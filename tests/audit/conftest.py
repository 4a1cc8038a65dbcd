import pytest


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def there(line, monkeypatch):
    monkeypatch.chdir(line.root)
    return line
