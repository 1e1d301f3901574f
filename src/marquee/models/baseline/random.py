"""Random scores: what a recommender without any knowledge achieves."""

import torch
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.models.base import Recommender


class Random(Recommender):
    """A uniform score for each user and item, a function of (seed, user, item) alone."""

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix, seed: int = 0):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.seed = seed

    def fit(self, batch: MatrixBatch) -> None:
        """There is nothing to learn."""

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        n_users = len(histories.offsets) - 1
        if users is None:
            users = torch.arange(n_users, device=histories.items.device)
        cells = users[:, None] * self.n_items + torch.arange(self.n_items, device=users.device)
        return _mix(cells + (self.seed << 40)).float()


def _mix(x: Tensor) -> Tensor:
    """Integers to uniform numbers in [0, 1): the finaliser of SplitMix64 (Steele et al. 2014), on 63 bits."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    x = x ^ ((x >> 31) & 0x1FFFFFFFF)
    return (x & 0x1FFFFFFFFFFFFF).double() / 2**53
