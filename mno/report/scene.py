"""A picture of bodies in space, cut open towards who looks, coloured by their readings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from mno.core.bodies import Body
from mno.report import style

Colours = Mapping[Body, tuple[float, ...]]
Lines = list[tuple[np.ndarray, bool]]

_TOWARDS = np.array([-1.0, 0.8, -0.55])  # who looks
_BACK = _TOWARDS / np.linalg.norm(_TOWARDS)
_RIGHT = np.cross(-_BACK, [0.0, 1.0, 0.0]) / np.linalg.norm(np.cross(_BACK, [0.0, 1.0, 0.0]))
_UP = np.cross(_RIGHT, -_BACK)
_SHADES = (0.86, 1.0, 0.74)  # of the faces across x, y and z
_LININGS = ("#b98f76", "#e6dccb", "#9aa5ad", "#cfc3d6")
_PLAIN = "#bdbdbd"
_TOUCHING = 1e-9  # m
_ORDER = ("piece", "zone", "sensor", "lining")
_ON = tuple((x, y, "center", "center") for x, y in ((0, 0), (0, 12), (0, -12), (-20, 0), (20, 0)))
_BELOW = ((0, -4, "center", "top"),)
_BESIDE = (
    (7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"),
    (0, -7, "center", "top"), (6, 6, "left", "bottom"), (6, -6, "left", "top"),
    (-6, 6, "right", "bottom"), (-6, -6, "right", "top"), (0, 20, "center", "bottom"),
)  # fmt: skip
_WHITE = [withStroke(linewidth=2.5, foreground="white")]


def draw_scene(
    bodies: Sequence[Body], values: Mapping[Body, float], label: str, notes: Mapping[Body, str]
) -> tuple[bytes, bytes]:
    """Return the picture as PNG, for a page and for a telephone.

    Bodies with values are coloured, by a scale with the label; on those without a note their names
    are written. Linings that would hide zones are left out.
    """
    known = [value for value in values.values() if np.isfinite(value)]
    norm = Normalize(min(known, default=0.0), max(known, default=1.0))
    kinds = list(dict.fromkeys(body.name for body in bodies if body.kind == "lining"))
    linings = {name: to_rgb(_LININGS[n % len(_LININGS)]) for n, name in enumerate(kinds)}
    colours: dict[Body, tuple[float, ...]] = {}
    for body in bodies:
        coloured = np.isfinite(values.get(body, np.nan))
        hot = colormaps["inferno"](0.08 + 0.87 * norm(values[body])) if coloured else to_rgb(_PLAIN)
        colours[body] = linings[body.name] if body.kind == "lining" else tuple(hot[:3])
    solids, lines = _seen(bodies), list(_edges(bodies))
    ends = np.concatenate([_flat(_corners(body)) for body in bodies if body.kind != "sensor"])
    low, high = ends.min(axis=0) - 0.02, ends.max(axis=0) + 0.02

    def draw(figure: Figure) -> None:
        ax, narrow = figure.add_subplot(), figure.get_figwidth() < style.WIDE
        ax.set_axis_off()
        ax.set_aspect("equal")
        ax.set_xlim(low[0], high[0])
        ax.set_ylim(low[1], high[1])
        _draw_solids(ax, solids, colours)
        for ends, behind in lines:
            ax.plot(*_flat(ends).T, color="#444", lw=0.7, ls=":", zorder=1.5 if behind else 3)
        place: dict[str, Any] = {"location": "bottom", "aspect": 40} if narrow else {"shrink": 0.7}
        figure.colorbar(ScalarMappable(norm, colormaps["inferno"]), ax=ax, label=label, **place)
        figure.legend(
            handles=[Patch(color=c, label=name.replace("_", " ")) for name, c in linings.items()],
            loc="outside lower left", ncols=4, frameon=False, handlelength=1.0,
        )  # fmt: skip
        figure.draw_without_rendering()  # so that things are where they will be
        _write(ax, bodies, colours, {} if narrow else notes)

    across, up = high - low
    heights = min(7.0, 5.9 * up / across + 0.5), min(6.0, 4.0 * up / across + 1.2)
    return style.on_page_and_telephone(draw, heights)


def _hull(bodies: Sequence[Body]) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest and the farthest coordinate of all zones along each axis."""
    corners = np.concatenate([_corners(body) for body in bodies if body.kind == "zone"])
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.where(_BACK > 0, high, low), np.where(_BACK > 0, low, high)


