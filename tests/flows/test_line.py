"""Figures on the command line, the order of targets, and a server that does not come up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.line import _remove_damage, own_figures
from flows.options import seconds_of
from flows.params import edit_params, load_params, preset_names
from flows.replay import present_conditions, replay_variables
from flows.stages import StageFailedError, read_graph, run_dvc, run_order
from mno.core.config import read_params
from mno.core.errors import InputError, MnoError
from mno.scenarios.base import scenario_names
from tests.support.workspaces import BINARIES


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3.5s", 3.5), ("40ms", 0.04), ("2 min", 120.0), ("1h", 3600.0), ("1e-3s", 0.001)],
)
def test_a_time_is_a_number_and_its_unit(text, seconds):
    assert seconds_of("--solver-cost", text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "3.5", "s", "fast", "-1s", "0s", "3.5 days", "1e999s", "1..2s"]
)
def test_what_is_no_time_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"--solver-cost .* number above 0 .*30m"):
        seconds_of("--solver-cost", text)


def test_only_what_is_given_is_set():
    assert own_figures(None) == []
    assert own_figures(None, questions=3e3) == ["evaluate.economics.questions=3000.0"]
    assert own_figures("2min", 2000.0, 1.2) == [
        "evaluate.economics.solver_seconds=120.0",
        "evaluate.economics.queries_per_day=2000.0",
        "evaluate.economics.hourly_rate=1.2",
    ]


ROOT = Path(__file__).parents[2]


def test_the_line_ends_with_the_registration_and_the_verdict_on_it():
    assert run_order(read_graph(ROOT)) == [
        "generate", "data.dvc", "train", "evaluate", "learning_curve", "register", "report",
    ]  # fmt: skip


def test_a_target_comes_with_what_it_needs_and_no_more():
    assert run_order(read_graph(ROOT), "train") == ["generate", "data.dvc", "train"]


def test_a_stage_added_to_dvc_yaml_is_in_the_order(tmp_path):
    for name in ("dvc.yaml", "data.dvc", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    added = "\n  publish:\n    cmd: echo hello\n    deps: [build/done/report]\n"
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text() + added)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([Path(sys.executable).parent / "dvc", "init", "-q"], cwd=tmp_path, check=True)
    assert run_order(read_graph(tmp_path))[-1] == "publish"


def test_that_dvc_itself_was_killed_is_said(tmp_path):
    said = []
    with pytest.raises(StageFailedError, match="train: dvc was ended by signal 9"):
        run_dvc(["sh", "-c", "kill -9 $$", "train"], tmp_path, os.environ, said.append)
    assert said == ["error: train: dvc was ended by signal 9; run again: what is finished is kept"]


def test_what_a_stage_said_last_is_the_reason_where_it_gave_none(tmp_path):
    said = []
    script = "echo MlflowException: no server; echo \"ERROR: failed to reproduce 'train'\"; exit 1"
    with pytest.raises(StageFailedError) as failed:
        run_dvc(["sh", "-c", script, "train"], tmp_path, os.environ, said.append)
    assert str(failed.value) == "train: dvc repro failed (MlflowException: no server)"
    assert said[-1].startswith("ERROR: failed to reproduce")


def test_damage_is_found_in_a_cache_that_is_elsewhere(tmp_path):
    root, cache, said = tmp_path / "root", tmp_path / "cache", []
    (root / "build/dataset").mkdir(parents=True)
    (root / "build/dataset/a").write_text("hello")
    (root / "dvc.yaml").write_text("stages: {}\n")
    release = {"deps": [{"path": "build/dataset"}], "outs": [{"path": "data"}]}
    YAML().dump(release, root / "data.dvc")
    dvc = BINARIES / "dvc"
    for command in (
        ("git", "init", "-q"), (dvc, "init", "-q"), (dvc, "cache", "dir", "--local", cache),
        (dvc, "repro", "-q", "data.dvc"),
    ):  # fmt: skip
        subprocess.run(command, cwd=root, check=True)
    (kept,) = (p for p in cache.rglob("*") if p.is_file() and p.read_text() == "hello")
    for folder in ("data", "build/dataset"):
        shutil.rmtree(root / folder)
    assert not _remove_damage(root, said.append)
    kept.chmod(0o644)
    kept.write_text("hellO")
    assert _remove_damage(root, said.append) and not kept.exists()
    assert said == [f"repair     {kept} does not hold what its name promises"]


def test_an_unknown_target_names_those_there_are():
    with pytest.raises(InputError, match="no stage 'deploy'; it has: data.dvc, evaluate"):
        run_order(read_graph(ROOT), "deploy")


def test_a_circle_is_refused():
    with pytest.raises(InputError, match="depend on each other"):
        run_order({"a": {"b"}, "b": {"a"}})


CODE = """
from flows.pipeline import start_temporary_server
from mno.core.errors import MnoError

try:
    start_temporary_server()
