"""Models as ONNX files: what a runtime answers that knows neither torch nor this project."""

import json
import subprocess
import sys
import venv
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from flows.cli import main
from mno.core.absent import Absent
from mno.core.batch import Batch
from mno.core.errors import InputError, MnoError
from mno.core.forecast import TaskConfig
from mno.core.points import Points
from mno.core.readings import to_points
from mno.evaluation.trust import calibrate
from mno.nn import Grid, build_operator
from mno.nn.backbones import BACKBONES
from mno.nn.config import ModelConfig
from mno.nn.mixers import MIXERS
from mno.portable.graph import BEHIND, ELAPSED, INTERVAL, STATE, graph_of
from mno.portable.onnx_file import write_onnx
from mno.serving.plant import Observer, Plant
from mno.surrogate.following import Run
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from mno.training.problem import describe
from tests.evaluation.small_lines import solved_split
from tests.support import furnace_runs

ASK = """
import sys
sys.modules |= {"torch": None, "mno": None}
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [one.name for one in session.get_outputs()]
with np.load(sys.argv[2]) as given:
    np.savez(sys.argv[3], **dict(zip(names, session.run(None, dict(given)))))
"""


def asked(path, given, folder, python=sys.executable):
    """Ask a file in a process of its own."""
    np.savez(folder / "given.npz", **{n: np.asarray(v, np.float32) for n, v in given.items()})
    where = [str(path), str(folder / "given.npz"), str(folder / "told.npz")]
    subprocess.run([python, "-I", "-c", ASK, *where], check=True, timeout=120)
    with np.load(folder / "told.npz") as told:
        return dict(told)


@cache
def darcy():
    """A latent model of fields that has learned nothing, its trust, and problems."""
    train, validation = (
        solved_split(name, "darcy", count, seed, 16)
        for name, count, seed in (("train", 12, 0), ("validation", 20, 1))
    )
    model = ModelConfig.model_validate(
        {"backbone": "latent", "mixer": "own", "width": 8, "layers": 2, "heads": 2, "patch": 2}
    )
    torch.manual_seed(0)
    description = describe(train, model, TaskConfig())
    surrogate = Surrogate(description, description.build())
    return surrogate, calibrate(surrogate, train, validation, TrustConfig(level=0.6), "0" * 64, 4)


MODELS = {
    "fields": darcy,
    "readings": furnace_runs.trusted,
    "both": lambda: furnace_runs.trusted("both"),
}


def problems(kind, count=3):
    """What a model is given, as a dataset has it."""
    surrogate, _ = MODELS[kind]()
    if kind == "fields":
        split = solved_split("test", "darcy", count, 2, 16)
        return surrogate.description.given({n: np.asarray(a) for n, a in split.fields.items()})
    whole = furnace_runs.furnace()
    runs = []
    for number in range(count):
        drawn = whole.sample(np.random.default_rng([5, number]))
        runs.append({**drawn, **whole.solve(drawn)})
    fields = {f.name: np.stack([run[f.name] for run in runs]) for f in whole.fields}
    frames = {n: surrogate.description.frames_given(n) for n in graph_of(*MODELS[kind]()).given}
    return {n: fields[n] if k is None else fields[n][:, :k] for n, k in frames.items()}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    surrogate, trust = MODELS[request.param]()
    path = tmp_path_factory.mktemp("portable") / f"{request.param}.onnx"
    found = write_onnx(graph_of(surrogate, trust), path, {"title": "a model"}, 20)
    return request.param, path, found


def test_it_answers_as_the_model_with_bounds_and_flag_where_there_is_no_torch(exported, tmp_path):
    kind, path, _ = exported
    surrogate, trust = MODELS[kind]()
    given, description = problems(kind), surrogate.description
    first = next(iter(description.fields))
    given[first] = given[first].copy()
    given[first][-1] *= 5.0  # the last is unlike the training data
    told = asked(path, given, tmp_path)
    for name, values in surrogate.predict(given).items():
        found = told.pop(f"{name}_predicted" if name in given else name)
        assert found.shape == values.shape
        assert np.abs(found - values).max() <= 1e-5 * np.abs(values).max()
    at_points = given
    if description.readings:
        at_points = to_points(description.readings, given, description.cells)
    assessed = trust.assess(description, at_points, surrogate.predict(at_points))
    np.testing.assert_allclose(told.pop("training_distance"), assessed.distance, rtol=1e-5)
    assert told.pop("unlike_training").tolist() == assessed.unlike_training.tolist()
    assert assessed.unlike_training[-1]
    for name, measures in assessed.bounds.items():
        for measure, bound in measures.items():
            found = told.pop(f"{name}_{measure}_bound")
            expected = bound if found.ndim > 1 else bound[:, 0]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    if not isinstance(assessed.residual, Absent):
        np.testing.assert_allclose(told.pop("equation_residual"), assessed.residual, rtol=1e-4)
    assert not told


