from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mno.core.errors import MnoError
from mno.registry.reading import (
    describe_registry,
    load_surrogate,
    registered_folder,
    why_version_is_unusable,
)
from mno.registry.settings import use_workspace

NAME = "mno-darcy"


def with_error(evaluated, relative_l2):
    return dataclasses.replace(evaluated, relative_l2=relative_l2)


def versions(shop) -> list[tuple[int, list[str]]]:
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
    loaded = load_surrogate(shop.root, f"models:/{NAME}@champion")
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
    framed = dataclasses.replace(with_error(shop.train(seed=3), 0.15), history=3)
    registered = shop.register(framed, lambda model: 0.25)
    assert (registered["alias"], registered["champion_relative_l2"]) == ("champion", 0.25)
    # Measured on the same frames as the last, one more need not be.
    fourth = dataclasses.replace(with_error(shop.train(seed=4), 0.3), history=3)
    assert shop.register(fourth)["champion_relative_l2"] == 0.15


def weights_of(shop) -> Path:
    return next((shop.root / "mlartifacts").rglob("artifacts/candidate/weights.safetensors"))


def test_champion_whose_files_are_gone_is_replaced_and_that_is_said(shop):
    registered = shop.register(with_error(shop.train(seed=1), 0.1))
    weights_of(shop).unlink()
    assert "missing or altered" in (why_version_is_unusable(shop.root, registered) or "")
    shop.use_data("b")
    registered = shop.register(with_error(shop.train(seed=2), 0.5))
    assert registered["alias"] == "champion"
    assert "champion 1 cannot be used any more" in registered["reason"]
    assert "weights.safetensors" in registered["reason"]


def test_damaged_version_is_registered_anew(shop):
    evaluated = shop.train(seed=1)
    registered = shop.register(evaluated)
    weights = weights_of(shop)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "altered" in (why_version_is_unusable(shop.root, registered) or "")
    again = shop.register(evaluated)
    assert again["version"] == 2
    assert again["lineage_sha256"] == registered["lineage_sha256"]
    assert why_version_is_unusable(shop.root, again) is None


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
    evaluated = shop.train(seed=1)
    registered = shop.register(evaluated, experiment="puffy-hats")
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
    killed = subprocess_register(shop, evaluated, kill_at=step)
    assert killed.returncode == -signal.SIGKILL
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
from mno.registry.registration import register

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

step = sys.argv[2]
if step == "set_alias":
    MlflowClient.set_registered_model_alias = die
else:
    done = getattr(MlflowClient, step)
    setattr(MlflowClient, step, lambda *a, **k: (done(*a, **k), die()))
request, candidate, evaluated = pickle.loads(Path(sys.argv[1]).read_bytes())
register(request, candidate, evaluated, lambda model: 1.0)
"""


def subprocess_register(shop, evaluated, kill_at):
    given = shop.root / "models/given.pickle"
    given.write_bytes(pickle.dumps((shop.request, shop.candidate, shop.reported(evaluated))))
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
