"""`mno gc`: what nothing needs goes, an audit finds the same as before, nothing is made again."""

import json
import shutil

import pytest

from flows import tidying
from flows.params import edit_params
from flows.retrain import tidy_up
from flows.stages import read_stages
from flows.tidying import plan_of as found_plan
from flows.tidying import tidy
from mno.core.config import read_params
from mno.core.errors import MnoError
from mno.core.files import locked
from mno.lineage.record import Tag, start_record
from mno.lineage.snapshot import take_snapshot
from mno.lineage.tidying import KINDS
from mno.registry.tracking import TrainingRun
from tests.support.audited_line import MODEL, TINY, moved
from tests.support.file_hashes import hashes
from tests.support.workspaces import Workspace

STAGES = ("generate", "data.dvc", "train", "evaluate", "learning_curve", "register", "report")


@pytest.fixture(scope="module")
def littered(line, tmp_path_factory):
    """A workspace with two versions, and with some of everything that nothing needs."""
    there = moved(line, tmp_path_factory.mktemp("littered") / "workspace")
    root, workspace, client = there.root, Workspace(there.root), there.mlflow.client
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("seed: 0", "seed: 7", 1))
    snapshot = take_snapshot(root)
    (root / "params.yaml").write_text(params)
    for number in range(3):
        train(root, snapshot, number)
    run = there.record(1)["ids"]["mlflow_run"]
    experiment = client.get_run(run).info.experiment_id
    tags = {str(Tag.LINEAGE): "0" * 64}
    model = client.create_logged_model(experiment, name=MODEL, source_run_id=run, tags=tags)
    client.create_logged_model(experiment, name="mine")
    client.log_model_artifacts(model.model_id, str(root / "models"))
    forgotten = root / "mlartifacts/darcy" / ("ab" * 16) / "artifacts"
    forgotten.mkdir(parents=True)
    (forgotten / "plot.png").write_bytes(b"p" * 1000)
    (root / "reports/report.html.partial").write_text("half")
    (root / "junk").mkdir()
    for name in ("one", "two"):
        (root / "junk" / name).write_text(name * 1000)
    workspace.run("dvc", "add", "-q", "junk", check=True)
    md5 = (root / "junk.dvc").read_text().partition("md5: ")[2].split()[0]
    (root / "junk.dvc").unlink()
    shutil.rmtree(root / "junk")
    entry = next(path for path in (root / ".dvc/cache/runs").rglob("*") if path.is_file())
    outs = f"\nouts:\n- path: junk\n  hash: md5\n  md5: {md5}\n"
    entry.with_name("0" * 64).write_text(entry.read_text().partition("\nouts:")[0] + outs)
    return there


@pytest.fixture
def place(littered, tmp_path, monkeypatch):
    there = moved(littered, tmp_path / "workspace")
    monkeypatch.chdir(there.root)
    return there


def train(root, snapshot, number):
    record = start_record(root, snapshot, read_params(root), threads=1, device="cpu")
    with TrainingRun.open(root, "darcy", f"{number:064x}", {"number": number}) as run:
        run.finish(f"{number:064x}", record)


def verdicts(line, *versions):
    return [(f.subject, str(f.verdict)) for v in versions or (1, 2) for f in line.findings(v)]


def plan_of(line, done=STAGES, cache=None):
    """Return what may go, as DVC would have told it."""
    return found_plan(line.root, done, cache or line.cache, 0)


def remove(line):
    plan = plan_of(line)
    tidying._remove(line.root, plan, lambda *_: None)
    return plan


def counts(plan):
    return {kind: number for kind, (number, _) in plan.by_kind().items()}


def a_run(plan):
    return next(item for item in plan.items if item.kind == "runs")


def size(line):
    return sum(path.stat().st_size for path in line.cache.rglob("*") if path.is_file())


def without_locks(root):
    """DVC and we write who is at work."""
    files = hashes(root).items()
    return {k: v for k, v in files if "locks/" not in k and not k.startswith(".dvc/tmp")}


def test_nothing_that_is_needed_goes(place):
    before, workspace = verdicts(place), Workspace(place.root)
    apart = [subject for subject, verdict in before if verdict != "verified"]
    assert apart and all(subject.endswith("files") for subject in apart)  # they were moved
    files, used = without_locks(place.root), size(place)
    plan = tidy(delete=False, retention=False, quiet=True)
    assert without_locks(place.root) == files
    assert counts(plan) | {"leftovers": 0} == {
        "leftovers": 0, "runs": 3, "models": 1, "files": 1, "cache": 4, "snapshots": 1,
    }  # fmt: skip
    assert plan.kept == []
    done = workspace.mno("gc", check=True)
    assert "nothing was removed" in done.stdout and "Next: mno gc --delete" in done.stdout
    told = json.loads(workspace.mno("gc", "--delete", "--json", check=True).stdout)
    assert told["deleted"] and told["bytes"] == plan.size > told["kinds"]["cache"]["bytes"] > 3000
    assert used - size(place) == told["kinds"]["cache"]["bytes"]
    assert verdicts(place) == before
    assert {stage["state"] for stage in read_stages(place.root)} == {"current"}
    assert counts(plan_of(place)) == dict.fromkeys(KINDS, 0)
    # The first version's parameters: its stages are restored from DVC's cache.
    edit_params(place.root, "quick", [*TINY, "train.epochs=1"])
    done = workspace.run("dvc", "repro", "evaluate", check=True)
    assert "Running stage" not in done.stdout