def test_its_metadata_say_units_and_axes(exported):
    kind, path, found = exported
    meta = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert meta["title"] == "a model"
    given, told = json.loads(meta["given"]), json.loads(meta["told"])
    assert given == found["given"]
    if kind == "fields":
        assert given == {"permeability": {"unit": "1", "axes": ["sample", "x", "y"]}}
    else:
        assert given["setpoint"] == {"unit": "K", "axes": ["sample", "time", "zone"]}
        assert told["core_temperature_rmse_bound"] == {"unit": "K", "axes": ["sample", "time"]}
    assert onnx.load(path).ir_version <= 10


def test_an_observer_is_followed_reading_by_reading(tmp_path):
    surrogate, trust = furnace_runs.observer()
    graph = graph_of(surrogate, trust)
    write_onnx(graph, tmp_path / "observer.onnx", {}, 18)
    session = onnxruntime.InferenceSession(tmp_path / "observer.onnx")
    constant, rows = furnace_runs.log_of()
    plant = Observer(surrogate, trust, "0" * 64, "it")
    following = Plant(plant, plant.begin(constant))
    run = Run(surrogate, {n: np.array(v, np.float32) for n, v in constant.items()})
    memory = np.zeros((1, *graph.sizes(STATE)), np.float32)
    for number, row in enumerate(rows):
        cells = {k: None if v != v else v for k, v in row.items() if k != "time"}
        watched = following.take(row["time"], cells)
        given = following._given({k: v for k, v in cells.items() if v is not None})
        feed = {n: np.asarray(v, np.float32)[None] for n, v in {**run.constant, **given}.items()}
        feed |= {INTERVAL: np.ones(1, np.float32), ELAPSED: np.full(1, number, np.float32)}
        told = dict(zip(graph.told, session.run(None, feed | {STATE: memory}), strict=True))
        memory = told[BEHIND]
        for name, values in run.told(row["time"], given).items():
            unit = surrogate.description.normaliser.std[name]
            assert np.abs(told[name][0] - values).max() <= 1e-5 * unit
            band = watched["bands"][name]
            found = told[f"{name}_max_error_bound"][0]
            assert found == pytest.approx(np.inf if band is None else band, rel=1e-5)


def test_scattered_points_are_given_with_their_places(tmp_path):
    train = solved_split("train", "darcy_ring", 4, 0, 8)
    model = ModelConfig.model_validate({"width": 8, "layers": 1, "path": "bidirectional"})
    torch.manual_seed(0)
    description = describe(train, model, TaskConfig())
    surrogate = Surrogate(description, description.build())
    trust = calibrate(surrogate, train, train, TrustConfig(level=0.6), "0" * 64, 4)
    graph, path = graph_of(surrogate, trust), tmp_path / "ring.onnx"
    write_onnx(graph, path, {}, 20)
    given = description.given({n: np.asarray(a, np.float32) for n, a in train.fields.items()})
    told = onnxruntime.InferenceSession(path).run(None, given)
    expected = surrogate.predict(given)
    assert list(graph.told) == list(expected)  # and no bounds
    for name, values in zip(graph.told, told, strict=True):
        assert np.abs(values - expected[name]).max() <= 1e-5 * np.abs(expected[name]).max()


@pytest.mark.parametrize(
    ("opset", "message"), [(9, "--opset 9: expected 18 to 22"), (30, "--opset 30: expected 18")]
)
def test_an_opset_that_does_not_fit_is_refused(tmp_path, opset, message):
    with pytest.raises(InputError, match=message):
        write_onnx(graph_of(*darcy()), tmp_path / "a.onnx", {}, opset)
    assert not list(tmp_path.iterdir())


def test_a_fourier_neural_operator_is_refused():
    pytest.importorskip("neuralop")
    train = solved_split("train", "darcy", 2, 0, 16)
    description = describe(train, ModelConfig(backbone="fno", width=4, layers=1), TaskConfig())
    with pytest.raises(InputError, match="backbone=fno multiplies complex numbers"):
        graph_of(Surrogate(description, description.build()), Absent("estimate.older"))


def test_a_file_that_would_answer_otherwise_is_not_written(tmp_path, monkeypatch):
    graph = graph_of(*darcy())
    monkeypatch.setattr("mno.portable.onnx_file.TOLERANCE", 1e-12)
    with pytest.raises(MnoError, match="would answer otherwise than the model"):
        write_onnx(graph, tmp_path / "a.onnx", {}, 20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("raised", "expected", "said"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (LookupError("oh"), MnoError, "no form in.*oh"),
    ],
)
def test_what_stops_the_exporter_is_said(tmp_path, monkeypatch, raised, expected, said):
    def stop(*_):
        raise raised

    graph = graph_of(*darcy())
    monkeypatch.setattr(graph, "forward", stop)
    with pytest.raises(expected, match=said):
        write_onnx(graph, tmp_path / "a.onnx", {}, 20)
    assert not list(tmp_path.iterdir())


