"""Ranking metrics where each event has one target: from how many items stand above it, without any list."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from marquee.errors import JobError


def places(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How many items score higher than the target and how many the same, itself among them: int64 [batch] both.

    scores  [batch, n_items], -inf where an item is left out; targets  int64 [batch]
    """
    own = scores.gather(1, targets[:, None])
    return (scores > own).sum(1), (scores == own).sum(1)


def of_one_target(above: np.ndarray, tied: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """recall, mrr and ndcg at each cut-off, float64 [n], as expectations over the orders of tied items.

    The target stands at each of the positions above + 1 ... above + tied with the same chance. At position p it counts
    1 for recall, 1 / p for mrr and 1 / log2(1 + p) for ndcg where p <= k, else nothing. These are the metrics of
    `metrics.ranking` for a single relevant item, without sorting.
    """
    found = {}
    for k in ks:
        position = np.arange(1, k + 1)
        gains = {"recall": np.ones(k), "mrr": 1 / position, "ndcg": 1 / np.log2(position + 1)}
        first, last = np.minimum(above, k), np.minimum(above + tied, k)
        for name, gain in gains.items():
            total = np.concatenate([[0.0], np.cumsum(gain)])
            found[f"{name}@{k}"] = (total[last] - total[first]) / np.maximum(tied, 1)
    return found


def refuse_no_order(scores: Tensor) -> None:
    """Raise JobError for scores [batch, n_items] among which is NaN, or +inf, which would hide an order."""
    if bool((scores < torch.inf).all()):  # nor is NaN below it
        return
    found = "NaN" if bool(scores.isnan().any()) else "infinity"
    raise JobError(
        f"The model scored an item with {found}, so nothing can be ranked. The weights have diverged: lower "
        "the learning rate (optimizer.lr=...) or clip gradients (trainer.gradient_clip_val=1)."
    )
