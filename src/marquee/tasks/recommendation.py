"""Recommendation: rank the whole catalogue for each user, seen items masked, and measure the top of the list."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from marquee.data.module import DataModule
from marquee.data.spec import InteractionSpec
from marquee.data.views import Matrix, RankingBatch
from marquee.errors import ConfigError
from marquee.metrics.ranking import PER_USER, Ranking
from marquee.models.base import Recommender
from marquee.models.baseline.popular import Popular
from marquee.models.baseline.random import Random
from marquee.tasks.base import Task


class Recommendation(Task):
    """All recommenders, whether they embed ids, read histories or solve a closed form, are judged here alike.

    A user's history when validating is the training part; when testing it is training and validation. `monitor` names
    one of the metrics (`ndcg@10`); it must use one of `ks`.
    """

    spec_types = (InteractionSpec,)

    def __init__(
        self,
        model: Recommender,
        data: DataModule,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        seed: int = 0,
        *,
        ks: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [5, 10, 20],  # noqa: B006  (never mutated)
        monitor: str = "ndcg@10",
        mask_seen: bool = True,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        allowed = [f"{metric}@{k}" for metric in PER_USER for k in ks]
        if monitor not in allowed:
            raise ConfigError(
                f"task.monitor={monitor} is not computed with task.ks={ks}. Allowed: {', '.join(allowed)}."
            )
        self.ks = list(ks)
        self.monitor = monitor
        self.mode = "max"
        self.mask_seen = mask_seen
        popularity = torch.bincount(
            torch.from_numpy(data.parts["train"].items.astype("int64")), minlength=data.spec.n_items
        )
        self.register_buffer("popularity", popularity, persistent=False)

    def loss(self, batch: Any) -> Tensor:
        return self.model.loss(batch)

    def scores(self, scorer: Recommender, batch: RankingBatch) -> Tensor:
        return scorer.score(batch.users, batch.histories)

    def evaluator(self) -> Ranking:
        return Ranking(self.ks, self.popularity, self.mask_seen)

    def baselines(self) -> dict[str, Recommender]:
        view = Matrix()
        everything = next(iter(view.train_batches(self.data, 0, 0)))
        popular = Popular(self.data.spec, view=view)
        popular.loss(everything)
        return {"baseline/random": Random(self.data.spec, view=view), "baseline/popular": popular}
