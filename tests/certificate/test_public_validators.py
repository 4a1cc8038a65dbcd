"""Certificates held against the public validators of RO-Crate and CycloneDX, as others use them.

Their packages need other versions of ours, so that they are installed beside.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mno.certificate.content import BILL, METADATA

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

SCRIPT = Path(__file__).with_name("validate_crate.py")
VALIDATORS = ("roc-validator>=0.13,<0.14", "cyclonedx-python-lib[json-validation]>=11,<12")
VOCABULARY = "rocrate==0.9.0"  # ships that of RO-Crate 1.1


class Validators:
    """A Python with the public validators, and the vocabulary of RO-Crate."""

    def __init__(self, folder: Path) -> None:
        self._python = folder / "bin/python"
        self._vocabulary = folder / "vocabulary"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        self._install(*VALIDATORS)
        self._install("--no-deps", "--target", str(self._vocabulary), VOCABULARY)

    def _install(self, *words: str) -> None:
        command = [str(self._python), "-m", "pip", "install", "-q", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the public validators cannot be installed here: {done.stderr[-300:]}")

    def crate(self, folder: Path) -> list[str]:
        """Return what the validator of RO-Crates objects to."""
        context = self._vocabulary / "rocrate/data/ro-crate.jsonld"
        return self._run("crate", str(folder), str(context))

    def bill(self, file: Path) -> list[str]:
        """Return what the schema of CycloneDX objects to."""
        return self._run("bill", str(file))

    def _run(self, *words: str) -> list[str]:
        done = subprocess.run(
            [str(self._python), str(SCRIPT), *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


@pytest.fixture(scope="module")
def validators(tmp_path_factory: pytest.TempPathFactory) -> Validators:
    return Validators(tmp_path_factory.mktemp("validators") / "environment")


def test_the_crate_is_a_valid_provenance_run_crate(validators: Validators, folder: Path) -> None:
    assert validators.crate(folder) == []
    metadata = folder / METADATA
    metadata.write_text(metadata.read_text().replace('"license"', '"licence"'))
    assert any("license" in problem for problem in validators.crate(folder))


def test_the_bill_of_materials_is_valid_cyclonedx(validators: Validators, folder: Path) -> None:
    bill = folder / BILL
    assert validators.bill(bill) == []
    bill.write_text(bill.read_text().replace('"bom-ref"', '"bom-reff"'))
    assert any("bom-reff" in problem for problem in validators.bill(bill))
