"""A batch furnace in three dimensions: pieces of steel heated by radiation, gas and conduction."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np
from pydantic import Field as Parameter

from mno.core.bodies import Body
from mno.core.errors import InputError, MnoError
from mno.core.fields import Axis, Field
from mno.scenarios.base import POSITIVE, Changes, Check, Fields, Parameters, Scenario
from mno.scenarios.chamber.arrangement import HOUR, Cells, Draw, Piece, draw_run, refuse_impossible
from mno.scenarios.chamber.conduction import enthalpy_of, stages_for
from mno.scenarios.chamber.march import Record, run
from mno.scenarios.chamber.plant import ELASTIC, Plant

CLOSURE = 1e-8
"""What the heat of a run may miss, as a share of what was supplied."""
COARSEST, FINEST = 4, 256
WIDEST = 2.5
"""Cells of the stored grid, over the thinnest lining at most: wider ones hardly show it."""
GAS_CONDUCTIVITY = 80.0  # W m-1 K-1
GAS_HEAT_CAPACITY = 500.0  # J m-3 K-1
"""What stands for gas where materials are given to an operator."""
_WIDE, _NARROW = 8.0, 0.19  # cells per point of the coarsest setting, and of the finest reference
_PIECE = ("piece_x", "piece_y", "piece_z", "piece_width", "piece_height", "piece_length")
_GRID = ("x", "y", "z")

_KELVIN = {
    "temperature": ("temperature", _GRID),
    "zone_temperature": ("temperature that a zone is controlled by", ("zone",)),
    "thermocouple_temperature": ("reading of a thermocouple", ("thermocouple",)),
    "core_temperature": ("temperature in the middle of a piece", ("piece",)),
    "surface_temperature": ("mean temperature of a piece's surface", ("piece",)),
    "mean_temperature": ("mean temperature of a piece", ("piece",)),
}
_OF_PIECES = {
    **{name: ("m", f"{name.removeprefix('piece_')} of a piece") for name in _PIECE},
    "piece_grade": ("1", "number of its grade among materials"),
    "piece_temperature": ("K", "initial temperature of a piece"),
}
_JOULES = {
    "stored_heat": "heat stored in solids and gas",
    "hall_loss": "heat lost to the hall",
    "flue_loss": "heat lost by the flue",
}
_FIELDS = (
    Field("conductivity", "W m-1 K-1", "thermal conductivity", "input", _GRID, scale="log"),
    Field("heat_capacity", "J m-3 K-1", "volumetric heat capacity", "input", _GRID, scale="log"),
    Field("charge", "1", "share of volume that is charge", "input", _GRID),
    Field("setpoint", "K", "set-point", "input", ("time", "zone"), scale="less 293.15"),
    Field("thermocouple_lag", "s", "time constant of a thermocouple", "input", ("zone",)),
    Field("ambient_temperature", "K", "ambient temperature", "input", ()),
    Field("lining_temperature", "K", "initial temperature of the lining", "input", ()),
    Field("wear", "m", "wear of the lining", "input", ()),
    *(
        Field(name, units, said, "input", ("piece",), gaps=True)
        for name, (units, said) in _OF_PIECES.items()
    ),
    *(
        Field(
            name, "K", said, "state", ("time", *dims), "piece" in dims, "less ambient_temperature"
        )
        for name, (said, dims) in _KELVIN.items()
    ),
    Field("temperature_spread", "K", "hottest less coldest of a piece", "state",
          ("time", "piece"), gaps=True),
    Field("zone_energy", "J", "heat supplied to a zone", "state", ("time", "zone")),
    *(Field(name, "J", said, "state", ("time",)) for name, said in _JOULES.items()),
    Field("ready_time", "s", "time at which the whole charge is hot", "output", (), gaps=True),
)  # fmt: skip
_STRESS = Field(
    "stress", "Pa", "greatest thermal stress of a piece", "state", ("time", "piece"), True
)


class BatchFurnaceParameters(Parameters):
    """Which plant is run, and how finely it is solved."""

    plant: str = "car_bottom"
    """Name of a file in `plants/`, which says what is built and what varies."""
    steps_per_frame: int = Parameter(6, ge=1, le=1000)
    """Steps of the method in time between two set-points."""
    cells_per_point: float = Parameter(2.0, ge=0.05, le=16.0)
    """Greatest width of the fitted cells, over the width of the stored grid's."""
    rays: int = Parameter(64, ge=16, le=65536)
    """From each face, by which view factors are found."""
    tolerance: float = Parameter(1.0, ge=1e-6, le=100.0)
    """How far the gas's temperature may move in the last round of a step's balance, K."""
    unseen: Literal["none", "piece", "grade", "schedule"] = "none"
    """What of a run is taken from the plant's section `unseen`, beyond what it draws otherwise."""
    thermal_stress: bool = False
    """Whether the thermal stress of pieces, as if they were free and elastic, is one more reading;
    the plant's grades then need `youngs_modulus`, `thermal_expansion` and `poisson_ratio`."""


