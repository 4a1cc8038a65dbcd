from __future__ import annotations

import pytest

from tests.support.audited_line import Line


@pytest.fixture(autouse=True)
def no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def there(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.chdir(line.root)
    return line
