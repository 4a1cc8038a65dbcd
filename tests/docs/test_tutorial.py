"""The tutorial and the path to one's own plant, followed literally in a fresh clone."""

import pytest

from benchmarks.bench_tutorial import PAGES, follow, steps_of


def test_every_line_of_the_pages_is_a_step():
    said = [step for page in PAGES for _, step in steps_of(page)]
    assert said[0] == "make run" and "mno run --preset furnace-observer" in said
    assert not any("#" in step or step.startswith("source") for step in said if "\n" not in step)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(5400)
def test_a_reader_who_does_what_the_pages_say_gets_through(tmp_path):
    steps = list(follow(tmp_path / "mno", PAGES))
    assert len(steps) > 15
