"""EASE: a linear item-to-item model with a closed form, hard to beat on dense data."""

import logging
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from scipy import sparse
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Change, Recommender
from marquee.models.linear.gram import PANEL_CELLS, binary_matrix, co_counts
from marquee.models.linear.kept import KeptWeights
from marquee.models.linear.memory import refuse_too_large

log = logging.getLogger(__name__)


class EASE(Recommender):
    """B = I - P / diag(P) with P = (X^T X + lambda I)^-1, scores = history @ B.

    Steck 2019, "Embarrassingly shallow autoencoders for sparse data", eq. 8. P takes n_items^2 x 4 bytes, and so does
    what is kept of a `dense` B.

    A finished run keeps the diagonal of P beside a dense B, n_items more floats, from which P follows: -B diag(P). So
    new interactions, and users who are to be forgotten, need no second training (`update`).

    l2    the paper's lambda
    keep  `dense`, or how many weights are kept for each item, the largest by absolute value; what is kept is what is
          evaluated, so the metrics say what the others were worth

    Raises ConfigError where the memory for that is not there.
    """

    scores_unseen_users = adds_up = True
    max_epochs = 1
    updates = "exact"
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
            self.register_buffer("inverse_diagonal", torch.zeros(spec.n_items))
            self.kept = None
        else:
            self.kept = KeptWeights(spec.n_items, keep)

    def fit(self, batch: MatrixBatch) -> None:
        if self.kept is None:
            self._invert(batch, self.weight)
            self._from_inverse()
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

    def _from_inverse(self) -> None:
        """B in place of P, whose diagonal is kept."""
        self.inverse_diagonal.copy_(self.weight.diagonal())
        self.weight.div_(-self.inverse_diagonal).fill_diagonal_(0)

    @torch.no_grad()
    def update(self, former: "EASE", change: Change) -> bool:
        """P of the changed matrix from P of the former one, by Woodbury's identity: with the k changed rows U, those
        that went with the sign -1 and those that came with +1 in C, it is P - P U^T (C + U P U^T)^-1 U P.

        Jeunen, Van Balen & Goethals 2022, "Embarrassingly shallow auto-encoders for dynamic collaborative filtering",
        UMUAI. That takes 2 k n_items^2 steps against some n_items^3 of forming P anew: refused from k = n_items / 4 on.
        Refused, too, where single precision does not carry it, which is so for a small lambda: P times what it is the
        inverse of must give back a few random vectors of +1 and -1 up to RESIDUAL.
        """
        rows = sparse.vstack([change.removed, change.added], format="csr").astype(np.float32)
        signs = np.repeat([-1.0, 1.0], [change.removed.shape[0], change.added.shape[0]])
        kept = rows.getnnz(axis=1) > 0
        rows, signs = rows[kept], torch.from_numpy(signs[kept])
        own_penalty = type(self).regularise is not EASE.regularise  # it may grow with counts: then all of P changes
        if (
            self.kept is not None
            or own_penalty
            or former.kept is not None
            or not bool((former.inverse_diagonal > 0).all())
        ):
            return False
        if 4 * len(signs) > self.n_items or int((change.items >= 0).sum()) < change.former_items:
            return False  # too many rows to be worth it; or an item has gone, and its row of P with it
        inverse, diagonal = self.weight, former.inverse_diagonal
        known = change.items >= 0
        source = change.items[known]
        if bool(known.all()) and len(source) == change.former_items:  # nobody is new, so ids stand where they stood
            torch.mul(former.weight, -diagonal, out=inverse)
        else:
            inverse.zero_()
            block = (former.weight * -diagonal)[source[:, None], source]
            places = known.nonzero()[:, 0]
            inverse[places[:, None], places] = block
        own = torch.full((self.n_items,), 1 / self.l2, dtype=inverse.dtype)  # of an item that nobody has met
        own[known] = diagonal[source]
        inverse.diagonal().copy_(own)
        if len(signs):
            met = torch.from_numpy(rows @ inverse.numpy())  # U P
            inner = torch.from_numpy(rows.astype(np.float64) @ met.T.double().numpy()) + torch.diag(signs)
            inverse.addmm_(met.T, torch.linalg.solve(inner, met.double()).float(), alpha=-1)
        if (off := self._residual(change.batch)) > RESIDUAL:
            log.info("the step would be off by %.2g in single precision, so all of it is formed anew", off)
            self.weight.zero_()
            return False
        self._from_inverse()
        return True

    def _residual(self, batch: MatrixBatch) -> float:
        """By how much P (X^T X + lambda I) v misses v at most, where P still stands in `weight`."""
        x = binary_matrix(batch.users, batch.items, self.n_items).astype(np.float64)
        v = np.random.default_rng(0).choice((-1.0, 1.0), (self.n_items, 4))
        found = self.weight @ torch.from_numpy(x.T @ (x @ v) + self.l2 * v).to(self.weight)
        return float(np.abs(found.numpy() - v).max())

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        if self.kept is None:  # earlier versions did not keep it: such a run is formed anew when it is updated
            state_dict.setdefault(prefix + "inverse_diagonal", torch.zeros(self.n_items))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

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
# Below it no weight was off by more than 1e-4 on MovieLens-100K, where some are .5; a fresh inverse has about .001.
RESIDUAL = 0.01
INSTEAD = "a larger data.k_core, which leaves fewer items, or model=neighbours/item_knn or mf/bpr, which need less"
