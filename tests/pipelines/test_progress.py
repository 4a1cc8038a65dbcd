"""Progress of generation: how many samples per second, how long still, also after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from mno.data.generate.run import Progress
from mno.lineage.dvcfiles import StageInputs
from pipelines.generate import SampleProgress
from pipelines.stage import Stage, StageEnvironment


@pytest.fixture
def make_stage(tmp_path: Path):
    def make(terminal: Path | None = None) -> Stage:
        environment = StageEnvironment(
            run_pid=None,
            flow_run_id=None,
            terminal=None if terminal is None else str(terminal),
            quiet=False,
            failure_file=None,
            experiment=None,
            workspace=tmp_path,
        )
        return Stage(tmp_path, {}, StageInputs("generate", (), {}, ""), environment)

    return make


def tell(progress: SampleProgress, seconds: float, done: int, rate: float | None = None) -> None:
    """Say so many seconds after the beginning that so many of 100 samples are done."""
    import time

    progress.begun = time.monotonic() - seconds
    progress(Progress(done // 10, 10, done, 100, rate))


def test_lines_say_samples_per_second_and_time_left(make_stage, capsys) -> None:
    with SampleProgress(make_stage()) as progress:
        tell(progress, 0, 0)
        tell(progress, 4, 20)
        tell(progress, 5, 30)  # less than a fifth since the last line
        tell(progress, 204, 60)
        tell(progress, 205, 100)
    assert capsys.readouterr().out.splitlines() == [
        "generate   20/100 samples, 5.0 samples/s, 16 s left",
        "generate   60/100 samples, 0.20 samples/s, 3 min 20 s left",
    ]


def test_what_is_done_within_two_seconds_says_nothing(make_stage, capsys) -> None:
    with SampleProgress(make_stage()) as progress:
        for done in range(0, 101, 10):
            tell(progress, done / 100, done)
    assert capsys.readouterr().out == ""


def test_a_run_after_a_kill_says_at_once_what_is_done_and_its_earlier_rate(
    make_stage, capsys
) -> None:
    with SampleProgress(make_stage()) as progress:
        tell(progress, 0.1, 40, rate=30.0)
        assert capsys.readouterr().out == (
            "generate   continuing after 40 samples, 30 samples/s, 2 s left\n"
        )
        tell(progress, 4, 60, rate=30.0)
        tell(progress, 8, 80, rate=30.0)  # its own rate, from the first shard it has solved itself
    assert capsys.readouterr().out.splitlines() == [
        "generate   60/100 samples, 30 samples/s, 1 s left",
        "generate   80/100 samples, 5.0 samples/s, 4 s left",
    ]


def test_a_run_without_an_earlier_rate_still_says_what_is_done(make_stage, capsys) -> None:
    with SampleProgress(make_stage()) as progress:
        tell(progress, 0, 40)
    assert capsys.readouterr().out == "generate   continuing after 40 samples\n"


def test_a_terminal_is_drawn_on_only_after_two_seconds(make_stage, tmp_path: Path, capsys) -> None:
    terminal = tmp_path / "terminal"
    stage = make_stage(terminal)
    with SampleProgress(stage) as progress:
        tell(progress, 1, 40, rate=10.0)
        assert terminal.read_text() == ""
        progress.starter.join()
        progress.bar.refresh()
        assert stage.console is not None
        stage.console.file.flush()
        drawn = terminal.read_text()
    assert "40/100" in drawn and "10 samples/s" in drawn and " s left" in drawn
    assert capsys.readouterr().out.startswith("generate   continuing after 40 samples")
