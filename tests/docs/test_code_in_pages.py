"""Code that pages show runs as a reader pastes it, does what they say, and prints what they show.

The units of the page on deploying are ones that systemd takes, and name programs that exist.
"""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from markdown_files import ROOT, fences

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.scenarios.base import scenario_class

BLOCK_AND_OUTPUT = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?"
FIGURE = re.compile(r"^(\w[\w ]+?) +(0\.\d+)$", re.MULTILINE)
PRODUCTION_LINE = ("prefect", "dvc", "mlflow", "dask", "distributed", "zarr")
FACTS = """
import json, sys
print(json.dumps({
    "loaded": sorted(name for name in sys.modules if "." not in name),
    "differences": differences,
    "scaled": list(scaled.items()),
    "not_scaled": list(not_scaled.items()),
    "same": same,
    "finite": bool(torch.isfinite(y).all()),
    "shape": list(y.shape),
}))
"""


def read(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def pasted(page, more=""):
    """What a fresh process prints that runs a page from top to bottom."""
    command = [sys.executable, "-c", "\n".join([*fences(read(page), "python"), more])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed(page):
    """What is defined after a page has run; what each of its blocks printed, and shows."""
    names: dict = {}
    prints = []
    for code, shown in re.findall(BLOCK_AND_OUTPUT, read(page), re.DOTALL | re.MULTILINE):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), names)
        prints.append((out.getvalue(), shown))
    return names, prints


@pytest.fixture
def scenario(monkeypatch):
    text, _ = fences(read("how-to/add-a-scenario.md"), "python")
    module = ModuleType("shown_screened_poisson")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # pydantic looks up annotations there
    exec(compile(text, "screened_poisson.py", "exec"), module.__dict__)
    return module.SCENARIO  # type: ignore[attr-defined]


def test_the_scenario_shown_solves_its_equation(scenario):
    built = scenario(scenario.Parameters(), 16)
    for seed in range(5):
        inputs = built.sample(np.random.default_rng(seed))
        outputs = built.solve(inputs)
        measured = built.check(inputs, outputs)
        assert {check.name for check in built.checks} == set(measured)
        for check in built.checks:
            assert measured[check.name] <= check.tolerance
        worse = built.check(inputs, {"potential": outputs["potential"] * np.float32(1.01)})
        assert all(not worse[check.name] <= check.tolerance for check in built.checks)


