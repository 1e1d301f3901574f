"""The least-squares problems of implicit ALS: one a row, all rows at once, with three ways to solve them.

Row u has the vector x_u that minimises, over its observed columns S_u and all the others,

    sum over i in S_u of w_ui (1 - <x_u, q_i>)^2  +  alpha0 sum over all i of <x_u, q_i>^2  +  penalty_u |x_u|^2

so that A_u x_u = b_u with A_u = alpha0 Q^T Q + sum of w_ui q_i q_i^T + penalty_u I and b_u = sum of w_ui q_i. Hu, Koren
& Volinsky 2008, "Collaborative filtering for implicit feedback datasets", section 4, as Rendle et al. 2022, "Revisiting
the performance of iALS on item recommendation benchmarks", section 3, weigh its parts.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Vectors that are gathered at a time, counted in numbers: 1 MB of float32, so that they are still in the cache when
# they are multiplied.
BUCKET_CELLS = 2**18


@dataclass(frozen=True)
class Rows:
    """Who has observed what, by rows (CSR). A column that stands twice in a row counts twice, with its weights.

    offsets  int32 [n + 1]
    columns  int32 [nnz]
    weights  float32 [nnz], w of each observed pair; None: 1
    width    how many columns there are
    """

    offsets: Tensor
    columns: Tensor
    weights: Tensor | None
    width: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def counts(self) -> Tensor:
        """How many pairs each row has, int64 [n]."""
        return (self.offsets[1:] - self.offsets[:-1]).long()

    @cached_property
    def owners(self) -> Tensor:
        """The row of each pair, int64 [nnz]."""
        numbers = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(numbers, self.counts, output_size=len(self.columns))

    @cached_property
    def popularity(self) -> Tensor:
        """The sum of the weights of each column, float32 [width]."""
        return torch.bincount(self.columns, self.weights, minlength=self.width).float()

    @cached_property
    def buckets(self) -> list[tuple[Tensor, int]]:
        """The rows in the order of their lengths, cut where lengths change much: (rows, the longest length) each."""
        lengths, order = self.counts.sort(stable=True)
        # A row that is a fifth longer than the first of its bucket opens the next: padding is a tenth at most.
        level = (lengths.clamp(min=1).double().log() / 0.18).long()
        sizes = level.unique_consecutive(return_counts=True)[1].tolist()
        return [(rows, int(lengths[end - 1])) for rows, end in zip(order.split(sizes), _ends(sizes), strict=True)]

    def weighed(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights

    def times(self, values: Tensor, q: Tensor) -> Tensor:
        """Sums over each row's pairs of `values` [nnz] times q [width, dim]: [n, dim]. Never gathered, never padded."""
        return self._matrix(values) @ q

    def predictions(self, x: Tensor, q: Tensor) -> Tensor:
        """<x_u, q_i> of each pair, [nnz]."""
        pattern = self._matrix(torch.zeros(len(self.columns), dtype=x.dtype, device=x.device))
        return torch.sparse.sampled_addmm(pattern, x, q.T, beta=0.0).values()

    def _matrix(self, values: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                self.offsets, self.columns, values, (len(self), self.width), check_invariants=False
            )

    def normal(self, q: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows [m], some at a time, and for each of them the sum of w q q^T: [m, dim, dim]."""
        q = torch.cat([q, q.new_zeros(1, q.shape[1])])  # the last one is what padding reads
        longest = int(self.counts.max()) if len(self) else 0
        padded = torch.cat([self.columns, self.columns.new_zeros(longest)])
        weights = None if self.weights is None else torch.cat([self.weights, self.weights.new_zeros(longest)])
        for bucket, length in self.buckets:
            places = torch.arange(length, device=q.device)
            for rows in bucket.split(max(1, BUCKET_CELLS // (max(1, length) * q.shape[1]))):
                index = self.offsets[rows].long()[:, None] + places
                inside = places < self.counts[rows, None]
                columns = torch.where(inside, padded.take(index), self.width).view(-1)
                vectors = q.index_select(0, columns).view(
                    len(rows), length, q.shape[1]
                )  # a third of the time of q[columns]
                left = vectors if self.weights is None else vectors * weights.take(index)[..., None]
                yield rows, left.transpose(1, 2) @ vectors


def both_sides(users: Tensor, items: Tensor, n_users: int, n_items: int) -> tuple[Rows, Rows, Tensor, Tensor]:
    """The pairs (int64 [n], sorted by users) as rows of users and as rows of items, of weight 1 each.

    Also int64 [n] each: which of the users' pairs stands at each place of the items', and the reverse.
    """
    to_items = items.argsort(stable=True)
    to_users = torch.empty_like(to_items)
    to_users[to_items] = torch.arange(len(items), device=items.device)
    by_user = Rows(_offsets(users, n_users), items.int(), None, n_items)
    by_item = Rows(_offsets(items, n_items), users[to_items].int(), None, n_users)
    return by_user, by_item, to_items, to_users


def _offsets(rows: Tensor, n: int) -> Tensor:
    counts = torch.bincount(rows, minlength=n)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


def _ends(sizes: list[int]) -> list[int]:
    return torch.tensor(sizes).cumsum(0).tolist()


@dataclass(frozen=True)
class Problem:
    """What the rows' vectors are asked for.

    rows     of the side that is solved
    q        [width, dim], the vectors of the other side
    alpha0   the weight of what was not observed
    penalty  [n] of each row
    """

    rows: Rows
    q: Tensor
    alpha0: float
    penalty: Tensor

    @cached_property
    def gram(self) -> Tensor:
        return self.alpha0 * (self.q.T @ self.q)

    def by_cholesky(self) -> Tensor:
        """The solution [n, dim], from the Cholesky factors of all A."""
        x = torch.empty(len(self.rows), self.q.shape[1], dtype=self.q.dtype, device=self.q.device)
        wanted = self.rows.times(self._ones, self.q)
        for rows, normal in self.rows.normal(self.q):
            x[rows] = self._solved(normal + self.gram, rows, wanted[rows])
        return x

    def by_conjugate_gradient(self, x: Tensor, predictions: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """`steps` steps of preconditioned conjugate gradients from x [n, dim]; what is then predicted, too.

        A typical row with n pairs has A = n C + alpha0 Q^T Q + penalty I, where C is the mean of q q^T over all pairs.
        In a basis in which C and the rest are both diagonal that is inverted once for all rows (see `_typical`). With
        this preconditioner a single step brings a sweep further than three plain ones.
        """
        back, scale = self._typical
        forth = back.T.contiguous()
        residual = self.rows.times(self.rows.weighed(1 - predictions), self.q)
        residual = torch.addmm(residual, x, self.gram, alpha=-1).addcmul_(x, self.penalty[:, None], value=-1)
        x, towards, former = x.clone(), torch.zeros_like(x), x.new_ones(len(x), 1)
        for step in range(steps):
            corrected = ((residual @ back) * scale) @ forth
            size = (residual * corrected).sum(1, keepdim=True)
            towards = corrected if step == 0 else corrected.addcmul_(towards, size / former)
            along = self.rows.predictions(towards, self.q)
            change = torch.addmm(self.rows.times(self.rows.weighed(along), self.q), towards, self.gram)
            change.addcmul_(towards, self.penalty[:, None])
            length = size / (towards * change).sum(1, keepdim=True).clamp(min=1e-30)
            x.addcmul_(towards, length)
            residual.addcmul_(change, length, value=-1)
            predictions = predictions.addcmul(along, length[:, 0].index_select(0, self.rows.owners))
            former = size.clamp(min=1e-30)
        return x, predictions

    def by_blocks(self, x: Tensor, predictions: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """One pass of exact steps over blocks of `size` coordinates (iALS++), from x; what is then predicted, too.

        Rendle et al. 2021, "iALS++: speeding up matrix factorization with subspace optimization", section 3.
        """
        x = x.clone()
        for start in range(0, self.q.shape[1], size):
            block = slice(start, start + size)
            q = self.q[:, block].contiguous()
            wanted = self.rows.times(self.rows.weighed(1 - predictions), q)
            wanted = wanted - x @ self.gram[:, block] - x[:, block] * self.penalty[:, None]
            step = torch.empty_like(wanted)
            for rows, normal in self.rows.normal(q):
                step[rows] = self._solved(normal + self.gram[block, block], rows, wanted[rows])
            x[:, block] += step
            predictions = predictions + self.rows.predictions(step, q)
        return x, predictions

    def _solved(self, matrices: Tensor, rows: Tensor, wanted: Tensor) -> Tensor:
        matrices.diagonal(dim1=1, dim2=2).add_(self.penalty[rows, None])
        factor, _ = torch.linalg.cholesky_ex(matrices)
        return torch.cholesky_solve(wanted[..., None], factor)[..., 0]

    @cached_property
    def _ones(self) -> Tensor:
        return self.rows.weighed(torch.ones(len(self.rows.columns), dtype=self.q.dtype, device=self.q.device))

    @cached_property
    def _typical(self) -> tuple[Tensor, Tensor]:
        """B [dim, dim] and d [n, dim] with B diag(d_u) B^T near the inverse of A_u.

        B solves the generalised eigenproblem of C and the part that all rows share: B^T (alpha0 Q^T Q + least penalty)
        B = I and B^T C B = diag(e), so that d_u = 1 / (1 + n_u e). What penalties grow by with n counts to C.
        """
        weight = self.rows.popularity
        counts = self.rows.times(self._ones, torch.ones_like(self.q[:, :1]))  # the sum of the weights of each row
        common = (self.q * weight[:, None]).T @ self.q / weight.sum().clamp(min=1)
        least = self.penalty.min()
        common.diagonal().add_((self.penalty.mean() - least) / counts.mean().clamp(min=1e-30))
        shared = self.gram.clone()
        shared.diagonal().add_(least)
        factor, _ = torch.linalg.cholesky_ex(shared.double())
        half = torch.linalg.solve_triangular(factor, common.double(), upper=False)
        middle = torch.linalg.solve_triangular(factor, half.T, upper=False)
        values, vectors = torch.linalg.eigh((middle + middle.T) / 2)
        basis = torch.linalg.solve_triangular(factor.T, vectors, upper=True)
        return basis.to(self.q), 1 / (1 + counts * values.clamp(min=0).to(self.q))
