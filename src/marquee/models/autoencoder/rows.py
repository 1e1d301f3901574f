"""What autoencoders of user rows share: a first layer that reads only what is there, and the multinomial likelihood."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from marquee.data.interactions.histories import Histories
from marquee.models.sparse import Rows, product


class Cells(nn.Module):
    """The first layer: W^T x + b for a row x of length 1 that has the same value at each item that the user met.

    Liang et al. 2018, "Variational autoencoders for collaborative filtering", WWW: the input is normalised (L2), then
    dropped out. Of the matrix [batch, n_items] only the cells that are not zero are ever formed.
    """

    def __init__(self, n_items: int, width: int):
        super().__init__()
        self.n_items = n_items
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_items, width)))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, histories: Histories, dropout: float = 0.0) -> Tensor:
        """Float32 [batch, width]; `dropout` is the share of the input that is left out."""
        keys, counts = cells(histories, self.n_items)
        rows, items = keys // self.n_items, keys % self.n_items
        values = F.dropout(counts.to(self.weight.dtype).rsqrt()[rows], dropout, training=dropout > 0)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        matrix = transposed = Rows(items, offsets, values)
        if torch.is_grad_enabled():
            transposed = Rows.of(items, rows, values, self.n_items)
        return product(matrix, self.weight, transposed) + self.bias

    def dense(self, seen: Tensor, dropout: float = 0.0) -> Tensor:
        """As `forward`, of rows of ones that are written out, float32 [batch, n_items]: to be exported."""
        return (seen * seen.sum(1, keepdim=True).clamp(min=1).rsqrt()) @ self.weight + self.bias


def cells(histories: Histories, n_items: int) -> tuple[Tensor, Tensor]:
    """Which cells of [batch, n_items] are met, ascending, each once, as row * n_items + item; how many a row has."""
    keys = (histories.rows() * n_items + histories.items).unique()
    return keys, torch.bincount(keys // n_items, minlength=len(histories.offsets) - 1)


class _Multinomial(torch.autograd.Function):
    """Sum over a row's items i of -log softmax(logits)_i, mean over rows, with its gradient in closed form.

    With n items in a row the gradient of its logits is n softmax - x: one pass, and no dense x.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, keys: Tensor, counts: Tensor) -> Tensor:
        log_sum = logits.logsumexp(1)
        ctx.save_for_backward(logits, log_sum, keys, counts)
        met = logits.reshape(-1).index_select(0, keys)
        return ((log_sum * counts).sum() - met.sum()) / len(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, log_sum, keys, counts = ctx.saved_tensors
        scale = grad / len(logits)
        slope = (logits - log_sum[:, None]).exp_().mul_((counts * scale)[:, None])
        slope.view(-1).index_add_(0, keys, -scale.expand(len(keys)))
        return slope, None, None


def multinomial_loss(logits: Tensor, histories: Histories) -> Tensor:
    """-log likelihood of the rows under the multinomial with these logits [batch, n_items], mean over rows (scalar).

    Liang et al. 2018, section 2.1.2.
    """
    keys, counts = cells(histories, logits.shape[1])
    return _Multinomial.apply(logits.float(), keys, counts)