def test_what_is_interrupted_is_finished_the_next_time(place):
    before, total = verdicts(place), len(plan_of(place).items)

    class Killed(BaseException):
        pass

    for stop in range(0, total, 3):

        def show(what: str, done: int, of: int, stop: int = stop) -> None:
            if done == min(stop, 2):
                raise Killed

        plan = plan_of(place)
        if len(plan.items) <= 2:
            break
        with pytest.raises(Killed):
            tidying._remove(place.root, plan, show)
        assert len(plan_of(place).items) >= len(plan.items) - 2
    # A run as a kill between its mark, its files and its rows leaves it.
    train(place.root, take_snapshot(place.root), 9)
    run = a_run(plan_of(place))
    place.mlflow.client.delete_run(run.name)
    assert run.path is not None
    (run.path / "artifacts/record.json").unlink()
    remove(place)
    assert counts(plan_of(place)) == dict.fromkeys(KINDS, 0)
    assert verdicts(place) == before


def test_the_latest_runs_are_spared(place):
    client = place.mlflow.client
    edit_params(place.root, None, ["retention.keep_runs=2"])
    plan = tidy(delete=False, retention=True, quiet=True)
    assert plan.items == found_plan(place.root, STAGES, place.cache, 2).items
    latest = [run.info.run_name for run in client.search_runs(["1"])][:3]
    assert (counts(plan)["runs"], counts(plan)["snapshots"], plan.spared) == (1, 0, 2)
    assert client.get_run(a_run(plan).name).info.run_name == latest[-1]
    assert found_plan(place.root, STAGES, place.cache, 9).spared == 3


@pytest.mark.parametrize("damage", ["list of files", "seal"])
def test_the_cache_stays_where_it_is_not_known_what_a_version_needs(place, damage):
    if damage == "seal":
        seal = next((place.run_files(1) / "seals").iterdir())
        seal.write_bytes(seal.read_bytes()[:-2])
        said = f"the seal of models:/{MODEL}/1 is changed"
    else:
        data = place.record()["data"]["md5"]
        place.object(data).unlink()
        said = f"the list of files of data {data}"
    plan = plan_of(place)
    assert (counts(plan)["cache"], counts(plan)["snapshots"], counts(plan)["runs"]) == (0, 0, 3)
    assert said in plan.kept[0]


def test_what_a_deleted_version_alone_needed_goes_but_its_link_in_the_chain(place):
    run = place.record(1)["ids"]["mlflow_run"]
    place.mlflow.client.delete_model_version(MODEL, "1")
    before = verdicts(place, 2)
    plan = remove(place)
    assert counts(plan)["models"] == 2
    assert run not in [item.name for item in plan.items]
    assert verdicts(place, 2) == before


def test_an_interrupted_training_and_an_experiment_are_needed(place):
    root, key, data = place.root, "c" * 64, "d" * 64
    (root / f"build/checkpoints/{key[:24]}-{data[:24]}").mkdir()
    with pytest.raises(RuntimeError), TrainingRun.open(root, "darcy", f"{key}-{data}", {}):
        raise RuntimeError("killed")
    named = plan_of(place, done=("generate",))
    assert counts(named)["runs"] == 3
    assert not any("build/checkpoints" in item.name for item in named.items)
    place.mlflow.client.set_tag(a_run(named).name, "mno.experiment", "bold-idea")
    assert counts(plan_of(place, done=()))["runs"] == 3
    place.git("update-ref", "refs/exps/ab/cdef/bold-idea", "HEAD")
    assert counts(plan_of(place, done=()))["runs"] == 2


def test_nobody_tidies_under_a_running_stage(place):
    for lock in ("run", "train"):
        at_work = locked(place.root / "build/locks" / lock, "a training")
        with at_work, pytest.raises(MnoError, match="a training is"):
            tidy(delete=True, retention=False, quiet=True)
    assert counts(plan_of(place))["runs"] == 3


def test_a_scheduled_run_ends_by_tidying_while_its_schedule_is_served(place):
    edit_params(place.root, None, ["retention.keep_runs=1"])
    locks = place.root / "build/locks"
    with locked(locks / "schedule", "mno schedule"), locked(locks / "retrain", "a retraining"):
        with locked(locks / "train", "a training"):
            assert tidy_up().startswith("not tidied: a training is")
        assert counts(plan_of(place))["runs"] == 3
        assert "freed" in tidy_up()
    assert counts(plan_of(place))["runs"] == 1


def test_a_server_is_left_alone(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.root}/./mlflow.db")
    plan = plan_of(place)
    kinds = counts(plan)
    assert (kinds["runs"], kinds["models"], kinds["files"], kinds["cache"]) == (0, 0, 0, 4)
    assert "mlflow gc" in plan.kept[0]


def test_a_cache_outside_of_the_workspace_is_left_alone(place, tmp_path):
    place.cache.rename(tmp_path / "shared")
    plan = plan_of(place, cache=tmp_path / "shared")
    assert counts(plan)["cache"] == 0
    assert "lies outside of the workspace" in plan.kept[0]


def test_a_run_that_keeps_its_files_elsewhere_loses_its_rows_only(place, tmp_path):
    elsewhere = tmp_path / "elsewhere/artifacts"
    elsewhere.mkdir(parents=True)
    (elsewhere / "kept").write_text("of somebody")
    run = a_run(plan_of(place)).name
    with place.row("runs", f"run_uuid = '{run}'", f"artifact_uri = '{elsewhere}'"):
        plan = remove(place)
        assert next(item.path for item in plan.items if item.name == run) is None
        assert (elsewhere / "kept").exists()
