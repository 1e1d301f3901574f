"""iALS: matrix factorisation by alternating least squares over all pairs, observed or not."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError
from marquee.models.base import Change, Recommender
from marquee.models.mf.least_squares import Problem, Rows, both_sides

# Steps from nothing to the vector of a history: the residual falls to some 0.003 of itself, and NDCG@10 on MovieLens-1M
# is that of twelve steps to 0.0001.
FOLD_IN_STEPS = 5


class IALS(Recommender):
    """score(u, i) = <p_u, q_i>, where a sweep of least squares finds all q for given p, then all p for given q.

    A sweep lowers the sum over observed pairs of c (1 - <p_u, q_i>)^2, plus `alpha0` times the sum over all pairs of
    <p_u, q_i>^2, plus l2 (n_u + alpha0 n_items)^nu |p_u|^2 for each user, and likewise for each item. Hu, Koren &
    Volinsky 2008, "Collaborative filtering for implicit feedback datasets", with the weights of Rendle et al. 2022,
    "Revisiting the performance of iALS on item recommendation benchmarks", section 3.

    Users are scored by the vector that solves the problem of their history, be they known or not. Where `confidence`
    reads values, which histories do not have, known users keep the vector of their training values, and what others
    have met counts as it does in training on average.

    alpha0      weight of the pairs that were not observed
    confidence  weight c of an observed pair: 1 (none), 1 + alpha r (linear) or 1 + alpha log(1 + r / epsilon) (log),
                where r is its value; the values of a pair that is repeated are added up
    solver      cholesky, conjugate_gradient (`cg_steps` preconditioned steps from the last sweep's vectors), or block
                (iALS++: exact steps in `block_size` coordinates at a time)

    Raises ConfigError where `confidence` needs values and there are none, or where they make it negative.
    """

    scores_unseen_users = True
    updates = "fold_in"

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        dim: Annotated[int, Ge(1)] = 64,
        alpha0: Annotated[float, Gt(0)] = 0.3,
        l2: Annotated[float, Gt(0)] = 0.3,
        nu: Annotated[float, Ge(0)] = 0.5,
        confidence: Literal["none", "linear", "log"] = "none",
        alpha: Annotated[float, Gt(0)] = 1.0,
        epsilon: Annotated[float, Gt(0)] = 1.0,
        solver: Literal["cholesky", "conjugate_gradient", "block"] = "conjugate_gradient",
        cg_steps: Annotated[int, Ge(1)] = 1,
        block_size: Annotated[int, Ge(1)] = 32,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__()
        if confidence != "none" and not spec.has_values:
            raise ConfigError(
                f"model.confidence={confidence} weighs interactions by their values (ratings, counts), and this data "
                "has none.\n  fix: model.confidence=none, or name the column of the values (data.columns.value=...)"
            )
        self.view = view
        self.alpha0, self.l2, self.nu = alpha0, l2, nu
        self.confidence, self.alpha, self.epsilon = confidence, alpha, epsilon
        self.solver, self.cg_steps, self.block_size = solver, cg_steps, block_size
        for name, n in (("users", spec.n_users), ("items", spec.n_items)):
            self.register_buffer(name, nn.init.normal_(torch.empty(n, dim), std=init_std / dim**0.5))
        self.register_buffer("mean_confidence", torch.ones(spec.n_items))
        self._sides: tuple[MatrixBatch, Rows, Rows, Tensor, Tensor] | None = None

    @torch.no_grad()
    def fit(self, batch: MatrixBatch) -> Tensor:
        """One sweep, over the items and then over the users; what is left of the objective, for each observed pair."""
        with torch.autocast(batch.users.device.type, enabled=False):  # sums over all pairs want all digits
            by_user, by_item, to_items, to_users = self._prepared(batch)
            of_users, of_items = self._penalty(by_user), self._penalty(by_item)
            found = by_user.predictions(self.users, self.items)
            problem = Problem(by_item, self.users, self.alpha0, of_items)
            items, found = self._solve(problem, self.items, found.index_select(0, to_items))
            problem = Problem(by_user, items, self.alpha0, of_users)
            users, found = self._solve(problem, self.users, found.index_select(0, to_users))
            self.items.copy_(items)
            self.users.copy_(users)
            total = by_user.weighed((1 - found).square()).double().sum() + ((users.T @ users) * problem.gram).sum()
            for vectors, penalty in ((users, of_users), (items, of_items)):
                total += (vectors.square().sum(1) * penalty).double().sum()
            return (total / max(1, len(found))).float()

    @torch.no_grad()
    def update(self, former: "IALS", change: Change) -> bool:
        """Vectors of known items stay. Those of users are solved anew from all that they have met, exactly, then those
        of new items from the users who met them, and then the users' once more, who now know the new items."""
        by_user, by_item, _, _ = self._prepared(change.batch)
        known = change.items >= 0
        self.items.zero_()
        self.items[known] = former.items[change.items[known]]
        for _ in range(1 if bool(known.all()) else 2):
            self.users.copy_(Problem(by_user, self.items, self.alpha0, self._penalty(by_user)).by_cholesky())
            if not bool(known.all()):
                found = Problem(by_item, self.users, self.alpha0, self._penalty(by_item)).by_cholesky()
                self.items[~known] = found[~known]
        return True

    def _solve(self, problem: Problem, x: Tensor, predictions: Tensor) -> tuple[Tensor, Tensor]:
        if self.solver == "cholesky":
            x = problem.by_cholesky()
            return x, problem.rows.predictions(x, problem.q)
        if self.solver == "block":
            return problem.by_blocks(x, predictions, self.block_size)
        return problem.by_conjugate_gradient(x, predictions, self.cg_steps)

    def _penalty(self, rows: Rows) -> Tensor:
        return self.l2 * (rows.counts + self.alpha0 * rows.width).pow(self.nu)

    def _prepared(self, batch: MatrixBatch) -> tuple[Rows, Rows, Tensor, Tensor]:
        """The pairs by users and by items, and where those of one stand in the other. Made once: epochs are alike."""
        if self._sides is not None:
            former, *sides = self._sides
            if all(_same(one, other) for one, other in zip(former[:3], batch[:3], strict=True)):
                return tuple(sides)
        n_users, n_items = len(self.users), len(self.items)
        pairs, place = (batch.users * n_items + batch.items).unique(return_inverse=True)
        users, items = pairs // n_items, pairs % n_items
        by_user, by_item, to_items, to_users = both_sides(users, items, n_users, n_items)
        if self.confidence != "none":
            values = torch.zeros(len(pairs), device=pairs.device).index_add_(0, place, batch.values.float())
            weights = self._weights(values)
            counts = torch.bincount(items, minlength=n_items)
            means = torch.bincount(items, weights, minlength=n_items) / counts.clamp(min=1)
            self.mean_confidence.copy_(torch.where(counts > 0, means, 1.0))
            by_user, by_item = replace(by_user, weights=weights), replace(by_item, weights=weights[to_items])
        self._sides = batch, by_user, by_item, to_items, to_users
        return by_user, by_item, to_items, to_users

    def _weights(self, values: Tensor) -> Tensor:
        inner = values / self.epsilon
        weights = 1 + self.alpha * (values if self.confidence == "linear" else torch.log1p(inner))
        if not bool((weights >= 0).all()):  # nor is NaN, the logarithm of what is negative
            formula = "1 + alpha r" if self.confidence == "linear" else "1 + alpha log(1 + r / epsilon)"
            raise ConfigError(
                f"model.confidence={self.confidence}: a value of {float(values.min()):g} makes {formula} negative, and "
                "nothing is known with a confidence below 0.\n  fix: a smaller model.alpha, data.min_rating=0, or "
                "model.confidence=none"
            )
        return weights

    def query(self, users: Tensor | None, histories: Histories) -> Tensor:
        """The vectors [batch, dim] that users are scored by."""
        if self.confidence != "none" and users is not None:
            known = self.users[users]
            trained = known.any(1, keepdim=True)
            if bool(trained.all()):
                return known
            return torch.where(trained, known, self._folded_in(histories))
        return self._folded_in(histories)

    def _folded_in(self, histories: Histories) -> Tensor:
        items, offsets = histories.items, histories.offsets
        # An item that stands twice in a history is met once: each copy has half of the weight.
        cells = histories.rows() * len(self.items) + items
        copies = torch.bincount(cells, minlength=(len(offsets) - 1) * len(self.items))[cells]
        share = 1 / copies.float()
        weights = share if self.confidence == "none" else share * self.mean_confidence[items]
        rows = Rows(offsets.int(), items.int(), weights, len(self.items))
        known = rows.times(share, torch.ones_like(self.items[:, :1]))[:, 0]
        penalty = self.l2 * (known + self.alpha0 * rows.width).pow(self.nu)
        problem = Problem(rows, self.items, self.alpha0, penalty)
        start = self.items.new_zeros(len(rows), self.items.shape[1])
        if self.solver != "conjugate_gradient":
            return problem.by_cholesky()
        return problem.by_conjugate_gradient(start, start.new_zeros(len(items)), FOLD_IN_STEPS)[0]

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        with torch.autocast(self.items.device.type, enabled=False):
            return self.query(users, histories) @ self.items.T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.query(users, histories)

    def item_vectors(self) -> Tensor:
        return self.items


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other is None or (one is not None and other is not None and torch.equal(one, other))
