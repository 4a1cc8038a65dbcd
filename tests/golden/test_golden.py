"""A record tells what changed from what only differs between runs."""

import json
import subprocess
import sys

import pytest

from tests.golden.__main__ import INTENDED
from tests.golden.compare import differences, mask, read_intended
from tests.support.workspaces import ROOT

BEFORE = {
    "quick/data/x": "md5:" + 32 * "a",
    "quick/reports/metrics.json": '{\n "relative_l2": 0.0815\n}',
    "quick/audit": '{\n "trained": "2026-01-02T03:04:05+00:00",\n "passed": true\n}',
}
PER_SECOND = "\nSolutions per second (surrogate: {} at a time)\n{}\n{}\nPeak memory\n"
CHANGE = '[[change]]\nkey = "quick/data/*"\nwhy = "a field was renamed"\n'


def compared(folder, after, intended=""):
    for name, values in (("before", BEFORE), ("after", after)):
        content = {"recipe": "of the test", "values": values}
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "intended.toml").write_text(intended)
    command = ["compare", "before.json", "after.json", "--intended", "intended.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", *command], cwd=folder, text=True, check=False,
        capture_output=True, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_changed_digest_is_found_unless_it_is_intended(tmp_path):
    after = BEFORE | {"quick/data/x": "md5:" + 32 * "b"}
    status, said = compared(tmp_path, after)
    assert status == 1
    assert "quick/data/x  DIFFERS\nother bytes" in said
    status, said = compared(tmp_path, after, CHANGE)
    assert status == 0
    assert "a field was renamed" in said


def test_an_intended_change_excuses_no_other_one(tmp_path):
    changed = BEFORE["quick/reports/metrics.json"].replace("0.0815", "0.0816")
    status, said = compared(tmp_path, BEFORE | {"quick/reports/metrics.json": changed}, CHANGE)
    assert status == 1
    assert '- "relative_l2": 0.0815\n+ "relative_l2": 0.0816' in said
    assert "intended, but nothing differs: quick/data/*" in said


def test_what_is_gone_and_what_is_new_differ():
    after = {"new": "", **{key: value for key, value in BEFORE.items() if key != "quick/audit"}}
    assert dict(differences(BEFORE, after)) == {"new": "only after", "quick/audit": "only before"}


def test_another_moment_is_no_difference(tmp_path):
    later = BEFORE["quick/audit"].replace("2026-01-02T03:04:05", "2027-11-12T13:14:15")
    assert compared(tmp_path, BEFORE | {"quick/audit": later})[0] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"run": "' + 32 * "a" + '"', '"run": "' + 32 * "b" + '"'),
        ("equal to commit " + 40 * "1", "equal to commit " + 40 * "2"),
        ("/tmp/mno-golden-abc_1/0/workspace/x", "/var/tmp/mno-golden-x2/1/workspace/x"),
        ("Peak memory\n440 MiB\n172 MiB", "Peak memory\n1,2 GiB\n98 MiB"),
        ("a prediction takes 1.7 ms, a solve 0.056 ms.", "a prediction takes 2 s, a solve 1 ms."),
        (PER_SECOND.format(64, "3\u202f168", "17"), PER_SECOND.format(2, "9", "–")),
        ("1 ms\n2 h\n0.032\nnever\n4 at a time\n", "3 s\n5 h\n0.091\nnever\n16 at a time\n"),
        ("\nコミット\n386b3c8c3f67\n", "\nコミット\n89e55610ec6d\n"),
        ("106 files and folders of the snapshot", "90 files and folders of the snapshot"),
    ],
)  # fmt: skip
def test_what_differs_between_runs_is_masked_once(one, other):
    assert mask(one) == mask(other) != one
    assert mask(mask(one)) == mask(one)
    assert mask(one).count("Peak memory") == one.count("Peak memory")


@pytest.mark.parametrize(
    "result",
    [
        "relative L2 8.2\u202f%",
        '"max": 4.662e-08',
        "x = 0.406",
        "md5:" + 32 * "a",
        32 * "a" + ".dir",
    ],
)
def test_results_are_not_masked(result):
    assert mask(result) == result


def test_the_committed_list_can_be_read():
    assert all(read_intended(INTENDED).values())


@pytest.mark.slow
@pytest.mark.nightly
def test_the_same_code_makes_the_same_record_twice(tmp_path):
    command = [sys.executable, "-m", "tests.golden"]
    for name in ("a.json", "b.json"):
        made = [*command, "make", str(ROOT), "--only", "quick", "--out", str(tmp_path / name)]
        subprocess.run(made, cwd=ROOT, check=True)
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert subprocess.run([*command, "compare", *paths], cwd=ROOT, check=False).returncode == 0
