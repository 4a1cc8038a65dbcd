"""How arrays come in and go out: MLflow's JSON, and NumPy's `.npz` for large fields.

JSON is `{"inputs": {NAME: nested lists}, "params": {"steps": 20, "bounds": true}}`, answered by
`{"predictions": {NAME: nested lists}}` and what is known of them; `null` stands for a missing
value. An `.npz` holds the same arrays by name, the answer bounds and flags, too; the steps are in
the address, `?steps=20`, and so may `bounds=true` be. Both are untrusted: nothing is unpickled, and
nothing is unpacked that is larger than a request may be.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from mno.core.errors import InputError, MnoError

JSON = "application/json"
NPZ = "application/x-npz"

_NPY = ".npy"
_MOST_MEMBERS = 100
_PARAMS = ("steps", "bounds")
_YES = {"": False, "none": False, "false": False, "true": True}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class RefusedError(MnoError):
    """A request that is not answered, and with which HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PredictionRequest(NamedTuple):
    """What a request asks."""

    inputs: Mapping[str, np.ndarray]  # by field name, as they came
    steps: int | None = None  # frames to predict; those of the model's training if none
    bounds: bool = False  # whether JSON is to hold the bounds of each field, and of each frame


def media_type(content_type: str | None) -> str:
    """Return which of the two forms a header names, JSON without one; a `RefusedError` if none."""
    kind, _, rest = (content_type or JSON).partition(";")
    kind = kind.strip().lower()
    charset = rest.strip().lower().removeprefix("charset=").strip('"') or "utf-8"
    if kind not in (JSON, NPZ) or charset != "utf-8":
        raise RefusedError(415, f"content type {content_type!r}; expected {JSON} or {NPZ}")
    return kind


def decode(body: bytes, kind: str, address: Mapping[str, str], limit: int) -> PredictionRequest:
    """Read a request, `JSON` or `NPZ`, of at most `limit` bytes unpacked; else an `InputError`."""
    inputs, params = (_read_npz(body, limit), {}) if kind == NPZ else _read_json(body)
    said = {name: address.get(name) for name in _PARAMS} | params
    bounds = str(said["bounds"]).lower()[:40]
    if bounds not in _YES:
        raise InputError(f"bounds={bounds}; expected true or false")
    return PredictionRequest(inputs, _steps(said["steps"]), _YES[bounds])


def encode(predictions: Mapping[str, np.ndarray], kind: str, about: Mapping[str, Any]) -> bytes:
    """Write an answer of predictions and what is said about them; in an `.npz`, arrays."""
    if kind == NPZ:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{**predictions, **about})
        return file.getvalue()
    arrays = {name: np.ascontiguousarray(array) for name, array in predictions.items()}
    # What is not finite has no place in JSON; it becomes null.
    return orjson.dumps({"predictions": arrays, **about}, option=orjson.OPT_SERIALIZE_NUMPY)


def _read_json(body: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    expected = 'expected {"inputs": {NAME: numbers of shape (samples, *grid)}}'
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"the request is not JSON ({error}); {expected}, with null for missing values"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), dict):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"the request holds {found}; {expected}")
    if unknown := sorted(set(content) - {"inputs", "params"}):
        raise InputError(f"the request holds {unknown} besides inputs; expected params at most")
    params = content.get("params") or {}
    if not isinstance(params, dict) or set(params) - set(_PARAMS):
        raise InputError(
            f'params={params!r}; expected {{"steps": a whole number, "bounds": true}} at most'
        )
    return {name: _numbers(name, values) for name, values in content["inputs"].items()}, params


def _numbers(name: str, given: Any) -> np.ndarray:
    try:
        array = np.asarray(given)
        if array.dtype == object:  # null among numbers
            array = array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(
            f"field {name} is no regular array of numbers; expected nested lists of equal lengths"
        ) from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"field {name} holds {array.dtype}; expected numbers")
    return array


def _steps(given: Any) -> int | None:
    if given is None or given == "":
        return None
    text = str(given)
    if isinstance(given, bool) or not (text.isascii() and text.isdecimal()) or len(text) > 6:
        raise InputError(f"steps={text[:40]}; expected a whole number from 1 to 999999")
    return int(text)


def _read_npz(body: bytes, limit: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            _require_harmless(members, limit)
            return {
                member.filename.removesuffix(_NPY): _array(member.filename, archive.read(member))
                for member in members
            }
    except MnoError:
        raise
    except Exception as error:  # whatever a stranger's bytes may do
        raise InputError(
            f"the request is no archive of arrays ({error}); expected what numpy.savez writes"
        ) from None


def _require_harmless(members: list[zipfile.ZipInfo], limit: int) -> None:
    names = {member.filename for member in members}
    if len(members) > _MOST_MEMBERS or len(names) < len(members):
        raise InputError(
            f"the archive has {len(members)} members of {len(names)} names; expected at most "
            f"{_MOST_MEMBERS} of different names"
        )
    if (unpacked := sum(member.file_size for member in members)) > limit:
        raise InputError(
            f"the archive unpacks to {unpacked} bytes; expected at most {limit}: ask for fewer "
            "samples at a time"
        )


def _array(name: str, content: bytes) -> np.ndarray:
    """Read one `.npy`, whose header must agree with its length; no pickle is ever looked at."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise InputError(f"{name} is of .npy version {version}; expected 1.0 or 2.0")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.kind not in "fiub":
        raise InputError(f"{name} holds {dtype}; expected numbers")
    count = math.prod(shape)
    if count * dtype.itemsize != len(content) - file.tell() or len(shape) > 8:
        raise InputError(f"{name} claims shape {shape}, which does not fit its length")
    array = np.frombuffer(bytearray(content), dtype, count, file.tell())  # one that can be written
    return array.reshape(shape, order="F" if fortran else "C")