def run_here(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["mno", "export", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr()


def test_the_command_writes_a_file_once(tmp_path, monkeypatch, capsys):
    model, path = furnace_runs.saved_observer(tmp_path), tmp_path / "plant.onnx"
    code, said = run_here(monkeypatch, capsys, model, path, "--json")
    assert code == 0, said.err
    answer = json.loads(said.out)
    assert answer["largest_difference"] <= 1e-5 and path.is_file()
    meta = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert meta["title"] == "batch_furnace" and len(meta["model_sha256"]) == 64
    code, said = run_here(monkeypatch, capsys, model, path)
    assert (code, said.err.count("\n")) == (2, 1)
    assert "exists already; name another, or replace it with --force" in said.err
    code, said = run_here(monkeypatch, capsys, tmp_path, tmp_path / "none.onnx")
    assert code == 2 and "does not hold a readable model" in said.err
    for option in ("--fmi", "--sample"):
        code, said = run_here(monkeypatch, capsys, model, tmp_path / "none.onnx", option, "3")
        assert code == 2 and f"{option} means nothing for {tmp_path}/none.onnx" in said.err


class OnDomain(nn.Module):
    """An operator where it is asked, and a number for each sample."""

    def __init__(self, operator, domain):
        super().__init__()
        self.operator, self.domain = operator, domain

    def forward(self, a, c):
        return self.operator(Batch({"a": a}, self.domain, {"c": c})).fields["p"]


KINDS = [
    *({"backbone": "plain", "mixer": mixer} for mixer in MIXERS),
    *({"backbone": name, "mixer": "own"} for name in BACKBONES if name != "fno"),
    *({"mixer": m, "discretization": d} for m in ("mamba", "ssd")
      for d in ("simplified", "zoh", "trapezoidal")),
    *({"mixer": m, "path": p} for m in ("mamba", "ssd") for p in ("cross", "hilbert", "zigzag")),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("where", ["line", "square", "cube", "points"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))
def test_every_backbone_and_mixer_has_a_form_in_onnx(tmp_path, kind, where):
    dims = {"line": 1, "square": 2, "cube": 3, "points": 2}[where]
    if where == "points":
        grids = kind.get("path") in ("cross", "zigzag")
        if grids or kind.get("backbone") in ("latent", "unet", "galerkin"):
            pytest.skip("it is for grids")
        torch.manual_seed(3)
        domain, shape = Points(torch.rand(40, 2), reference_spacing=0.1), (40,)
        kind = kind if "path" in kind else {**kind, "path": "bidirectional"}
    else:
        shape = {1: (72,), 2: (16, 16), 3: (8, 8, 8)}[dims]
        spacing = tuple(1 / n for n in shape)
        domain = Grid(shape, spacing, spacing)
    sizes = {"width": 8, "layers": 2, "heads": 2, "modes": 3, "levels": 2, "patch": 2}
    config = ModelConfig.model_validate({**sizes, **kind})
    torch.manual_seed(0)
    operator = build_operator(config, inputs=["a"], outputs=["p"], scalars=["c"], dims=dims).eval()
    asked_of = OnDomain(operator, domain)
    given = torch.randn(2, *shape), torch.randn(2)
    any_number = {0: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.onnx.export(
            asked_of, given, input_names=["a", "c"], output_names=["p"], opset_version=20,
            dynamic_shapes=(any_number, any_number), dynamo=True, verbose=False,
        )  # fmt: skip
        more = torch.randn(5, *shape), torch.randn(5)
        expected = asked_of(*more).numpy()
    program.save(tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    found = session.run(None, {"a": more[0].numpy(), "c": more[1].numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.nightly
def test_a_stranger_asks_it_in_an_environment_with_the_runtime_alone(exported, tmp_path):
    kind, path, _ = exported
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment/bin/python"
    runtime = f"onnxruntime=={onnxruntime.__version__}"
    subprocess.run([python, "-m", "pip", "install", "-q", runtime], check=True, timeout=300)
    given, (surrogate, _) = problems(kind), MODELS[kind]()
    told = asked(path, given, tmp_path, str(python))
    for name, values in surrogate.predict(given).items():
        found = told[f"{name}_predicted" if name in given else name]
        assert np.abs(found - values).max() <= 1e-5 * np.abs(values).max()
