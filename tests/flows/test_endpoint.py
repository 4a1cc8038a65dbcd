"""What an endpoint says of the model behind it."""

from __future__ import annotations

import json

import pytest

from flows.audit import served_model
from mno.core.errors import InputError
from tests.support.answering import answering

SERVED = json.dumps({"model": "mno-darcy/3", "since": "2026-11-26T15:00:00+0000"})


def test_names_the_version_that_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNO_SERVE_TOKEN", "a-long-secret")
    with answering(body=SERVED) as there:
        for target in (there.url, f"{there.url}/", f"{there.url}/invocations"):
            model, said = served_model(target)
            assert model == "models:/mno-darcy/3"
            assert said == f"{there.url} serves mno-darcy/3 since 2026-11-26T15:00:00+0000"
    asked = [(path, headers["Authorization"]) for path, headers, _ in there.asked]
    assert asked == [("/model", "Bearer a-long-secret")] * 3


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "2.22.0", "answered 200: '2.22.0'"),
        (200, "[]", "expected a version"),
        (200, '{"model": "mno-darcy@champion"}', "expected a version"),
        (200, '{"model": "../../x/3"}', "expected a version"),
        (200, '{"model": 3}', "expected a version"),
        (200, "x" * 2**20, "expected a version"),
        (404, "Not\x1b[31m Found", "answered 404: 'Not"),
        (401, "", "set MNO_SERVE_TOKEN"),
        (200, "", "'nothing'"),
    ],
)
def test_says_what_it_was_answered_if_that_is_no_version(status: int, body: str, said: str) -> None:
    with answering(status=status, body=body) as there, pytest.raises(InputError) as raised:
        served_model(there.url)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 600
    assert "\x1b" not in str(raised.value)


def test_is_not_sent_elsewhere() -> None:
    with (
        answering(body=SERVED) as there,
        answering(status=302, Location=f"{there.url}/model") as here,
        pytest.raises(InputError, match="answered 302"),
    ):
        served_model(here.url)
    assert there.asked == []


def test_what_is_no_address_of_a_service_or_not_there_is_refused() -> None:
    wrong = ("ftp://127.0.0.1/x", "file:///etc/passwd", "sqlite:///mlflow.db", "http://")
    for address in (*wrong, "http://[::1", "http://me:word@127.0.0.1"):
        with pytest.raises(InputError, match="expected http"):
            served_model(address)
    with answering() as gone:
        pass
    with pytest.raises(InputError, match="does not answer"):
        served_model(gone.url)
