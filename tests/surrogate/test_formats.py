"""Saved models are read as they were written, and no other format than the present one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mno.core.errors import InputError
from mno.data.normalise import Normaliser
from mno.nn import MambaMixer
from mno.surrogate.surrogate import (
    CROSS_ORDER,
    DESCRIPTION_FILE,
    FORMAT,
    FORMAT_OF_SCALES,
    WEIGHTS_FILE,
    Surrogate,
)

SAVED = Path(__file__).parent / "formats"


@pytest.mark.parametrize("folder", sorted(path.name for path in SAVED.iterdir()))
def test_a_saved_model_predicts_what_it_did_and_when_it_is_saved_again(folder, tmp_path):
    surrogate = Surrogate.load(SAVED / folder)
    expected = dict(np.load(SAVED / folder / "prediction.npz"))
    inputs = {  # a state is given and predicted under one name
        name: expected.pop(f"given {name}" if name in surrogate.description.outputs else name)
        for name in surrogate.description.given_names
    }
    predicted = surrogate.predict(inputs)
    assert sorted(predicted) == sorted(expected)
    for name, field in predicted.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(field, expected[name], rtol=1e-4, atol=1e-5 * scale)
    surrogate.save(tmp_path)
    again = Surrogate.load(tmp_path)
    assert again.description == surrogate.description
    for name, field in again.predict(inputs).items():
        np.testing.assert_array_equal(field, predicted[name])


@pytest.mark.parametrize("other", [FORMAT - 1, FORMAT_OF_SCALES + 1])
def test_another_format_is_refused_with_the_remedy(tmp_path, other):
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps({"format": other}))
    with pytest.raises(InputError, match="use the version of mno that wrote it"):
        Surrogate.load(tmp_path)


def test_fields_keep_the_order_that_the_weights_know_them_in(tmp_path):
    description = replace(
        Surrogate.load(SAVED / "grid").description,
        inputs={"source": "1", "conductivity": "1"},
        outputs={"velocity": "1", "pressure": "1"},
        normaliser=Normaliser(
            dict.fromkeys(("source", "conductivity", "velocity", "pressure"), 0.0),
            dict.fromkeys(("source", "conductivity", "velocity", "pressure"), 1.0),
        ),
    )
    saved = Surrogate(description, description.build())
    saved.save(tmp_path)
    draw = np.random.default_rng(0)
    inputs = {name: draw.standard_normal((2, 5, 6)) for name in description.inputs}
    expected, loaded = saved.predict(inputs), Surrogate.load(tmp_path).predict(inputs)
    assert list(loaded) == ["velocity", "pressure"]
    assert all(np.array_equal(loaded[name], expected[name]) for name in expected)


def test_a_model_saved_before_the_order_of_cross_changed_answers_as_it_did(tmp_path):
    saved = Surrogate.load(SAVED / "grid").description
    description = replace(saved, model=saved.model.model_copy(update={"path": ["cross"]}))
    model = Surrogate(description, description.build())
    draw = np.random.default_rng(0)
    inputs = {name: draw.standard_normal((2, 5, 6)) for name in description.inputs}
    expected = model.predict(inputs)
    model.save(tmp_path)
    content = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    assert content.pop("cross_order") == CROSS_ORDER
    for name, field in Surrogate.load(tmp_path).predict(inputs).items():
        np.testing.assert_array_equal(field, expected[name])

    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(content))
    weights = load_file(tmp_path / WEIGHTS_FILE)
    for name, weight in weights.items():  # each axis there and back
        if name.rpartition(".")[2] in MambaMixer.directed:
            rows, columns, rows_back, columns_back = weight.chunk(4)
            weights[name] = torch.cat([rows, rows_back, columns, columns_back])
    save_file(weights, tmp_path / WEIGHTS_FILE)
    for name, field in Surrogate.load(tmp_path).predict(inputs).items():
        np.testing.assert_array_equal(field, expected[name])
