"""The linear mixers: GNOT's normalised linear attention."""

from __future__ import annotations

from torch import Tensor, nn

from mno.nn.mixers.attention import CrossMixer, Quadrature, SelfMixer, merge, weigh


class LinearMixer(SelfMixer):
    """Mix points by normalised linear attention, linear in their number.

    With queries q and keys k passed through a softmax over the features of a head, so that both are
    positive and sum to one, values v and cells of volume w, each head returns

        y_i = q_i + sum_j w_j (q_i . k_j) v_j / sum_j w_j (q_i . k_j),

    where the sums over j are taken first, once for all i; `out_proj` follows.

    Args:
        d_model: Features per point.
        heads: Parts into which the features are divided; each attends by itself.

    Raises:
        ValueError: A size is not positive, or `heads` does not divide `d_model`.

    Source:
        Hao et al., "GNOT", arXiv:2302.14376, for one input function; the weights w are ours.
    """

    def __init__(self, d_model: int, *, heads: int = 4) -> None:
        super().__init__(d_model, heads)
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def _mix(self, x: Tensor, source: Tensor, quadrature: Quadrature) -> Tensor:
        q = self._split(self.q_proj(x)).softmax(-1)
        k = weigh(self._split(self.k_proj(source)).softmax(-1), quadrature)
        v = self._split(self.v_proj(source))
        total = q @ k.sum(-2).unsqueeze(-1)
        return self.out_proj(merge(q + q @ (k.mT @ v) / total))


class LinearCrossMixer(CrossMixer, LinearMixer):
    """Mix a second input into points by normalised linear attention.

    Keys and values are the source's. Arguments, equation and source are those of `LinearMixer`.
    """
