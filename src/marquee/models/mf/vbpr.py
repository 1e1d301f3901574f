"""VBPR: matrix factorisation that also knows items by what they look, sound or read like."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import PairBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender
from marquee.models.features import NOTHING_TO_READ, FeatureVectors
from marquee.models.neural.objective import ranking_loss


class VBPR(Recommender):
    """score(u, i) = b_i + <g_u, g_i> + <t_u, E f_i> + <c, f_i>, trained with BPR; f_i are the features of item i.

    He & McAuley 2016, "VBPR: visual Bayesian personalized ranking from implicit feedback", AAAI, equation 4. The paper
    has one vector of the item's picture; here E has a part for each column of `data.item_features`, and they are added
    up. An item that training never met has neither g_i nor b_i: its features speak for it.

    dim          length of g
    content_dim  length of t, the space that features are mapped into
    l2           weighs half the squared length of the vectors that a pair uses
    l2_content   weighs half the squares of E and c, which all items share
    """

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Pairs,
        dim: Annotated[int, Ge(1)] = 32,
        content_dim: Annotated[int, Ge(1)] = 32,
        l2: Annotated[float, Ge(0)] = 0.01,
        l2_content: Annotated[float, Ge(0)] = 0.0,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__()
        if not spec.item_features:
            raise ValueError(NOTHING_TO_READ.format("mf/vbpr", "mf/bpr"))
        self.view, self.l2, self.l2_content, self.dim = view, l2, l2_content, dim
        self.users = nn.Parameter(nn.init.normal_(torch.empty(spec.n_users, dim + content_dim), std=init_std))
        self.items = nn.Parameter(nn.init.normal_(torch.empty(spec.n_items, dim), std=init_std))
        self.bias = nn.Parameter(torch.zeros(spec.n_items))
        self.content = FeatureVectors(spec.item_features, spec.n_items, content_dim + 1, init_std)  # E, and c behind it
        self.register_buffer("known", torch.ones(spec.n_items, dtype=torch.bool))

    def prepare(self, data: InteractionData) -> None:
        self.content.fill(data.encoded("item"))
        met = np.bincount(data.parts["train"].items, minlength=data.spec.n_items) > 0
        self.known.copy_(torch.from_numpy(met))

    def loss(self, batch: PairBatch) -> Tensor:
        n, k = batch.negatives.shape
        with torch.autocast(batch.users.device.type, enabled=False):
            rows = torch.cat([batch.items[:, None], batch.negatives], 1).view(-1)
            user, item = self.users.index_select(0, batch.users), self.items.index_select(0, rows)
            whole = torch.cat([item, self.content(rows).sum(1)], 1).view(n, k + 1, -1)
            scores = (nn.functional.pad(user, (0, 1), value=1.0)[:, None] * whole).sum(-1)
            scores = scores + self.bias[rows].view(n, k + 1)
            loss = ranking_loss(scores[:, 0], scores[:, 1:], "bpr")
            if self.l2:
                loss = loss + self.l2 / (2 * n) * (user.square().sum() + item.square().sum())
            if self.l2_content:
                loss = loss + self.l2_content / 2 * sum(space.square().sum() for space in self.content.spaces)
            return loss

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        return self.user_vectors(users, histories) @ self.item_vectors().T

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor:
        return nn.functional.pad(self.users[users], (0, 1), value=1.0)

    def item_vectors(self) -> Tensor:
        known = self.known[:, None]
        content = self.content.all().sum(1)
        return torch.cat([self.items * known, content[:, :-1], content[:, -1:] + self.bias[:, None] * known], 1)

    def content_vectors(self, encoded: Mapping[str, np.ndarray]) -> Tensor:
        content = self.content.of(encoded).sum(1)
        return torch.cat([content.new_zeros(len(content), self.dim), content], 1)