except MnoError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_server_that_does_not_answer_in_time_is_said_in_one_line(tmp_path):
    settings = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1",  # no server is up so soon
        "DO_NOT_TRACK": "1",
    }
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | settings
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("Prefect's temporary server did not start (Timed out")
    assert "Run again" in line
    assert "Traceback" not in done.stderr


@pytest.fixture
def workspace(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("presets", "plants"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_what_is_shipped_is_the_small_furnace(workspace):
    shipped = load_params(workspace)
    assert edit_params(workspace, "furnace-small", []) == shipped


@pytest.mark.parametrize("preset", preset_names(ROOT))
def test_each_preset_is_valid(workspace, preset):
    edit_params(workspace, "darcy", [])  # several are operators, which need its grid
    edit_params(workspace, preset, [])
    assert load_params(workspace).scenario == "batch_furnace" or "furnace" not in preset


def test_a_preset_leaves_no_dropout_of_another(workspace):
    commit = "git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm a"
    subprocess.run(commit, shell=True, cwd=workspace, check=True)
    for preset in preset_names(workspace):
        edit_params(workspace, "darcy", [])
        assert edit_params(workspace, "oformer-paper", []).model.dropout == 0.03
        found = edit_params(workspace, preset, []).model.dropout
        assert found == (0.03 if preset == "oformer-paper" else 0.0), preset


def test_another_scenario_is_taken_with_the_part_that_it_has(workspace):
    assert edit_params(workspace, None, ["scenario=darcy"]).task.part == "fields"
    whole = edit_params(workspace, None, ["scenario=batch_furnace"])
    assert whole.task.part == "fields"
    with pytest.raises(InputError, match="=2, but batch_furnace has no derivatives as it is set"):
        edit_params(workspace, None, ["generate.derivatives=2"])
    with pytest.raises(InputError, match="darcy has no readings; set task.part=fields"):
        edit_params(workspace, None, ["scenario=darcy", "task.part=readings"])


def test_an_assignment_changes_one_value_and_keeps_comments(workspace):
    before = (workspace / "params.yaml").read_text()
    assert edit_params(workspace, None, ["train.epochs=9"]).train.epochs == 9
    after = (workspace / "params.yaml").read_text()
    lines = zip(before.splitlines(), after.splitlines(), strict=True)
    assert [new.strip() for old, new in lines if old != new] == ["epochs: 9"]
    assert "#" in after


def test_an_assignment_overrides_the_preset_and_nothing_given_leaves_the_file_alone(workspace):
    params = edit_params(workspace, "quick", ["generate.samples=77"])
    assert (params.generate.samples, params.generate.resolution) == (77, 16)
    before = (workspace / "params.yaml").stat()
    edit_params(workspace, None, [])
    after = (workspace / "params.yaml").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.epoch=3", "train.epoch is not a parameter; did you mean epochs? (known here: ep"),
        ("epochs=3", "epochs is not a parameter; did you mean train.epochs?"),
        ("questions=9", "did you mean evaluate.economics.questions?"),
        ("model.backbone=lattent", "or 'unet'; did you mean latent?"),
        ("scenario=furnaces", "a solver of your own); did you mean furnace?"),
        (
            "evaluate.economic.questions=3",
            "economic is not a section of params.yaml; did you mean ec",
        ),
        ("train.epochs=many", "train.epochs='many'"),
        ("train.epochs=2.5", "train.epochs=2.5"),
        ("generate.samples=-5", "generate.samples=-5"),
        ("generate.split.train=0.9", "must sum to 1"),
        ("generate.resolution=33", "choose 32 or 36"),
        ("scenario=weather", "must be one of: aristoff_bangerth, batch_furnace"),
        ("scenario=../secret", "must be one of: aristoff_bangerth, batch_furnace"),
        ("execution.scheduler=10.0.0.5", "execution.scheduler"),
        ("scenarios.darcy.porosity=3", "scenarios.darcy.porosity is not a parameter"),
        ("trian.epochs=3", "trian is not a section of params.yaml; did you mean train?"),
        ("train.epochs", "must look like key=value"),
        ("train.epochs=[1", "not valid YAML"),
        ("seed=2024-13-45", "not valid YAML"),
        ("scenario=[darcy]", "scenario=['darcy'] should be a valid string"),
        ("scenarios=null", "scenarios=None should be a valid dictionary"),
        ("train=3", "train=3"),
        ("evaluate.kpis.latency=50", "evaluate.kpis.latency is not a parameter"),
        ("evaluate.kpis.relative_l2=-0.1", "evaluate.kpis.relative_l2"),
        ("evaluate.kpis.max_error.depth=1.0", "depth is not predicted here"),
        ("evaluate.economics.queries_per_day=-5", "evaluate.economics.queries_per_day"),
        ("model.layers=0", "model.layers=0"),
        ("train.warm_start=kept#0123456789ab", "kept holds no model"),
        ("train.warm_start=models:/mno-darcy/7", "models:/mno-darcy/7"),
    ],
)
def test_a_wrong_value_is_one_line_and_changes_nothing(workspace, assignment, expected):
    edit_params(workspace, "darcy", [])
    before = (workspace / "params.yaml").read_bytes()
    with pytest.raises(InputError) as refusal:
        edit_params(workspace, None, [assignment])
    message = str(refusal.value)
    assert expected in message
    assert "\n" not in message
    assert (workspace / "params.yaml").read_bytes() == before
    assert not list(workspace.glob("*.partial"))


@pytest.mark.parametrize("preset", preset_names(ROOT))
def test_back_at_the_committed_values_the_file_is_as_committed(workspace, preset):
    commit = "git init -q && git add -A && git -c user.name=a -c user.email=a@b commit -qm a"
    subprocess.run(commit, shell=True, cwd=workspace, check=True)
    before = (workspace / "params.yaml").read_text()
    away = ["train.learning_rate=0.5", "evaluate.robustness.noise=[0.3]"]
    edit_params(workspace, "darcy", [])
    edit_params(workspace, preset, away)
    assert (workspace / "params.yaml").read_text() != before
    with pytest.raises(InputError, match="seed=False should be a valid integer"):
        edit_params(workspace, None, ["seed=false"])  # which is equal to the committed 0
    back = ["train.learning_rate=0.01", "evaluate.robustness.noise=[0.01, 0.02, 0.05, 0.1, 0.2]"]
    edit_params(workspace, "furnace-small", back)
    assert (workspace / "params.yaml").read_text() == before


def test_an_unknown_preset_names_those_there_are(workspace):
    with pytest.raises(InputError, match="of: .*darcy.*quick, .*; did you mean quick?"):
        edit_params(workspace, "quik", [])


TAG = "!!python/object/apply:os.system ['true']\n"  # which YAML must not run


@pytest.mark.parametrize(
    "text", ["a: [1", "- 1\n- 2\n", "just words", "\x00", "a: 2024-13-45", TAG]
)
def test_a_file_that_is_not_a_mapping_is_one_line(workspace, text):
    (workspace / "params.yaml").write_text(text)
    with pytest.raises(InputError) as refusal:
        read_params(workspace)
    assert "\n" not in str(refusal.value)


def test_a_package_that_a_backbone_lacks_is_named_before_any_work(workspace, monkeypatch):
    edit_params(workspace, "darcy", [])
    before = (workspace / "params.yaml").read_text()
    monkeypatch.setattr("flows.params.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mno\[fno\]'"):
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
        ("model.backbone=latent", "set model.cells=8"),
    ],
)
def test_what_needs_a_grid_is_refused_for_points_before_any_work(workspace, setting, remedy):
    plain = ["generate.resolution=16", "model.mixer=mamba", "model.path=hilbert"]
    edit_params(workspace, None, ["scenario=darcy_ring", *plain])
    before = (workspace / "params.yaml").read_text()
    with pytest.raises(InputError, match=re.escape(remedy)):
        edit_params(workspace, None, [setting])
    assert (workspace / "params.yaml").read_text() == before


