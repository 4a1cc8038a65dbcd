"""Editing and checking params.yaml."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flows.params import edit_params, load_params, parameter_keys, preset_names
from mno.core.config import read_params
from mno.core.errors import InputError
from mno.scenarios.base import scenario_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    return tmp_path


@pytest.mark.parametrize("preset", [None, *preset_names(ROOT)])
def test_what_is_shipped_and_each_preset_is_valid(workspace: Path, preset: str | None) -> None:
    edit_params(workspace, preset, [])
    assert load_params(workspace).scenario == "darcy" or preset


def test_an_assignment_changes_one_value_and_keeps_comments(workspace: Path) -> None:
    before = (workspace / "params.yaml").read_text()
    params = edit_params(workspace, None, ["train.epochs=7"])
    assert params.train.epochs == 7
    after = (workspace / "params.yaml").read_text()
    lines = zip(before.splitlines(), after.splitlines(), strict=True)
    assert [new.strip() for old, new in lines if old != new] == ["epochs: 7"]
    assert "#" in after


def test_an_assignment_overrides_the_preset_and_nothing_given_leaves_the_file_alone(
    workspace: Path,
) -> None:
    params = edit_params(workspace, "quick", ["generate.samples=77"])
    assert (params.generate.samples, params.generate.resolution) == (77, 16)
    before = (workspace / "params.yaml").stat()
    edit_params(workspace, None, [])
    after = (workspace / "params.yaml").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.epoch=3", "train.epoch is not a parameter (known here: epochs"),
        ("train.epochs=many", "train.epochs='many'"),
        ("train.epochs=2.5", "train.epochs=2.5"),
        ("generate.samples=-5", "generate.samples=-5"),
        ("generate.split.train=0.9", "must sum to 1"),
        ("generate.resolution=33", "choose 32 or 36"),
        ("scenario=weather", "must be one of: burgers, darcy"),
        ("scenario=../secret", "must be one of: burgers, darcy"),
        ("execution.scheduler=10.0.0.5", "execution.scheduler"),
        ("scenarios.darcy.porosity=3", "scenarios.darcy.porosity is not a parameter"),
        ("trian.epochs=3", "trian is not a section"),
        ("epochs=3", "epochs is not a parameter"),
        ("train.epochs", "must look like key=value"),
        ("train.epochs=[1", "not valid YAML"),
        ("train=3", "train=3"),
        ("evaluate.kpis.latency=50", "evaluate.kpis.latency is not a parameter"),
        ("evaluate.kpis.relative_l2=-0.1", "evaluate.kpis.relative_l2"),
        ("evaluate.kpis.max_error.depth=1.0", "depth is not predicted here"),
        ("evaluate.economics.queries_per_day=-5", "evaluate.economics.queries_per_day"),
        ("model.layers=0", "model.layers=0"),
    ],
)
def test_a_wrong_value_is_one_line_and_changes_nothing(
    workspace: Path, assignment: str, expected: str
) -> None:
    before = (workspace / "params.yaml").read_bytes()
    with pytest.raises(InputError) as refusal:
        edit_params(workspace, None, [assignment])
    message = str(refusal.value)
    assert expected in message
    assert "\n" not in message
    assert (workspace / "params.yaml").read_bytes() == before
    assert not list(workspace.glob("*.partial"))


def test_an_unknown_preset_names_those_there_are(workspace: Path) -> None:
    with pytest.raises(InputError, match="must be one of: .*quick.*standard"):
        edit_params(workspace, "fast", [])


CODE = "!!python/object/apply:os.system ['true']\n"  # which YAML must not run


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "just words", "\x00", CODE])
def test_a_file_that_is_not_a_mapping_is_one_line(workspace: Path, text: str) -> None:
    (workspace / "params.yaml").write_text(text)
    with pytest.raises(InputError) as refusal:
        read_params(workspace)
    assert "\n" not in str(refusal.value)


def test_keys_are_listed_for_completion(workspace: Path) -> None:
    keys = parameter_keys(workspace)
    assert {"scenario", "train.epochs", "generate.split.train", "scenarios.darcy"} <= set(keys)


def test_a_package_that_a_backbone_lacks_is_named_before_any_work(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (workspace / "params.yaml").read_text()
    monkeypatch.setattr("flows.params.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install neuraloperator"):
        edit_params(workspace, None, ["model.backbone=fno"])
    assert (workspace / "params.yaml").read_text() == before
    assert edit_params(workspace, None, ["model.backbone=unet"]).model.backbone == "unet"


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("model.path=[axial, hilbert]", "model.path=axial, hilbert needs a grid"),
        ("model.backbone=unet", "set model.backbone=gnot"),
        ("model.walls=zero", "set model.walls=free"),
        ("train.loss=h1", "set train.loss=relative_l2"),
        ("train.residual_weight=0.1", "set train.residual_weight=0"),
        ("train.augment=true", "set train.augment=false"),
    ],
)
def test_what_needs_a_grid_is_refused_for_points_before_any_work(
    workspace: Path, setting: str, remedy: str
) -> None:
    points = ["scenario=darcy_ring", "model.path=hilbert", "model.layers=2"]
    edit_params(workspace, None, points)
    before = (workspace / "params.yaml").read_text()
    with pytest.raises(InputError, match=re.escape(remedy)):
        edit_params(workspace, None, [setting])
    assert (workspace / "params.yaml").read_text() == before


@pytest.mark.parametrize("preset", ["quick", "standard"])
@pytest.mark.parametrize("scenario", scenario_names())
def test_every_scenario_can_be_run_with_the_usual_presets(
    workspace: Path, preset: str, scenario: str
) -> None:
    points = ["model.path=hilbert"] if scenario.endswith("_ring") else []
    edit_params(workspace, preset, [f"scenario={scenario}", *points])
    assert load_params(workspace).scenario == scenario
