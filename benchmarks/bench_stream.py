"""A stream: what one more reading costs, beside attention along time that keeps all it has seen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.memory import is_told, resident
from benchmarks.page import Section, Table, figure
from benchmarks.scan_problem import relative_error
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.core.batch import Batch
from mno.core.points import Points
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.lean import lean
from mno.nn.mixers.attention import merge
from mno.nn.operator import Operator

THREADS = 1
POINTS, WIDTH, LAYERS, HEADS = 30, 48, 4, 4
MIXERS = ("softmax", "mamba")
SEEN = (100, 10_000, 100_000)
SOAK = (1_000, 1_000_000)
DRAWN = 16
ROUNDS, LONG_ROUNDS, LONG = 101, 9, 100_000
SETTLE = 0.02
ABOUT = f"""One sample, {POINTS} points (the size of `batch_furnace`'s readings), backbone `plain`,
width {WIDTH}, {LAYERS} layers, float32. A reading is a frame of all points; its answer is the next
one. Each side is called for {SETTLE * 1e3:.0f} ms, at least once, before each call that is
timed."""
ONE = """**One reading in, all out**, by the mixer in space. The lean form is what
`Surrogate.predict` calls. Errors are the differences of the tenth answer from that in float64, in
units of the largest value. At most 1 ms is asked for, 0.1 ms is the aim."""
PEER = f"""**By the readings before it**, softmax in space. The peer is the same operator with
attention along time in place of the scan: {HEADS} heads of {WIDTH // HEADS} features, torch's
`scaled_dot_product_attention` of one query with a cache of all keys and values, whose room doubles
when it is full. The scan has followed as many readings; the peer's cache is filled with drawn
numbers, since its readings take too long."""


def run() -> Section:
    memory, states = _followed()
    return Section(
        "Stream",
        (
            ABOUT,
            ONE,
            Table(
                ("mixer", "as trained, ms", "lean, ms", "ratio", "asked for", "errors of both"),
                [_one_reading(mixer) for mixer in MIXERS],
            ),
            PEER,
            Table(
                ("readings", "ours, ms", "peer, ms", "ratio", "our state", "peer's cache"),
                [_beside_attention(count, states[count]) for count in SEEN],
            ),
            f"**Resident memory** of the process after {SOAK[1]:,} readings by that after "
            f"{SOAK[0]:,}: {memory}; at most 1.02 is asked for.",
        ),
    )


class CachedAttention(nn.Module):
    """x + attention(norm(x)) along time, called as a `TimeBlock` with one frame at a time."""

    def __init__(self, lines: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.length = heads, 0
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.cache = torch.empty(2, lines, heads, 0, width // heads)

    def forward(self, x: Tensor, intervals: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take a frame, `(lines, 1, width)`; the cache is kept here, and no state handed on."""
        heads = self.projection(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        query, *new = heads.permute(2, 0, 3, 1, 4)
        self.make_room(self.length + 1)
        self.cache[:, :, :, self.length : self.length + 1] = torch.stack(new)
        self.length += 1
        keys, values = self.cache[:, :, :, : self.length]
        mixed = F.scaled_dot_product_attention(query, keys, values)
        return x + self.out_proj(merge(mixed)), x.new_zeros(len(x), 1, 1)

    def make_room(self, count: int) -> None:
        """Let the cache hold as many frames, and as many again before it is moved once more."""
        *sizes, room, part = self.cache.shape
        if count > room:
            kept = self.cache[:, :, :, : self.length]
            self.cache = torch.empty(*sizes, 2 ** math.ceil(math.log2(count)), part)
            self.cache[:, :, :, : self.length] = kept

    def fill(self, count: int) -> None:
        """Let there be as many frames, of drawn keys and values."""
        self.make_room(count)
        self.length = count
        drawn = self.cache[:, :, :, :count]
        drawn[:] = torch.randn_like(drawn[:, :, :, :1])


def make_stream(mixer: str) -> tuple[Operator, list[Batch]]:
    """Return an operator with fresh weights and a few readings."""
    torch.manual_seed(0)
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS}
    config = ModelConfig.model_validate({**sizes, "mixer": mixer, "path": "bidirectional"})
    operator = build_operator(
        config, inputs={"reading": 1, "load": 1, "height": None}, outputs={"reading": 1},
        scalars=("charge",), dims=2, gaps=("reading",), along_time=True,
    ).eval().requires_grad_(False)  # fmt: skip
    place, height, charge = Points(torch.rand(1, POINTS, 2), 0.1), torch.randn(1, POINTS), {}
    charge["charge"] = torch.randn(1)
    batches = []
    for _ in range(DRAWN):
        fields = {name: torch.randn(1, 1, POINTS) for name in ("reading", "load")}
        intervals = 0.5 + torch.rand(1, 2)
        batches.append(Batch({**fields, "height": height}, place, charge, intervals))
    return operator, batches


def follow(
    operator: nn.Module, batches: list[Batch], count: int, state: Tensor | None = None
) -> tuple[Batch, Tensor]:
    """Answer so many readings, the drawn ones in turn, and return the last answer and the state."""
    answer = batches[0]
    with torch.inference_mode():
        for i in range(count):
            answer, state = operator(batches[i % DRAWN], state, return_state=True)
    assert state is not None
    return answer, state


def _one_reading(mixer: str) -> tuple[str, ...]:
    operator, batches = make_stream(mixer)
    form = lean(operator)
    answer, state = follow(operator, batches, 10)
    exact, _ = follow(copy.deepcopy(operator).double(), [_double(batch) for batch in batches], 10)
    answers = answer, follow(form, batches, 10)[0]
    errors = [relative_error(x.fields["reading"], exact.fields["reading"]) for x in answers]
    sides = {
        name: partial(follow, side, batches, 1, state)
        for name, side in (("trained", operator), ("lean", form))
    }
    times = in_turn(sides, ROUNDS, settle=SETTLE)
    trained, fast = (figure(median_ms(times, name)) for name in sides)
    ratio = figure(median_ratio(times, "trained", "lean"))
    return mixer, trained, fast, ratio, "1", " and ".join(f"{e:.0e}" for e in errors)


def _double(batch: Batch) -> Batch:
    assert batch.intervals is not None
    fields = {name: field.double() for name, field in batch.fields.items()}
    scalars = {name: values.double() for name, values in batch.scalars.items()}
    return Batch(fields, batch.place, scalars, batch.intervals.double())


def _followed() -> tuple[str, dict[int, Tensor]]:
    """Follow a stream, and return how its memory grew and its states after as many readings."""
    operator, batches = make_stream("softmax")
    form, states, sizes, seen, state = lean(operator), {}, {}, 0, None
    for count in sorted({*SEEN, *SOAK}):
        _, state = follow(form, batches, count - seen, state)
        seen, states[count] = count, state
        sizes[count] = resident() if is_told() else 0
    first, last = (sizes[count] for count in SOAK)
    told = f"{last / first:.4f} ({last / 2**20:.0f} MiB)" if first else "not told by this system"
    return told, states


def _beside_attention(count: int, state: Tensor) -> tuple[str, ...]:
    operator, batches = make_stream("softmax")
    form, peer = lean(operator), lean(operator)
    attention = [CachedAttention(POINTS, WIDTH, HEADS) for _ in range(LAYERS)]
    peer.time_blocks = nn.ModuleList(attention)

    def ask_peer() -> None:
        for layer in attention:
            layer.length = count
        follow(peer, batches, 1)

    for layer in attention:
        layer.fill(count)
    sides: dict[str, Callable[[], object]] = {
        "ours": partial(follow, form, batches, 1, state), "peer": ask_peer
    }  # fmt: skip
    times = in_turn(sides, LONG_ROUNDS if count >= LONG else ROUNDS, settle=SETTLE)
    kept = sum(layer.cache[:, :, :, :count].numel() * 4 for layer in attention)
    return (
        f"{count:,}",
        figure(median_ms(times, "ours")),
        figure(median_ms(times, "peer")),
        figure(median_ratio(times, "peer", "ours")),
        f"{figure(state.numel() * 4 / 1e6)} MB",
        f"{figure(kept / 1e6)} MB",
    )
