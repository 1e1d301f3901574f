"""Recommend what most others interacted with of late: in many shops and streams harder to beat than all-time fame."""

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError
from marquee.models.base import Recommender

DAY = 86_400  # seconds


class PopularRecent(Recommender):
    """Scores an item with its training interactions of the last `days`, the same for every user.

    The days end with the newest training interaction. Items that nobody met in them keep the order of their all-time
    counts, below all others. Raises ConfigError where the data has no timestamps.
    """

    scores_unseen_users = True
    max_epochs = 1

    def __init__(self, spec: InteractionSpec, *, view: Matrix, days: Annotated[float, Gt(0)] = 30.0):
        super().__init__()
        if not spec.has_timestamps:
            raise ConfigError(
                "model=baseline/popular_recent needs timestamps, and this data has none.\n"
                "  fix: model=baseline/popular, or the column of times (data.columns.timestamp=...)"
            )
        self.view = view
        self.days = days
        self.register_buffer("counts", torch.zeros(spec.n_items, dtype=torch.float64))

    def fit(self, batch: MatrixBatch) -> None:
        n = len(self.counts)
        recent = batch.timestamps > batch.timestamps.max() - round(self.days * DAY)
        late, always = (torch.bincount(items, minlength=n) for items in (batch.items[recent], batch.items))
        self.counts.copy_(late + always / (len(batch.items) + 1))

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        # The order of the counts, as whole numbers: float32 would round a fraction behind a large count away.
        rank = self.counts.unique(return_inverse=True)[1]
        return rank.float().expand(len(histories.offsets) - 1, -1)
