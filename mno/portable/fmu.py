"""An observer as an FMU for co-simulation: its ONNX file behind a small library in C (`fmu.c`)."""

import math
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from mno.core.errors import InputError, MnoError
from mno.core.files import replacing, sha256
from mno.portable.graph import INTERVAL, Following, Graph
from mno.portable.onnx_file import OPSETS, write_onnx
from mno.report.page import templates

PLATFORMS = {2: "linux64", 3: "x86_64-linux"}  # the folder of the library, by FMI's version


def write_fmu(graph: Graph, path: Path, about: Mapping[str, Any], fmi: int) -> dict[str, Any]:
    """Write an FMU beside, and then in place of, a file; `about` is as for `write_onnx`.

    Returns:
        What `write_onnx` does, and the number of `variables`.

    Raises:
        InputError: The model is no observer of readings, the version is not 2 or 3, or there is
            nothing to compile with.
        MnoError: As `write_onnx`, or the library cannot be compiled.
    """
    if fmi not in PLATFORMS:
        raise InputError(f"--fmi {fmi}: expected 2 or 3")
    if not isinstance(graph, Following) or graph.description.part == "fields":
        raise InputError(
            "an FMU goes on from reading to reading, and this model is no observer of readings; "
            "export it as .onnx, or train one with: mno run --preset furnace-observer"
        )
    compiler, header = shutil.which("cc"), Path("/usr/include/onnxruntime/onnxruntime_c_api.h")
    if compiler is None or not header.exists():
        raise InputError(
            f"an FMU is compiled, and there is no {header if compiler else 'C compiler'}; install "
            "both, on Debian with: apt-get install gcc libonnxruntime-dev"
        )
    identifier = "".join(c if c.isalnum() else "_" for c in path.stem) or "model"
    with TemporaryDirectory(prefix="mno-fmu-") as work:
        folder, library = Path(work), Path(work, f"{identifier}.so")
        found = write_onnx(graph, folder / "model.onnx", about, OPSETS[2])
        variables = _variables(graph)
        said = {**about, "fmi": fmi, "identifier": identifier, "seconds": graph.seconds}
        said |= {
            "token": sha256((folder / "model.onnx").read_bytes()), "variables": variables,
            "own": [one for one in variables if one["causality"] != "output"],
            "units": sorted({one["unit"] for one in variables}),
            "given": _tensors({n: graph.sizes(n) for n in graph.given}),
            "told": _tensors({n: graph.first[n].shape[1:] for n in graph.told}),
        }  # fmt: skip
        template = templates().get_template
        (folder / "model.h").write_text(template("portable/model.h.j2").render(said), "utf-8")
        shutil.copy(Path(__file__).with_name("fmu.c"), folder)
        command = [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        command += ["-fvisibility=hidden", f"-DFMI={fmi}", "-o", library, folder / "fmu.c"]
        command += ["-lonnxruntime", "-lm", "-Wl,-z,nodelete"]  # unloaded, it ends the process
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise MnoError(f"the FMU's library cannot be compiled: {done.stderr.strip()[:300]}")
        with replacing(path) as partial, ZipFile(partial, "w", ZIP_DEFLATED) as file:
            file.writestr("modelDescription.xml", template("portable/fmu.xml.j2").render(said))
            file.write(library, f"binaries/{PLATFORMS[fmi]}/{library.name}")
            file.write(folder / "model.onnx", "resources/model.onnx")
    return {**found, "variables": len(variables)}


def _variables(graph: Following) -> list[dict[str, Any]]:
    """Return the variables of the FMU in their order: all that is given, then what is told."""
    found, description = [], graph.description
    own = list(graph.given)[: list(graph.given).index(INTERVAL)]
    for name in (*own, *list(graph.told)[:-1]):
        given = name in own
        unit, axes = graph.given[name] if given else graph.told[name]
        kind = "output" if not given else "input" if name in description.forcings else "parameter"
        needed = given and name not in description.gaps
        for place in description.places(name) if axes else ("",):
            found.append({
                "name": f"{name}.{place}" if place else name, "unit": unit, "causality": kind,
                "number": len(found) + 1, "needed": needed,
                "description": "NaN where there is none" if given and not needed else "",
            })  # fmt: skip
    return found


def _tensors(shapes: Mapping[str, Iterable[int]]) -> list[dict[str, Any]]:
    """Return the shape of each tensor for one sample, and where it lies among all their numbers."""
    found, start = [], 0
    for name, shape in shapes.items():
        count = math.prod(shape)
        found.append({"name": name, "at": start, "count": count, "shape": (1, *shape)})
        start += count
    return found
