"""Promotion: by the rule, on the same samples; by a person, whom nobody overtakes; as typed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from registry_shop import WORTH_IT
from typer.testing import CliRunner

from flows.cli import app
from flows.notify import read_settings, who_is_told
from flows.workspace import program
from mno.core.errors import InputError, MnoError
from mno.evaluation.config import IntervalConfig
from mno.lineage import decision as rule
from mno.lineage.audit import decision, differs
from mno.registry.catalogue import existing_workspace, registry_of
from mno.registry.config import PromotionConfig
from mno.registry.decision import (
    Case,
    Choice,
    against,
    champion_of,
    deciding,
    gates,
    pooled,
    promote,
    read_history,
    refuse,
    rollback,
    standing,
    waiting,
)
from mno.registry.evidence import gather
from mno.registry.reading import describe_registry, registered_folder, try_version

SAMPLES = 40
RNG = np.random.default_rng(1)
HARDNESS = RNG.uniform(0.05, 0.15, SAMPLES)  # what is hard for both
NOISE = RNG.normal(0, 0.02, SAMPLES)
KPIS = [
    {"name": "relative_l2", "field": None, "status": "met"},
    {"name": "latency_ms", "field": None, "status": "missed"},
    {"name": "rmse", "field": "pressure", "status": "undecided"},
    {"name": "speedup", "field": None, "status": "unknown"},
]
PHYSICS = {"checks": {"residual": {"prediction": {"median": 0.01, "p95": 0.05}}}}


def ruled(ours, theirs, asked=None, **rules):
    errors = tuple(map(float, ours))
    case = Case(
        pooled(errors).value(), errors, "md5", "sha", asked or {}, PromotionConfig(**rules),
        IntervalConfig(), lambda model: pooled(errors),
    )  # fmt: skip
    judged = {
        "how": rule.BY_RULE, "by": "the rule", "gates": dict(case.gates), "champion": 1,
        "relative_l2": case.relative_l2,
        **case.config.model_dump(include={"rule", "margin", "approval"}),
    }  # fmt: skip
    return against(judged, pooled(tuple(map(float, theirs))), case)


def test_a_small_gain_on_every_sample_is_certain_although_samples_differ_much():
    found = ruled(HARDNESS * 0.97, HARDNESS)
    assert found.verdict == "champion"
    low, high = found.judged["interval"]
    assert low < found.judged["difference"] < high < 0
    assert found.judged["difference"] == pytest.approx(-0.03 * HARDNESS.mean())
    assert "certainly lower" in found.reason and "not certainly" not in found.reason


def test_a_gain_that_other_samples_might_not_show_is_not_enough_unless_likely_is():
    theirs = HARDNESS + NOISE - NOISE.mean() + 0.0005
    sure, likely = (ruled(HARDNESS, theirs, rule=name) for name in ("certain", "likely"))
    assert sure.judged["difference"] == pytest.approx(-0.0005)
    assert sure.judged["interval"][1] > 0
    assert (sure.verdict, likely.verdict) == ("challenger", "champion")
    assert "not certainly lower" in sure.reason


@pytest.mark.parametrize("name", ["certain", "likely"])
def test_a_worse_or_equal_model_never_takes_over(name):
    assert ruled(HARDNESS * 1.001, HARDNESS, rule=name).verdict == "challenger"
    assert ruled(HARDNESS, HARDNESS, rule=name).verdict == "challenger"
    # A margin asks for more.
    assert ruled(HARDNESS * 0.97, HARDNESS, margin=0.02).verdict == "champion"
    assert ruled(HARDNESS * 0.97, HARDNESS, margin=0.05).verdict == "challenger"


def test_samples_without_a_known_truth_do_not_count_and_one_is_never_certain():
    ours, theirs = HARDNESS * 0.9, HARDNESS.copy()
    ours[::2] = theirs[::2] = np.nan
    found = ruled(ours, theirs)
    assert found.judged["champion_relative_l2"] == pytest.approx(HARDNESS[1::2].mean())
    assert found.verdict == "champion"
    one = np.array([0.1]), np.array([0.5])
    found = ruled(*one)
    assert found.verdict == "challenger" and "one sample" in found.reason
    assert ruled(*one, rule="likely").verdict == "champion"


def test_a_missed_or_unknown_indicator_bars_a_better_model_an_undecided_one_does_not():
    asked = gates(PromotionConfig(worth="any"), {"kpis": KPIS}, {})
    assert asked == {
        "relative_l2": "met", "latency_ms": "missed", "rmse.pressure": "undecided",
        "speedup": "unknown",
    }  # fmt: skip
    found = ruled(HARDNESS * 0.5, HARDNESS, asked)
    assert found.verdict == "challenger"
    assert found.reason.endswith("does not meet latency_ms, speedup")
    met = {name: status for name, status in asked.items() if status in ("met", "undecided")}
    assert ruled(HARDNESS * 0.5, HARDNESS, met).verdict == "champion"


@pytest.mark.parametrize(
    ("limit", "physics", "status"),
    [
        (0.05, PHYSICS, "met"),
        (0.04, PHYSICS, "missed"),
        (0.05, {"checks": {}}, "unknown"),
        (0.05, "imported data have no equation", "unknown"),
        (0.05, {"checks": {"residual": {"prediction": {"p95": float("nan")}}}}, "unknown"),
    ],
)
def test_physical_consistency_is_an_indicator(limit, physics, status):
    config = PromotionConfig(physics={"residual": limit}, worth="any")
    assert gates(config, {"kpis": []}, physics) == {"physics.residual": status}


def test_what_is_not_worth_it_at_either_end_of_the_measured_times_is_no_champion(shop):
    known = shop.train(1)
    torn = {**WORTH_IT, "at_ends": ["not_worth_it", "worth_it"]}
    found = shop.register(known, judged=torn)
    assert (found["decision"], found["alias"]) == ("challenger", "challenger")
    assert found["reason"] == "there was no champion; judged not worth it"
    told = f"{NAME} has no champion; its latest version is 1 .*mno promote 1 --reason"
    with pytest.raises(InputError, match=told):
        registered_folder(shop.root, f"models:/{NAME}@champion")
    # Another verdict on it is another decision; a person's, or the user's setting, counts as well.
    assert shop.register(known, judged=WORTH_IT)["decision"] == "champion"
    assert shop.register(known, judged=torn)["decision"] == "champion"
    anyhow = {"scenario": "darcy", "seed": 1, "promotion": {"worth": "any"}}
    better = dataclasses.replace(shop.train(2), relative_l2=0.05)
    assert shop.register(better, judged=torn, params=anyhow)["decision"] == "champion"
    assert differing(shop, 1) == differing(shop, 2) == []


def test_with_human_approval_the_better_one_waits_and_the_worse_one_does_not():
    better = ruled(HARDNESS * 0.5, HARDNESS, approval="human")
    assert (better.verdict, better.alias) == ("waiting", "challenger")
    assert better.reason.endswith("waits for a person's approval")
    assert ruled(HARDNESS * 2, HARDNESS, approval="human").verdict == "challenger"


def test_an_audit_applies_the_rule_again():
    found = ruled(HARDNESS * 0.5, HARDNESS)
    assert not differs(decision.check_noted(found.judged, "champion", found.reason))
    for changes in (
        {"interval": [-0.1, 0.1]},
        {"difference": 0.1},
        {"champion_relative_l2": 0.2},
        {"gates": {"latency_ms": "missed"}},
        {"approval": "human"},
        {"standing": "unreachable"},
        {"how": "refusal"},
        {"how": "magic"},
        {"by": ""},
    ):
        altered = {**found.judged, **changes}
        assert differs(decision.check_noted(altered, "champion", found.reason)), changes
    for key in ("how", "interval", "gates", "standing"):
        without = {k: v for k, v in found.judged.items() if k != key}
        assert differs(decision.check_noted(without, "champion", found.reason)), key
    assert differs(decision.check_noted(found.judged, "challenger", found.reason))
    assert decision.judged_of({"mno.promotion": "{"}) == {}
    assert decision.judged_of({}) == {}


NAME = "mno-darcy"
PERSON = "Anna <anna@plant.test>"
HUMAN = {"scenario": "darcy", "seed": 1, "promotion": {"approval": "human"}}


def register(shop, *errors, **changes):
    return [
        shop.register(dataclasses.replace(shop.train(seed), relative_l2=error), **changes)
        for seed, error in enumerate(errors, 1)
    ]


def choice(shop, reason=""):
    return Choice(NAME, champion_of(existing_workspace(shop.root), NAME), PERSON, reason)


def aliases(shop):
    return {v["version"]: v["aliases"] for v in describe_registry(shop.root, "darcy")}


def history(shop):
    return read_history(existing_workspace(shop.root), NAME)


def differing(shop, version):
    with gather(existing_workspace(shop.root), NAME, version, []) as evidence:
        return [found for found in decision.check_decision(evidence) if differs([found])]


@pytest.mark.slow
def test_by_hand_and_back_with_a_history_and_of_two_deciders_one_wins(shop):
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
def test_approval_refusal_kills_and_damage(shop):
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

    # Killed before the alias moves, nothing has changed; killed after, the next one finishes it,
    # the rule or a person.
    before = len(history(shop).decisions)
    assert killed(shop, 3, "before") and aliases(shop)[1] == ["champion"]
    assert [found["version"] for found in waiting(workspace, NAME)] == [3, 2]
    assert refuse(workspace, choice(shop, "too slow"), 2)["champion_then"] == 1
    assert len(history(shop).decisions) == before + 1
    assert killed(shop, 3, "after") and aliases(shop)[3] == ["challenger", "champion"]
    assert register(shop, 0.3, 0.2, params=HUMAN)[1]["decision"] == "refused"
    assert [r.version for r in history(shop).reigns] == [1, 3]
    assert killed(shop, 1, "after") and aliases(shop)[1] == ["champion"]
    with pytest.raises(InputError, match="already champion"):
        promote(workspace, choice(shop, "again"), 1)
    assert promote(workspace, choice(shop, "better"), 3)["champion_then"] == 1
    assert aliases(shop) == {3: ["champion"], 2: [], 1: []}
    assert [r.version for r in history(shop).reigns] == [1, 3, 1, 3]
    assert waiting(workspace, NAME) == []
    assert differing(shop, 2) == differing(shop, 3) == []

    # A version whose files are gone is refused with the reason, and nothing moves.
    for weights in (shop.root / "mlartifacts").rglob("artifacts/candidate/weights.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match="not promoted.*version 2 of mno-darcy.*missing"):
        promote(workspace, choice(shop), 2)
    assert champion_of(workspace, NAME) == 3


def test_a_version_that_does_not_predict_what_was_recorded_is_refused(shop):
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
from mno.registry.catalogue import existing_workspace, registry_of
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


def decider(shop, version, step=""):
    return subprocess.Popen(
        [sys.executable, "-c", DECIDE, str(shop.root), str(version), step],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def killed(shop, version, step):
    process = decider(shop, version, step)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def file(shop, name):
    found, *_ = (shop.root / "mlartifacts").rglob(name)
    return found


def tried(shop, predict=True):
    version, *_ = registry_of(existing_workspace(shop.root)).versions()
    return try_version(existing_workspace(shop.root), version, predict)


def test_a_version_is_tried_and_what_is_lost_or_damaged_named(shop):
    register(shop, 0.1)
    assert tried(shop) == "predicts 3 samples as recorded"
    code = (
        "import sys; from pathlib import Path; from flows.status import _models\n"
        "print(_models(Path(sys.argv[1]), False, True)[0].detail)\n"
        "print({'torch', 'numba', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, shop.root], capture_output=True, text=True, check=True
    )
    assert done.stdout == "its files are as they were registered\nset()\n"
    check, weights = file(shop, "check.npz"), file(shop, "weights.safetensors")
    for content in (b"no arrays", None):
        check.write_bytes(content) if content else check.unlink()
        with pytest.raises(MnoError, match="recorded predictions cannot be read"):
            tried(shop)
    weights.write_bytes(weights.read_bytes()[:-1])
    for words in ("are missing or altered", "cannot be read"):
        for predict in (True, False):
            with pytest.raises(InputError, match=f"the files of version 1 of mno-darcy {words}"):
                tried(shop, predict)
        shutil.rmtree(weights.parents[2], ignore_errors=True)


@pytest.fixture
def stand(shop, monkeypatch):
    """A shop that the command takes for a workspace, with the person's shell in it."""
    (shop.root / "dvc.yaml").write_text("stages: {}\n")
    subprocess.run([program("dvc"), "init", "-q"], cwd=shop.root, check=True)
    shop.git("add", "dvc.yaml", ".dvc")
    shop.git("commit", "-q", "-m", "The line")
    shop.git("config", "user.name", "Anna")
    shop.git("config", "user.email", "anna@plant.test")
    (shop.root / "notify.yaml").write_text("file: told.jsonl\n")
    for key in ("PREFECT_HOME", "PATH"):  # set by the command for all that it starts
        monkeypatch.setenv(key, os.environ.get(key, ""))
    monkeypatch.chdir(shop.root)
    return shop


