"""A reader of VTK's XML files with appended raw arrays, written from the format's description."""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

_TYPES = {"Float32": "f4", "Float64": "f8", "Int64": "i8", "UInt8": "u1"}


def read_vtk(path: Path) -> tuple[ElementTree.Element, dict[str, np.ndarray]]:
    """Return the text of a file as XML, and its arrays by name."""
    text, _, rest = path.read_bytes().partition(b'<AppendedData encoding="raw">\n_')
    data, end, _ = rest.rpartition(b"\n  </AppendedData>")
    assert end
    root = ElementTree.fromstring(text + b"</VTKFile>")
    assert (root.get("byte_order"), root.get("header_type")) == ("LittleEndian", "UInt64")
    arrays, used = {}, 0
    for element in root.iter("DataArray"):
        assert element.get("format") == "appended"
        offset = int(element.attrib["offset"])
        (size,) = struct.unpack_from("<Q", data, offset)
        dtype = "<" + _TYPES[element.attrib["type"]]
        values = np.frombuffer(data[offset + 8 : offset + 8 + size], dtype)
        components = int(element.get("NumberOfComponents", "1"))
        arrays[element.attrib["Name"]] = (
            values if components == 1 else values.reshape(-1, components)
        )
        assert offset == used
        used += 8 + size
    assert used == len(data)
    return root, arrays


def units(root: ElementTree.Element, name: str) -> str | None:
    """Return the unit that a file gives an array."""
    (element,) = root.iterfind(f".//DataArray[@Name='{name}']")
    return element.findtext("InformationKey")
