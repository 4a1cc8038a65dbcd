"""Random scans, and the loop over time that the compiled kernels are compared with."""

import numpy as np
import torch
from torch import Tensor

from mno.scan.arguments import Direction, ScanArguments, ScanPath
from mno.scan.cpu import launch

DIFFERENTIABLE = ("u", "delta", "A", "B", "C", "D", "bias", "dt_weight")
NAMES = (*DIFFERENTIABLE, "scale", "order")
RULES = ["simplified", "zoh", "centred"]
# Of the largest value; long sequences are allowed 5e-6.
TOLERANCE = 3e-6


def visited(layout, points, order, batch):
    """Return the points in the order of every direction, (batch, groups, points)."""
    paths = np.zeros((batch, len(layout) // 4, points), int)
    for k in range(len(layout) // 4):
        _, period, stride, reverse = layout[4 * k : 4 * k + 4]
        position = np.arange(points)[:: -1 if reverse else 1]
        if order is None:
            q, s = np.divmod(position, period)
            paths[:, k] = (q // stride) * period * stride + q % stride + s * stride
        else:
            paths[:, k] = order.numpy()[:, k][:, position]
    return paths


def loop(inputs, layout, *, softplus, rule):
    """Run the recurrence as it is written, one step after the other."""
    u, delta, A, B, C, D, bias, dt_weight, scale, order = (inputs[name] for name in NAMES)
    raw = delta if dt_weight is None else torch.einsum("bpkr,krc->bpkc", delta, dt_weight)
    raw = raw if bias is None else raw + bias
    dt = torch.nn.functional.softplus(raw) if softplus else raw
    dt = dt if scale is None else dt * scale.transpose(1, 2)[..., None]
    batch, points = u.shape[:2]
    paths = visited(layout, points, order, batch)
    samples = torch.arange(batch)[:, None]
    outputs = []
    for k in range(A.shape[0]):
        drive = u[:, :, 0 if u.shape[2] == 1 else k]
        path = torch.from_numpy(paths[:, k])
        walked = [x[samples, path].unbind(1) for x in (drive, dt[:, :, k], B[:, :, k], C[:, :, k])]
        h = u.new_zeros(batch, *A.shape[1:])
        rows = []
        for t, (x, step, b, c) in enumerate(zip(*walked, strict=True)):
            step = step[:, None]
            z = step * A[k]
            gain = step.expand_as(z)
            if rule == "zoh":
                near = z.abs() < 1e-4
                far = torch.where(near, 1.0, z)
                series = 1 + z / 2 + z * z / 6 + z * z * z / 24
                gain = gain * torch.where(near, series, torch.expm1(far) / far)
            h = torch.zeros_like(h) if t % layout[4 * k] == 0 else h
            added = gain * b[..., None] * x[:, None]
            if rule == "centred":
                seen = torch.exp(z / 2) * h + added / 2
                h = torch.exp(z / 2) * (seen + added / 2)
            else:
                seen = h = torch.exp(z) * h + added
            y = (c[..., None] * seen).sum(1)
            rows.append(y if D is None else y + D[k] * x)
        back = torch.from_numpy(np.argsort(paths[:, k], axis=1))
        outputs.append(torch.stack(rows, 1)[samples, back] if rows else drive * 0.0)
    y = torch.stack(outputs, 2)
    return y.sum(2, keepdim=True) if u.shape[2] == 1 else y


def random_inputs(
    seed,
    *,
    batch,
    points,
    groups,
    channel,
    state,
    shared=False,
    rank=0,
    optional=True,
    scaled=False,
    ordered=False,
):
    """Return random inputs in float32, contiguous."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    orders = [torch.randperm(points, generator=generator) for _ in range(batch * groups)]
    wide = rank or channel
    return {
        "u": normal(batch, points, 1 if shared else groups, channel),
        "delta": normal(batch, points, groups, wide),
        "A": -3 * torch.rand(groups, state, channel, generator=generator),
        "B": normal(batch, points, groups, state),
        "C": normal(batch, points, groups, state),
        "D": normal(groups, channel) if optional else None,
        "bias": normal(groups, channel) if optional else None,
        "dt_weight": normal(groups, rank, channel) * 0.5 if rank else None,
        "scale": torch.rand(batch, groups, points, generator=generator) if scaled else None,
        "order": torch.stack(orders).reshape(batch, groups, points).int()
        if ordered and orders
        else None,
    }


def laid_out(x, how):
    """Return a copy of (batch, points, group, channel) with other strides."""
    if how == "points":
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if how == "odd":
        return torch.stack([x, x], -1)[..., 0]
    if how == "sliced":
        return torch.cat([x, x], -1)[..., : x.shape[-1]]
    return x


def flat(*given):
    """Make a scan of its tensors, the factors and the order of its path, and plain values."""
    *tensors, scale, order, layout, softplus, rule = given
    fours = (layout[i : i + 4] for i in range(0, len(layout), 4))
    path = ScanPath(tuple(Direction(*three, bool(back)) for *three, back in fours), order, scale)
    return ScanArguments(*tensors, path=path, softplus=softplus, discretization=rule)


def differences(inputs, layout, *, softplus=True, rule="simplified"):
    """Return the errors of the output and of every gradient, relative to the largest value."""
    exact = {
        name: value.double().requires_grad_(name in DIFFERENTIABLE)
        if value is not None and name != "order"
        else value
        for name, value in inputs.items()
    }
    expected = loop(exact, layout, softplus=softplus, rule=rule)
    dy = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    given_names = [name for name in DIFFERENTIABLE if inputs[name] is not None]
    gradients = torch.autograd.grad(
        expected, [exact[name] for name in given_names], dy.double(), allow_unused=True
    )
    scan = flat(*inputs.values(), layout, softplus, rule)
    y, states, _ = launch.arranged_forward(scan.tensors, scan.how, save=True)
    gradients_found = launch.arranged_backward(scan.tensors, scan.how, states, dy)[:-1]
    by_name = dict(zip(DIFFERENTIABLE, gradients_found, strict=True))
    assert [name for name in DIFFERENTIABLE if by_name[name] is not None] == given_names
    pairs = {"y": (y, expected)}
    for name, gradient in zip(given_names, gradients, strict=True):
        wanted = torch.zeros_like(exact[name]) if gradient is None else gradient
        pairs[f"d{name}"] = (by_name[name], wanted)
    errors = {}
    for name, (ours, wanted) in pairs.items():
        assert ours.shape == wanted.shape, name
        largest = wanted.abs().max().item() if wanted.numel() else 0.0
        error = (ours.double() - wanted).abs().max().item() if wanted.numel() else 0.0
        errors[name] = error / max(largest, 1e-6)
    return errors
