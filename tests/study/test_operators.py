"""What studies know of an operator before it is trained is what training builds."""

import json

import pytest

from mno.core.config import read_params, section
from mno.core.forecast import TaskConfig
from mno.data.parts import seen
from mno.nn.operator import count_parameters
from mno.study.design import StudySpec, cells_of
from mno.study.operators import count, matched, model_of, signature_of
from mno.training.problem import describe
from tests.support.furnace_runs import QUICK, RESOLUTION, runs
from tests.support.workspaces import make_workspace

SENSORS = {"thermocouple_temperature": {"noise": 2.0}}


@pytest.mark.parametrize(
    "task",
    [
        {"part": "readings", "scheme": "horizon"},
        {"part": "readings", "kind": "observe", "sensors": SENSORS, "hidden": ["wear"]},
        {"part": "both", "kind": "observe", "sensors": SENSORS, "hidden": ["wear"]},
    ],
    ids=lambda task: " ".join([task["part"], task.get("kind", "")]),
)
def test_a_study_counts_the_parameters_that_are_trained(tmp_path, task):
    root = make_workspace(tmp_path / "workspace").root
    params = json.loads(json.dumps(read_params(root)))
    params["task"] = task
    params["scenarios"]["batch_furnace"] |= QUICK
    params["generate"]["resolution"] = RESOLUTION
    kept = section(params, "task", TaskConfig)
    split = runs("train", 0, part=kept.part)
    if kept.observes:
        split = seen(split, "fields", sensors=kept.sensors, hidden=kept.hidden)
    model = model_of(params, root)
    built = describe(split, model, kept).build()
    assert count(model, signature_of(params, root)) == count_parameters(built)


def test_models_of_a_study_may_be_given_different_frames(tmp_path):
    root = make_workspace(tmp_path / "workspace").root
    spec = StudySpec.model_validate({
        "title": "Frames", "question": "How many?", "seeds": [0], "compare": "along",
        "base": {"generate": {"samples": 8, "resolution": 16}},
        "scenarios": {"burgers": {"parameters": {"frames": 9}}},
        "models": {
            "along": {"backbone": "plain", "task": {"time": "axis", "history": 4}},
            "fno": {"backbone": "fno", "modes": 4, "task": {"history": 2, "skip": 2}},
        },
    })  # fmt: skip
    cells = matched(cells_of("frames", spec), None, root)
    signatures = {cell.model.name: signature_of(cell.params, root) for cell in cells}
    assert {name: s["along_time"] for name, s in signatures.items()} == {
        "along": True,
        "fno": False,
    }
    assert signatures["fno"]["inputs"]["velocity"] == 2
