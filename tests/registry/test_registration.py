"""A candidate becomes one version, whatever is killed or damaged; a training starts from one."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from registry_shop import WORTH_IT

from mno.core.errors import InputError, MnoError
from mno.lineage.audit import differs
from mno.lineage.audit.decision import check_decision
from mno.lineage.record import candidate_digest, lineage_sha256, params_sha256, start_record
from mno.lineage.snapshot import take_snapshot
from mno.registry.evidence import gather
from mno.registry.reading import describe_registry, registered_folder, why_version_is_unusable
from mno.registry.registration import Evaluated, Told, _measured_by
from mno.registry.settings import (
    prepare,
    registry_uri,
    require_answer,
    use_workspace,
    without_password,
)
from mno.registry.tracking import TrainingRun
from mno.surrogate.surrogate import Surrogate
from pipelines.training import find_warm_start

NAME = "mno-darcy"


def with_error(evaluated, relative_l2):
    return dataclasses.replace(evaluated, relative_l2=relative_l2)


def versions(shop):
    return [(v["version"], v["aliases"]) for v in describe_registry(shop.root, "darcy")]


def test_first_version_becomes_champion_with_its_lineage(shop):
    evaluated = shop.train(seed=1)
    registered = shop.register(evaluated)
    assert (registered["version"], registered["alias"]) == (1, "champion")
    client = use_workspace(shop.root).client
    version = client.get_model_version_by_alias(NAME, "champion")
    record = registered["record"]
    assert version.tags["mno.lineage_sha256"] == record["lineage_sha256"]
    assert version.tags["mno.snapshot"] == record["snapshot"]["commit"]
    assert version.tags["mno.data_md5"] == "a" * 32 + ".dir"
    assert version.tags["mno.uncommitted"] == "false"
    assert version.tags["mno.decision"] == "champion"
    run = client.get_run(version.run_id)
    assert run.data.metrics["evaluation/relative_l2"] == 0.1
    assert {f.path for f in client.list_artifacts(run.info.run_id, "evaluation")} == {
        f"evaluation/{name}" for name in ("metrics.json", "per_sample.json", "check.npz")
    }
    assert why_version_is_unusable(shop.root, registered) is None
    loaded = Surrogate.load(registered_folder(shop.root, f"models:/{NAME}@champion"))
    assert (loaded.predict(evaluated.inputs)["pressure"] == evaluated.predictions["pressure"]).all()


def test_better_takes_over_worse_challenges_and_repeating_changes_nothing(shop):
    shop.register(with_error(shop.train(seed=1), 0.2))
    worse = shop.register(with_error(shop.train(seed=2), 0.3))
    assert (worse["alias"], worse["champion"], worse["champion_relative_l2"]) == (
        "challenger", 1, 0.2,
    )  # fmt: skip
    assert versions(shop) == [(2, ["challenger"]), (1, ["champion"])]
    evaluated = with_error(shop.train(seed=3), 0.1)
    better = shop.register(evaluated)
    assert (better["version"], better["alias"]) == (3, "champion")
    assert versions(shop) == [(3, ["champion"]), (2, []), (1, [])]
    assert shop.register(evaluated)["version"] == 3
    assert shop.register(evaluated)["alias"] == "champion"
    assert len(versions(shop)) == 3
    # A version that has been dethroned comes back as it is, without a claim.
    again = shop.register(with_error(shop.train(seed=1), 0.2))
    assert (again["version"], again["alias"]) == (1, None)
    assert len(versions(shop)) == 3


def test_of_the_same_weights_what_is_evaluated_anew_is_shown(shop):
    evaluated = shop.train(seed=1)
    for error in (0.1, 0.09, 0.1, 0.1):
        registered = shop.register(with_error(evaluated, error))
        with gather(use_workspace(shop.root), NAME, 1, []) as evidence:
            assert not differs(list(check_decision(evidence)))
            shown = evidence.facts["run"]["metrics"]["evaluation/relative_l2"]
        assert (registered["version"], shown["latest"]) == (1, error)
    assert len(shown["history"]) == 3


def test_lost_aliases_and_decisions_are_made_up_for_on_the_same_version(shop):
    evaluated = shop.train(seed=1)
    registered = shop.register(evaluated)
    client = use_workspace(shop.root).client
    client.delete_registered_model_alias(NAME, "champion")
    assert "no champion" in (why_version_is_unusable(shop.root, registered) or "")
    client.delete_model_version_tag(NAME, "1", "mno.decision")
    assert shop.register(evaluated)["alias"] == "champion"
    assert versions(shop) == [(1, ["champion"])]


def test_champion_measured_on_other_data_or_frames_is_measured_again(shop):
    shop.register(with_error(shop.train(seed=1), 0.1))
    shop.use_data("b")
    evaluated = with_error(shop.train(seed=2), 0.2)
    asked = []

    def score(model):
        asked.append(model.predict(evaluated.inputs)["pressure"].shape)
        return 0.9

    registered = shop.register(evaluated, score)
    assert asked == [(3, 8, 8)]
    assert (registered["alias"], registered["champion_relative_l2"]) == ("champion", 0.9)
    params = {**shop.request.params, "task": {"skip": 3}}
    framed = with_error(shop.train(seed=3), 0.15)
    registered = shop.register(framed, lambda model: 0.25, params=params)
    assert (registered["alias"], registered["champion_relative_l2"]) == ("champion", 0.25)
    # Measured on the same frames as the last, one more need not be.
    fourth = with_error(shop.train(seed=4), 0.3)
    assert shop.register(fourth, params=params)["champion_relative_l2"] == 0.15


def test_an_error_depends_on_the_frames_and_sensors_that_it_is_measured_with():
    def digest(frames=None, **task):
        states = {"pressure": np.zeros((2, frames, 8))} if frames else {}
        inputs = {"permeability": np.zeros((2, 8))} | states
        evaluated = Evaluated(0.1, {}, inputs, {"pressure": np.zeros((2, 5, 8))})
        return _measured_by({"evaluate": {"kpis": {}}, "task": task}, evaluated)

    assert digest() == digest(skip=0, sensors={}) == params_sha256({})
    assert digest(1) == params_sha256({"history": 1})
    sensors = {"pressure": {"noise": 5.0}}
    others = digest(2), digest(1, skip=2), digest(sensors=sensors), digest(hidden=["ambient"])
    assert len({digest(), digest(1), *others}) == 6


def weights_of(shop):
    return next((shop.root / "mlartifacts").rglob("artifacts/candidate/weights.safetensors"))


def test_damaged_version_is_registered_anew_and_a_champion_without_files_replaced(shop):
    evaluated = with_error(shop.train(seed=1), 0.1)
    registered = shop.register(evaluated)
    content = bytearray(weights_of(shop).read_bytes())
    content[-1] ^= 1
    weights_of(shop).write_bytes(content)
    assert "altered" in (why_version_is_unusable(shop.root, registered) or "")
    again = shop.register(evaluated)
    assert (again["version"], again["lineage_sha256"]) == (2, registered["lineage_sha256"])
    assert why_version_is_unusable(shop.root, again) is None
    for weights in (shop.root / "mlartifacts").rglob("artifacts/candidate/weights.safetensors"):
        weights.unlink()
    assert "missing or altered" in (why_version_is_unusable(shop.root, registered) or "")
    shop.use_data("b")
    registered = shop.register(with_error(shop.train(seed=2), 0.5))
    assert registered["alias"] == "champion"
    assert "cannot be used any more" in registered["reason"]
    assert "weights.safetensors" in registered["reason"]


def test_candidate_changed_after_its_evaluation_is_refused(shop):
    evaluated = shop.train(seed=1)
    shop.train(seed=2)
    with pytest.raises(MnoError, match="not registered.*pressure differs"):
        shop.register(evaluated)
    with pytest.raises(MnoError, match="nan"):
        shop.register(with_error(shop.train(seed=1), float("nan")))


def test_uncommitted_code_is_refused_unless_allowed_and_then_marked(shop):
    (shop.root / "mno/code.py").write_text("A = 2\n")
    evaluated = shop.train(seed=1)
    with pytest.raises(MnoError, match="not committed.*mno/code.py.*allow_uncommitted"):
        shop.register(evaluated)
    assert versions(shop) == []
    allowed = {**shop.request.params, "registry": {"allow_uncommitted": True}}
    assert shop.register(evaluated, params=allowed)["uncommitted"] is True
    # Changed back after the training it still was not; committed afterwards, as the message
    # advises, it is, and the mark goes.
    shop.git("stash", "-q")
    with pytest.raises(MnoError, match="not committed"):
        shop.register(evaluated)
    shop.git("stash", "pop", "-q")
    shop.git("commit", "-q", "-a", "-m", "more work")
    registered = shop.register(evaluated)
    assert (registered["version"], registered["uncommitted"]) == (1, False)


def test_model_from_the_cache_gets_a_restored_run(shop):
    evaluated = shop.train(seed=1, tracked=False)
    registered = shop.register(evaluated)
    assert registered["alias"] == "champion"
    assert registered["record"]["restored"] is True
    run = use_workspace(shop.root).client.get_run(registered["run_id"])
    assert run.data.tags["mno.state"] == "restored"
    again = shop.register(evaluated)
    assert (again["version"], again["run_id"]) == (1, registered["run_id"])


def test_in_an_experiment_nothing_is_registered(shop):
    registered = shop.register(shop.train(seed=1), experiment="puffy-hats")
    assert registered["version"] is None
    assert versions(shop) == []
    run = use_workspace(shop.root).client.get_run(registered["run_id"])
    assert run.data.metrics["evaluation/relative_l2"] == 0.1
    assert why_version_is_unusable(shop.root, registered) == "it names no version"


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("log_model_artifacts", marks=pytest.mark.slow),
        "create_model_version",
        pytest.param("set_alias", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_step_a_rerun_ends_in_one_champion(shop, step):
    evaluated = shop.train(seed=1)
    assert subprocess_register(shop, evaluated, kill_at=step).returncode == -signal.SIGKILL
    registered = shop.register(evaluated)
    assert (registered["version"], registered["alias"]) == (1, "champion")
    assert versions(shop) == [(1, ["champion"])]
    client = use_workspace(shop.root).client
    experiment = client.get_experiment_by_name("darcy").experiment_id
    assert len(client.search_logged_models([experiment])) == 1


REGISTER = """\
import os, pickle, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from mno.registry.registration import conclude, register

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

