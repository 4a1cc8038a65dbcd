"""The page on choosing solves says what the kept figures say."""

from __future__ import annotations

import json

import pytest

from benchmarks.which_next import PAGE, RESULTS, STRATEGIES, section, settings, summary


def test_the_page_says_what_the_figures_say() -> None:
    kept = json.loads(RESULTS.read_text())
    assert section(kept) in PAGE.read_text()
    assert kept["settings"] == json.loads(json.dumps(settings()))
    assert len(kept["seeds"]) >= 5
    for figure, found in summary(kept["seeds"]).items():
        assert found["ratio"] == pytest.approx(kept["summary"][figure]["ratio"])
    counts = {seed[s]["training_samples"] for seed in kept["seeds"].values() for s in STRATEGIES}
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.5, "Choosing won"), (2.0, "Random won"), (1.0, "No difference in the mean")],
)
def test_whichever_wins_is_said_plainly(factor: float, expected: str) -> None:
    def figures(mean: float) -> dict:
        return {"training_samples": 9, "mean": mean, "p95": 2 * mean, "max": 3 * mean, "epochs": 1}

    errors = (0.10, 0.11, 0.12, 0.09, 0.10)
    noise = (1.01, 0.99, 1.02, 0.98, 1.0)
    seeds = {
        str(k): {"active": figures(factor * e * n), "random": figures(e)}
        for k, (e, n) in enumerate(zip(errors, noise, strict=True))
    }
    kept = {"settings": settings(), "seeds": seeds, "summary": summary(seeds)}
    assert expected in section(kept)
