"""The fire's benchmark reads the log as it is written, and says where there is none."""

import numpy as np
import pytest

from benchmarks import bench_compartment_fire as benchmark

NAMES = [f"TC{number}" for number in (*range(1, 23), 24, 25, 26)]


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log of sums of slow waves, as the package has it; its folder is where it is looked for."""
    seconds = np.arange(351.0)
    phases = seconds[:, None] / np.array([30.0, 55.0])
    waves = np.concatenate([np.sin(phases), np.cos(phases)], axis=1)
    shares = np.random.default_rng(0).normal(size=(4, len(NAMES)))
    values = np.round(100 + 30 * waves @ shares, 5)
    lines = ["#" + "\t".join(f'"{name}"' for name in ["Time", *NAMES])]
    lines += ["\t".join(map(str, [k, *row])) for k, row in enumerate(values.tolist())]
    path = tmp_path / benchmark.LOG
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(benchmark, "PLACES", (tmp_path / "elsewhere", tmp_path))
    return path, values


def test_the_log_is_read_as_it_is_written(log):
    path, values = log
    np.testing.assert_allclose(benchmark.read(path), values, rtol=1e-12)


def test_waves_are_forecast_better_by_what_knows_waves(log):
    _, best, table = benchmark.run().parts
    rows = {name: [float(cell) for cell in cells[:-1]] for name, *cells in table.rows}
    assert list(rows) == ["persistence", "linear state space", "Kalman filter"]
    for name in list(rows)[1:]:
        assert max(rows[name]) < 0.2 * rows["persistence"][2]
    assert "persistence" not in best


def test_without_the_log_the_section_says_how_to_get_it(log):
    path, _ = log
    path.unlink()
    (said,) = benchmark.run().parts
    assert "dpkg -x openfoam-examples_*.deb build/openfoam-examples" in said
