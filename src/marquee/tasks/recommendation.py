"""Recommendation: rank the whole catalogue for each user, seen items masked, and measure the top of the list."""

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import EVALUATION_CELLS, gather_rows
from marquee.data.interactions.splits import among
from marquee.data.interactions.views import Matrix, RankingBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, DataError
from marquee.inference.recommender import RecommendPredictor
from marquee.metrics.ranking import PER_USER, Ranking
from marquee.models.base import READ_HISTORIES, Recommender
from marquee.models.baseline.popular import Popular
from marquee.models.baseline.random import Random
from marquee.tasks.base import MakeOptimizer, Schedule, Task

log = logging.getLogger(__name__)


class Recommendation(Task):
    """All recommenders, whether they embed ids, read histories or solve a closed form, are judged here alike.

    A user's history when validating is the training part; when testing it is training and validation. What counts as
    a target, where items are repeated, `metrics.ranking` says.

    ks         cut-offs of the metrics
    monitor    one of the metrics (`ndcg@10`); it must use one of `ks`
    mask_seen  leave the items of the history out of the ranking, and out of the targets

    Raises DataError where `mask_seen` leaves no target in a part that has some, ConfigError where the split holds users
    out and the model knows users by id only.
    """

    spec_types = (InteractionSpec,)
    unit = "user"
    measured = ("ks", "mask_seen")

    def __init__(
        self,
        model: Recommender,
        data: InteractionData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
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
        if mask_seen and data.store.repeats:
            for part in ("validation", "test"):
                self._refuse_without_targets(part)
        for part in ("validation", "test"):
            self._judge_unseen_users(part)

    def _refuse_without_targets(self, part: Part) -> None:
        known, wanted = self.data.history(part), self.data.parts[part]
        if len(wanted) and among(wanted.pairs(), known.pairs()).all():
            raise DataError(
                f"All {len(wanted):,} targets of the {part} part stand in their user's history, and task.mask_seen="
                "true leaves those out. Type task.mask_seen=false where people repeat, or data.duplicates=keep_last."
            )

    def _judge_unseen_users(self, part: Part) -> None:
        """Of users whom training never saw, a model of ids knows nothing: too few of them to refuse are told."""
        users = np.flatnonzero(np.diff(self.data.parts[part].offsets))
        unseen = np.diff(self.data.parts["train"].offsets)[users] == 0
        blank = np.diff(self.data.history(part).offsets)[users] == 0
        by_id, name = not self.model.scores_unseen_users, type(self.model).__name__
        if by_id and unseen.any() and (unseen.all() or "history_only" in self.data.report):
            raise ConfigError(
                f"model: {name} knows users by id only, and {unseen.sum():,} of {len(users):,} users of the {part} "
                f"part have no training interactions.\n  fix: a model that reads histories: {READ_HISTORIES}"
            )
        lost, what = (unseen, "training interactions") if by_id else (blank, "history")
        if lost.any():
            log.warning(
                "%d of %d users of the %s part have no %s: %s scores them without knowing anything of them",
                lost.sum(), len(users), part, what, name,
            )  # fmt: skip

    def loss(self, batch: Any) -> Tensor:
        return self.model.loss(batch)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[RankingBatch]:
        """Every user with targets, as many at once as EVALUATION_CELLS scores hold."""
        known, wanted = self.data.history(part), self.data.parts[part]
        users = np.flatnonzero(np.diff(wanted.offsets))[rank::world]
        size = max(1, EVALUATION_CELLS // self.data.spec.n_items)
        for start in range(0, len(users), size):
            chunk = users[start : start + size]
            yield RankingBatch(
                torch.from_numpy(chunk),
                gather_rows(known.items, known.offsets, chunk, known.timestamps),
                gather_rows(wanted.items, wanted.offsets, chunk),
            )

    def scores(self, scorer: Recommender, batch: RankingBatch) -> Tensor:
        """Scores [batch, n_items]."""
        return scorer.score(batch.users, batch.histories)

    def evaluator(self) -> Ranking:
        return Ranking(self.ks, self.popularity, self.mask_seen)

    def baselines(self) -> dict[str, Recommender]:
        view = Matrix()
        everything = next(iter(view.train_batches(self.data, 0, 0)))
        popular = Popular(self.data.spec, view=view)
        popular.fit(everything)
        return {"baseline/random": Random(self.data.spec, view=view), "baseline/popular": popular}

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return [f"{name}@{k}" for k in settings.get("ks") or () for name in (*PER_USER, "coverage")]

    def shown(self) -> list[str]:
        k = self.monitor.rpartition("@")[2]
        return [f"{name}@{k}" for name in ("ndcg", "hit_rate", "recall", "coverage")]

    def protocol(self) -> str:
        words = [f"full ranking of {self.data.spec.n_items:,} items"]
        words.append(f"seen items {'masked' if self.mask_seen else 'not masked'}")
        seen, repeated = (self.data.report[f"targets_{name}"] for name in ("seen_before", "repeated"))
        if self.mask_seen and seen:
            words.append(f"{seen:,} targets seen before left out")
        if repeated:
            words.append("a repeated target counted once")
        if unseen := self.data.report["targets_of_unseen_users"]:
            words.append(f"{unseen:,} targets of users without training interactions")
        return ", ".join(words)

    def predictor(self) -> type[RecommendPredictor]:
        return RecommendPredictor

    def serves(self) -> dict[str, bool]:
        return {"filter_seen": self.mask_seen}

    def requests(self, predictor: RecommendPredictor, n: int) -> Sequence[Callable[[], Any]]:
        users = predictor.users[self.results["test"][1][self.unit].to_numpy()[:n]]
        return [lambda user=user: predictor.recommend(users=[user], k=10) for user in users]

    def suggestions(self) -> tuple[str, str]:
        return f"recommend {{run}} --user {shlex.quote(str(self.data.store.user_ids[0]))}", "model=mf/bpr,linear/ease"