step = sys.argv[2]
if step == "set_alias":
    MlflowClient.set_registered_model_alias = die
else:
    done = getattr(MlflowClient, step)
    setattr(MlflowClient, step, lambda *a, **k: (done(*a, **k), die()))
request, candidate, evaluated, told = pickle.loads(Path(sys.argv[1]).read_bytes())
conclude(request, register(request, candidate, evaluated), told, lambda model: 1.0)
"""


def subprocess_register(shop, evaluated, kill_at):
    given = shop.root / "models/given.pickle"
    told = Told(errors=(evaluated.relative_l2,) * 2, decision=WORTH_IT)
    work = (shop.request, shop.candidate, shop.reported(evaluated), told)
    given.write_bytes(pickle.dumps(work))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", REGISTER, str(given), kill_at]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_another_error_estimate_of_the_same_model_is_another_version(shop):
    evaluated = dataclasses.replace(shop.train(seed=5), trust=b"{}\n")
    first = shop.register(evaluated)
    assert shop.register(evaluated)["version"] == first["version"]
    changed = dataclasses.replace(evaluated, trust=b'{"level": 0.8}\n')
    again = shop.register(changed, score=lambda model: 0.1)
    assert again["version"] == first["version"] + 1
    name = first["name"]
    folder = registered_folder(shop.root, f"models:/{name}/{again['version']}")
    assert folder.with_name("trust.json").read_bytes() == b'{"level": 0.8}\n'


def weights_of_start(surrogate):
    return {k: v.numpy().tobytes() for k, v in surrogate.operator.state_dict().items()}


def refusal(shop, given):
    with pytest.raises(InputError) as caught:
        find_warm_start(shop.root, given)
    message = str(caught.value)
    assert given.partition("#")[0] in message
    assert "\n" not in message
    return message


def test_a_folder_is_found_by_its_digest_and_refused_once_it_holds_another_model(shop):
    assert find_warm_start(shop.root, None) is None
    for without in ("nowhere", "nowhere#0123456789ab", "mno"):
        refusal(shop, without)
    shop.train(seed=1, tracked=False)
    kept = shop.root / "kept"
    shutil.copytree(shop.candidate, kept)
    digest = candidate_digest(kept)
    assert f"write train.warm_start=kept#{digest[:16]}" in refusal(shop, "kept")
    refusal(shop, f"kept#{digest[:8]}")
    found = find_warm_start(shop.root, "kept", pin=True)
    assert found.pinned == f"kept#{digest[:16]}"
    for pin in (digest, digest[:12]):
        found = find_warm_start(shop.root, f"kept#{pin}")
        assert (found.sha256, found.version) == (digest, None)
    assert find_warm_start(shop.root, f"{kept}#{digest[:16]}") is not None
    shop.train(seed=2, tracked=False)
    shutil.copytree(shop.candidate, kept, dirs_exist_ok=True)
    other = candidate_digest(kept)
    message = refusal(shop, f"kept#{digest[:16]}")
    assert "another model now" in message
    assert f"write train.warm_start=kept#{other[:16]}" in message


def test_versions_and_aliases_are_found_and_a_moved_alias_is_refused(shop):
    registered = shop.register(shop.train(seed=1))
    digest = registered["record"]["model"]["sha256"]
    assert registered["version"] == 1
    pinned = f"models:/mno-darcy/1#{digest[:16]}"
    assert f"write train.warm_start={pinned}" in refusal(shop, "models:/mno-darcy/1")
    assert f"write train.warm_start={pinned}" in refusal(shop, "models:/mno-darcy@champion")
    by_alias = find_warm_start(shop.root, f"models:/mno-darcy@champion#{digest[:16]}")
    assert find_warm_start(shop.root, "models:/mno-darcy@champion", pin=True).pinned == pinned
    by_number = find_warm_start(shop.root, pinned)
    assert by_alias.version == by_number.version == "models:/mno-darcy/1"
    assert by_alias.sha256 == by_number.sha256 == digest
    assert weights_of_start(by_alias.surrogate) == weights_of_start(by_number.surrogate)

    better = shop.train(seed=2)
    second = shop.register(type(better)(**{**vars(better), "relative_l2": 0.01}))
    assert (second["version"], second["alias"]) == (2, "champion")
    message = refusal(shop, f"models:/mno-darcy@champion#{digest[:16]}")
    now = second["record"]["model"]["sha256"][:16]
    assert f"write train.warm_start=models:/mno-darcy/2#{now}" in message
    assert find_warm_start(shop.root, pinned) is not None, "the version still is what it was"

    for absent in ("models:/mno-darcy/7", "models:/mno-darcy@best", "models:/mno-heat/1"):
        assert "not in the registry" in refusal(shop, absent)
    for wrong in ("models:/mno-darcy", "models:/mno-darcy/latest", "models:mno-darcy/1"):
        assert "expected models:/NAME/VERSION" in refusal(shop, wrong)

    weights = next(shop.root.glob("mlartifacts/**/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")  # any digest will do
    said = [refusal(shop, f"models:/mno-darcy/{version}") for version in (1, 2)]
    assert sum("missing or altered" in message for message in said) == 1


def test_the_record_names_what_training_starts_from(shop):
    def record(**start):
        at = (shop.root, take_snapshot(shop.root), {"scenario": "darcy"})
        return start_record(*at, threads=1, device="cpu", **start)

    plain, started = record(), record(warm_start_sha256="a" * 64, ids={"warm_start": "models:/m/3"})
    assert "warm_start" not in plain
    assert started["warm_start"] == {"sha256": "a" * 64}
    assert started["ids"] == {"warm_start": "models:/m/3"}
    assert lineage_sha256(plain) != lineage_sha256(started)
    elsewhere = record(warm_start_sha256="a" * 64, ids={"warm_start": "models:/m/1"})
    assert lineage_sha256(elsewhere) == lineage_sha256(started)
    assert lineage_sha256(record(warm_start_sha256="b" * 64)) != lineage_sha256(started)


RECORD = {"schema": 1, "ids": {}, "times": {}}


def open_run(shop, key="k"):
    return TrainingRun.open(shop.root, "darcy", key, {"train.epochs": 3})


def get(run):
    return run.workspace.client.get_run(run.run_id)


def test_finished_run_tells_what_came_of_it(shop):
    curves = shop.root / "curves.csv"
    curves.write_text("epoch,loss\n")
    with open_run(shop) as run:
        assert get(run).info.status == "RUNNING"
        assert get(run).data.tags["mno.state"] == "pending"
        run.log_dataset("darcy", "data", "0" * 32 + ".dir")
        run.log_epoch(0, {"loss": 2.0})
        run.finish("c" * 64, RECORD, [curves])
    done = get(run)
    assert done.info.status == "FINISHED"
    assert done.data.tags["mno.state"] == "trained"
    assert done.data.tags["mno.candidate"] == "c" * 64
    assert done.data.params == {"train.epochs": "3"}
    (dataset,) = done.inputs.dataset_inputs
    assert dataset.dataset.digest == "0" * 32 + ".dir"
    client = run.workspace.client
    record = json.loads(Path(client.download_artifacts(run.run_id, "record.json")).read_text())
    assert record["ids"] == {"mlflow_run": run.run_id}
    assert [f.path for f in client.list_artifacts(run.run_id, "training")] == [
        "training/curves.csv"
    ]
    # Opened again after it finished, it still describes its candidate.
    with pytest.raises(KeyboardInterrupt), open_run(shop):
        raise KeyboardInterrupt
    assert (get(run).info.status, get(run).data.tags["mno.state"]) == ("FINISHED", "trained")


def test_same_key_continues_the_same_run_and_logs_no_epoch_twice(shop):
    with pytest.raises(RuntimeError), open_run(shop) as run:
        run.log_epoch(0, {"loss": 2.0})
        run.log_epoch(1, {"loss": 1.0})
        raise RuntimeError("the power is gone")
    assert get(run).info.status == "FAILED"
    assert get(run).data.tags["mno.state"] == "abandoned"
    with open_run(shop) as again:
        assert (again.run_id, again.resumed) == (run.run_id, True)
        for step in (1, 2):
            again.log_epoch(step, {"loss": 1.0})
        again.finish("c" * 64, RECORD)
    history = run.workspace.client.get_metric_history(run.run_id, "loss")
    assert [metric.step for metric in history] == [0, 1, 2]
    assert open_run(shop).run_id == run.run_id
    assert open_run(shop, "other").run_id != run.run_id


def test_runs_of_dead_processes_are_closed_and_those_of_live_ones_are_not(shop):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mno.registry.tracking import TrainingRun\n"
        "run = TrainingRun.open(Path(sys.argv[1]), 'darcy', 'dead', {})\n"
        "print(run.run_id, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, str(shop.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    live = open_run(shop, "live")
    open_run(shop, "another")
    dead = live.workspace.client.get_run(done.stdout.strip())
    assert (dead.info.status, dead.data.tags["mno.state"]) == ("KILLED", "abandoned")
    assert get(live).info.status == "RUNNING"


@pytest.mark.parametrize("content", [b"not a database at all " * 40, "other tables"])
def test_database_that_is_none_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "mlflow.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE birds (name TEXT)")
    before = path.read_bytes()
    for ask in (use_workspace, prepare, lambda root: describe_registry(root, "darcy")):
        with pytest.raises(MnoError, match="mlflow.db is not a database of MLflow") as caught:
            ask(tmp_path)
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mlflow.db"]


def test_database_of_another_version_of_mlflow_is_named(shop):
    with sqlite3.connect(shop.root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(MnoError, match="mlflow.db cannot be used.*schema") as caught:
        use_workspace(shop.root)
    assert "\n" not in str(caught.value)


def test_nothing_is_made_to_say_that_nothing_is_registered(tmp_path):
    assert describe_registry(tmp_path, "darcy") == []
    registered = {"name": "mno-darcy", "version": 3}
    assert "not in the registry" in (why_version_is_unusable(tmp_path, registered) or "")
    assert list(tmp_path.iterdir()) == []


def test_copied_workspace_does_not_write_into_the_original(shop, tmp_path):
    use_workspace(shop.root).experiment("darcy")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "mlflow.db").write_bytes((shop.root / "mlflow.db").read_bytes())
    with pytest.raises(MnoError, match="belongs to another folder"):
        use_workspace(copy).experiment("darcy")


def test_a_database_of_the_users_is_respected_and_its_files_go_where_it_is_said(
    shop, tmp_path, monkeypatch
):
    use_workspace(shop.root)
    assert "MLFLOW_TRACKING_URI" not in os.environ  # ours does not pass for the user's
    uri = f"sqlite:///{shop.root}/./mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    workspace = use_workspace(tmp_path)
    assert not workspace.embedded
    assert registry_uri(tmp_path) == uri
    assert not (tmp_path / "mlflow.db").exists()
    with pytest.raises(InputError, match="is a database.*MLFLOW_DEFAULT_ARTIFACT_ROOT"):
        workspace.experiment("burgers")
    assert workspace.client.get_experiment_by_name("burgers") is None
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/line/")
    location = workspace.client.get_experiment(workspace.experiment("burgers")).artifact_location
    assert location == "s3://bucket/line/burgers"


def test_a_server_that_is_down_is_one_line_and_one_that_starts_anew_is_waited_for(tmp_path):
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path), "databricks"):
        require_answer(uri, patience=0)  # no servers
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = free.getsockname()
    uri = f"http://127.0.0.1:{place[1]}"
    with pytest.raises(MnoError, match=f"{uri} does not answer .*refused.*is it running"):
        require_answer(uri, patience=0)
    started = []
    starting = threading.Timer(0.6, lambda: started.append(socket.create_server(place)))
    starting.start()
    require_answer(uri, patience=60)
    (server,) = started
    server.close()


def test_passwords_are_not_shown(tmp_path, monkeypatch):
    uri = "postgresql+psycopg://line:hush-hush@127.0.0.1:1/mlflow"
    assert without_password(uri) == "postgresql+psycopg://line:***@127.0.0.1:1/mlflow"
    assert without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("mno.registry.settings._PATIENCE", 0.0)
    with pytest.raises(MnoError, match="does not answer.*is it running") as caught:
        use_workspace(tmp_path)
    assert "hush" not in str(caught.value) and "***" in str(caught.value)


def test_path_that_cannot_be_in_a_uri_is_refused(tmp_path):
    root = tmp_path / "50%"
    root.mkdir()
    with pytest.raises(InputError, match="rename the folder"):
        use_workspace(root)
    assert list(root.iterdir()) == []