def mno(*arguments):
    return CliRunner().invoke(app, arguments)


def answer(*arguments):
    done = mno(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def told(shop):
    return [json.loads(line) for line in (shop.root / "told.jsonl").read_text().splitlines()]


def test_what_waits_is_listed_approved_with_a_name_and_told(stand):
    stand.register(stand.train(1))
    stand.register(dataclasses.replace(stand.train(2), relative_l2=0.05), params=HUMAN)
    (waits,) = answer("promote", "--waiting")["waiting"]
    assert (waits["version"], waits["judged"]["champion"]) == (2, 1)
    assert "mno promote 2 --refuse" in mno("promote", "--waiting").stdout
    with pytest.raises(InputError, match="needs a reason"):
        raise mno("promote", "2").exception or AssertionError
    done = answer("promote", "2", "--reason", "agrees with furnace 2")
    assert (done["how"], done["by"]) == ("approval", "Anna <anna@plant.test>")
    assert done["not_told"] == []
    note = (stand.root / done["note"]).read_text()
    assert note.startswith("# mno-darcy: version 2 in place of version 1\n\nagrees with furnace 2")
    assert "Decided by Anna <anna@plant.test> on " in note and "(approval)." in note
    assert [line[3:] for line in note.splitlines() if line.startswith("## ")] == [
        "Parameters", "Data", "Code", "Metrics", "Environment",
    ]  # fmt: skip
    (event,) = told(stand)
    assert event["kind"] == "promotion"
    assert "agrees with furnace 2\nDecided by Anna <anna@plant.test>." in event["text"]
    shown = mno("promote", "--history").stdout
    assert "Anna <anna@plant.test> (approval)" in shown
    assert "agrees with furnace 2" in shown
    back = mno("promote", "--rollback")
    assert "version 1 is champion now, in place of version 2" in back.stdout
    assert "Next: mno promote --history" in back.stdout
    reigns = answer("promote", "--history")["reigns"]
    assert [(r["version"], r["how"]) for r in reigns] == [
        (1, "rule"), (2, "approval"), (1, "rollback"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing given; expected one of VERSION, --rollback, --waiting and --history"),
        (["2", "--rollback"], "VERSION and --rollback given"),
        (["--history", "--refuse"], "expected: mno promote VERSION --refuse"),
        (["--history", "--reason", "x"], "--reason given with --history"),
        (["two"], "'two': expected the number of a version"),
        (["1"], "no registry"),
        (["--history"], "no registry"),
    ],
)
def test_wrong_use_is_one_line(stand, arguments, said):
    for unknown in (["7"], ["--history"], ["--rollback"], ["models:/mno-other/1"]):
        error = mno("promote", *unknown).exception
        assert isinstance(error, InputError) and "is not in the registry" in str(error)
    (stand.root / "mlflow.db").unlink()
    error = mno("promote", *arguments).exception
    assert isinstance(error, InputError)
    assert said in str(error)
    assert "\n" not in str(error)
    assert not (stand.root / "mlflow.db").exists()


def test_a_test_event_reaches_the_receiver_or_says_why_not(stand):
    done = mno("doctor", "--notify")
    assert done.exit_code == 0 and "file " in done.stdout and "told of a test" in done.stdout
    assert [event["kind"] for event in told(stand)] == ["test"]
    assert who_is_told(read_settings(stand.root)) == "told: file"
    (stand.root / "notify.yaml").write_text("file: .\n")
    done = mno("doctor", "--notify")
    assert done.exit_code == 1
    assert "PROBLEM  file " in done.stdout
    (stand.root / "notify.yaml").unlink()
    assert "nobody is told" in who_is_told(read_settings(stand.root))
    assert isinstance(mno("doctor", "--notify").exception, InputError)
    (stand.root / "notify.yaml").write_text("fiel: told.jsonl\n")
    error = mno("doctor", "--notify").exception
    assert isinstance(error, InputError) and "notify.yaml: fiel is not a parameter" in str(error)
