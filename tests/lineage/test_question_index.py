"""Questions keep what they read, and notice when it is not that any more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.lineage_registry import MODEL, Registry
from flows.lineage import Answers, Asked
from tests.support.undone_damage import byte, gone


def test_a_second_question_reads_no_seal_and_a_changed_one_is_read_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Answers().production(MODEL)
    again = Answers()
    read: list[str] = []
    files = type(again.catalogue.files)
    with monkeypatch.context() as patch:
        patch.setattr(files, "read", lambda self, run, path: read.append(path))
        assert (again.production(MODEL), read) == (first, [])

    seal = next((registry.root / f"mlartifacts/darcy/{20:032x}/artifacts/seals").iterdir())
    with byte(seal):  # size and time of the content are as before
        assert "changed" in Answers().production(MODEL)[1][0]
    with gone(seal):
        assert "missing" in Answers().production(MODEL)[1][0]
    assert Answers().production(MODEL) == first


@pytest.mark.parametrize("damage", [b"", b"1 0\n{}", b"\xff", None])
def test_an_index_that_is_damaged_or_cannot_be_written_changes_no_answer(
    registry: Registry, damage: bytes | None
) -> None:
    commit = registry.commits[5]
    first = Answers().affected(Asked(commit=commit))
    folder = registry.root / "build/lineage"
    (path,) = folder.iterdir()
    if damage is None:
        path.unlink()
        folder.rmdir()
        folder.write_text("a file where a folder should be\n")
    else:
        path.write_bytes(damage)
    assert Answers().affected(Asked(commit=commit)) == first


def test_what_no_question_needs_is_not_loaded(registry: Registry) -> None:
    heavy = ["mlflow", "torch", "numpy", "pandas", "zarr", "prefect", "sqlalchemy", "httpx"]
    code = (
        "import sys; from flows.lineage import Answers;"
        f"Answers().production(None); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
