"""The Galerkin and the Fourier mixers: attention without softmax, as an integral."""

from __future__ import annotations

from torch import Tensor, nn

from mno.nn.mixers.attention import (
    CrossMixer,
    HeadNorm,
    Quadrature,
    SelfMixer,
    dominant_projection,
    merge,
    weigh,
)


class GalerkinMixer(SelfMixer):
    """Mix points by Galerkin attention, linear in their number.

    With queries q, keys k and values v linear in the features, k and v normalised in each head, and
    cells whose shares w of the volume sum to one, each head returns

        y_i = q_i (sum_j w_j k_j^T v_j):

    an expansion in the basis functions q whose coefficients are inner products of k and v;
    `out_proj` follows. With n equal cells w = 1/n. Coordinates are not appended: they belong to the
    input.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each attends by itself.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.

    Source:
        Cao, "Choose a Transformer: Fourier or Galerkin", arXiv:2105.14995, section 3.
    """

    normed = ("k", "v")

    def __init__(self, d_model: int, *, heads: int = 4) -> None:
        super().__init__(d_model, heads)
        self.q_proj = dominant_projection(d_model)
        self.k_proj = dominant_projection(d_model)
        self.v_proj = dominant_projection(d_model)
        for name in self.normed:
            self.add_module(f"{name}_norm", HeadNorm(d_model, heads))
        self.out_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        parts = {"q": self.q_proj(x), "k": self.k_proj(source), "v": self.v_proj(source)}
        parts = {name: self._split(part) for name, part in parts.items()}
        for name in self.normed:
            parts[name] = self.get_submodule(f"{name}_norm")(parts[name])
        weighed = weigh(parts["v"], quadrature)
        return self.out_proj(merge(parts["q"] @ (parts["k"].mT @ weighed)))


class GalerkinCrossMixer(CrossMixer, GalerkinMixer):
    """Mix a second input into points by Galerkin attention: keys and values are the source's.

    Arguments, equation and source are those of `GalerkinMixer`.
    """


class FourierMixer(GalerkinMixer):
    """Mix points by Fourier attention: an integral with the learned kernel q_i . k_j.

    With queries q, keys k and values v linear in the features, q and k normalised in each head, and
    cells whose shares w of the volume sum to one, each head returns

        y_i = sum_j w_j (q_i . k_j) v_j;

    `out_proj` follows. With n equal cells w = 1/n. Without a softmax the sum over j may be taken
    first, q_i (sum_j w_j k_j^T v_j), so that the cost is linear in the number of points.
    Coordinates are not appended: they belong to the input.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each attends by itself.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.

    Source:
        Cao, "Choose a Transformer: Fourier or Galerkin", arXiv:2105.14995, section 3; its code also
        divides by the root of the features per head, which the learned scales of q and k take up.
    """

    normed = ("q", "k")


class FourierCrossMixer(CrossMixer, FourierMixer):
    """Mix a second input into points by Fourier attention: keys and values are the source's.

    Arguments, equation and source are those of `FourierMixer`.
    """
