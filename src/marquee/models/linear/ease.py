"""EASE: a linear item-to-item model with a closed form, hard to beat on dense data."""

import logging
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.linear.gram import PANEL_CELLS, binary_matrix, co_counts
from marquee.models.linear.kept import KeptWeights
from marquee.models.linear.memory import refuse_too_large

log = logging.getLogger(__name__)


class EASE(Recommender):
    """B = I - P / diag(P) with P = (X^T X + lambda I)^-1, scores = history @ B.

    Steck 2019, "Embarrassingly shallow autoencoders for sparse data", eq. 8. P takes n_items^2 x 4 bytes, and so does
    what is kept of a `dense` B.

    l2    the paper's lambda
    keep  `dense`, or how many weights are kept for each item, the largest by absolute value; what is kept is what is
          evaluated, so the metrics say what the others were worth

    Raises ConfigError where the memory for that is not there.
    """

    scores_unseen_users = adds_up = True
    max_epochs = 1
    named: ClassVar[str] = "linear/ease"  # in messages

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        l2: Annotated[float, Gt(0)] = 500.0,
        keep: Literal["dense"] | Annotated[int, Ge(1)] = "dense",
    ):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.l2 = l2
        if keep == "dense":
            refuse_too_large(
                f"model={self.named}", spec.n_items, DENSE, f"model.keep=100, which needs half as much; {INSTEAD}"
            )
            self.register_buffer("weight", torch.zeros(spec.n_items, spec.n_items))
            self.kept = None
        else:
            self.kept = KeptWeights(spec.n_items, keep)

    def fit(self, batch: MatrixBatch) -> None:
        if self.kept is None:
            self._invert(batch, self.weight)
            self.weight.div_(-self.weight.diagonal().clone()).fill_diagonal_(0)
            return
        refuse_too_large(f"model={self.named}", self.n_items, KEPT, INSTEAD)
        inverse = torch.empty(self.n_items, self.n_items, device=batch.items.device)
        self._invert(batch, inverse)
        size, total = max(1, PANEL_CELLS // self.n_items), 0.0
        for start in range(0, self.n_items, size):
            rows = slice(start, min(start + size, self.n_items))
            # P is symmetric: a row of it, by its own diagonal, is a column of B, all that speaks for one item.
            weights = inverse[rows] / -inverse.diagonal()[rows, None]
            weights.diagonal(start).zero_()
            total += float(weights.abs().sum())
            self.kept.keep(rows, weights)
        share = float(self.kept.values.abs().sum()) / max(total, 1e-30)
        log.info(
            "%s keeps %d of %d weights an item, with %.1f %% of the sum of all absolute weights; "
            "the metrics are those of what is kept", type(self).__name__, self.kept.n, self.n_items, 100 * share,
        )  # fmt: skip

    def _invert(self, batch: MatrixBatch, into: Tensor) -> None:
        """P [n_items, n_items], formed where it shall lie: by columns, as LAPACK wants them, nothing is copied."""
        for rows, counts in co_counts(binary_matrix(batch.users, batch.items, self.n_items)):
            into[rows] = counts.to(into)
        self.regularise(into.diagonal())
        columns = into.T
        torch.linalg.cholesky(columns, out=columns)
        torch.cholesky_inverse(columns, out=columns)

    def regularise(self, counts: Tensor) -> None:
        """Add the penalty to the diagonal of X^T X [n_items], which counts the users of each item, in place."""
        counts.add_(self.l2)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return histories.matrix(self.n_items) @ self.weight if self.kept is None else self.kept.score(histories)


# Matrices [n_items, n_items] that a run holds at its height: beside a dense weight, its copy from the checkpoint.
DENSE, KEPT = 2.1, 1.1
INSTEAD = "a larger data.k_core, which leaves fewer items, or model=neighbours/item_knn or mf/bpr, which need less"
