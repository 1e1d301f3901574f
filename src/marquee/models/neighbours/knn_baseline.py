"""kNN-Baseline: biases, corrected by how far those like it were off them."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from scipy import sparse
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import RatingModel
from marquee.models.baseline.bias import biases
from marquee.models.linear.gram import PANEL_CELLS
from marquee.models.linear.memory import refuse_too_large

CELLS = 2**19  # (pair, neighbour) cells that are looked at at a time: 2 MB of float32


class KNNBaseline(RatingModel):
    """r(u, i) = b_ui + sum of s_ij (r_uj - b_uj) / sum of s_ij over the k items j most like i among those u rated.

    Koren 2010, "Factor in the neighbors: scalable and accurate collaborative filtering", TKDD 4(1), section 2.2, with
    the baseline estimates b_ui = mu + b_u + b_i of section 2.1. s_ij is the correlation of what common raters of both
    have given beyond their baselines (pearson_baseline), times (n - 1) / (n - 1 + shrinkage) for n of them; what is not
    positive does not count. `by: user` turns users and items round.

    neighbours  k, at most
    least       with fewer neighbours the baseline is predicted

    The similarities take n_items^2 x 4 bytes (n_users^2 with `by: user`), and the training ratings are kept.
    """

    max_epochs = 1

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        by: Literal["item", "user"] = "item",
        neighbours: Annotated[int, Ge(1)] = 40,
        least: Annotated[int, Ge(1)] = 1,
        shrinkage: Annotated[float, Ge(0)] = 100.0,
        l2_users: Annotated[float, Ge(0)] = 5.0,
        l2_items: Annotated[float, Ge(0)] = 5.0,
        sweeps: Annotated[int, Ge(1)] = 10,
    ):
        super().__init__()
        n = spec.n_items if by == "item" else spec.n_users
        other = "user" if by == "item" else "item"
        refuse_too_large(
            "model=neighbours/knn_baseline", n, 4, f"model.by={other}, or model=mf/biased_mf, which need less"
        )
        self.view = view
        self.by, self.neighbours, self.least, self.shrinkage = by, neighbours, least, shrinkage
        self.l2_users, self.l2_items, self.sweeps = l2_users, l2_items, sweeps
        self.n_items = spec.n_items
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("users", torch.zeros(spec.n_users))
        self.register_buffer("items", torch.zeros(spec.n_items))
        self.register_buffer("similarity", torch.zeros(n, n))
        # The training ratings by owner: those of a user (by item), or of an item (by user).
        self.register_buffer(
            "offsets", torch.zeros((spec.n_users if by == "item" else spec.n_items) + 1, dtype=torch.int64)
        )
        self.register_buffer("members", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("rests", torch.zeros(0))

    def fit(self, batch: MatrixBatch) -> None:
        found = biases(batch, len(self.users), len(self.items), self.l2_users, self.l2_items, self.sweeps)
        for mine, learnt in zip((self.mean, self.users, self.items), found, strict=True):
            mine.copy_(learnt)
        rest = batch.values - self._baseline(batch.users, batch.items)
        owners, members = (batch.users, batch.items) if self.by == "item" else (batch.items, batch.users)
        shape = len(self.offsets) - 1, len(self.similarity)
        place = owners.cpu().numpy(), members.cpu().numpy()
        counted = sparse.csr_matrix((np.ones(len(rest), np.float32), place), shape=shape)
        matrix = sparse.csr_matrix((rest.float().cpu().numpy(), place), shape=shape)
        counted.sum_duplicates()
        matrix.sum_duplicates()
        matrix.data /= counted.data  # of a pair that is repeated, the mean
        counted.data[:] = 1
        self.offsets.copy_(torch.from_numpy(matrix.indptr))
        self.members = torch.from_numpy(matrix.indices.astype(np.int32)).to(self.offsets.device)
        self.rests = torch.from_numpy(matrix.data).to(self.offsets.device)
        self._compare(matrix, counted)

    def _compare(self, matrix: sparse.csr_matrix, counted: sparse.csr_matrix) -> None:
        """The similarities, some rows at a time, from sums over common raters: products of sparse matrices."""
        squares = matrix.copy()
        squares.data **= 2
        turned, turned_squares, turned_counts = (part.T.tocsr() for part in (matrix, squares, counted))
        n = len(self.similarity)
        for start in range(0, n, size := max(1, PANEL_CELLS // n)):
            rows = slice(start, min(start + size, n))
            both = (turned[rows] @ matrix).toarray()
            norms = (turned_squares[rows] @ counted).toarray() * (turned_counts[rows] @ squares).toarray()
            common = (turned_counts[rows] @ counted).toarray() - 1
            weights = np.maximum(both, 0) / np.sqrt(np.maximum(norms, 1e-12))
            weights *= np.maximum(common, 0) / np.maximum(common + self.shrinkage, 1e-12)
            self.similarity[rows] = torch.from_numpy(weights).to(self.similarity)
        self.similarity.fill_diagonal_(0)

    def _baseline(self, users: Tensor, items: Tensor) -> Tensor:
        return self.mean + self.users[users] + self.items[items]

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        owners, wanted = (users, items) if self.by == "item" else (items, users)
        found = self._baseline(users, items)
        for chunk in self._chunks(owners, 1):
            index, outside = self._ratings(owners[chunk])
            near = self.similarity[wanted[chunk, None], self.members[index].long()].masked_fill_(outside, 0)
            found[chunk] += self._correction(near, self.rests[index])
        return found

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        items = torch.arange(self.n_items, device=users.device)
        found = self._baseline(users[:, None], items)
        owners, wanted, table = (users, items, found) if self.by == "item" else (items, users, found.T)
        similarity = self.similarity if self.by == "item" else self.similarity[wanted]
        for chunk in self._chunks(owners, len(wanted)):
            index, outside = self._ratings(owners[chunk])
            near = similarity.index_select(1, self.members[index].view(-1)).view(len(wanted), *index.shape)
            if bool(outside.any()):
                near.masked_fill_(outside, 0)
            table[chunk] += self._correction(near, self.rests[index]).T
        return found

    def _chunks(self, owners: Tensor, times: int) -> Iterator[Tensor]:
        """Places in `owners`, those with as many ratings together, so that `times` their ratings fill CELLS."""
        lengths = self.offsets[owners + 1] - self.offsets[owners]
        order = lengths.argsort(stable=True)
        order = order[lengths[order] > 0]
        ends = (lengths[order] * times).cumsum(0) // CELLS
        yield from order.split(ends.unique_consecutive(return_counts=True)[1].tolist()) if len(order) else ()

    def _ratings(self, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Where the ratings of each owner stand, int64 [owners, longest], and which places are none."""
        lengths = (self.offsets[owners + 1] - self.offsets[owners])[:, None]
        places = torch.arange(int(lengths.max()), device=owners.device)
        outside = places >= lengths
        return (self.offsets[owners, None] + places).masked_fill_(outside, 0), outside

    def _correction(self, near: Tensor, rests: Tensor) -> Tensor:
        """What the nearest say beyond the baseline, [..., n], from similarities [..., n, width] and rests [n, width].

        Of neighbours that are equally near, where only some of them have a place, each has its share of it.
        """
        width = near.shape[-1]
        if width > self.neighbours:
            edge = _kth_largest(near, self.neighbours)[..., None]
            kept = near >= edge
            crowded = (kept.sum(-1) > self.neighbours) & (edge[..., 0] > 0)
            near = near * kept
            if bool(crowded.any()):
                some, at = near[crowded], edge[crowded]
                ties = (some == at).sum(-1, keepdim=True)
                free = self.neighbours - (some > at).sum(-1, keepdim=True)
                near[crowded] = torch.where(some == at, some * free / ties, some)
        sums = torch.einsum("...nw,nw->...n", near, rests) / near.sum(-1).clamp(min=1e-12)
        if self.least == 1:
            return sums
        enough = (near > 0).sum(-1).clamp(max=self.neighbours) >= self.least
        return torch.where(enough, sums, 0.0)

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        for name in ("members", "rests"):  # as many as there were training ratings
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.offsets.device))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _kth_largest(values: Tensor, k: int) -> Tensor:
    """[...] of values [..., width]. NumPy's partition takes a third of the time of torch's topk."""
    if values.device.type != "cpu":
        return values.topk(k, dim=-1, sorted=False).values.amin(-1)
    place = values.shape[-1] - k
    return torch.from_numpy(np.partition(values.numpy(), place, axis=-1)[..., place])
