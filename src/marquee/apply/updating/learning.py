"""How a model takes up what is new: exactly, by folding in, formed anew, or trained on with some of the old."""

import shutil
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from marquee.config.build import build
from marquee.data.dataset import DataSet
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.store import Interactions
from marquee.models.base import Change, Model
from marquee.models.tables import Tables, take_over
from marquee.runs.train import fit, load_best, prepare_task, prepare_trainer
from marquee.seeding import derive, numpy_generator

Config = dict[str, Any]

WORDS = {
    "exact": "an exact step from the former weights: what training on all of it would give, but for rounding",
    "fold_in": "item vectors stay; users, and new items, are solved from what they have met",
    "refit": "the closed form is formed anew from all of it",
    "continued": "{epochs} sweeps over all of it go on from the former weights",
    "fine_tune": "trained on from the former weights for up to {epochs} epochs, on what is new and {replay:g} times as "
    "much of the old; rows of who is new begin as new, the optimiser begins anew",
    "retrained": "trained from scratch on the data that is left",
}


@dataclass
class Learnt:
    """A model that has learnt, how (a key of WORDS), and the CPU seconds that it took."""

    model: Model
    how: str
    cpu_s: float


def learn(
    config: Config,
    before: DataSet,
    after: DataSet,
    former: Model,
    folder: Path,
    forgets: bool,
    epochs: int,
    replay: float,
) -> Learnt:
    """The model of `after`, from that of `before`. A model that forgets keeps nothing that came of who has gone.

    folder  of the child, for what training writes
    """
    make = partial(build, config["model"])
    began = time.process_time()
    torch.manual_seed(derive(config["seed"], "init"))
    model: Model = make(after.spec)
    change = changed(before, after, model, config["seed"]) if isinstance(after, InteractionData) else None
    how = None
    if change is not None and (model.updates == "exact" or (model.updates == "fold_in" and not forgets)):
        model.prepare(after)
        how = model.updates if model.update(former, change) else None
    if how is None and model.learns_in_fit and model.max_epochs is not None:
        model, how = refit(config, after), "refit"
    elif how is None and forgets:
        model, how = trained(config, after, folder), "retrained"
    elif how is None:
        _begin(model, former, change, make, after)
        model.prepare(after)
        if model.learns_in_fit:
            how = "continued"
            for epoch in range(epochs):
                for batch in model.view.train_batches(after, config["seed"], epoch):
                    model.fit(batch)
        else:
            how = "fine_tune"
            some = replayed(before, after, replay, config["seed"])
            model = on_trainer(config, model, after, folder, epochs, some)
    return Learnt(model.eval(), how, round(time.process_time() - began, 3))


def refit(config: Config, data: DataSet) -> Model:
    """A model trained from scratch on the data; of a closed form, by its one fit."""
    torch.manual_seed(derive(config["seed"], "init"))
    model: Model = build(config["model"], data.spec)
    model.prepare(data)
    for epoch in range(model.max_epochs or 1):
        for batch in model.view.train_batches(data, config["seed"], epoch):
            model.fit(batch)
    return model.eval()


def trained(config: Config, data: DataSet, folder: Path) -> Model:
    """A model trained from scratch on the data as the run's configuration says."""
    torch.manual_seed(derive(config["seed"], "init"))
    model: Model = build(config["model"], data.spec)
    if model.learns_in_fit and model.max_epochs is not None:
        return refit(config, data)
    model.prepare(data)
    return on_trainer(config, model, data, folder, None)


def on_trainer(
    config: Config, model: Model, data: DataSet, folder: Path, epochs: int | None, some: DataSet | None = None
) -> Model:
    """The model trained on by the run's own Trainer, the best weights on validation; what that writes is removed.

    some  the data with what it trains on as its train part, where that is not all; validation knows all
    """
    quiet = {name: node for name, node in config["callbacks"].items() if name != "pruning"}
    trainer = {**config["trainer"], **({} if epochs is None else {"max_epochs": epochs})}
    settings = {**config, "callbacks": quiet, "trainer": trainer}
    task = prepare_task(settings, data, model, some)
    place = SimpleNamespace(folder=folder)
    worker, checkpoint = prepare_trainer(settings, task, place, [])
    try:
        fit(worker, task, checkpoint, False)
        load_best(task, checkpoint)
    finally:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return model.cpu().eval()


