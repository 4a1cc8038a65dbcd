"""Figure of the spectra of truth, prediction and error of one field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mno.evaluation.spectra import spectra_of
from mno.evaluation.waves import BANDS
from mno.report.curves import HEIGHT, LEGEND, NARROW, WIDE
from mno.report.facts import unit_text
from mno.report.figures import Figure
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mno.core.fields import Field
    from mno.evaluation.statistics import Statistics
    from mno.report.language import Words


def spectrum(field: Field, statistics: Statistics, words: Words) -> Figure | None:
    """Return the figure of a field; none where it has no spectra, or not two waves to draw.

    Args:
        field: The field.
        statistics: Of the surrogate's predictions of it.
        words: Those of the section.
    """
    spectra = spectra_of(statistics)
    if isinstance(spectra, str) or len(spectra["wavenumber"]) < 3:
        return None
    drowned = _drowned(spectra)
    found = words("spectrum.resolved")
    if not np.isfinite(spectra["error"]).all():
        found = words("spectrum.not_a_number")
    elif drowned is not None:
        found = words("spectrum.drowned", wavenumber=words.number(drowned))
    said = {"field": field.long_name, "found": found}
    return Figure(
        name=f"spectrum_{field.name}",
        title=words("spectrum.title", **said),
        caption=words("spectrum.caption", **said),
        alt=words("spectrum.alt", **said),
        png=_draw(spectra, field.units, words, WIDE),
        narrow=_draw(spectra, field.units, words, NARROW),
    )


def _drowned(spectra: Mapping[str, list[float]]) -> float | None:
    """Return the first wavenumber, above 0, at which the error has as much power as the truth."""
    for k, truth, error in zip(
        *(spectra[n] for n in ("wavenumber", "truth", "error")), strict=True
    ):
        if k > 0 and error >= truth:
            return k
    return None


def _draw(spectra: Mapping[str, list[float]], units: str, words: Words, width: float) -> bytes:
    curves = (("truth", TRUTH_COLOUR, "-"), ("prediction", PREDICTION_COLOUR, "--"),
              ("error", "black", ":"))  # fmt: skip
    k = np.array(spectra["wavenumber"][1:])  # the mean, k = 0, has no place on this axis
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        for name, colour, dashes in curves:
            power = np.array(spectra[name][1:])
            shown = np.where(np.isfinite(power) & (power > 0), power, np.nan)
            ax.plot(k, shown, color=colour, ls=dashes, lw=1.7, label=words(f"spectrum.{name}"))
        for first, _ in BANDS.values():
            if k[0] < first <= k[-1]:
                ax.axvline(first, color=REFERENCE_COLOUR, lw=0.8, alpha=0.6)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(words("spectrum.wavenumber"))
        squared = "" if units == "1" else f" ({unit_text(units)})²"
        ax.set_ylabel(words("spectrum.power") + squared)
        ax.legend(**LEGEND)
        return png_bytes(figure)