def test_fields_beside_readings_are_refused_to_scans_before_any_work(workspace):
    assert edit_params(workspace, None, ["task.part=both"]).model_subject == "batch_furnace-both"
    before = (workspace / "params.yaml").read_text()
    with pytest.raises(InputError, match="set model.backbone=plain and model.mixer=softmax"):
        edit_params(workspace, None, ["model.mixer=mamba"])
    with pytest.raises(InputError, match="=2, but batch_furnace has no derivatives as it is set"):
        edit_params(workspace, None, ["generate.derivatives=2"])
    with pytest.raises(InputError, match="darcy has no readings; set task.part=fields"):
        edit_params(workspace, "darcy", ["task.part=both"])
    assert (workspace / "params.yaml").read_text() == before


@pytest.mark.parametrize("preset", ["quick", "darcy"])
@pytest.mark.parametrize("scenario", scenario_names())
def test_every_scenario_can_be_run_with_the_usual_presets(workspace, preset, scenario):
    fitting = {"quick": "model.path=hilbert", "darcy": "model.cells=8"}[preset]
    points = [fitting] if scenario.endswith("_ring") else []
    edit_params(workspace, preset, [f"scenario={scenario}", *points])
    assert load_params(workspace).scenario == scenario


def test_other_code_than_the_snapshots_is_not_run(tmp_path):
    variables = replay_variables(tmp_path, quiet=True)
    with pytest.raises(MnoError, match="instead of the snapshot's code|does not start"):
        present_conditions(tmp_path, variables)


def test_nothing_of_a_registry_or_a_run_reaches_a_replay(tmp_path, monkeypatch):
    foreign = {"MLFLOW_TRACKING_TOKEN", "MNO_SERVE_TOKEN", "DVC_EXP_NAME", "GIT_DIR"}
    for name in (*foreign, "MLFLOW_TRACKING_URI", "PYTHONPATH"):
        monkeypatch.setenv(name, "/elsewhere")
    variables = replay_variables(tmp_path, quiet=True)
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert variables["PYTHONPATH"] == variables["DVC_ROOT"] == str(tmp_path)
    assert variables["PATH"].split(os.pathsep)[0] == str(BINARIES)
    assert not foreign & set(variables)