def test_the_scenario_shown_agrees_with_a_direct_solve(scenario):
    n = 8
    built = scenario(scenario.Parameters(), n)
    charge = built.sample(np.random.default_rng(0))
    ring = 2 * np.eye(n) - np.roll(np.eye(n), 1, 0) - np.roll(np.eye(n), -1, 0)
    matrix = n**2 * (np.kron(ring, np.eye(n)) + np.kron(np.eye(n), ring)) + 25.0 * np.eye(n * n)
    direct = np.linalg.solve(matrix, charge["charge"].astype(float).ravel()).reshape(n, n)
    np.testing.assert_allclose(built.solve(charge)["potential"], direct, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("page", ["operators", "scan", "scenarios"])
def test_an_example_of_the_reference_runs(page):
    names, _ = printed(f"api/{page}.md")
    result = names.get("y", names.get("outputs"))
    values = result["pressure"] if isinstance(result, dict) else result.detach().numpy()
    assert np.isfinite(values).all()


@pytest.fixture(scope="module")
def facts():
    """What a fresh process knows after it has run the page of the library from top to bottom."""
    return json.loads(pasted("how-to/use-the-library.md", FACTS).splitlines()[-1])


@pytest.mark.slow
def test_the_library_imports_nothing_of_the_production_line(facts):
    assert {"torch", "mno"} <= set(facts["loaded"])
    assert set(facts["loaded"]).isdisjoint(PRODUCTION_LINE)


def test_the_backends_shown_agree(facts):
    assert set(facts["differences"]) == {"cpu", "chunked"}
    assert all(0 <= difference < 5e-6 for difference in facts["differences"].values())


def test_the_operator_shown_learns_and_keeps_its_error_on_finer_grids(facts):
    scaled, not_scaled = dict(facts["scaled"]), dict(facts["not_scaled"])
    assert set(scaled) == set(not_scaled) == {12, 24, 48}
    assert scaled[12] == not_scaled[12] < 0.15
    assert scaled[24] < 1.5 * scaled[12] and scaled[48] < 1.5 * scaled[12]
    assert not_scaled[24] > 4 * scaled[24] and not_scaled[48] > 4 * scaled[48]


def test_weights_shown_are_saved_and_loaded(facts):
    assert facts["same"] is True
    assert facts["finite"] is True and facts["shape"] == [1, 36, 24]


@pytest.fixture(scope="module")
def demonstration():
    return printed("the-scan-as-an-operator.md")


def test_the_demonstrations_print_what_the_page_shows(demonstration):
    _, prints = demonstration
    assert [bool(shown) for _, shown in prints] == [True, True, False]
    assert [out for out, _ in prints] == [shown for _, shown in prints]


def test_the_rules_converge_to_the_integral_at_the_orders_claimed(demonstration):
    error = demonstration[0]["error"]

    def order(**options):
        return np.log2(error(64, **options) / error(128, **options))

    assert 1.9 < order(rule="zoh", read_at=1.0) < 2.1
    for rule in ("simplified", "zoh", "centred"):
        assert order(rule=rule) > 0.9
    assert error(128, rule="centred") < error(128, rule="zoh") / 5
    assert error(128, rule="zoh", width=1 / 32) > 10 * error(128, rule="zoh")


def test_the_page_about_reading_prints_what_it_shows(tmp_path, monkeypatch):
    scenario = scenario_class("diffusion_reaction")
    split = SplitConfig(train=0.6, validation=0.2, test=0.2)
    config = GenerateConfig(samples=10, resolution=64, shard_size=4, seed=0, split=split)
    parameters = scenario.Parameters.model_validate({"frames": 101})
    plan = DatasetPlan(scenario, parameters, config, code="page")
    generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    monkeypatch.chdir(tmp_path)
    prints = [pair for pair in printed("how-to/look-at-a-dataset.md")[1] if pair[1]]
    assert len(prints) == 2
    assert [out for out, _ in prints] == [shown for _, shown in prints]


REPLACEMENT = "how-to/replace-attention-by-a-scan.md"


def figures(text):
    return {name: float(value) for name, value in FIGURE.findall(text)}


@pytest.mark.slow
@pytest.mark.nightly
def test_the_replacement_shown_runs_and_prints_figures_like_those_shown():
    out, shown = pasted(REPLACEMENT), "".join(fences(read(REPLACEMENT), "text"))
    assert FIGURE.sub("", out).split() == FIGURE.sub("", shown).split()
    errors, promised = figures(out), figures(shown)
    assert list(errors) == list(promised) and len(errors) == 6
    # Another processor rounds otherwise, and training makes much of that.
    for name, value in errors.items():
        assert value == pytest.approx(promised[name], rel=0.4), name
    before, swapped, first, second, fresh, _ = errors.values()
    assert swapped > 2 * first > 2 * second
    assert second < 1.3 * before and max(before, fresh) < 0.25


def test_the_table_of_seeds_begins_with_the_figures_shown():
    text = read(REPLACEMENT)
    rows = re.findall(r"^\| ([\w ]+) \| (0\.\d+) \|", text, re.MULTILINE)
    shown = figures("".join(fences(text, "text")))
    assert {name: float(value) for name, value in rows} == shown


UNIT = r"`/etc/systemd/system/([\w-]+\.service)`[^\n]*\n\n```ini\n(.*?)```"
UNITS: dict[str, str] = dict(re.findall(UNIT, read("deploy.md"), re.DOTALL))


def test_there_is_a_unit_for_each_service_on_the_loopback_interface():
    services = ("mlflow", "prefect", "schedule", "serve", "watch", "worker")
    assert sorted(UNITS) == [f"mno-{name}.service" for name in services]
    for text in UNITS.values():
        command = next(line for line in text.splitlines() if line.startswith("ExecStart="))
        hosts = re.findall(r"--host (\S+)", command)
        assert hosts == (["127.0.0.1"] if " server " in f"{command} " else [])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path):
    def verified(*options: str) -> subprocess.CompletedProcess:
        command = ["systemd-analyze", "verify", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    here = str(Path(sys.executable).parent)
    for name, text in UNITS.items():
        text = text.replace("/srv/mno/.venv/bin", here).replace("/srv/mno", "/")
        (tmp_path / name).write_text(text)
    done = verified("--recursive-errors=no", *map(str, tmp_path.glob("*")))
    said = [line for line in done.stderr.splitlines() if "mno-" in line]
    assert said == [] and done.returncode == 0, done.stderr
    broken = tmp_path / "mno-broken.service"
    broken.write_text("[Service]\nExecStart=/nowhere/at/all\nRestart=sometimes\n")
    assert "sometimes" in verified(str(broken)).stderr, "it would say"
