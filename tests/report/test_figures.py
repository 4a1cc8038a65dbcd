"""Figures: real pictures, the same bytes each time, for fields of any dimension."""

import io
import math
from dataclasses import replace

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from mno.core.fields import Axis, Field
from mno.data.reading import Schema
from mno.evaluation.result import Example
from mno.report.examples import _at_own_times, _output_panels, draw_example
from mno.report.language import Words
from mno.report.panels import Panel, draw_panel, labelled, pictures, placed, plane, scale
from mno.report.sections.figures import _error_map
from mno.report.sections.training import losses
from mno.report.style import house_style, new_figure, png_bytes
from tests.evaluation.made import figures_of

WORDS = Words.of("en", "figures")


def size(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    assert len(image.convert("RGB").getcolors(2**24) or ()) > 10, "an empty picture"
    return image.size


def axis(name, points):
    return Axis(name, "s" if name == "time" else "m", name, np.arange(points) + 0.5, (0, points))


def example_of(dims, shape):
    given = Field("velocity_0", "m s-1", "initial velocity", "input", dims)
    asked = Field("velocity", "m s-1", "velocity", "output", dims)
    axes = tuple(axis(name, length) for name, length in zip(dims, shape, strict=True))
    truth = np.random.default_rng(0).normal(size=shape)
    return Example(
        ("best",), 3, 0.1, {"velocity_0": truth}, {"velocity": truth}, {"velocity": 1.1 * truth}
    ), Schema("burgers", (given, asked), axes)


def test_all_figures_are_pictures_with_words(figures):
    assert [figure.name for figure in figures] == [
        "example_median", "example_worst", "error_map", "loss_curves",
    ]  # fmt: skip
    for figure in figures:
        wider = size(figure.png)[0] > size(figure.narrow)[0]
        assert wider or figure.name == "error_map"  # of a single field
        assert figure.title and figure.caption and figure.alt


def test_the_same_evaluation_gives_the_same_bytes_whatever_the_users_settings(
    figures, evaluation, results
):
    one_example = replace(evaluation, examples=(evaluation.example("median"),))
    first = [figure.png for figure in figures if figure.name != "example_worst"]
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 20, "image.cmap": "jet"}):
        second = [figure.png for figure in figures_of(replace(results, evaluation=one_example))]
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second
    assert not any(b"matplotlib" in png.lower() for png in first)


def test_no_unit_is_taken_for_a_formula_and_powers_of_ten_are():
    with house_style():
        figure = new_figure(4, 3)
        ax = figure.add_subplot()
        ax.plot([1, 2], [1e-4, 1.0], label=r"$\foo$")
        ax.set(yscale="log", title="$x^$", ylabel=labelled("price", "$/MWh and $/t"))
        ax.legend()
        assert size(png_bytes(figure))
    assert not ax.yaxis.label.get_parse_math()
    assert all(tick.get_parse_math() for tick in ax.get_yticklabels())


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        (("x",), (16,)), (("x", "y"), (8, 6)), (("x", "y", "z"), (8, 6, 5)),
        (("time", "x"), (4, 16)), (("time", "x", "y"), (4, 8, 6)),
    ],
)  # fmt: skip
def test_fields_of_any_dimension_are_drawn(dims, shape):
    example, schema = example_of(dims, shape)
    assert size(draw_example(example, schema, WORDS)[0])[0] > 800


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("across", ["x", "y"])
def test_points_on_one_line_are_drawn(across):
    points = np.arange(5.0)
    given = {name: points * (name == across) for name in "xy"}
    coordinates = [Field(n, "m", n, "coordinate", ("point",)) for n in "xy"]
    field = Field("t", "K", "temperature", "output", ("point",))
    schema = Schema("plant", (*coordinates, field), (axis("point", 5),), (), {})
    panel = Panel("t", "t", points, schema.axes, scale(points), "viridis")
    (shown,) = placed([panel], schema, given)
    assert all(low < high for low, high in (a.extent for a in shown.axes))
    assert size(pictures([shown], (3, 1))[0])[0] > 200


def test_the_mean_that_the_largest_error_is_compared_with_is_of_what_is_known(evaluation):
    error = np.full((8, 8), np.nan)
    error[:2], error[0, 0] = 1.0, 2.0
    field = Field("pressure", "1", "pressure", "output", ("x", "y"), gaps=True)
    schema = Schema("plant", (field,), (axis("x", 8), axis("y", 8)), (), {})
    shown = _error_map(replace(evaluation, error_maps={"pressure": error}), schema, WORDS)
    assert f"{WORDS.number(2 / np.nanmean(error), 2)} times" in shown.caption


