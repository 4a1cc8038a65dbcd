"""One stage of a registered model made again, beside a workspace that is only read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.audit import Audit, Places, audited
from flows.replay import make_again
from mno.core.errors import MnoError
from mno.lineage.replay import DataFrom, ReplayOptions
from mno.lineage.replay_compare import Agreement
from tests.support.audited_line import MODEL, Line
from tests.support.file_hashes import hashes
from tests.support.workspaces import Workspace

OWN = ("build/replay/", "build/locks/")


def contents(root: Path) -> dict[str, str]:
    """Everything in a workspace but the folder of replays and who works in it."""
    return {name: sha for name, sha in hashes(root).items() if not name.startswith(OWN)}


def replayed(options: ReplayOptions) -> Audit:
    with audited(f"models:/{MODEL}/2", Places(), True) as (evidence, found):
        return replace(found, replay=make_again(evidence, options))


def test_the_data_are_made_again_bit_for_bit_and_nothing_else_is_touched(there: Line) -> None:
    before = contents(there.root)
    audit = replayed(ReplayOptions(stage="generate", quiet=True))
    assert audit.passed
    assert audit.replay
    assert [(item.name, item.agreement) for item in audit.replay.items] == [
        ("dataset", Agreement.IDENTICAL)
    ]
    assert audit.replay.items[0].found == there.record()["data"]["md5"]
    assert (audit.replay.packages, audit.replay.machine) == ([], [])
    assert json.loads(json.dumps(audit.to_dict()))["replay"]["reproduced"] is True
    assert contents(there.root) == before
    assert list((there.root / "build/replay").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stage", "register"), "expected one of generate, train, evaluate"),
        (("--stage", "generate", "--data", "pull"), "leave out --data"),
    ],
)
def test_wrong_use_is_one_line(line: Line, arguments: tuple[str, ...], said: str) -> None:
    done = Workspace(line.root).mno("replay", f"models:/{MODEL}/2", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert (done.stdout, len(done.stderr.strip().splitlines())) == ("", 1)


def test_data_that_are_not_at_hand_are_not_trained_on(there: Line) -> None:
    objects = there.object(there.record()["data"]["md5"])
    kept = objects.read_bytes()
    options = ReplayOptions(DataFrom.PULL, stage="train", quiet=True)
    objects.unlink()
    try:
        with pytest.raises(MnoError, match="is not in DVC's cache: fetch it"):
            replayed(options)
        objects.write_bytes(kept + b" ")
        with pytest.raises(MnoError, match="not what its name promises"):
            replayed(options)
    finally:
        objects.write_bytes(kept)
