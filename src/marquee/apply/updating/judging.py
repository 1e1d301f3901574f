"""A child is judged as its first ancestor was, so that both stand in one table; the certificate holds it to a refit."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.apply.updating.learning import trained
from marquee.compare.statistics import FLIPS, sign_flips
from marquee.compare.units import COLUMNS
from marquee.config.build import build
from marquee.data.dataset import DataSet
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories
from marquee.models.base import Model, RatingModel, Recommender
from marquee.seeding import numpy_generator
from marquee.tasks.base import Task


class Projected(RatingModel):
    """A model of more (or fewer) users and items, asked as though it knew those of other data alone.

    model  of the data `now`, or what scores as one
    data   whose users and items are asked for; each of them is among those of `now`
    """

    def __init__(self, model: Recommender, now: InteractionData, data: InteractionData):
        super().__init__()
        self.model, self.view = model, getattr(model, "view", None)
        self.predicts_values = getattr(model, "predicts_values", False)
        for name in ("user", "item"):
            places = pd.Index(getattr(now.store, f"{name}_ids")).get_indexer(getattr(data.store, f"{name}_ids"))
            self.register_buffer(f"{name}s", torch.from_numpy(places))

    @property
    def scores_unseen_users(self) -> bool:
        return self.model.scores_unseen_users

    def asked(self, users: Tensor | None, histories: Histories) -> tuple[Tensor | None, Histories]:
        """Users and histories as the model knows them."""
        return None if users is None else self.users[users], histories._replace(items=self.items[histories.items])

    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        scores = self.model.score(*self.asked(users, histories))
        return scores.index_select(1, self.items)

    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        users, histories = self.asked(users, histories)
        return self.model.predict(users, self.items[items], histories)


def judge(config: dict[str, Any], model: Model, now: DataSet, judged: DataSet, numbers: np.ndarray | None) -> Task:
    """The task of the first ancestor with the results of the model on its validation and test part.

    numbers  of the users of `judged` among those of the first ancestor, by which its table names them
    """
    answers = Projected(model, now, judged) if isinstance(now, InteractionData) else model
    task: Task = build(config["task"], answers.eval(), judged, None, None, config["seed"])
    task.eval()
    if judged.validates:
        task.results["validation"] = task.evaluate(answers, "validation")
    task.settle()
    metrics, units = task.evaluate(answers, "test")
    task.results["test"] = metrics, units
    if numbers is not None:
        units[task.unit] = numbers[units[task.unit].to_numpy()]
    return task


def certificate(
    config: dict[str, Any], model: Model, now: DataSet, judged: DataSet, task: Task, folder: Path, how: str
) -> dict[str, Any]:
    """The model beside one that is trained from scratch on all of the data.

    identical           every weight is the same
    max_abs_difference  the largest between two weights, of models that are formed and not trained by gradients, else
                        null: two trainings end in different weights
    child, refit, p     the monitored metric of both on the test part, and the paired test of their units
    """
    began = time.process_time()
    place = folder / "certify"
    place.mkdir()
    try:
        other = trained(config, now, place)
    finally:
        shutil.rmtree(place)
    spent = time.process_time() - began
    mine, theirs = model.state_dict(), other.state_dict()
    same_shapes = all(mine[name].shape == theirs[name].shape for name in theirs)
    identical = same_shapes and all(torch.equal(mine[name], theirs[name]) for name in theirs)
    formed = model.learns_in_fit and model.max_epochs is not None and same_shapes
    apart = max(
        (float((mine[name].double() - theirs[name].double()).abs().max()) for name in theirs
         if theirs[name].is_floating_point() and theirs[name].numel()),
        default=0.0,
    ) if formed else None  # fmt: skip
    second = judge(config, other, now, judged, None)
    column = COLUMNS.get(task.monitor, task.monitor)
    own, their = task.results["test"][1], second.results["test"][1]
    p = None
    if column in own:
        values = np.stack([own[column].to_numpy(float), their[column].to_numpy(float)], axis=1)
        if len(values) > 1:
            found, _ = sign_flips(values, np.array([[0, 1]]), FLIPS, numpy_generator(config["seed"], "certificate"))
            p = float(found[0])
    return {
        "how": how, "identical": bool(identical), "max_abs_difference": apart, "metric": task.monitor,
        "child": task.results["test"][0][task.monitor], "refit": second.results["test"][0][task.monitor], "p": p,
        "refit_cpu_s": round(spent, 3),
    }  # fmt: skip


def in_words(found: dict[str, Any]) -> str:
    """A certificate as a line."""
    what = "identical weights" if found["identical"] else (
        f"max|Δ| of the weights {found['max_abs_difference']:.2g}" if found["max_abs_difference"] is not None
        else "two trainings, whose weights are not comparable"
    )  # fmt: skip
    test = "" if found["p"] is None else f", paired p {found['p']:.4f}"
    return (f"certificate: beside a refit on all of it: {what}; test {found['metric']} {found['child']:.4f} and "
            f"{found['refit']:.4f} ({found['child'] - found['refit']:+.4f}{test}); the refit took "
            f"{found['refit_cpu_s']:.2f} CPU s")  # fmt: skip
