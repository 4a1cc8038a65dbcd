"""Fixtures that several folders of tests share, and how tests are spread over processes.

`make test` runs one process for each core (pytest-xdist). Each then computes on one thread, and
the finished workspace is made by the process that needs it first.
"""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from tests.support.order import order
from tests.support.workspaces import (
    Workspace,
    alone,
    copy_without_registry,
    end_processes_in,
    make_workspace,
    serve_prefect,
)

SPREAD = "PYTEST_XDIST_WORKER" in os.environ

# Started by nohup, or in the background of a script, tests and children would be deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if SPREAD:
    # Threads of several processes on the same cores would mostly wait for each other. Tests that
    # are about threads set their number. This must come before anything imports torch.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Return how many processes run the tests: each may run a whole line, with its server."""
    return min(4, os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from tests.support.order import Spread

    return Spread(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=order)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """End what a test that failed, or took too long, has left at work."""
    if call.excinfo is not None:
        for given in getattr(item, "funcargs", {}).values():
            if isinstance(given, Workspace):
                end_processes_in(given.root)
    return (yield)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory):
    """A folder that all processes of this test session share.

    Whatever tests have left running in their own folders ends with the session: an interrupted
    test cannot wait for what it has started.
    """
    folder = tmp_path_factory.getbasetemp()
    yield folder.parent if SPREAD else folder
    end_processes_in(folder)


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory):
    """Address of a Prefect server for many runs: starting one is half the work of a short run."""
    with serve_prefect(tmp_path_factory.mktemp("prefect")) as address:
        yield address


@pytest.fixture(scope="session")
def finished(session_folder):
    """A workspace in which `mno run --preset quick` has been run; tests must not change it.

    Anybody may read its files, but only one process may run commands in it (`support/order.py`).
    """
    root, pristine = session_folder / "finished", session_folder / "pristine"
    with alone(session_folder / "finished.lock"):
        if not pristine.exists():
            shutil.rmtree(root, ignore_errors=True)
            make_workspace(root).mno("run", "--preset", "quick", check=True)
            partial = copy_without_registry(root, session_folder / "pristine.partial")
            partial.prepare_registry()
            partial.root.rename(pristine)
    return Workspace(root)


@pytest.fixture
def workspace(finished, session_folder, prefect_api, tmp_path):
    """A copy of the finished workspace with an empty registry, to be changed at will.

    Its runs report to a Prefect server that is there already; `finished` starts its own.
    """
    root = tmp_path / "workspace"
    shutil.copytree(session_folder / "pristine", root, symlinks=True)
    return Workspace(root, variables={"PREFECT_API_URL": prefect_api})


@pytest.fixture(scope="session")
def line(tmp_path_factory):
    """A workspace with two registered versions; tests may damage it, and must mend it."""
    from tests.support.audited_line import make_line  # needs what certificates need

    return make_line(tmp_path_factory.mktemp("audited") / "workspace")


@pytest.fixture(scope="module")
def browser():
    """A Chromium without windows; tests that need one are skipped where there is none."""
    names = ("chromium", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=quiet)
        yield opened
        opened.close()
