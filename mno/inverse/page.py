"""The page of an answer: what is known now, what is not, and where a sensor would help most."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from mno.core.files import write_bytes
from mno.core.numbers import number, percent
from mno.inverse.infer import Answer, Posterior, arviz, rows_of
from mno.report import style
from mno.report.language import fact_rows
from mno.report.page import Figure, embedded, render_page
from mno.report.panels import labelled

_DRAWS, _FRAMES, _PLACES = 400, 6, 400  # by which places are compared
_MOST = 12  # figures of unknowns, and places that are told
_UNLEARNED = 0.1  # share of the variance below which readings say nothing of an unknown


def helpful(posterior: Posterior, answer: Answer) -> list[dict[str, Any]]:
    """Return at which places a further sensor would help most, the best first.

    It is one of a quantity that is read, as exact as those there are, the model's error included,
    which reads from now on in the same run. `left` is the share of the variance of all unknowns
    that would be left, each counted alike; it is reckoned as if all were linear and normal.
    """
    flat = answer.z.reshape(-1, answer.z.shape[-1])
    rows = np.linspace(0, len(flat) - 1, min(_DRAWS, len(flat))).astype(int)
    z = torch.from_numpy(flat[rows])
    with torch.no_grad():
        parts = [posterior.run.predicted(posterior.unknowns(some)) for some in z.split(50)]
    z = (z - z.mean(0)) / z.std(0).clamp_min(1e-12)
    found = []
    for name, variance in posterior.variances().items():
        values = torch.cat([part[name] for part in parts]).double()
        timed = name in posterior.run.surrogate.description.timed
        values = values.flatten(2) if timed else values.flatten(1)[:, None]
        frames = np.unique(np.linspace(0, values.shape[1] - 1, _FRAMES).astype(int))
        places = posterior.run.places(name)
        stride = -(-len(places) // _PLACES)
        for place in places[::stride]:
            y = values[:, frames, place]
            y = y - y.mean(0)
            spread = y.mT @ y / (len(y) - 1) + variance * torch.eye(y.shape[1]).double()
            across = y.mT @ z / (len(y) - 1)
            told = float((across * torch.linalg.solve(spread, across)).sum()) / z.shape[1]
            found.append({"quantity": name, "place": place, "left": max(1.0 - told, 0.0)})
    return sorted(found, key=lambda one: one["left"])


def write_answer(
    posterior: Posterior, answer: Answer, facts: Mapping[str, Any], folder: Path
) -> Path:
    """Write the page, in place of an earlier one; return its path."""
    rows, places = rows_of(answer), posterior.run.place_named
    html = render_page(
        "inverse/answer.html.j2", title="What was not measured",
        subtitle=f"{facts['model']}, asked backwards from {facts['readings']} readings of "
        f"{facts['run']}.",
        converged=answer.has_converged, exact=answer.is_exact, reckoned=posterior.reckoned,
        what=fact_rows(facts),
        unlearned=[row["name"] for row in rows if row["learned"] < _UNLEARNED],
        unknowns=[
            {"unknown": row["name"], "before": _numbers_in("{} ± {}", row["prior"]),
             "now": _numbers_in("{} ± {}", row["posterior"]),
             "90 % within": _numbers_in("{} to {}", row["interval"]),
             "learned": percent(max(row["learned"], 0.0))}
            for row in rows
        ],
        sensors=[
            {"quantity": one["quantity"], "place": places(one["quantity"], one["place"]),
             "variance left": percent(one["left"])}
            for one in helpful(posterior, answer)[:_MOST]
        ],
        figures=[embedded(figure) for figure in _figures(posterior, answer)],
    )  # fmt: skip
    page = folder / "index.html"
    write_bytes(page, html.encode())
    return page


def _numbers_in(text: str, values: Iterable[float]) -> str:
    return text.format(*(number(value, 3) for value in values))


def _figures(posterior: Posterior, answer: Answer) -> Iterator[Figure]:
    groups: Any = answer.draws
    units = posterior.run.surrogate.description.inputs
    for name in [*groups.posterior.data_vars][:_MOST]:
        before, after = groups.prior[name].to_numpy()[0], groups.posterior[name].to_numpy()
        after = after.reshape(-1, *after.shape[2:])
        label = labelled(str(name).replace("_", " "), units[str(name)])
        is_number = before.ndim == 1 or before[0].size == 1
        why = "At each place the mean, and within the band nine of ten draws, before and now."
        if is_number:
            why = "How likely each value was before anything was read, and is now."
        drawn = style.curves(partial(_numbers if is_number else _band, before, after, label))
        said = f"{name} before and after the readings."
        yield Figure(f"unknown_{name}", f"{name}: before and now", why, said, *drawn)
    rhat: Any = arviz.rhat(arviz.convert_to_dataset({"z": answer.z}))
    worst = int(rhat["z"].to_numpy().argmax())
    yield Figure(
        "ranks",
        "Do the chains say the same?",
        "Ranks of the draws of each chain among those of all, of the number that they agree on "
        f"least. Chains that agree are level; R-hat is {number(answer.rhat, 4)}.",
        "Histograms of ranks by chain.",
        *style.curves(lambda ax: _ranks(ax, answer.z[..., worst])),
    )


def _numbers(before: np.ndarray, after: np.ndarray, label: str, ax: Axes) -> None:
    was, now = before.ravel(), after.ravel()
    low, high = np.quantile(np.concatenate([was, now]), [0.002, 0.998])
    look: dict[str, Any] = {"bins": np.linspace(low, high, 60), "density": True}
    ax.hist(was, histtype="step", color=style.REFERENCE_COLOUR, label="before", **look)
    ax.hist(now, alpha=0.6, color=style.PREDICTION_COLOUR, label="now", **look)
    ax.set_xlabel(label)
    ax.set_yticks([])
    style.draw_legend(ax)


def _band(before: np.ndarray, after: np.ndarray, label: str, ax: Axes) -> None:
    looks = ((before, style.REFERENCE_COLOUR, "before"), (after, style.PREDICTION_COLOUR, "now"))
    for values, colour, said in looks:
        rows = values.reshape(len(values), -1)
        low, high = np.quantile(rows, [0.05, 0.95], axis=0)
        places = np.arange(rows.shape[1])
        ax.fill_between(places, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(places, rows.mean(0), color=colour, label=said)
    ax.set_xlabel("place, in the order of the grid")
    ax.set_ylabel(label)
    style.draw_legend(ax)


def _ranks(ax: Axes, z: np.ndarray) -> None:
    ranks = z.ravel().argsort().argsort().reshape(z.shape) / z.size
    for chain in ranks:
        counts, edges = np.histogram(chain, bins=20, range=(0.0, 1.0))
        middles = 0.5 * (edges[1:] + edges[:-1])
        ax.plot(middles, counts / counts.mean(), color=style.PREDICTION_COLOUR, alpha=0.5, lw=0.8)
    ax.axhline(1.0, color=style.REFERENCE_COLOUR, lw=1)
    ax.set_ylim(bottom=0.0)
    style.finish(ax, "rank among the draws of all chains", "draws, by an even share")
