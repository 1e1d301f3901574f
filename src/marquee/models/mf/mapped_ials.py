"""iALS whose new items get their vectors by regression from what is known of them: the cheap cold-start baseline."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Change
from marquee.models.features import NOTHING_TO_READ, FeatureVectors
from marquee.models.mf.ials import IALS


class MappedIALS(IALS):
    """iALS, and a ridge regression from the features of the items that training met to their vectors.

    Gantner et al. 2010, "Learning attribute-to-feature mappings for cold-start recommendations", ICDM, section III.C,
    with least squares in place of their kNN and BPR mappings. Items that training met are scored as by `mf/ials`; the
    others have the vector that the regression predicts, so they are comparable, and nothing else was learnt of them.

    ridge  penalty on the weights of the regression

    The other parameters are those of iALS.
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        ridge: Annotated[float, Gt(0)] = 1.0,
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
        if not spec.item_features:
            raise ValueError(NOTHING_TO_READ.format("mf/mapped_ials", "mf/ials"))
        super().__init__(
            spec, view=view, dim=dim, alpha0=alpha0, l2=l2, nu=nu, confidence=confidence, alpha=alpha, epsilon=epsilon,
            solver=solver, cg_steps=cg_steps, block_size=block_size, init_std=init_std,
        )  # fmt: skip
        self.ridge = ridge
        self.features = FeatureVectors(spec.item_features, spec.n_items, 0)
        width = sum(column.size - (column.kind == "categorical") for column in spec.item_features)
        self.register_buffer("weights", torch.zeros(width + 1, dim))  # the last row is what all have

    def prepare(self, data: InteractionData) -> None:
        self.features.fill(data.encoded("item"))

    @torch.no_grad()
    def fit(self, batch: MatrixBatch) -> Tensor:
        met = torch.bincount(batch.items, minlength=len(self.items)) > 0
        self.items[~met] = 0  # what was mapped is no part of the sweep
        loss = super().fit(batch)
        self._map(met)
        return loss

    @torch.no_grad()
    def update(self, former: "MappedIALS", change: Change) -> bool:
        """As mf/ials, among the items that somebody has met; the mapping is then fitted anew."""
        met = torch.bincount(change.batch.items, minlength=len(self.items)) > 0
        super().update(former, change._replace(items=change.items.where(met, -1)))
        self._map(met)
        return True

    def _map(self, met: Tensor) -> None:
        """Fit the mapping to the items that somebody has met, and give the others what it makes of them."""
        numbers = _side_by_side(self.features.columns_as_numbers())
        known = numbers[met].double()
        penalty = torch.full((known.shape[1],), self.ridge, dtype=known.dtype, device=known.device)
        penalty[-1] = 1e-9
        gram = known.T @ known + penalty.diag()
        self.weights.copy_(torch.linalg.solve(gram, known.T @ self.items[met].double()))
        self.items[~met] = numbers[~met] @ self.weights

    def content_vectors(self, encoded: Mapping[str, np.ndarray]) -> Tensor:
        return _side_by_side(self.features.columns_as_numbers(encoded)) @ self.weights


def _side_by_side(columns: list[Tensor]) -> Tensor:
    """All columns and a 1, [n, numbers + 1]."""
    return torch.nn.functional.pad(torch.cat(columns, dim=1), (0, 1), value=1.0)
