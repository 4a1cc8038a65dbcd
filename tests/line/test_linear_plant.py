"""The whole line on a plant that is linear: the report says that another tool does as well."""

import json

import pytest

from tests.support.workspaces import Workspace, make_workspace

SMALL = (
    "scenario=furnace",
    "scenarios.furnace.frames=5",
    "generate.samples=60",
    "generate.resolution=16",
    "generate.split.train=0.7",
    "generate.split.validation=0.15",
    "generate.split.test=0.15",
    "train.epochs=2",
    "evaluate.robustness.enabled=false",
    "evaluate.tools=[ridge,reduced_basis]",
    # Asked once, so that what making a tool takes decides, whatever the machine.
    "evaluate.economics.queries_per_day=1.0",
    "evaluate.economics.horizon_days=1.0",
)


@pytest.mark.slow
@pytest.mark.nightly
def test_on_a_linear_plant_the_verdict_is_to_use_a_simpler_tool(tmp_path, prefect_api):
    made = make_workspace(tmp_path / "workspace")
    line = Workspace(made.root, variables={"PREFECT_API_URL": prefect_api})
    settings = [word for key in SMALL for word in ("--set", key)]
    line.mno("run", "--preset", "quick", *settings, check=True)
    cost, decision = (
        json.loads((line.root / f"reports/{name}.json").read_text(encoding="utf-8"))
        for name in ("cost", "decision")
    )
    errors = {tool["name"]: tool["error"] for tool in cost["tools"]}
    assert errors["reduced_basis"] < min(0.05, errors["ridge"], decision["error"])
    (reason,) = (r for r in decision["reasons"] if r["code"].startswith("tool_as_good"))
    assert reason["values"]["tool"] == "reduced_basis"
    html = (line.root / "reports/report.html").read_text(encoding="utf-8")
    assert "Reduced basis does as well on the same solves" in html
    assert reason["code"] == "tool_as_good" and decision["verdict"] == "not_worth_it"
    assert "costs no more to make and to ask: use it" in html
