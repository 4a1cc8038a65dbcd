"""The softmax mixers: attention as in transformers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mno.nn.mixers.heads import CrossMixer, SelfMixer, Shares, merge


class SoftmaxMixer(SelfMixer):
    """Mix points by softmax attention, quadratic in their number.

    With queries q, keys k and values v linear in the features, and cells of volume w, each head of
    d features returns

        y_i = sum_j w_j exp(q_i . k_j / sqrt(d)) v_j / sum_j w_j exp(q_i . k_j / sqrt(d)),

    the usual attention where all cells are equal; `out_proj` follows.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each attends by itself.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.

    Source:
        Vaswani et al., arXiv:1706.03762, section 3.2; as a quadrature, Kovachki et al.,
        arXiv:2108.08481, section 5.2.
    """

    def __init__(self, d_model: int, *, heads: int = 4) -> None:
        super().__init__(d_model, heads)
        # Without offsets: that of the keys would cancel in the softmax.
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, shares: Shares) -> Tensor:
        y = F.scaled_dot_product_attention(
            self._split(self.q_proj(x)),
            self._split(self.k_proj(source)),
            self._split(self.v_proj(source)),
            attn_mask=None if shares is None else shares.log().expand(1, 1, 1, -1),
        )
        return self.out_proj(merge(y))


class SoftmaxCrossMixer(CrossMixer, SoftmaxMixer):
    """Mix a second input into points by softmax attention: keys and values are the source's.

    Arguments, equation and source are those of `SoftmaxMixer`.
    """
