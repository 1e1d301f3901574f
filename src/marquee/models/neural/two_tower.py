"""Two towers: dense layers over what is known of a user and of an item, joined at the end."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval, MinLen
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.neural.objective import Objective, ranking_loss
from marquee.models.neural.perceptron import PairPerceptron, squares
from marquee.models.neural.sides import Side, refuse_without_fields


class TwoTower(Recommender):
    """Each side is a tower: dense layers over the vectors of its id and its features, side by side.

    Covington et al. 2016, "Deep neural networks for YouTube recommendations", RecSys, made the form known.

    layers       widths of a tower's layers, ReLU between them
    interaction  dot: the product of the towers; concatenated: dense layers (`head`) over both, then one number whose
                 sigmoid is the chance
    head         widths of those
    ids          false: items are known by their features alone, so that new ones are scored like the others
    initial      random; or features: the vectors of items start as a fixed random projection of their features
    objective    bpr or bce
    l2           weighs half the squared length of what the towers of a pair put out: layers could undo one before them
    l2_layers    weighs half the squares of the matrices of `head`, which else learns pairs by heart
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [64],  # noqa: B006  (never mutated)
        interaction: Literal["dot", "concatenated"] = "dot",
        head: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [64, 32],  # noqa: B006  (never mutated)
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        ids: bool = True,
        initial: Literal["random", "features"] = "random",
        objective: Objective = "bpr",
        l2: Annotated[float, Ge(0)] = 0.006,
        l2_layers: Annotated[float, Ge(0)] = 0.001,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__()
        self.view = view
        self.l2, self.l2_layers, self.objective, self.initial, self.init_std = (
            l2,
            l2_layers,
            objective,
            initial,
            init_std,
        )
        self.user, self.item = Side(spec, "user", dim, init_std), Side(spec, "item", dim, init_std, ids)
        refuse_without_fields(self.item)
        if initial == "features" and not (ids and self.item.columns is not None):
            raise ValueError("initial=features needs item features (data.item_features=...) and ids=true")
        self.towers = nn.ModuleList(_tower(side.fields * dim, layers, dropout) for side in (self.user, self.item))
        self.head = PairPerceptron(layers[-1], layers[-1], head) if interaction == "concatenated" else None

    def prepare(self, data: InteractionData) -> None:
        self.user.prepare(data)
        self.item.prepare(data)
        if self.initial == "features":
            # The features' own vectors are the random projection; items with the same features start alike.
            with torch.no_grad():
                start = self.item.columns.all().sum(1)
                self.item.ids.copy_(start * (self.init_std / start.std().clamp(min=1e-12)))

    def _tower(self, place: int, fields: Tensor) -> Tensor:
        return self.towers[place](fields.flatten(1))

    def loss(self, batch: PairBatch) -> Tensor:
        n, k = batch.negatives.shape
        users = self.user(batch.users)
        items = self.item(torch.cat([batch.items[:, None], batch.negatives], 1).view(-1))
        user, item = self._tower(0, users)[:, None], self._tower(1, items).view(n, k + 1, -1)
        logits = ((user * item).sum(-1) if self.head is None else self.head(user, item)).float()
        loss = ranking_loss(logits[:, 0], logits[:, 1:], self.objective)
        if self.l2:
            loss = loss + self.l2 / (2 * n) * (user.square().sum() + item.square().sum())
        return loss + self.l2_layers / 2 * squares(self.head) if self.l2_layers and self.head is not None else loss

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        user, item = self._tower(0, self.user(users)), self._tower(1, self.item())
        return (user @ item.T).float() if self.head is None else self.head.all_pairs(user, item)

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor | None:
        return self._tower(0, self.user(users)) if self.head is None else None

    def item_vectors(self) -> Tensor | None:
        return self._tower(1, self.item()) if self.head is None else None

    def content_vectors(self, encoded: Mapping[str, np.ndarray]) -> Tensor | None:
        if self.head is not None or self.item.columns is None:
            return None
        return self._tower(1, self.item.of(encoded))


def _tower(width: int, layers: list[int], dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = []
    for one, two in pairwise([width, *layers]):
        parts += [nn.Linear(one, two), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts[:-2])
