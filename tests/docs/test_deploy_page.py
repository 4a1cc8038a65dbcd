"""The units of the page on deploying are ones that systemd takes, and name programs that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_files import ROOT

UNIT = re.compile(r"`/etc/systemd/system/([\w-]+\.service)`[^\n]*\n\n```ini\n(.*?)```", re.DOTALL)
INSTALLED = "/srv/mno/.venv/bin"


def units() -> dict[str, str]:
    found = UNIT.findall((ROOT / "docs/deploy.md").read_text(encoding="utf-8"))
    return dict(found)


def test_there_is_a_unit_for_each_service() -> None:
    services = ("mlflow", "prefect", "schedule", "serve", "worker")
    assert sorted(units()) == [f"mno-{name}.service" for name in services]


@pytest.mark.parametrize("name", sorted(units()))
def test_a_unit_listens_on_the_loopback_interface_only(name: str) -> None:
    command = next(line for line in units()[name].splitlines() if line.startswith("ExecStart="))
    hosts = re.findall(r"--host (\S+)", command)
    assert hosts == (["127.0.0.1"] if "server" in command else [])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    here = str(Path(sys.executable).parent)
    for name, text in units().items():
        (tmp_path / name).write_text(text.replace(INSTALLED, here).replace("/srv/mno", "/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *map(str, tmp_path.glob("*"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "mno-" in line]
    assert said == [] and done.returncode == 0, done.stderr
    broken = tmp_path / "mno-broken.service"
    broken.write_text("[Service]\nExecStart=/nowhere/at/all\nRestart=sometimes\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(broken)], capture_output=True, text=True, check=False
    )
    assert "sometimes" in done.stderr, "it would say"
