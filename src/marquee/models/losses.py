"""Losses for next-item models, over the positions of a batch that have a target.

`hidden` is [n, dim], one row a position; `targets` is int64 [n]; `weight` is [n_items, dim]; logits are
hidden @ weight.T. Each loss is the mean over positions.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

# Logits formed at a time: 4 MB of float32, which stay in the last-level cache of most machines; on a card 256 MB, as
# each chunk costs a dozen launches there.
CHUNK_CELLS, CHUNK_CELLS_ON_A_CARD = 1_000_000, 64_000_000


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Full cross-entropy that never holds all logits: each chunk's gradient is formed while its logits are at hand.

    With E = exp(logits - max) and z its row sums, the gradients are E W / z - W[targets] and E^T (H / z), less H added
    up by target: E is read by two products and never divided, which saves three passes over it (a fifth of the time).
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        n, n_items = len(hidden), len(weight)
        cells = CHUNK_CELLS if hidden.device.type == "cpu" else CHUNK_CELLS_ON_A_CARD
        size = max(1, cells // n_items)
        need_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden)
        # In float32 even where products are not: a sum in bfloat16 stops at some 256 terms of one size.
        grad_weight = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, n, size):
            rows, wanted = hidden[start : start + size], targets[start : start + size, None]
            logits = (rows @ weight.T).float()
            top = logits.amax(1, keepdim=True)
            total -= (logits.gather(1, wanted) - top).sum()
            exponentials = logits.sub_(top).exp_()
            sums = exponentials.sum(1, keepdim=True)
            total += sums.log().sum()
            if need_gradient:
                exponentials, inverse = exponentials.to(hidden.dtype), sums.reciprocal_().to(hidden.dtype)
                torch.mul(exponentials @ weight, inverse, out=grad_hidden[start : start + size])
                if grad_weight.dtype == hidden.dtype:
                    grad_weight.addmm_(exponentials.T, rows * inverse)
                else:
                    grad_weight += exponentials.T @ (rows * inverse)
        if need_gradient:
            grad_hidden -= weight[targets]
            grad_weight.index_add_(0, targets, hidden.to(grad_weight.dtype), alpha=-1)
        ctx.n, ctx.dtype = n, weight.dtype
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total / n

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        grad = grad / ctx.n
        return grad_hidden * grad, (grad_weight * grad).to(ctx.dtype), None


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The same value and gradient as `full_cross_entropy`, in less memory and time."""
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        # Custom functions are outside autocast: the products run in its type, the sums in float32.
        with torch.autocast(hidden.device.type, enabled=False):
            return _ChunkedCrossEntropy.apply(hidden.to(dtype), weight.to(dtype), targets)
    return _ChunkedCrossEntropy.apply(hidden, weight, targets)