@final
class BatchFurnace(Scenario):
    """Temperatures in a batch furnace, its charge, lining and gas, over hours, as a plant says.

        dh/dt = div(kappa(T) grad T), T = T(h), in the solids: charge and lining
        J = eps sigma T^4 + (1 - eps) (F tau J + (1 - F tau 1) sigma T_g^4) on their surfaces
        power + leaks = convection + radiation to surfaces + flue, in the gas of every zone

    The solids conduct with properties that depend on temperature, transformation and melting
    included. Surfaces are grey and exchange by view factors with shadowing, through a gas that
    absorbs. The gas of each zone is stirred, without storage; burners bring gases that leave by the
    flue. The zones' power follows set-points by a thermocouple's lagging reading. Every arrangement
    is solved on cells fitted to it (`chamber/`); the fields are averages of these over the plant's
    grid, gas included, and the readings are taken from the cells themselves.

    With `thermal_stress` there is one more reading, `stress`: the greatest over a piece's cells and
    surface of the estimate E alpha / (1 - nu) |T - T_mean| (`chamber/plant.py`).

    Pieces that a run does not have are NaN in all that is said of pieces, and so is the time at
    which the whole charge is above the temperature that is wanted, where it never is.
    """

    name = "batch_furnace"
    title = "Batch furnace with radiation, in three dimensions"
    Parameters = BatchFurnaceParameters
    fields = _FIELDS
    checks = (
        Check("initial", "largest change of what is given in the first frame", 0.0, of_given=True),
        Check(
            "energy",
            "largest difference of the heat supplied and where it went, over what was supplied in "
            "the run (rounding to float32 leaves up to 2e-7)",
            4e-7,
        ),
        Check(
            "range",
            "how far temperatures lie below all that is given, or above the hottest that burners "
            "or set-points can bring, over the latter",
            1e-3,
        ),
    )

    def __init__(
        self, parameters: BatchFurnaceParameters, resolution: int, root: Path = Path()
    ) -> None:
        super().__init__(parameters, resolution, COARSEST, FINEST)
        self.plant = Plant.read(parameters.plant, root)
        if parameters.unseen != "none" and getattr(self.plant.unseen, parameters.unseen) is None:
            raise InputError(
                f"scenarios.batch_furnace.unseen={parameters.unseen!r}: the plant "
                f"{parameters.plant} says nothing of it in its section unseen; add it there"
            )
        told = [f.name for f in self.fields if f.role == "input"]
        if wrong := sorted(set(self.plant.hidden) - set(told)):
            raise InputError(
                f"{parameters.plant}.yaml: hidden names {', '.join(wrong)}; expected some of "
                f"{', '.join(told)}: correct it there"
            )
        if parameters.thermal_stress:
            unseen = self.plant.unseen.grade
            self._refuse_inelastic([*self.plant.pieces.grades, *([unseen] if unseen else [])])
            self.fields = (*self.fields, _STRESS)
        lengths = [high - low for low, high in self.plant.extents]
        self._width = max(lengths) / resolution
        thinnest = min(self.plant.lining.thicknesses)
        if self._width > WIDEST * thinnest:
            raise InputError(
                f"generate.resolution={resolution} makes cells of {self._width:.3g} m, but "
                f"the thinnest lining of plant {parameters.plant} has {thinnest:g} m, and cells "
                f"may be {WIDEST:g} times as wide at most; choose "
                f"{math.ceil(max(lengths) / (WIDEST * thinnest))} or more"
            )
        counts = [max(2, round(length / self._width)) for length in lengths]
        self._edges = tuple(
            np.linspace(low, high, count + 1)
            for (low, high), count in zip(self.plant.extents, counts, strict=True)
        )
        self._space = tuple(
            Axis(name, "m", name, 0.5 * (edges[1:] + edges[:-1]), (edges[0], edges[-1]))
            for name, edges in zip(_GRID, self._edges, strict=True)
        )

    @classmethod
    def open(cls, parameters: BatchFurnaceParameters, config: Any, root: Path) -> Self:
        """Build the scenario of a plant of that workspace."""
        return cls(parameters, config.resolution, root)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Time, space, and zones, pieces and thermocouples; all but pieces have names."""
        schedule = self.plant.schedule
        times = HOUR * schedule.interval * np.arange(schedule.intervals + 1)
        numbered = {
            "zone": [zone.name for zone in self.plant.zones],
            "piece": [""] * self.plant.pieces.count[1],
            "thermocouple": list(self.plant.thermocouples),
        }
        found = [Axis("time", "s", "time", times, (0.0, times[-1])), *self._space]
        for name, labels in numbered.items():
            numbers, extent = 1.0 + np.arange(len(labels)), (1.0, float(len(labels)))
            found.append(Axis(name, "1", name, numbers, extent, tuple(filter(None, labels))))
        return tuple(found)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the plant's file says, of sensors apart."""
        said = self.plant.model_dump(mode="json", exclude={"sensors", "hidden"})
        read = self.plant.model_dump(mode="json", include={"sensors", "hidden"})
        return {"plant": said, **({"observe": read} if self.plant.sensors else {})}

    def bodies(self, given: Fields) -> tuple[Body, ...]:
        """Return the plant as it was built and the pieces of a run, coloured by temperature."""
        found = list(self.plant.bodies())
        corners = np.transpose([given[name] for name in _PIECE if name in given])
        for number, numbers in enumerate(corners):
            if np.isfinite(numbers).all():
                x, y, z, width, height, length = numbers.tolist()
                reading = ("mean_temperature", number)
                size = (width, height, length)
                found.append(Body(str(number + 1), "piece", (x, y, z), size, reading))
        return tuple(found)

    def outside(self) -> Changes:
        """Return what the plant's section `unseen` has: pieces, a grade, hotter schedules."""
        said = {"piece": "larger pieces", "grade": "another grade", "schedule": "hotter schedules"}
        return {
            words: {"unseen": key}
            for key, words in said.items()
            if getattr(self.plant.unseen, key) is not None
        }

    def settings(self) -> Sequence[Mapping[str, Any]]:
        """Return wider cells, longer steps, fewer rays, a looser balance; and finer ones last.

        The coarsest have two cells across pieces, which is the least. What two cells leave of the
        error goes slowly, so the reference has cells of a sixth of the width, or else as narrow as
        is bearable.
        """
        now = self.parameters
        width, steps = now.cells_per_point, now.steps_per_frame
        widest = min(max(4.0 * width, _WIDE), 16.0)
        coarse = {"cells_per_point": widest, "rays": 16, "tolerance": 10.0}
        middle = {"rays": 32, "tolerance": 3.0}
        between = math.sqrt(widest * width)
        return (
            {**coarse, "steps_per_frame": max(1, steps // 6)},
            {**coarse, "steps_per_frame": max(1, steps // 3)},
            {**middle, "cells_per_point": between, "steps_per_frame": max(1, steps // 3)},
            {**middle, "cells_per_point": 2.0 * width, "steps_per_frame": max(1, steps // 2)},
            {},
            {
                "cells_per_point": max(width / 6.0, min(_NARROW, width / 1.5)),
                "steps_per_frame": 2 * steps, "rays": 2 * now.rays,
                "tolerance": 0.1 * now.tolerance,
            },
        )  # fmt: skip

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw a run: what is given of it, and what there is at its start."""
        draw = draw_run(self.plant.with_unseen(self.parameters.unseen), rng)
        setpoints = np.concatenate([draw.setpoints, draw.setpoints[-1:]])
        given: dict[str, Any] = {
            "setpoint": setpoints, "thermocouple_lag": draw.lag, "wear": draw.wear,
            "ambient_temperature": draw.ambient, "lining_temperature": draw.warm,
        }  # fmt: skip
        given |= {name: np.full(self.plant.pieces.count[1], np.nan) for name in _OF_PIECES}
        for number, piece in enumerate(draw.pieces):
            numbers = (*piece.corner, *piece.size, piece.grade, piece.temperature)
            for name, value in zip(_OF_PIECES, numbers, strict=True):
                given[name][number] = value
        drawn = {name: np.asarray(value, np.float32) for name, value in given.items()}
        return {**drawn, **self._at_start(self._cells(drawn))}

    def completed(self, given: Fields) -> Fields:
        """Return a run with the materials and first states that go with the rest, or refuse it."""
        rest = {f.name: given[f.name] for f in self.fields if f.role == "input" and f.dims != _GRID}
        self._refuse(rest)
        return {**given, **self._at_start(self._cells(rest))}

    def _at_start(self, cells: Cells) -> dict[str, np.ndarray]:
        """Return materials on the plant's grid, and all states at the start."""
        draw, plant = cells.draw, self.plant
        solid = cells.material >= 0
        materials = np.array([m.at(draw.ambient) for m in plant.materials.values()])
        conductivity = np.full(cells.material.shape, math.log(GAS_CONDUCTIVITY))
        conductivity[solid] = np.log(materials[cells.material[solid], 0])
        capacity = np.full(cells.material.shape, GAS_HEAT_CAPACITY)
        capacity[solid] = materials[cells.material[solid], 1]
        temperature = np.full(cells.material.shape, draw.warm)
        temperature[solid] = cells.at_start()
        warm = np.full(plant.pieces.count[1], np.nan)
        warm[: len(draw.pieces)] = [piece.temperature for piece in draw.pieces]
        zones = len(plant.zones)
        found: dict[str, Any] = {
            "conductivity": np.exp(cells.averages(conductivity, self._edges)),
            "heat_capacity": cells.averages(capacity, self._edges),
            "charge": cells.averages((cells.piece >= 0).astype(float), self._edges),
            "temperature": cells.averages(temperature, self._edges),
            "zone_temperature": np.full(zones, draw.warm),
            "core_temperature": warm, "surface_temperature": warm, "mean_temperature": warm,
            "thermocouple_temperature": np.full(len(plant.thermocouples), draw.warm),
            "temperature_spread": 0.0 * warm, "zone_energy": np.zeros(zones),
            "stored_heat": 0.0, "hall_loss": 0.0, "flue_loss": 0.0,
        }  # fmt: skip
        if self.parameters.thermal_stress:
            found["stress"] = 0.0 * warm
        return {name: np.asarray(value, np.float32) for name, value in found.items()}

    def _cells(self, given: Fields) -> Cells:
        width = self.parameters.cells_per_point * self._width
        return Cells.fitted(self.plant, self._draw(given), width)

    def _draw(self, given: Fields) -> Draw:
        """Return the run that fields describe; lengths are as plans have them, in 0.1 mm."""
        there = np.isfinite(given["piece_x"])
        pieces = []
        for number in np.flatnonzero(there):
            x, y, z, *size = (round(float(given[name][number]), 4) for name in _PIECE)
            width, height, length = size
            grade = int(given["piece_grade"][number])
            warm = float(given["piece_temperature"][number])
            pieces.append(Piece((x, y, z), (width, height, length), grade, warm))
        return Draw(
            tuple(pieces), round(float(given["wear"]), 4), float(given["ambient_temperature"]),
            float(given["lining_temperature"]), given["thermocouple_lag"].astype(np.float64),
            given["setpoint"][:-1].astype(np.float64),
        )  # fmt: skip

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for all states at all frames."""
        self._refuse(inputs)
        cells = self._cells(inputs)
        record = self._march(cells)
        start = self._at_start(cells)
        found = self._readings(cells, record)
        values = np.empty((len(record.cells), *cells.material.shape))
        solid = cells.material >= 0
        values[:, solid] = record.cells
        values[:, ~solid] = record.gas[:, cells.zone[~solid]]
        found["temperature"] = cells.averages(values, self._edges)
        states = {name: np.asarray(value, np.float32) for name, value in found.items()}
        for name, array in states.items():
            if name in start:  # before anything has happened
                array[0] = start[name]
        return states

    def _march(self, cells: Cells) -> Record:
        draw, plant, parameters = cells.draw, self.plant, self.parameters
        interval, steps = HOUR * plant.schedule.interval, parameters.steps_per_frame
        solids, surfaces = cells.solids, cells.surfaces(parameters.rays)
        warm, enthalpy = cells.at_start(), np.empty(len(solids.volume))
        for number, material in enumerate(plant.materials.values()):
            own = solids.material == number
            enthalpy[own] = enthalpy_of(material.table, warm[own])
        record = Record.empty(
            len(draw.setpoints) + 1, len(enthalpy), len(surfaces.cell), len(plant.zones)
        )
        stages = stages_for(interval / steps, cells.longest_step)
        run(
            solids, surfaces, cells.outside, cells.gas, draw.setpoints, draw.ambient, draw.warm,
            interval, steps, stages, parameters.tolerance, enthalpy, record,
        )  # fmt: skip
        spent = record.accounts[-1]
        # Where nothing happens, what rounding leaves is over what warms the solids by about 1 K.
        size = max(spent[4:].sum(), abs(spent[0]), 1e6 * solids.volume.sum())
        missing = abs(spent[4:].sum() - spent[:4].sum()) / size
        if not missing <= CLOSURE:
            raise MnoError(
                f"the heat of a run of plant {parameters.plant} does not close: {missing:.1e} of "
                f"what was supplied is missing, expected {CLOSURE:.0e}; raise "
                f"scenarios.batch_furnace.steps_per_frame={steps}"
            )
        return record

    def _readings(self, cells: Cells, record: Record) -> dict[str, Any]:
        plant, frames = self.plant, len(record.cells)
        materials = list(plant.materials.values())
        of_piece = cells.piece[cells.material >= 0]
        behind = of_piece[cells.surfaces_cell]
        names = ["core_temperature", "surface_temperature", "mean_temperature"]
        names += ["temperature_spread", *(["stress"] if self.parameters.thermal_stress else [])]
        pieces = np.full((len(names), frames, plant.pieces.count[1]), np.nan)
        coldest = np.full(frames, np.inf)
        for number, piece in enumerate(cells.draw.pieces):
            own, faces = of_piece == number, behind == number
            volume, area = cells.solids.volume[own], cells.faces.area[faces]
            inside, skin = record.cells[:, own], record.surfaces[:, faces]
            middle = tuple(np.add(piece.corner, 0.5 * np.array(piece.size)))
            low, high = inside.min(axis=1), inside.max(axis=1)
            mean = inside @ volume / volume.sum()
            pieces[:4, :, number] = (
                cells.at_place(middle, record.cells, record.surfaces),
                skin @ area / area.sum(),
                mean,
                np.maximum(high, skin.max(axis=1)) - np.minimum(low, skin.min(axis=1)),
            )
            if self.parameters.thermal_stress:
                everywhere = np.concatenate([inside, skin], axis=1)
                stresses = materials[piece.grade].thermal_stress(everywhere, mean[:, None])
                pieces[4, :, number] = stresses.max(axis=1)
            coldest = np.minimum(coldest, low)
        probes = [
            cells.at_place(tuple(place), record.cells, record.surfaces)
            if cells.is_solid(tuple(place))
            else record.probes[:, cells.zone_at(place[2])]
            for place in plant.thermocouples.values()
        ]
        return {
            **dict(zip(names, pieces, strict=True)),
            "zone_temperature": record.readings,
            "thermocouple_temperature": np.stack(probes, axis=1),
            "zone_energy": record.accounts[:, 4:],
            "stored_heat": record.accounts[:, [0, 3]].sum(axis=1),
            "hall_loss": record.accounts[:, 1], "flue_loss": record.accounts[:, 2],
            "ready_time": self._first_above(coldest),
        }  # fmt: skip

    def _first_above(self, coldest: np.ndarray) -> float:
        """Return when the coldest cell of the charge has first reached what is wanted, s."""
        times, wanted = self.axes[0].points, self.plant.charge_ready
        above = np.flatnonzero(coldest >= wanted)
        if not len(above):
            return math.nan
        after = int(above[0])
        if not after:
            return 0.0
        return float(
            np.interp(wanted, coldest[after - 1 : after + 1], times[after - 1 : after + 1])
        )

    def _refuse(self, inputs: Fields) -> None:
        """Refuse what cannot be solved for; what follows from the rest may be missing."""
        gaps = {field.name for field in self.fields if field.gaps}
        given = [f for f in self.fields if f.name in inputs and f.name not in gaps]
        free = {"charge", "wear", "zone_energy", "stored_heat", "hall_loss", "flue_loss"}
        least = {f.name: -math.inf if f.name in free else POSITIVE for f in given}
        self.within(inputs, **{name: (low, math.inf) for name, low in least.items()})
        shape = (self.plant.pieces.count[1],)
        of_pieces = {name: np.asarray(inputs[name]) for name in sorted(gaps & set(inputs))}
        for name, values in of_pieces.items():
            if values.shape != shape:
                raise InputError(
                    f"{name} has shape {values.shape}; expected {shape}, the scenario's points"
                )
        there = np.sum([np.isfinite(values) for values in of_pieces.values()], axis=0)
        whole = there.max()
        for name, values in of_pieces.items():
            if not np.array_equal(np.isfinite(values), there == whole) or not np.any(there):
                raise InputError(
                    f"{name} is {values}; expected numbers for the pieces that there are, at least "
                    "one, and nan for the others in all that is said of pieces"
                )
        draw, names = self._draw(inputs), list(self.plant.materials)
        refuse_impossible(self.plant, draw)
        if self.parameters.thermal_stress:
            self._refuse_inelastic([names[piece.grade] for piece in draw.pieces])

    def _refuse_inelastic(self, grades: Sequence[str]) -> None:
        for name in grades:
            if self.plant.materials[name].youngs_modulus is None:
                raise InputError(
                    f"{self.parameters.plant}.yaml: materials.{name} has no {', '.join(ELASTIC)}; "
                    "scenarios.batch_furnace.thermal_stress=true needs them of every grade, add "
                    "them there or set it to false"
                )

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure the checks, in float64; where values are not what they may be, all is NaN.

        Of a part of the fields, they are of those.
        """
        there = np.isfinite(inputs["piece_x"])
        for field in self.fields:
            for values in (
                source[field.name] for source in (inputs, outputs) if field.name in source
            ):
                expected = np.broadcast_to(there, values.shape) if "piece" in field.dims else True
                fits = np.isfinite(values) == expected
                if field.name == "ready_time":
                    fits = ~np.isinf(values)
                if not np.all(fits) or np.isinf(values).any():
                    return {check.name: math.nan for check in self.checks}
        solved = {name: array.astype(np.float64) for name, array in outputs.items()}
        states = [f.name for f in self.fields if f.role == "state" and f.name in solved]
        change = max(np.nanmax(np.abs(solved[n][0] - inputs[n].astype(np.float64))) for n in states)
        supplied = solved["zone_energy"].sum(axis=1)
        went = solved["stored_heat"] + solved["hall_loss"] + solved["flue_loss"]
        size = max(supplied[-1], np.abs(solved["stored_heat"]).max(), 1.0)
        starts = ("ambient_temperature", "temperature", "core_temperature")
        low = min(np.nanmin(inputs[name]) for name in starts if name in inputs)
        burner = self.plant.gas.heating == "burner"
        hottest = self.plant.gas.flame_temperature if burner else 3000.0
        kelvin = [solved[name] for name in _KELVIN if name in solved]
        below, above = low - min(map(np.nanmin, kelvin)), max(map(np.nanmax, kelvin)) - hottest
        return {
            "initial": float(change),
            "energy": float(np.max(np.abs(supplied - went)) / size),
            "range": float(max(below, above, 0.0) / hottest),
        }

    def compile(self) -> None:
        """Compile the solver, or load it from numba's cache."""
        draw = draw_run(self.plant, np.random.default_rng(0))
        short = Draw(draw.pieces, draw.wear, draw.ambient, draw.warm, draw.lag, draw.setpoints[:1])
        self._march(Cells.fitted(self.plant, short, 2.0))


SCENARIO = BatchFurnace