def changed(before: InteractionData, after: InteractionData, model: Model, seed: int) -> Change:
    """Who is where, and the rows of those whose training rows differ."""
    places = {name: pd.Index(getattr(before.store, name)).get_indexer(getattr(after.store, name))
              for name in ("user_ids", "item_ids")}  # fmt: skip
    users, items = places["user_ids"], places["item_ids"]
    of_item = pd.Index(after.store.item_ids).get_indexer(before.store.item_ids)
    shape = before.store.n_users, after.store.n_items
    train = before.parts["train"]
    stays = of_item[train.items] >= 0  # an item that only those who are forgotten have brought goes with them
    old = _binary(train.users[stays], of_item[train.items][stays], shape)
    new = _binary(after.parts["train"].users, after.parts["train"].items, (after.store.n_users, shape[1]))
    there = users >= 0
    # The former row of each user of now, in the order of now; who is new had none.
    pick = sparse.csr_matrix(
        (np.ones(there.sum(), np.float32), (np.flatnonzero(there), users[there])), shape=(len(users), shape[0])
    )
    moved = pick @ old
    differ = np.flatnonzero(abs(moved - new).sum(axis=1).A1 > 0)
    gone = np.setdiff1d(np.arange(before.store.n_users), users[there])
    removed = sparse.vstack([moved[differ], old[gone]], format="csr")
    batch = next(iter(model.view.train_batches(after, seed, 0))) if model.updates else None
    return Change(
        torch.from_numpy(users), torch.from_numpy(items), before.store.n_users, before.store.n_items,
        removed, new[differ], batch,
    )  # fmt: skip


def _binary(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _begin(model: Model, former: Model, change: Change | None, make: Callable[..., Model], after: DataSet) -> None:
    """The former weights in the grown tables of the new model."""
    if change is None:
        model.load_state_dict(former.state_dict())
        return
    from dataclasses import replace

    spec = replace(after.spec, n_users=change.former_users, n_items=change.former_items)
    take_over(model, former.state_dict(), Tables(make, after.spec), change.users, change.items, spec)


def replayed(before: DataSet, after: DataSet, replay: float, seed: int) -> DataSet:
    """The data with a train part of what is new and `replay` times as many others, drawn at random.

    Of interactions: all training rows of the users who have new or changed ones, and those of so many other users.
    """
    data, generator = copy(after), numpy_generator(seed, "replay of an update")
    if not isinstance(after, InteractionData):
        new = after.parts["train"][after.parts["train"] >= len(before.labels)]
        old = after.parts["train"][after.parts["train"] < len(before.labels)]
        drawn = generator.choice(old, min(len(old), round(replay * len(new))), replace=False)
        data.parts = {**after.parts, "train": np.sort(np.concatenate([new, drawn]))}
        return data
    counts = np.diff(after.parts["train"].offsets)
    known, own = (_told_apart(data.parts["train"], after) for data in (before, after))
    new = np.unique(after.parts["train"].users[~np.isin(own, known)])
    places = pd.Index(before.store.user_ids).get_indexer(after.store.user_ids)
    former = np.where(places >= 0, np.diff(before.parts["train"].offsets)[places], 0)
    new = np.union1d(new, np.flatnonzero(counts != former))  # a row that has gone, or one more of the same
    old = np.setdiff1d(np.flatnonzero(counts), new)
    chosen = np.zeros(after.store.n_users, dtype=bool)
    chosen[new] = True
    chosen[generator.choice(old, min(len(old), round(replay * len(new))), replace=False)] = True
    train = after.parts["train"]
    rows = chosen[train.users]
    if rows.any():  # else what is new has only taken something away, and all that is left trains on
        data.parts = {**after.parts, "train": train.take(rows)}
    return data


def _told_apart(rows: Interactions, data: InteractionData) -> np.ndarray:
    """A number a row, int64 [n]: equal for equal user, item, value and time, whoever else the data has."""
    columns = {name: pd.Index(getattr(data.store, f"{name[:-1]}_ids")).get_indexer(getattr(rows, f"{name[:-1]}_ids"))[
        getattr(rows, name)] for name in ("users", "items")}  # fmt: skip
    columns |= {name: column for name in ("timestamps", "values") if (column := getattr(rows, name)) is not None}
    return pd.util.hash_pandas_object(pd.DataFrame(columns), index=False).to_numpy().view(np.int64)
