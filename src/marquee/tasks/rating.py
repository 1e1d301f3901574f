"""Rating: predict the value that a user gave an item, and measure how far off the prediction is."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import EVALUATION_CELLS, Histories, gather_rows
from marquee.data.interactions.views import Matrix
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError
from marquee.inference.recommender import RecommendPredictor
from marquee.metrics.rating import METRICS, RatingErrors
from marquee.models.base import RatingModel
from marquee.models.baseline.bias import Bias
from marquee.models.baseline.global_mean import GlobalMean
from marquee.models.baseline.item_mean import ItemMean
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule


class RatedBatch(NamedTuple):
    """Interactions whose values are to be predicted, with what is known of their users."""

    users: Tensor  # int64 [batch]
    histories: Histories  # of the batch's users
    rows: Tensor  # int64 [n], the position in `users` of each interaction
    items: Tensor  # int64 [n]
    values: Tensor  # float32 [n]


class Rating(Task):
    """All models that predict values are judged here alike, on every interaction of the part, repeated ones included.

    A user's history when validating is the training part; when testing it is training and validation.

    clip     predictions are clipped to the range of the training values before they are judged
    monitor  the metric that early stopping and the best checkpoint go by

    Raises ConfigError where the data has no values, or the model predicts none.
    """

    spec_types = (InteractionSpec,)
    unit = "user"
    measured = ("clip",)
    directions: Mapping[str, Literal["min", "max"]] = dict.fromkeys(METRICS, "min")

    def __init__(
        self,
        model: RatingModel,
        data: InteractionData,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        clip: bool = True,
        monitor: Literal["rmse", "mae", "rmse_user", "mae_user"] = "rmse",
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        if not data.spec.has_values:
            raise ConfigError(
                "task=rating predicts values (ratings), and this data has none.\n  fix: name their column "
                "(data.columns.value=...), or task=recommendation"
            )
        if not model.predicts_values:
            raise ConfigError(
                f"task=rating: {type(model).__name__} is set to learn what is met, not its value, so it predicts none."
                "\n  fix: the setting of the model that reads values, or a model such as mf/biased_mf"
            )
        values = data.parts["train"].values
        self.range = float(values.min()), float(values.max())
        self.clipped = clip
        self.monitor = monitor
        self.mode = "min"

    def loss(self, batch: Any) -> Tensor:
        return self.model.loss(batch)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[RatedBatch]:
        """Every interaction, by user; at once as many as EVALUATION_CELLS items of their users' histories hold."""
        known, wanted = self.data.history(part), self.data.parts[part]
        lengths, targets = np.diff(known.offsets), np.diff(wanted.offsets)
        users = np.flatnonzero(targets)[rank::world]
        cells = np.cumsum(targets[users] * (lengths[users] + 1))
        for chunk in np.split(users, np.flatnonzero(np.diff(cells // EVALUATION_CELLS)) + 1) if len(users) else ():
            rows = np.repeat(np.arange(len(chunk)), targets[chunk])
            first = np.cumsum(targets[chunk]) - targets[chunk]
            index = np.arange(len(rows)) + (wanted.offsets[chunk] - first)[rows]
            yield RatedBatch(
                torch.from_numpy(chunk),
                gather_rows(known.items, known.offsets, chunk),
                torch.from_numpy(rows),
                torch.from_numpy(wanted.items[index].astype(np.int64)),
                torch.from_numpy(wanted.values[index].astype(np.float32)),
            )

    def scores(self, scorer: RatingModel, batch: RatedBatch) -> Tensor:
        """Predicted values [n]."""
        with torch.autocast(batch.users.device.type, enabled=False):  # as the finished run will serve them
            return scorer.predict(batch.users[batch.rows], batch.items, batch.histories.take(batch.rows)).float()

    def evaluator(self) -> RatingErrors:
        return RatingErrors(*self.range) if self.clipped else RatingErrors()

    def baselines(self) -> dict[str, RatingModel]:
        view = Matrix()
        everything = next(iter(view.train_batches(self.data, 0, 0)))
        kinds = {"global_mean": GlobalMean, "item_mean": ItemMean, "bias": Bias}
        found = {f"baseline/{name}": kind(self.data.spec, view=view) for name, kind in kinds.items()}
        for baseline in found.values():
            baseline.fit(everything)
        return found

    def oracle(self) -> None:
        """None: what worlds know is which item comes next, not its value."""

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return list(METRICS)

    def shown(self) -> list[str]:
        return list(METRICS)

    def protocol(self) -> str:
        report = self.data.report
        words = ["errors over interactions (rmse, mae) and as means over users (rmse_user, mae_user)"]
        low, high = self.range
        words.append(f"predictions {f'clipped to {low:g} ... {high:g}' if self.clipped else 'not clipped'}")
        if repeated := report["targets_repeated"]:
            words.append(f"{repeated:,} repeated targets counted as often as they occur")
        for name in ("users", "items"):
            if unseen := report[f"targets_of_unseen_{name}"]:
                words.append(f"{unseen:,} targets of {name} without training interactions")
        return ", ".join(words)

    def predictor(self) -> type[RecommendPredictor]:
        return RecommendPredictor

    def serves(self) -> dict[str, bool]:
        return {"filter_seen": True}

    def requests(self, predictor: RecommendPredictor, n: int) -> Sequence[Callable[[], Any]]:
        users = predictor.users[self.results["test"][1][self.unit].to_numpy()[:n]]
        return [lambda user=user: predictor.recommend(users=[user], k=10) for user in users]

    def suggestions(self) -> tuple[str, str]:
        return (
            f"recommend {{run}} --user {shlex.quote(str(self.data.store.user_ids[0]))}",
            "model=mf/biased_mf,mf/svdpp",
        )