def _seen(bodies: Sequence[Body]) -> list[Body]:
    """Return pieces, and linings that do not hide zones, the farthest first."""
    near, _ = _hull(bodies)
    left = []
    for body in bodies:
        nearer = (_corners(body) - near) * np.sign(_BACK) >= -_TOUCHING
        hides = body.kind == "lining" and nearer.all(axis=0).any()
        if body.kind in ("lining", "piece") and not hides:
            left.append(body)
    ordered: list[Body] = []
    while left:
        free = (b for b in left if not any(_is_behind(other, b) for other in left if other != b))
        ordered.append(next(free, left[0]))
        left.remove(ordered[-1])
    return ordered


def _is_behind(one: Body, other: Body) -> bool:
    """Whether a box may be hidden by another: farther along some axis, nearer along none."""
    farther = nearer = False
    for a, sign in enumerate(_BACK):
        below = one.corner[a] + one.size[a] <= other.corner[a] + _TOUCHING
        above = other.corner[a] + other.size[a] <= one.corner[a] + _TOUCHING
        farther |= below if sign > 0 else above
        nearer |= above if sign > 0 else below
    return farther and not nearer


def _flat(places: np.ndarray) -> np.ndarray:
    """Return places `(..., 3)` as they are seen, `(..., 2)`."""
    return np.stack([places @ _RIGHT, places @ _UP], axis=-1)


def _corners(body: Body) -> np.ndarray:
    """Return the corners of a box, shape `(8, 3)`, x changing slowest."""
    return np.asarray(body.corner) + np.indices((2, 2, 2)).reshape(3, 8).T * np.asarray(body.size)


def _draw_solids(ax: Axes, solids: Sequence[Body], colours: Colours) -> None:
    for body in solids:
        corners, order = _corners(body).reshape(2, 2, 2, 3), 1 + (body.kind == "piece")
        for a, shade in enumerate(_SHADES):
            face = _flat(np.take(corners, int(_BACK[a] > 0), axis=a)).reshape(4, 2)[[0, 1, 3, 2]]
            colour = shade * np.array(colours[body])
            ax.fill(*face.T, facecolor=colour, edgecolor=0.6 * colour, lw=0.5, zorder=order)


def _edges(bodies: Sequence[Body]) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield edges of zones and lines from sensors to the floor, and whether each is behind all."""
    _, far = _hull(bodies)
    for body in bodies:
        corners = _corners(body)
        if body.kind == "sensor" and body.corner[1] > far[1]:
            yield np.array([body.corner, (body.corner[0], far[1], body.corner[2])]), False
        if body.kind == "zone":
            for i, step in product(range(8), (1, 2, 4)):
                if not i & step:
                    ends = corners[[i, i + step]]
                    yield ends, bool(np.isclose(ends, far).all(axis=0).any())


def _write(ax: Axes, bodies: Sequence[Body], colours: Colours, notes: Mapping[Body, str]) -> None:
    """Mark sensors, and write what bodies are called; of sensors where there is room."""
    taken: list[Bbox] = []
    for body in bodies:
        if body.kind == "sensor":
            at = _flat(np.array(body.corner))
            ax.plot(*at, "o", ms=6, mfc=colours[body], mec="white", mew=1.2, zorder=5)
            pixels = ax.transData.transform(at)
            taken.append(Bbox([pixels - 6, pixels + 6]))
    for body in sorted(bodies, key=lambda body: _ORDER.index(body.kind)):
        if body.kind == "lining":
            continue
        place, ways = np.add(body.corner, 0.5 * np.array(body.size)), _BESIDE
        if body.kind == "zone":
            place[:2], ways = body.corner[:2], _BELOW
        elif body.kind == "piece":  # on its upper face
            place[1], ways = body.corner[1] + body.size[1], _ON
        said = notes.get(body, body.name.replace("_", " "))
        text = ax.annotate(
            said, tuple(_flat(place)), (0, 0), textcoords="offset points", zorder=6,
            path_effects=_WHITE, style="italic" if body.kind == "zone" else "normal",
        )  # fmt: skip
        for x, y, across, up in ways:
            text.set(position=(x, y), ha=across, va=up)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        else:
            x, y, across, up = ways[0]
            text.set(position=(x, y), ha=across, va=up)
        taken.append(text.get_window_extent())
