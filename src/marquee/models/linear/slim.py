"""SLIM: a sparse linear item-to-item model, an elastic net for each item."""

import logging
from typing import Annotated

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
from marquee.models.sparse import Rows

log = logging.getLogger(__name__)

BLOCK_CELLS = 8_000_000  # cells of the Gram matrix that are gathered at a time: 32 MB
JOINING = 48  # other items that join those that explain an item at a time
TOLERANCE = 1e-5  # weights that move less in a sweep have arrived
SLACK = 1e-4  # share of l1 by which a condition may be violated
SWEEPS, MAX_TURNS = 3, 60  # sweeps before the exact values for the signs that they found; how often at most


class SLIM(Recommender):
    """score(u, i) = sum over j of the history of w(j, i), where w(., i) is the elastic net that explains column i.

    Ning & Karypis 2011, "SLIM: sparse linear methods for top-N recommender systems", ICDM, section 4: of
    1/2 |x_i - X w|^2 + l2/2 |w|^2 + l1 |w|_1 the minimum with w_i = 0 and, when `positive`, w >= 0.

    It is found by coordinate descent on the Gram matrix (Friedman et al. 2010, "Regularization paths for generalized
    linear models via coordinate descent", section 2.2), for many items at once, on the few others that matter to
    each: those that violate the optimality conditions join until there are none. So nothing is approximated.

    l1        the more, the fewer weights are not zero
    l2        ridge penalty
    keep      weights kept for each item, the largest by absolute value; beyond what the elastic net leaves it costs
              only space
    """

    scores_unseen_users = adds_up = True
    max_epochs = 1

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        l1: Annotated[float, Gt(0)] = 5.0,
        l2: Annotated[float, Ge(0)] = 200.0,
        positive: bool = True,
        keep: Annotated[int, Ge(1)] = 200,
    ):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.l1, self.l2 = l1, l2
        self.positive = positive
        self.kept = KeptWeights(spec.n_items, keep)

    def fit(self, batch: MatrixBatch) -> None:
        refuse_too_large("model=linear/slim", self.n_items, 1.1, INSTEAD)
        gram = torch.empty(self.n_items, self.n_items, device=batch.items.device)
        for rows, counts in co_counts(binary_matrix(batch.users, batch.items, self.n_items)):
            gram[rows] = counts.to(gram)
        size, most = max(1, PANEL_CELLS // self.n_items), 0
        for start in range(0, self.n_items, size):
            rows = slice(start, min(start + size, self.n_items))
            weights = self.explain(gram, rows)
            most = max(most, int(weights.count_nonzero(dim=1).max()))
            self.kept.keep(rows, weights)
        if most > self.kept.n:
            log.info("SLIM keeps %d of up to %d weights an item (model.keep)", self.kept.n, most)

    def explain(self, gram: Tensor, rows: slice) -> Tensor:
        """Row by row the elastic nets [rows, n_items] of some items, from the Gram matrix [n_items, n_items]."""
        wanted = gram[rows].clone()
        wanted.diagonal(rows.start).zero_()
        weights = torch.zeros_like(wanted)
        own = torch.arange(rows.start, rows.stop, device=gram.device)[:, None]
        left, pull = torch.arange(len(own), device=gram.device), wanted  # the items that are not done
        while len(left):
            pull = pull.scatter(1, own[left], 0)  # an item cannot explain itself
            found = weights[left]
            missing = ((pull if self.positive else pull.abs()) > self.l1 * (1 + SLACK)) & (found == 0)
            undone = missing.any(1)
            left, pull, found, missing = left[undone], pull[undone], found[undone], missing[undone]
            if not len(left):
                break
            inside = (found != 0).sum(1)
            n = min(self.n_items, int((inside + missing.sum(1).clamp(max=JOINING)).max()))
            # What has a weight stays; the others come in by the order of what they would add.
            chosen = pull.abs().mul_(missing).masked_fill_(found != 0, torch.inf).topk(n, dim=1).indices
            for part in torch.arange(len(left), device=gram.device).split(max(1, BLOCK_CELLS // n**2)):
                some = chosen[part]
                moved = self._descend(
                    gram[some[:, :, None], some[:, None, :]], wanted[left[part]].gather(1, some),
                    found[part].gather(1, some), some == own[left[part]],
                )  # fmt: skip
                found[part] = found[part].scatter(1, some, moved)
            weights[left] = found
            pull = wanted[left] - _times(found, gram)
        return weights

    def _descend(self, gram: Tensor, wanted: Tensor, weights: Tensor, own: Tensor) -> Tensor:
        """The minimum [batch, n] over n coordinates of each of `batch` problems, from `weights` on.

        gram [batch, n, n] and wanted [batch, n] are the parts of X^T X and X^T x_i; no item explains itself (`own`).
        """
        weights, left = weights.clone(), torch.arange(len(gram), device=gram.device)
        for _ in range(MAX_TURNS):
            found, still = self._swept(gram, wanted, weights[left], own)
            polished = self._polished(gram, wanted, found)
            weights[left] = torch.where(still[:, None], polished, found)
            if not still.any():
                break
            left, gram, wanted, own = left[still], gram[still], wanted[still], own[still]
        return weights

    def _swept(self, gram: Tensor, wanted: Tensor, weights: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """The weights after some sweeps over all coordinates, and which problems [batch] still moved in the last."""
        pull = wanted - torch.einsum("bjk,bk->bj", gram, weights)
        diagonal = gram.diagonal(dim1=1, dim2=2).T.contiguous()
        divisor, own, weights = (diagonal + self.l2).clamp(min=1e-12), own.T.contiguous(), weights.T.clone()
        for _ in range(SWEEPS):
            before = weights.clone()
            for k in range(len(weights)):  # coordinates in turn; each is one step for all problems
                target = torch.addcmul(pull[:, k], diagonal[k], weights[k])
                moved = (target - self.l1).clamp_(min=0)
                if not self.positive:
                    moved -= (-target - self.l1).clamp_(min=0)
                moved.div_(divisor[k]).masked_fill_(own[k], 0)
                pull.addcmul_(gram[:, k], (weights[k] - moved)[:, None])
                weights[k] = moved
        return weights.T.contiguous(), (weights - before).abs().amax(0) >= TOLERANCE

    def _polished(self, gram: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
        """The minimum [batch, n] for weights with these signs, which is exact once the signs are; else `weights`.

        Coordinate descent finds the signs in a few sweeps, but takes hundreds for the values of items that go together.
        """
        signs = weights.sign()
        used = signs.abs()
        system = gram * used[:, :, None] * used[:, None, :]
        system.diagonal(dim1=1, dim2=2).add_(torch.where(signs == 0, 1.0, self.l2))
        factor, failed = torch.linalg.cholesky_ex(system)
        values = torch.cholesky_solve(((wanted - self.l1 * signs) * used)[:, :, None], factor)[:, :, 0]
        sound = ((values * signs >= 0).all(1) & (failed == 0))[:, None]
        return torch.where(sound, values * used, weights)

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.kept.score(histories)


def _times(weights: Tensor, gram: Tensor) -> Tensor:
    """The product of mostly empty rows [batch, n_items] with the Gram matrix."""
    rows, columns = weights.nonzero(as_tuple=True)
    return Rows.of(rows, columns, weights[rows, columns], len(weights)).times(gram)


INSTEAD = "a larger data.k_core, which leaves fewer items, or model=neighbours/item_knn or mf/bpr, which need less"
