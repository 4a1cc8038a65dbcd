"""The figures of what is missing: by sensor and time, and by place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mno.core.numbers import percent
from mno.report.curves import NARROW, WIDE
from mno.report.figures import Figure
from mno.report.inspection.presence import Presence
from mno.report.inspection.sensors import Sensors
from mno.report.panels import labelled
from mno.report.style import TRUTH_COLOUR, house_style, new_figure, png_bytes

_MOST_NAMES = 24
_COLOURS = "cividis"


def presence_figures(sensors: Sensors) -> Iterator[Figure]:
    """Draw, for each field, which values are there, and where what share is missing."""
    for presence in sensors.presence:
        field, share = presence.field, percent(presence.share_missing)
        yield Figure(
            name=f"presence_{field.name}",
            title=f"What is there of {field.long_name}",
            caption="Share of values that are there, by sensor and sample in the order of the "
            "dataset. A yellow row is a sensor that fails, a yellow column a time at which all do. "
            f"{share} are missing at the sensors that have any.",
            alt=f"Map of the values of {field.long_name} that are there: {share} are missing.",
            png=_draw_presence(sensors, presence, WIDE),
            narrow=_draw_presence(sensors, presence, NARROW),
        )
        if sensors.places is None or "point" not in field.dims or presence.same:
            continue
        worst = int(np.argmax(presence.missing))
        most = f"{percent(float(presence.missing[worst]))} at {sensors.name(presence, worst)}"
        yield Figure(
            name=f"places_{field.name}",
            title=f"Where {field.long_name} is missing",
            caption="Share of missing values at each sensor, where it is; all of it where the "
            f"field is not measured. The largest: {most}.",
            alt=f"Map of sensors by the share of {field.long_name} that is missing, most {most}.",
            png=_draw_places(sensors, sensors.places, presence, WIDE),
            narrow=_draw_places(sensors, sensors.places, presence, NARROW),
        )


def _draw_presence(sensors: Sensors, presence: Presence, width: float) -> bytes:
    picture, count = presence.picture, presence.sensors
    named = len(picture) == count <= _MOST_NAMES
    with house_style():
        figure = new_figure(width, 1.4 + 0.16 * min(len(picture), _MOST_NAMES))
        ax = figure.add_subplot()
        image = ax.imshow(
            picture, aspect="auto", cmap=f"{_COLOURS}_r", vmin=0, vmax=1, interpolation="nearest",
            extent=(0, len(sensors.starts), len(picture), 0),
        )  # fmt: skip
        ax.set_xlabel("sample")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if named:
            names = [sensors.name(presence, sensor) for sensor in range(count)]
            ax.set_yticks(np.arange(count) + 0.5, names)
        else:
            ax.set_ylabel(f"{count} sensors")
            ax.set_yticks([])
        _scale(ax, image, "share there")
        return png_bytes(figure)


def _draw_places(sensors: Sensors, places: np.ndarray, presence: Presence, width: float) -> bytes:
    labels = [labelled(axis, sensors.units) for axis in sensors.axes]
    with house_style():
        figure = new_figure(width, 2.4 if len(labels) == 1 else 4.0)
        ax = figure.add_subplot()
        ax.set_xlabel(labels[0])
        if len(labels) == 1:
            ax.vlines(places[:, 0], 0, presence.missing, color=TRUTH_COLOUR, lw=1.2)
            ax.plot(places[:, 0], presence.missing, "o", color=TRUTH_COLOUR, ms=5)
            ax.set_ylim(-0.03, 1.03)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0))
            ax.set_ylabel("share missing")
        else:
            image = ax.scatter(
                places[:, 0], places[:, 1], c=presence.missing, cmap=_COLOURS, vmin=0, vmax=1,
                s=36, edgecolors="black", linewidths=0.5,
            )  # fmt: skip
            ax.set_ylabel(labels[1])
            ax.set_aspect("equal", adjustable="datalim")
            _scale(ax, image, "share missing")
        return png_bytes(figure)


def _scale(ax: Axes, image: object, label: str) -> None:
    bar = ax.figure.colorbar(image, ax=ax, label=label, fraction=0.046, pad=0.03)  # type: ignore[arg-type]
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
