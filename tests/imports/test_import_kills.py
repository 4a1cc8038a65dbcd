"""Imports that are killed at random moments end like one that was left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.file_hashes import hashes

# Shards are small, so that there are many.
SCRIPT = """
import sys
from pathlib import Path
from mno.imports import convert
from mno.imports.collection import import_files

convert.SHARD_BYTES = 20_000
import_files(Path(sys.argv[1]), [Path(sys.argv[2])], "npz", None)
"""
KILLS = 8


def start(folder: Path, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(file)])


@pytest.mark.slow
def test_a_killed_import_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    coeff = np.random.default_rng(0).random((1500, 16, 16), dtype=np.float32)
    file = tmp_path / "a.npz"
    np.savez(file, coeff=coeff, sol=coeff)
    whole, torn = tmp_path / "whole" / "plant", tmp_path / "torn" / "plant"
    assert start(whole, file).wait() == 0

    moments, counts = random.Random(1), []
    for _ in range(KILLS):
        process = start(torn, file)
        before = len(list(torn.glob("work/shards/*/done/*.json")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            done = len(list(torn.glob("work/shards/*/done/*.json")))
            if done > before:
                time.sleep(moments.random() * 0.1)
                break
            time.sleep(0.002)
        process.kill()
        process.wait()
        counts.append(len(list(torn.glob("work/shards/*/done/*.json"))))
        if (torn / "import.json").exists():
            break
    assert len(counts) > 2 and counts[0] > 0
    assert counts[:-1] == sorted(counts[:-1]), "what is finished is kept"
    assert start(torn, file).wait() == 0
    assert hashes(torn) == hashes(whole)
