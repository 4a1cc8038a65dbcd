"""Plants that are followed over HTTP, and the page on which they are watched."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from small_service import OneVersion
from small_service import trusted as trusted_darcy

from mno.serving import counts as seen
from mno.serving.app import ServingConfig
from mno.serving.counts import Counts
from mno.serving.plant import Observer, Plant
from mno.serving.watching import Watching
from tests.support import furnace_runs
from tests.support.running_service import opened, running

SENSOR = "thermocouple_temperature.roof_front"


def version():
    surrogate, trust = furnace_runs.observer()
    given = surrogate.description.given(furnace_runs.runs("train", 0, observed=True).fields)
    return OneVersion(surrogate, trust, {name: values[:1] for name, values in given.items()})


@contextmanager
def watched(folder, most=64, config=None, counts=None, served=None):
    made = []

    def more(service, follower):
        made.append(Watching(service, follower, folder, most, counts))
        return made[0].routes()

    with running(served or version(), config, counts, more) as service:
        try:
            yield service
        finally:
            made[0].ending = lambda: True


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with watched(tmp_path_factory.mktemp("plants")) as running_service:
        yield running_service


def reading(plant, frame, run=None):
    constant, rows = furnace_runs.log_of(run or 0)
    cells = {n: None if v != v else v for n, v in rows[frame].items() if n != "time"}
    body = {"plant": plant, "time": rows[frame]["time"], "readings": cells}
    return {**body, "run": constant} if frame == 0 else body


def told(service, plant, frame, run=None):
    answer = httpx.post(f"{service.url}/readings", json=reading(plant, frame, run), timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def alone(run, frames):
    """What a plant is told without any service."""
    observer = Observer(*furnace_runs.observer(), "0" * 64, "mno-darcy/3")
    bodies = [reading("", frame, run) for frame in range(frames)]
    plant = Plant(observer, observer.begin(bodies[0]["run"]))
    return [plant.take(body["time"], body["readings"]) for body in bodies]


def test_two_plants_are_followed_beside_each_other(service):
    found = [(told(service, "a", k, 0), told(service, "b", k, 1)) for k in range(4)]
    for plant, run in (("a", 0), ("b", 1)):
        expected = [{"plant": plant, **answer} for answer in alone(run, 4)]
        assert [answers[run] for answers in found] == expected
    assert found[3][0]["outputs"] != found[3][1]["outputs"]
    assert found[3][0]["model"] == "mno-darcy/3"


def test_plants_that_are_not_in_memory_are_taken_up_again_from_the_disk(tmp_path):
    with watched(tmp_path, most=1) as service:
        found = [(told(service, "a/..", k, 0), told(service, "日本", k, 1)) for k in range(3)]
    with watched(tmp_path) as service:  # after the service was started again
        found.append((told(service, "a/..", 3, 0), told(service, "日本", 3, 1)))
    for plant, run in (("a/..", 0), ("日本", 1)):
        expected = [{"plant": plant, **answer} for answer in alone(run, 4)]
        assert [answers[run] for answers in found] == expected
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4 and {name[-4:] for name in names} == {".csv", "sors"}


def test_a_plant_whose_model_is_not_served_any_more_has_to_begin_anew(tmp_path):
    with watched(tmp_path) as service:
        told(service, "a", 0)
    surrogate, trust = furnace_runs.observer()
    other = version()
    other._trust = trust.model_copy(update={"model_sha256": "1" * 64})
    with watched(tmp_path, served=other) as service:
        answer = httpx.post(f"{service.url}/readings", json=reading("a", 1))
        assert answer.status_code == 409
        assert "is the state of another model" in answer.json()["message"]
        assert told(service, "a", 0)["told"] == 1


def test_readings_that_are_not_in_order_are_refused_and_counted(service):
    told(service, "ordered", 0)
    told(service, "ordered", 2)
    for frame in (2, 1):
        answer = httpx.post(f"{service.url}/readings", json=reading("ordered", frame))
        assert answer.status_code == 409, answer.text
        assert "is not later than that of the reading before" in answer.json()["message"]
    dropped = told(service, "ordered", 3)["dropped"]
    assert (dropped["out_of_order"], dropped["repeated"]) == (1, 1)
    assert told(service, "ordered", 0)["told"] == 1  # with a run, it begins anew


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"readings": {"pressure": 1.0}}, "pressure is not what the model is given"),
        ({"readings": {SENSOR: "hot"}}, "readings"),
        ({"readings": [1.0]}, "readings"),
        ({"time": "never"}, "expected seconds, or a date"),
        ({"time": None}, "time"),
        ({"plant": ""}, "plant"),
        ({"plant": "another", "run": None}, "another has no run yet; give `run`"),
        ({"run": {"piece_width": 1.0}}, "the run lacks, or has too much of, ambient_temp"),
        ({"more": 1}, "more"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(service, change, why):
    answer = httpx.post(f"{service.url}/readings", json={**reading("new", 0), **change})
    assert answer.status_code == 400, answer.text
    message = answer.json()["message"]
    assert why in message and "\n" not in message


def test_a_reading_that_cannot_be_kept_may_be_sent_again(tmp_path):
    with watched(tmp_path / "plants") as service:
        told(service, "a", 0)
        (tmp_path / "plants").rename(tmp_path / "elsewhere")
        (tmp_path / "plants").write_text("a file in its place")
        answer = httpx.post(f"{service.url}/readings", json=reading("a", 1), timeout=60)
        assert answer.status_code == 503 and "send it again" in answer.json()["message"]
        (tmp_path / "plants").unlink()
        (tmp_path / "elsewhere").rename(tmp_path / "plants")
        assert told(service, "a", 1)["told"] == 2


def test_other_content_and_other_models_are_refused(service, tmp_path):
    body, plain = json.dumps(reading("a", 0)), {"Content-Type": "text/plain"}
    answer = httpx.post(f"{service.url}/readings", content=body, headers=plain)
    assert answer.status_code == 415
    with watched(tmp_path, served=OneVersion(*trusted_darcy())) as other:
        answer = httpx.post(f"{other.url}/readings", json=reading("a", 0))
        assert answer.status_code == 400
        assert "is no observer of readings" in answer.json()["message"]


def test_the_token_is_asked_for_by_all_but_the_bare_page(tmp_path):
    config = ServingConfig(token="a secret token", poll_interval=60.0)  # noqa: S106
    with watched(tmp_path, config=config) as service:
        assert httpx.get(f"{service.url}/watch").status_code == 200
        for path in ("/watch/setup", "/watch/events?plant=a"):
            assert httpx.get(service.url + path).status_code == 401
        assert httpx.post(f"{service.url}/readings", json=reading("a", 0)).status_code == 401


def test_what_was_told_is_counted_for_drift(tmp_path):
    path = tmp_path / seen.FOLDER / "mno-darcy@champion.5002.json"
    with watched(tmp_path / "plants", counts=Counts(path, 60.0)) as service:
        told(service, "a", 0)
        hot = reading("a", 1)
        hot["readings"][SENSOR] = 5000.0
        assert httpx.post(f"{service.url}/readings", json=hot).json()["unlike"] == [SENSOR]
    found = seen.read(tmp_path)["mno-darcy/3"]
    assert (found["samples"], found["judged"], found["flagged"]) == (2, 2, 1)
    assert found["bounded"] == 2 and found["bound"] > 0.0


def test_events_begin_with_what_was_told_and_go_on(service):
    for frame in range(2):
        told(service, "listened", frame)
    later = threading.Timer(0.5, lambda: told(service, "listened", 2))
    later.start()
    found = []
    address = f"{service.url}/watch/events?plant=listened"
    with httpx.stream("GET", address, timeout=30) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
            if len(found) == 3:
                break
    later.join()
    assert [answer["time"] for answer in found] == [0.0, 1800.0, 3600.0]
    assert all(answer["plant"] == "listened" for answer in found)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme", "language"),
    [(1280, "light", "en"), (420, "dark", "en"), (420, "light", "ja")],
)
def test_the_page_shows_what_is_told_as_it_comes(browser, service, width, scheme, language):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    name = f"shown at {width} {scheme}"
    for frame in range(3):
        told(service, name, frame)
    page, heard = opened(
        browser, f"{service.url}/watch?lang={language}&plant={name}", color_scheme=scheme,
        viewport={"width": width, "height": 800}, bypass_csp=True,
    )  # fmt: skip
    page.wait_for_selector("#verdict.good")
    assert page.locator("#outputs canvas").count() == 10
    before = page.locator("#outputs canvas").first.evaluate("c => c.toDataURL()")
    hot = reading(name, 3)
    hot["readings"][SENSOR] = 5000.0
    httpx.post(f"{service.url}/readings", json=hot).raise_for_status()
    page.wait_for_selector("#verdict.fair")  # the others agree
    assert "thermocouple temperature: roof front" in page.locator("#verdict").inner_text()
    assert page.locator("#alarms li").all_inner_texts() == [
        "5400: thermocouple temperature: roof front"
    ]
    assert page.locator("#outputs canvas").first.evaluate("c => c.toDataURL()") != before
    assert "core temperature 1: " in page.locator("#outputs").inner_text()
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    hot = reading(name, 4)
    hot["readings"] |= {c: 5000.0 for c in hot["readings"] if not c.startswith("setpoint")}
    httpx.post(f"{service.url}/readings", json=hot).raise_for_status()
    page.wait_for_selector("#verdict.bad")
    assert heard == []
    page.context.close()


@pytest.mark.browser
def test_the_page_waits_for_a_plant_asks_for_the_token_and_outlives_the_service(browser, tmp_path):
    config = ServingConfig(token="a secret token", poll_interval=60.0)  # noqa: S106
    with watched(tmp_path, config=config) as service:
        page, _ = opened(browser, f"{service.url}/watch?lang=en")
        page.locator("#token").fill("a secret token")
        page.locator("#token-form button").click()
        page.wait_for_selector("#status:text-is('No plant has sent a reading yet.')")
        sent = {"Authorization": "Bearer a secret token"}
        httpx.post(f"{service.url}/readings", json=reading("a", 0), headers=sent)
        page.wait_for_selector("#verdict.good")
        started = time.monotonic()
    assert time.monotonic() - started < 30.0  # though the page listens
    page.wait_for_selector("#status.bad")
    page.context.close()
