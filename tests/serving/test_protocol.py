"""Requests are untrusted: what fits is read exactly, all else is refused in one line."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mno.core.errors import InputError
from mno.serving.protocol import JSON, NPZ, UnsupportedError, decode, encode, media_type

LIMIT = 2**20


def npz(**fields: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **fields)
    return file.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=5)))
@settings(max_examples=50, deadline=None)
def test_an_archive_comes_back_bit_for_bit(array):
    for body in (npz(a=array), npz(a=np.asfortranarray(array))):
        found = decode(body, NPZ, {"steps": "3"}, LIMIT)
        assert found.steps == 3
        assert np.array_equal(found.inputs["a"], array, equal_nan=True)
    again = decode(encode({"a": array}, NPZ, {}), NPZ, {}, LIMIT)
    assert np.array_equal(again.inputs["a"], array, equal_nan=True)


def test_packed_archives_are_read_too():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros((3, 4)))
    assert decode(file.getvalue(), NPZ, {}, LIMIT).inputs["a"].shape == (3, 4)


def test_json_names_inputs_and_steps_and_null_is_missing():
    body = json.dumps({"inputs": {"a": [[1, None]], "b": [0.5]}, "params": {"steps": 20}})
    found = decode(body.encode(), JSON, {}, LIMIT)
    assert found.steps == 20
    assert np.array_equal(found.inputs["a"], [[1.0, np.nan]], equal_nan=True)
    assert found.inputs["b"].tolist() == [0.5]


def test_json_is_answered_with_null_for_what_is_not_finite():
    content = json.loads(encode({"a": np.array([1.5, np.nan], np.float32)}, JSON, {"model": "m/1"}))
    assert content == {"predictions": {"a": [1.5, None]}, "model": "m/1"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', b'{"inputs": 3}', b'{"inputs": {"a": "text"}}',
        b'{"inputs": {"a": [[1, 2], [3]]}}', b'{"inputs": {"a": [NaN]}}', b'{"instances": [1]}',
        b'{"inputs": {"a": {"b": 1}}}', b'{"inputs": {"a": [1]}, "params": {"steps": -1}}',
        b'{"inputs": {"a": [1]}, "params": {"steps": 1.5}}', b"[" * 100_000,
        b'{"inputs": {"a": [1]}, "params": {"steps": true}}', b'{"inputs": {}, "more": 1}',
        b'{"inputs": {"a": [1]}, "params": [1]}', b"\xff\xfe", b'{"inputs": {"a": [1e999]}}x',
    ],
)  # fmt: skip
def test_json_that_does_not_fit_is_refused(body):
    with pytest.raises(InputError) as refused:
        decode(body, JSON, {}, LIMIT)
    assert "expected" in str(refused.value)


def claims(shape: str) -> bytes:
    """An array file whose header claims another shape than it has."""
    good = npy(np.zeros(4, np.float32))
    return good.replace(b"(4,)", shape.encode().ljust(4))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"PK nonsense", "no archive"),
        (npz(a=np.zeros(3))[:-10], "no archive"),
        (archive({"a.npy": npy(np.array([{}], object))}), "expected numbers"),
        (archive({"a.npy": npy(np.array(["text"]))}), "expected numbers"),
        (archive({"a.npy": b"nothing of the kind"}), "no archive"),
        (archive({"a.npy": claims("(9,)")}), "does not fit its length"),
        (archive({"bomb.npy": npy(np.zeros(2**20))}, zipfile.ZIP_DEFLATED), "unpacks to"),
        (archive({f"{i}.npy": b"" for i in range(101)}), "members"),
        (archive({"a.npy": npy(np.zeros((1,) * 9))}), "does not fit"),
    ],
)
def test_archives_that_do_not_fit_are_refused(body, why):
    with pytest.raises(InputError, match=why):
        decode(body, NPZ, {}, LIMIT)


@pytest.mark.parametrize("steps", ["0x3", "-1", "1e3", "٣", "9999999", "nan"])
def test_steps_are_whole_numbers(steps):
    with pytest.raises(InputError, match="whole number"):
        decode(npz(a=np.zeros(3)), NPZ, {"steps": steps}, LIMIT)


def test_other_kinds_of_content_are_not_known():
    assert media_type(None) == JSON
    assert media_type("application/json; charset=UTF-8") == JSON
    for other in ("text/csv", "application/json; charset=latin-1", "application/octet-stream"):
        with pytest.raises(UnsupportedError):
            media_type(other)


@given(st.binary(max_size=400), st.sampled_from([JSON, NPZ]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(body, kind):
    try:
        decode(body, kind, {}, LIMIT)
    except InputError as error:
        assert "\n" not in str(error) or kind == NPZ