def full_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Softmax over all items, all logits at once."""
    return F.cross_entropy(hidden @ weight.T, targets)


def sampled_softmax(hidden: Tensor, weight: Tensor, targets: Tensor, n_negatives: int) -> Tensor:
    """Softmax over the target and uniform negatives that the whole batch shares, so that scoring is one product.

    A negative that equals a position's target is left out of that position's sum. Jean et al. 2015, "On using very
    large target vocabulary for neural machine translation"; with uniform sampling the correction is a constant.
    """
    positive, logits, same = _shared_negatives(hidden, weight, targets, n_negatives)
    logits = logits.masked_fill(same, -torch.inf)
    return (torch.cat([positive, logits], 1).logsumexp(1) - positive[:, 0]).mean()


def binary_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, n_negatives: int, calibration: float = 0.0
) -> Tensor:
    """BCE with `n_negatives` uniform negatives a position; with `calibration` t > 0 the gBCE of gSASRec.

    A position's loss is the mean over its target and its negatives: 1 / (n_negatives + 1) of their sum. gBCE raises the
    positive's probability to the power beta = alpha (t (1 - 1/alpha) + 1/alpha), where alpha is the sampling rate
    n_negatives / (n_items - 1), at most 1. Petrov & Macdonald 2023, "gSASRec: reducing overconfidence in sequential
    recommendation trained with negative sampling", eq. 12-14. t = 0 is plain BCE; Kang & McAuley 2018, eq. 7, add up
    one target and one negative, which is twice their mean (and the same to Adam).
    """
    n_items = len(weight)
    # Shifting past the target keeps draws uniform over all the other items.
    negatives = torch.randint(n_items - 1, (len(targets), n_negatives), device=hidden.device)
    negatives = negatives + (negatives >= targets[:, None])
    positive = (hidden * weight[targets]).sum(1)
    negative = torch.einsum("nd,nkd->nk", hidden, weight[negatives])
    alpha = min(1.0, n_negatives / (n_items - 1))
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    return -(beta * F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean() / (n_negatives + 1)


def bpr(hidden: Tensor, weight: Tensor, targets: Tensor, n_negatives: int) -> Tensor:
    """-log sigmoid(r_target - r_negative), averaged over uniform negatives that the whole batch shares.

    Rendle et al. 2009, "BPR: Bayesian personalized ranking from implicit feedback", section 4; with several negatives
    as in Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks". A negative that equals a
    position's target adds nothing.
    """
    positive, logits, same = _shared_negatives(hidden, weight, targets, n_negatives)
    return F.softplus(logits - positive).masked_fill(same, 0).mean()


def bpr_max(hidden: Tensor, weight: Tensor, targets: Tensor, n_negatives: int, regularization: float = 1.0) -> Tensor:
    """-log sum_j s_j sigmoid(r_target - r_j) + regularization * sum_j s_j r_j^2, with s the softmax of the negatives.

    The negatives are weighed by how close they are to being the largest. They are uniform and shared by the batch, and
    one that equals a position's target is left out of that position's sums. Hidasi & Karatzoglou 2018, "Recurrent
    neural networks with top-k gains for session-based recommendations", the section on BPR-max.
    """
    positive, logits, same = _shared_negatives(hidden, weight, targets, n_negatives)
    lowest = torch.finfo(logits.dtype).min / 2  # and not -inf: where nothing is left the loss is 0
    kept = logits.masked_fill(same, lowest)
    log_share = kept.log_softmax(1)
    penalty = (log_share.exp() * logits.square()).masked_fill(same, 0).sum(1)
    return (regularization * penalty - (log_share + F.logsigmoid(positive - kept)).logsumexp(1)).mean()


def _shared_negatives(hidden: Tensor, weight: Tensor, targets: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the targets [rows, 1], of `n` uniform items [rows, n], and where those are the row's target."""
    negatives = torch.randint(len(weight), (n,), device=hidden.device)
    positive = (hidden * weight[targets]).sum(1, keepdim=True)
    return positive, hidden @ weight[negatives].T, targets[:, None] == negatives


class NextItemLoss:
    """Which of the losses above a model trains with.

    n_negatives     sampled items, for all kinds but the two cross-entropies
    calibration     t of gBCE
    regularization  weight of the negatives' squared scores in BPR-max
    """

    def __init__(
        self,
        *,
        kind: Literal[
            "cross_entropy", "full_cross_entropy", "sampled_softmax", "bce", "gbce", "bpr", "bpr_max"
        ] = "cross_entropy",
        n_negatives: Annotated[int, Ge(1)] = 256,
        calibration: Annotated[float, Interval(ge=0, le=1)] = 0.75,
        regularization: Annotated[float, Ge(0)] = 1.0,
    ):
        self.kind = kind
        self.n_negatives = n_negatives
        self.calibration = calibration
        self.regularization = regularization

    def __call__(self, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        if self.kind == "cross_entropy":
            return chunked_cross_entropy(hidden, weight, targets)
        if self.kind == "full_cross_entropy":
            return full_cross_entropy(hidden, weight, targets)
        if self.kind == "sampled_softmax":
            return sampled_softmax(hidden, weight, targets, self.n_negatives)
        if self.kind == "bpr":
            return bpr(hidden, weight, targets, self.n_negatives)
        if self.kind == "bpr_max":
            return bpr_max(hidden, weight, targets, self.n_negatives, self.regularization)
        calibration = self.calibration if self.kind == "gbce" else 0.0
        return binary_cross_entropy(hidden, weight, targets, self.n_negatives, calibration)