def test_a_sample_with_times_of_its_own_is_drawn_at_them(monkeypatch):
    example, schema = example_of(("time", "x", "y"), (4, 8, 6))
    elapsed = Field("elapsed", "s", "time since the first frame", "times", ("time",))
    example = replace(
        example, inputs={**example.inputs, "elapsed": np.array([0.0, 1.0, 7.0, 42.0])}
    )
    own = replace(schema, fields=(*schema.fields, elapsed))
    for of, said in ((schema, "time = 3.5 s"), (own, "time = 42 s")):
        shown = _at_own_times(example, of)
        for panel in _output_panels(example, shown.outputs[0], shown, WORDS):
            assert said in panel.title


def test_time_is_cut_at_the_end_and_a_third_axis_in_the_middle():
    values = np.arange(4 * 3 * 2 * 5).reshape(4, 3, 2, 5)
    cut, kept, words = plane(values, (axis("time", 4), axis("x", 3), axis("y", 2), axis("z", 5)))
    np.testing.assert_array_equal(cut, values[-1, :, :, 2])
    assert [a.name for a in kept] == ["x", "y"]
    assert words == "time = 3.5 s, z = 2.5 m"


def test_scales_ignore_what_is_no_number_and_are_never_of_zero_width():
    assert scale(np.array([1.0, np.nan, 3.0])) == (1, 3)
    assert scale(np.array([-1.0, 3.0]), symmetric=True) == (-3, 3)
    for constant in (np.zeros(3), np.full(3, 7.0), np.full(3, np.nan)):
        low, high = scale(constant)
        assert low < high


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_degenerate_predictions_are_drawn(value):
    example, schema = example_of(("x", "y"), (8, 6))
    example.prediction["velocity"] = np.full((8, 6), value)
    example.truth["velocity"] = np.zeros((8, 6))
    size(draw_example(example, schema, WORDS)[0])


@pytest.mark.parametrize("factor", [1.5, 30.0])
def test_a_prediction_beyond_the_truth_is_on_the_scale_or_the_scale_says_so(factor):
    example, schema = example_of(("x", "y"), (8, 6))
    field = schema.outputs[0]
    example.prediction["velocity"] = factor * example.truth["velocity"]
    truth, prediction, _ = _output_panels(example, field, schema, WORDS)
    inside = prediction.limits[1] >= prediction.values.max()
    assert truth.limits == prediction.limits and inside == (factor < 2)
    ax = new_figure(3, 2).add_subplot()
    draw_panel(ax, prediction)
    (bar,) = [image.colorbar for image in ax.images]
    assert bar.extend == ("neither" if inside else "both")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("errors", [[0.1], [np.nan, np.nan], [0.0, 0.0]])
def test_loss_curves_of_short_or_failed_training_are_drawn(errors):
    epochs = [
        {"epoch": i, "train_relative_l2": e, "validation_relative_l2": e, "learning_rate": 1e-3}
        for i, e in enumerate(errors, start=1)
    ]
    for best in (1, None):
        size(losses({"best_epoch": best, "epochs": epochs}, Words.of("en", "training")).png)


def test_values_without_neighbours_are_marked_between_gaps():
    values = np.ma.masked_invalid([1.0, math.nan, 2.0, math.nan, 3.0, 4.0])
    axis = Axis("x", "m", "x", np.arange(6.0), (0.0, 5.0))
    ax = new_figure(3, 2).add_subplot()
    draw_panel(ax, Panel("a", "a", values, (axis,), (0.0, 5.0), "black"))
    assert [line.get_xdata().tolist() for line in ax.lines[1:]] == [[0.0, 2.0]]
    assert not ax.texts, "gaps are no mistake"


@pytest.mark.parametrize("masked", [False, True])
def test_values_that_are_no_numbers_are_told_from_gaps(masked):
    values = np.array([[1.0, math.nan], [2.0, 3.0]])
    axes = tuple(Axis(n, "m", n, np.arange(2.0), (0.0, 2.0)) for n in "xy")
    ax = new_figure(3, 2).add_subplot()
    shown = np.ma.masked_invalid(values) if masked else values
    draw_panel(ax, Panel("a", "a", shown, axes, (0.0, 5.0), "viridis"))
    assert bool(ax.texts) != masked


@pytest.mark.parametrize(
    ("known", "shown"), [(5, 4.5), (3, 2.5), (0, 4.5)], ids=["all", "some", "none"]
)
def test_the_last_frame_with_a_true_value_is_shown(known, shown):
    example, schema = example_of(("time", "x", "y"), (5, 6, 6))
    field = replace(schema.outputs[0], gaps=True)
    example.truth["velocity"][known:] = math.nan
    truth, prediction, error = _output_panels(example, field, schema, WORDS)
    assert {truth.title, prediction.title, error.title} == {
        f"{what} (time = {shown} s)" for what in ("Truth", "Prediction", "Error")
    }
    frame = example.prediction["velocity"][int(shown)]
    assert np.array_equal(prediction.values, frame)
    if not known:  # the prediction has a scale, though there is no truth
        assert prediction.limits == scale(frame)
