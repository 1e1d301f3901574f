"""Recommendation: rank the whole catalogue for each user, seen items masked, and measure the top of the list."""

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.interactions.candidates import SAMPLED, Candidates, candidates_of
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import EVALUATION_CELLS, gather_rows
from marquee.data.interactions.splits import among
from marquee.data.interactions.views import Matrix, RankingBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, DataError
from marquee.inference.recommender import RecommendPredictor
from marquee.metrics.beyond import BEYOND, Beyond
from marquee.metrics.ranking import PER_USER, Ranking, named
from marquee.models.base import READ_HISTORIES, Recommender
from marquee.models.baseline.popular import Popular
from marquee.models.baseline.random import Random
from marquee.tasks.attributes import feature_table, groups_of
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule

log = logging.getLogger(__name__)

# As EVALUATION_CELLS, on a card: there the number of launches counts. On MovieLens-1M these are 2,341 users, whose
# attention over 200 items takes 0.37 GB a head.
CELLS_ON_A_CARD = 8_000_000


class Recommendation(Task):
    """All recommenders, whether they embed ids, read histories or solve a closed form, are judged here alike.

    A user's history when validating is the training part; when testing it is training and validation. What counts as
    a target, where items are repeated, `metrics.ranking` says.

    ks              cut-offs of the metrics
    monitor         one of the metrics (`ndcg@10`); it must use one of `ks`
    mask_seen       leave the items of the history out of the ranking, and out of the targets
    candidates      what is ranked: None, all items; train, those with training interactions, or new, those without;
                    uniform or popular, each user's targets among `n_candidates` items drawn once; or the path of a
                    list, of one item id a line, or of `user item item ...` a line. What is new, drawn or listed stands
                    in the names of the metrics
    n_candidates    of uniform and popular; `candidate_seed` draws them
    beyond          further metrics: auc, and of the lists those of `metrics.beyond`
    item_feature    the column of `data.item_features` that diversity and miscalibration go by
    groups          what the monitored metric is told apart by: columns of the user table (gender), history_length, and
                    item_popularity, which tells recall apart

    Raises DataError where `mask_seen` leaves no target in a part that has some, ConfigError where the split holds users
    out and the model knows users by id only, for a cut-off beyond what is ranked, and for an unknown group.
    """

    spec_types = (InteractionSpec,)
    unit = "user"
    measured = ("ks", "mask_seen", "candidates", "n_candidates", "candidate_seed")
    measures_more = ("beyond", "item_feature", "groups")

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
        candidates: str | None = None,
        n_candidates: Annotated[int, Ge(1)] | None = None,
        candidate_seed: int | None = None,
        beyond: list[Literal[BEYOND]] | None = None,
        item_feature: str | None = None,
        groups: list[str] | None = None,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        allowed = [f"{metric}@{k}" for metric in PER_USER for k in ks]
        if monitor not in allowed:
            raise ConfigError(
                f"task.monitor={monitor} is not computed with task.ks={ks}. Allowed: {', '.join(allowed)}."
            )
        if candidates not in SAMPLED and (n_candidates, candidate_seed) != (None, None):
            raise ConfigError(
                f"task.n_candidates and task.candidate_seed belong to task.candidates={'|'.join(SAMPLED)}, which draw, "
                f"and task.candidates is {candidates or 'null'}."
            )
        self.ks = list(ks)
        self.mode = "max"
        self.mask_seen = mask_seen
        self.candidates: dict[Part, Candidates] = {}
        if candidates is not None:
            drawn = (n_candidates or 100, candidate_seed or 0)
            parts: tuple[Part, ...] = ("validation", "test")
            self.candidates = {part: candidates_of(data, candidates, *drawn, part) for part in parts}
        self.monitor = named(monitor, self._suffix)
        self.beyond, self.groups = tuple(beyond or ()), tuple(groups or ())
        self._features = feature_table(data, item_feature, self.beyond)
        popularity = torch.bincount(
            torch.from_numpy(data.parts["train"].items.astype("int64")), minlength=data.spec.n_items
        )
        self.register_buffer("popularity", popularity, persistent=False)
        self._refuse_cut_offs()
        self._groups = {part: groups_of(data, self.groups, part) for part in ("validation", "test")}
        if mask_seen and data.store.repeats:
            for part in ("validation", "test"):
                self._refuse_without_targets(part)
        for part in ("validation", "test"):
            self._judge_unseen_users(part)

    @property
    def _suffix(self) -> str:
        return self.candidates["test"].suffix if self.candidates else ""

    def _refuse_cut_offs(self) -> None:
        """Also where a user's own candidates are too few, with the targets among them."""
        limits = [(self.data.spec.n_items, "items are ranked")]
        for part, candidates in self.candidates.items():
            if candidates.everyone is not None:
                limits.append((int(candidates.everyone.sum()), "items are ranked"))
                continue
            users = np.flatnonzero(np.diff(self.data.parts[part].offsets))
            counts = (candidates.own < self.data.spec.n_items).sum(1)[torch.from_numpy(users)]
            if len(users) and not bool(counts.min()):
                raise DataError(
                    f"task.candidates: {int((counts == 0).sum()):,} of {len(users):,} users of the {part} part have no "
                    "candidates besides their targets, so that nothing is ranked for them."
                )
            limits += [(int(counts.min()) + 1, "items are ranked for some user")] if len(users) else []
        fewest, what = min(limits)
        if max(self.ks) > fewest:
            good = [k for k in self.ks if k <= fewest] or [fewest]
            raise ConfigError(
                f"task.ks={self.ks}: {max(self.ks)} is beyond the {fewest:,} that are ranked ({what}).\n"
                f"  fix: task.ks={str(good).replace(' ', '')}"
                + ("" if int(self.monitor.rpartition("@")[2]) in good else f" task.monitor=ndcg@{good[-1]}")
            )

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
        """Every user with targets, as many at once as EVALUATION_CELLS scores hold, or CELLS_ON_A_CARD."""
        known, wanted = self.data.history(part), self.data.parts[part]
        users = np.flatnonzero(np.diff(wanted.offsets))[rank::world]
        cells = EVALUATION_CELLS if self.device.type == "cpu" else CELLS_ON_A_CARD
        size = max(1, cells // self.data.spec.n_items)
        for start in range(0, len(users), size):
            chunk = users[start : start + size]
            yield RankingBatch(
                torch.from_numpy(chunk),
                gather_rows(known.items, known.offsets, chunk, known.timestamps),
                gather_rows(wanted.items, wanted.offsets, chunk),
            )

    def scores(self, scorer: Recommender, batch: RankingBatch) -> Tensor:
        """Scores [batch, n_items], in float32 as the finished run will serve them, whatever it is trained in."""
        with torch.autocast(batch.users.device.type, enabled=False):
            return scorer.score(batch.users, batch.histories)

    def evaluator(self) -> Ranking:
        by_item = int(self.monitor.rpartition("@")[2]) if "item_popularity" in self.groups else None
        beyond = None
        if self.beyond or by_item:
            trained = int(np.count_nonzero(np.diff(self.data.parts["train"].offsets)))
            beyond = Beyond(self.beyond, self.ks, self.popularity.cpu(), trained, self._features, by_item)
        return Ranking(
            self.ks, self.popularity.cpu(), self.mask_seen, self.candidates.get(self.evaluated), beyond,
            self._groups[self.evaluated],
            self.monitor,
        )  # fmt: skip

    def baselines(self) -> dict[str, Recommender]:
        view = Matrix()
        everything = next(iter(view.train_batches(self.data, 0, 0)))
        popular = Popular(self.data.spec, view=view)
        popular.fit(everything)
        return {"baseline/random": Random(self.data.spec, view=view), "baseline/popular": popular}

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        candidates = settings.get("candidates")
        if candidates and candidates not in (*SAMPLED, "train", "new"):
            return []  # how many a list holds is known when it is read
        suffix = f"_{candidates}{settings.get('n_candidates') or 100}" if candidates in SAMPLED else ""
        suffix = "_new" if candidates == "new" else suffix
        beyond = settings.get("beyond") or ()
        names = (*PER_USER, "coverage", *(name for name in beyond if name != "auc"))
        found = [f"{name}{suffix}@{k}" for k in settings.get("ks") or () for name in names]
        return found + [f"auc{suffix}"] * ("auc" in beyond)

    def shown(self) -> list[str]:
        k = self.monitor.rpartition("@")[2]
        return [f"{name}{self._suffix}@{k}" for name in ("ndcg", "hit_rate", "recall", "coverage")]

    def protocol(self) -> str:
        words = [f"full ranking of {self.data.spec.n_items:,} items"]
        if self.candidates:
            words = [f"ranking {self.candidates['test'].words}"]
            if lost := self._unreachable():
                words.append(f"{lost:,} targets are no candidates and count as missed")
        words.append(f"seen items {'masked' if self.mask_seen else 'not masked'}")
        seen, repeated = (self.data.report[f"targets_{name}"] for name in ("seen_before", "repeated"))
        if self.mask_seen and seen:
            words.append(f"{seen:,} targets seen before left out")
        if repeated:
            words.append("a repeated target counted once")
        if unseen := self.data.report["targets_of_unseen_users"]:
            words.append(f"{unseen:,} targets of users without training interactions")
        return ", ".join(words)

    def _unreachable(self) -> int:
        everyone = self.candidates["test"].everyone
        return 0 if everyone is None else int((~everyone.numpy()[self.data.parts["test"].items]).sum())

    def described(self) -> dict[str, Any]:
        prints = {f"candidates of {part}": own.fingerprint for part, own in self.candidates.items()}
        return super().described() | ({"fingerprints": prints} if prints else {})

    def predictor(self) -> type[RecommendPredictor]:
        return RecommendPredictor

    def serves(self) -> dict[str, bool]:
        return {"filter_seen": self.mask_seen}

    def requests(self, predictor: RecommendPredictor, n: int) -> Sequence[Callable[[], Any]]:
        users = predictor.users[self.results["test"][1][self.unit].to_numpy()[:n]]
        return [lambda user=user: predictor.recommend(users=[user], k=10) for user in users]

    def suggestions(self) -> tuple[str, str]:
        return f"recommend {{run}} --user {shlex.quote(str(self.data.store.user_ids[0]))}", "model=mf/bpr,linear/ease"
