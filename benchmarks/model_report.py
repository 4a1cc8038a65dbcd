"""How the training steps of whole models are told: tables, and who loses where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.model_cases import ATTENTION, BUDGET, REFERENCE, Problem, model_name
from benchmarks.page import Section, Table, figure
from benchmarks.timing import Times, median_ms, median_ratio

Quantity = Literal["time", "memory"]
QUANTITIES: tuple[Quantity, ...] = ("time", "memory")
Ratios = dict[str, dict[str, float]]
"""Ratios by problem, by what is compared."""

MIB = 2**20
EVEN = 0.05
"""Ratios that are no further from one count as one."""

ABOUT = f"""Forward pass, relative L2 error, backward pass and AdamW, float32. Widths are such that
every model has about {BUDGET:,} parameters. All else is as in the presets at laptop size, but for
12 features in Galerkin's regressor, so that it fits in, and 32 Fourier modes in 1-D. Mamba has path
`axial`, in 1-D the one line both ways, expansion 1 and state size 4. The attention is the
backbone's own, linear in the number of points; for `plain`, softmax attention, quadratic in it. FNO
is without padding, as for periodic problems; the preset's is padded."""
HOW = """Here all ratios are the model's figure by the other's: above one, the model takes more.
Times are of a process that keeps freed memory, as the line's training does. Memory is the peak of a
step beyond what is there between steps, such as weights and AdamW's averages, in a process that
gives freed memory back at once."""
NO_REFERENCE = """neuraloperator is not installed, so nothing is compared with FNO; `pip install -e
".[bench]"` adds it."""


@dataclass(frozen=True)
class Measured:
    """What a training step of each model takes on one problem.

    Attributes:
        problem: What the models were given.
        parameters: Real numbers among the weights, by name of the model.
        times: Seconds of each round.
        memory: Bytes; `None` where the system does not tell.
    """

    problem: Problem
    parameters: Mapping[str, int]
    times: Times
    memory: Mapping[str, int | None]

    def ratio(self, quantity: Quantity, model: str, other: str) -> float | None:
        """Return how many times more a model takes than another, if both were measured."""
        if not {model, other} <= self.times.keys():
            return None
        if quantity == "time":
            return median_ratio(self.times, model, other)
        more, less = self.memory[model], self.memory[other]
        return None if more is None or less is None else more / less


def report(results: Sequence[Measured]) -> Section:
    """Tell what was measured on each problem, and who loses where."""
    parts: list[str | Table] = [f"{ABOUT} {_nearness(results)}", HOW]
    for measured in results:
        problem = measured.problem
        parts += [f"**{problem}**, {problem.samples} in a batch.", _models(measured)]
    parts += ["**Mamba by attention**, in the same backbone.", _backbones(results)]
    parts += [against_attention(results), against_fno(results)]
    return Section("Training step of whole models", parts)


def against_attention(results: Sequence[Measured]) -> str:
    """Say in which backbones and where mamba takes more than attention, and where less."""
    sentences = []
    for quantity in QUANTITIES:
        ratios = _mamba_by_attention(results, quantity)
        if any(ratios.values()):
            more = _where(ratios, lambda ratio: ratio > 1 + EVEN)
            less = _where(ratios, lambda ratio: ratio < 1 - EVEN)
            sentences.append(
                f"Mamba takes more {quantity} than attention in: {more}. Less in: {less}."
            )
    return " ".join([*sentences, f"Elsewhere they are within {EVEN:.0%} of each other."])


def against_fno(results: Sequence[Measured]) -> str:
    """Say how much more than FNO the models with mamba take, and who takes less than it."""
    sentences = []
    for quantity in QUANTITIES:
        models = [model for model in results[0].times if model != REFERENCE]
        ratios = {model: _ratios(results, quantity, model, REFERENCE) for model in models}
        of_mamba = [r for name in ATTENTION for r in ratios[model_name(name, "mamba")].values()]
        if of_mamba:
            less = _where(ratios, lambda ratio: ratio < 1 - EVEN)
            sentences.append(
                f"Models with mamba take {figure(min(of_mamba))} to {figure(max(of_mamba))} times "
                f"the {quantity} of FNO. Less {quantity} than FNO takes: {less}."
            )
    return " ".join(sentences) or NO_REFERENCE


def _nearness(results: Sequence[Measured]) -> str:
    counts = [count for measured in results for count in measured.parameters.values()]
    return f"They have {min(counts):,} to {max(counts):,}."


def _models(measured: Measured) -> Table:
    rows = [
        (
            model,
            f"{measured.parameters[model]:,}",
            figure(median_ms(measured.times, model)),
            _cell(measured.ratio("time", model, REFERENCE)),
            "not told by this system" if extra is None else figure(extra / MIB),
            _cell(measured.ratio("memory", model, REFERENCE)),
        )
        for model, extra in measured.memory.items()
    ]
    columns = ("model", "parameters", "step, ms", "time / FNO's", "memory, MiB", "memory / FNO's")
    return Table(columns, rows)


def _backbones(results: Sequence[Measured]) -> Table:
    problems = [str(measured.problem) for measured in results]
    ratios = [_mamba_by_attention(results, quantity) for quantity in QUANTITIES]
    rows = [
        (name, mixer, *(_cell(each[name].get(problem)) for each in ratios for problem in problems))
        for name, mixer in ATTENTION.items()
    ]
    told = (f"{quantity}, {problem}" for quantity in QUANTITIES for problem in problems)
    return Table(("backbone", "attention", *told), rows)


def _mamba_by_attention(results: Sequence[Measured], quantity: Quantity) -> Ratios:
    return {
        name: _ratios(results, quantity, model_name(name, "mamba"), model_name(name, mixer))
        for name, mixer in ATTENTION.items()
    }


def _ratios(
    results: Sequence[Measured], quantity: Quantity, model: str, other: str
) -> dict[str, float]:
    """Return by problem how many times more one model takes than another, where it is known."""
    found = {str(each.problem): each.ratio(quantity, model, other) for each in results}
    return {problem: ratio for problem, ratio in found.items() if ratio is not None}


def _where(ratios: Ratios, accepts: Callable[[float], bool]) -> str:
    """List what has such a ratio, and on which problems."""
    parts = []
    for name, of_problem in ratios.items():
        found = [problem for problem, ratio in of_problem.items() if accepts(ratio)]
        if found:
            where = "everywhere" if len(found) == len(of_problem) else " and ".join(found)
            parts.append(f"{name} ({where})")
    return ", ".join(parts) or "none"


def _cell(ratio: float | None) -> str:
    return "" if ratio is None else figure(ratio)
