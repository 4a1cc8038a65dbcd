"""A person promotes, approves, refuses and goes back; only one of several deciders wins."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from registry_shop import Shop

from mno.core.errors import InputError, MnoError
from mno.lineage.audit import decision, differs
from mno.registry.catalogue import existing_workspace
from mno.registry.decision import (
    Choice,
    champion_of,
    deciding,
    promote,
    read_history,
    refuse,
    rollback,
    standing,
    waiting,
)  # fmt: skip
from mno.registry.evidence import gather
from mno.registry.reading import describe_registry

NAME = "mno-darcy"
PERSON = "Anna <anna@plant.test>"
HUMAN = {"scenario": "darcy", "seed": 1, "promotion": {"approval": "human"}}


def register(shop: Shop, *errors: float, **changes) -> list[dict]:
    return [
        shop.register(
            dataclasses.replace(shop.train(seed), relative_l2=error, errors=(error,) * 2), **changes
        )
        for seed, error in enumerate(errors, 1)
    ]


def choice(shop: Shop, reason: str = "") -> Choice:
    workspace = existing_workspace(shop.root)
    return Choice(NAME, champion_of(workspace, NAME), PERSON, reason)


def aliases(shop: Shop) -> dict[int, list[str]]:
    return {v["version"]: v["aliases"] for v in describe_registry(shop.root, "darcy")}


def history(shop: Shop):
    return read_history(existing_workspace(shop.root), NAME)


def differing(shop: Shop, version: int) -> list:
    with gather(existing_workspace(shop.root), NAME, version, []) as evidence:
        return [found for found in decision.check_decision(evidence) if differs([found])]


def test_by_hand_and_back_with_a_history_and_of_two_deciders_one_wins(shop: Shop) -> None:
    register(shop, 0.2, 0.1, 0.3)
    workspace = existing_workspace(shop.root)
    found = promote(workspace, choice(shop, "needed for the old grid"), 3)
    assert (found["decision"], found["how"], found["champion_then"]) == ("champion", "manual", 2)
    assert found["tried"] == "it predicts 3 samples as recorded"
    assert aliases(shop) == {3: ["champion"], 2: [], 1: []}
    with pytest.raises(InputError, match="version 3 of mno-darcy is already champion"):
        promote(workspace, choice(shop), 3)
    with pytest.raises(InputError, match="does not wait for approval"):
        refuse(workspace, choice(shop, "no"), 2)
    assert rollback(workspace, choice(shop, "it drifts"))["version"] == 2
    assert rollback(workspace, choice(shop))["version"] == 1
    with pytest.raises(InputError, match="no champion before version 1"):
        rollback(workspace, choice(shop))
    told = history(shop)
    assert [(r.version, r.how) for r in told.reigns] == [
        (1, "rule"), (2, "rule"), (3, "manual"), (2, "rollback"), (1, "rollback"),
    ]  # fmt: skip
    assert [r.until for r in told.reigns] == [r.since for r in told.reigns[1:]] + [None]
    assert (told.reigns[2].by, told.reigns[2].reason) == (PERSON, "needed for the old grid")
    assert [(d.version, d.decision) for d in told.decisions if d.champion != d.version] == [
        (3, "challenger")
    ]
    for version in (1, 2, 3):
        assert differing(shop, version) == []
    # Registering one of them again does not undo what people decided.
    assert register(shop, 0.2)[0]["decision"] == "champion"
    assert aliases(shop)[1] == ["champion"]
    assert standing(workspace, NAME, 3) == {
        "alias": None, "decision": "champion", "reason": "needed for the old grid",
    }  # fmt: skip

    # Two processes that have both seen version 1 as champion.
    deciders = [decider(shop, version) for version in (2, 3)]
    for process in deciders:
        assert process.stdout and process.stdout.readline() == "ready\n"
    answers = [process.communicate("go\n")[0] for process in deciders]
    assert sorted(process.returncode for process in deciders) == [0, 1], answers
    winner = next(v for v, process in zip((2, 3), deciders, strict=True) if not process.returncode)
    assert "somebody else has decided meanwhile" in "".join(answers)
    assert aliases(shop)[winner] == ["champion"]
    assert [r.version for r in history(shop).reigns] == [1, 2, 3, 2, 1, winner]

    # An alias that is moved past the line is noticed.
    workspace.client.set_registered_model_alias(NAME, "champion", "1")
    assert [found.subject for found in differing(shop, 2)] == ["alias champion"]


@pytest.mark.slow
@pytest.mark.nightly
def test_approval_refusal_kills_and_damage(shop: Shop) -> None:
    registered = register(shop, 0.3, params=HUMAN)[0]
    workspace = existing_workspace(shop.root)
    assert (registered["decision"], registered["alias"]) == ("waiting", "challenger")
    assert champion_of(workspace, NAME) is None
    with pytest.raises(InputError, match="waits for approval, which needs a reason"):
        promote(workspace, choice(shop), 1)
    assert promote(workspace, choice(shop, "the first"), 1)["how"] == "approval"
    assert waiting(workspace, NAME) == []
    register(shop, 0.3, 0.2, 0.1, params=HUMAN)
    assert [found["version"] for found in waiting(workspace, NAME)] == [3, 2]
    assert aliases(shop) == {3: ["challenger"], 2: [], 1: ["champion"]}
    assert register(shop, 0.3, 0.2, params=HUMAN)[1]["decision"] == "waiting"

    # Killed before the alias moves, nothing has changed; killed after, the next one finishes it.
    before = len(history(shop).decisions)
    assert killed(shop, 3, "before") and aliases(shop)[1] == ["champion"]
    assert [found["version"] for found in waiting(workspace, NAME)] == [3, 2]
    assert refuse(workspace, choice(shop, "too slow"), 2)["champion_then"] == 1
    assert len(history(shop).decisions) == before + 1
    assert killed(shop, 3, "after") and aliases(shop)[3] == ["challenger", "champion"]
    with pytest.raises(InputError, match="already champion"):
        promote(workspace, choice(shop, "again"), 3)
    assert aliases(shop) == {3: ["champion"], 2: [], 1: []}
    assert [r.version for r in history(shop).reigns] == [1, 3]
    assert waiting(workspace, NAME) == []
    assert differing(shop, 2) == differing(shop, 3) == []

    # A version whose files are gone is refused with the reason, and nothing moves.
    for weights in (shop.root / "mlartifacts").rglob("artifacts/candidate/weights.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match="not promoted.*version 2 of mno-darcy.*missing"):
        promote(workspace, choice(shop), 2)
    assert champion_of(workspace, NAME) == 3


def test_a_version_that_does_not_predict_what_was_recorded_is_refused(shop: Shop) -> None:
    register(shop, 0.1, 0.2)
    workspace = existing_workspace(shop.root)
    run_id = workspace.client.get_model_version(NAME, "2").run_id
    shop.reported(shop.train(3))  # another model's predictions
    workspace.client.log_artifact(run_id, str(shop.root / "reports/check.npz"), "evaluation")
    with pytest.raises(MnoError, match="does not predict as recorded: pressure differs"):
        promote(workspace, choice(shop), 2)
    assert aliases(shop) == {2: ["challenger"], 1: ["champion"]}
    # Its figures are on the version.
    judged = json.loads(workspace.client.get_model_version(NAME, "2").tags["mno.promotion"])
    assert judged["difference"] == pytest.approx(0.1)
    assert judged["interval"] == pytest.approx([0.1, 0.1])
    assert (judged["champion"], judged["standing"], judged["how"]) == (1, "against", "rule")
    reason = workspace.client.get_model_version(NAME, "2").tags["mno.decision_reason"]
    assert "difference +0.1, 95% interval +0.1 to +0.1: not certainly lower" in reason
    with (
        deciding(workspace, NAME),
        pytest.raises(MnoError, match=f"a decision on {NAME}.*process {os.getpid()}"),
        deciding(workspace, NAME, patience=0.0),
    ):
        pass


DECIDE = """\
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from mno.core.errors import MnoError
from mno.registry.decision import champion_of
from mno.registry.catalogue import existing_workspace
from mno.registry.decision import Choice, promote

root, version, step = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
move = MlflowClient.set_registered_model_alias

def die(*args, **kwargs):
    if step == "after":
        move(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

if step:
    MlflowClient.set_registered_model_alias = die
workspace = existing_workspace(root)
choice = Choice("mno-darcy", champion_of(workspace, "mno-darcy"), "Ken", "mine is better")
print("ready", flush=True)
if not step:
    sys.stdin.readline()
try:
    promote(workspace, choice, version)
except MnoError as error:
    sys.exit(print(error) or 1)
"""


def decider(shop: Shop, version: int, step: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DECIDE, str(shop.root), str(version), step],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def killed(shop: Shop, version: int, step: str) -> bool:
    process = decider(shop, version, step)
    process.communicate()
    return process.returncode == -signal.SIGKILL
