"""Many requests for recommendations answered together: scores once, then what each of them may not have taken out."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.data.interactions.histories import EVALUATION_CELLS, Histories
from marquee.errors import ConfigError
from marquee.inference.recommender import RecommendPredictor
from marquee.models.base import READ_HISTORIES
from marquee.models.neural.sides import Side

REASONS = 50  # of the newest items of a history it is tried what they have said


@dataclass(frozen=True)
class Asked:
    """One request for recommendations, its names resolved to positions.

    user         of a known user; None for somebody who is known by a history or by features
    history      int64 [n], oldest first; of a known user what the run knows
    times        when that was, int64 [n], where it is known
    features     what is known of somebody new, encoded: one row a column
    k            how many items
    candidates   int64 [m]: nothing else is recommended; None: the catalogue
    exclude      int64 [m]: these are not
    filter_seen  whether the items of the history are left out
    """

    user: int | None
    history: np.ndarray
    times: np.ndarray | None
    features: Mapping[str, np.ndarray] | None
    k: int
    candidates: np.ndarray | None
    exclude: np.ndarray
    filter_seen: bool

    @property
    def kind(self) -> str:
        """Requests of one kind can be scored by one call of the model."""
        return "user" if self.user is not None else "features" if self.features is not None else "history"


class Ranking(NamedTuple):
    """The best items of one request, best first: positions int64 [n] and scores float32 [n]."""

    items: np.ndarray
    scores: np.ndarray


def resolve(
    predictor: RecommendPredictor,
    *,
    user: int | str | None = None,
    history: Sequence[int | str] | None = None,
    features: Mapping[str, Any] | None = None,
    k: int = 10,
    candidates: Sequence[int | str] | None = None,
    exclude: Sequence[int | str] = (),
    filter_seen: bool | None = None,
) -> Asked:
    """A request as a person makes it: for a user, for a history, or for somebody new with features (and a history).

    Raises Unknown for names that the run does not have, ConfigError for what the model cannot do.
    """
    row, times, encoded = None, None, None
    if user is not None:
        row = int(predictor.find_users([user])[0])
        known = slice(predictor.known.offsets[row], predictor.known.offsets[row + 1])
        items = predictor.known.items[known].astype(np.int64)
        times = None if predictor.known.times is None else predictor.known.times[known]
    else:
        items = predictor.find_items(history or ())
        if features is not None:
            encoded = _encoded(predictor, features)
        elif not predictor.model.scores_unseen_users:
            reads = " It reads features of users: give them." if _side(predictor) is not None else ""
            raise ConfigError(
                f"{type(predictor.model).__name__} knows users by id only and cannot score a history.{reads} "
                f"Ask for a known user, or train a model that reads histories: {READ_HISTORIES}."
            )
    return Asked(
        row, items, times, encoded, k,
        None if candidates is None else predictor.find_items(candidates),
        predictor.find_items(exclude),
        predictor.filter_seen if filter_seen is None else filter_seen,
    )  # fmt: skip


def answer(predictor: RecommendPredictor, asked: Sequence[Asked]) -> list[Ranking]:
    """What `recommend` would answer to each, from as few calls of the model as there are kinds of requests."""
    found: list[Ranking | None] = [None] * len(asked)
    kinds = [one.kind for one in asked]
    size = max(1, EVALUATION_CELLS // len(predictor.items))
    for kind in dict.fromkeys(kinds):
        places = [place for place, own in enumerate(kinds) if own == kind]
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            for place, ranking in zip(chunk, _ranked(predictor, [asked[place] for place in chunk]), strict=True):
                found[place] = ranking
    return [ranking for ranking in found if ranking is not None]


def reasons(predictor: RecommendPredictor, asked: Asked, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much each item of a history says for each of `items` [n]: shares [n, m] and the history's positions [m].

    A share is the score less the score without that item of the history (leave one out). Of a long history the newest
    REASONS are tried. Nothing is said (m is 0) where the model does not read histories.
    """
    length = len(asked.history)
    tried = np.arange(max(0, length - REASONS), length)
    if not predictor.model.scores_unseen_users or not length:
        return np.zeros((len(items), 0)), np.zeros(0, dtype=np.int64)
    kept = np.arange(length)[None] != tried[:, None]  # the m histories without one
    flat = np.broadcast_to(asked.history, kept.shape)[kept]
    offsets = np.concatenate([[0], [length], length + np.arange(1, len(tried) + 1) * (length - 1)])
    times = None
    if asked.times is not None:
        times = np.concatenate([asked.times, np.broadcast_to(asked.times, kept.shape)[kept]])
    histories = _histories(np.concatenate([asked.history, flat]), offsets, times)
    users = None if asked.user is None else torch.full((len(tried) + 1,), asked.user)
    with torch.inference_mode():
        scores = predictor.model.score(users, histories)[:, torch.from_numpy(items)].float().numpy()
    return (scores[:1] - scores[1:]).T, asked.history[tried]


@torch.inference_mode()
def _ranked(predictor: RecommendPredictor, asked: Sequence[Asked]) -> list[Ranking]:
    """Of requests of one kind."""
    histories = _histories(
        np.concatenate([one.history for one in asked]),
        np.concatenate([[0], np.cumsum([len(one.history) for one in asked])]),
        None if asked[0].times is None else np.concatenate([one.times for one in asked if one.times is not None]),
    )
    table = _scores(predictor, asked, histories)
    hides = torch.tensor([one.filter_seen for one in asked])
    rows = histories.rows()
    seen = hides[rows]
    table[rows[seen], histories.items[seen]] = -torch.inf
    table[_pairs([one.exclude for one in asked])] = -torch.inf
    if limited := [place for place, one in enumerate(asked) if one.candidates is not None]:
        outside = torch.ones(len(limited), table.shape[1], dtype=torch.bool)
        outside[_pairs([asked[place].candidates for place in limited])] = False
        table[limited] = table[limited].masked_fill(outside, -torch.inf)
    found: list[Ranking] = [Ranking(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(asked)
    # Not the largest k for all: which of tied items a shorter list has depends on its length.
    lengths = np.array([one.k for one in asked])
    for k in np.unique(lengths).tolist():
        own = np.flatnonzero(lengths == k)
        best, index = table[own].topk(min(k, table.shape[1]), dim=1)
        for place, scores, items in zip(own.tolist(), best.numpy(), index.numpy(), strict=True):
            kept = np.isfinite(scores)
            found[place] = Ranking(items[kept], scores[kept])
    return found


def _scores(predictor: RecommendPredictor, asked: Sequence[Asked], histories: Histories) -> Tensor:
    """[requests, n_items], to be written into."""
    users, inside = None, nullcontext()
    if asked[0].user is not None:
        users = torch.tensor([one.user for one in asked])
    elif asked[0].features is not None:
        users = torch.zeros(len(asked), dtype=torch.int64)  # whoever that is: the guests stand in for them
        columns = [one.features for one in asked if one.features is not None]
        inside = _side(predictor).guests({name: np.concatenate([own[name] for own in columns]) for name in columns[0]})
    with inside:
        table = predictor.model.score(users, histories).float()
    return table.clone(memory_format=torch.contiguous_format)


def _histories(items: np.ndarray, offsets: np.ndarray, times: np.ndarray | None) -> Histories:
    flat, bounds = torch.from_numpy(items.astype(np.int64)), torch.from_numpy(offsets.astype(np.int64))
    return Histories(flat, bounds, None if times is None else torch.from_numpy(times.astype(np.int64)))


def _pairs(columns: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows and columns of a table that are meant, of the columns of each row."""
    rows = np.repeat(np.arange(len(columns)), [len(own) for own in columns])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate([*columns, np.zeros(0, np.int64)]))


def _side(predictor: RecommendPredictor) -> Side | None:
    """What the model knows users by, where that is more than their ids."""
    side = getattr(predictor.model, "user", None)
    return side if isinstance(side, Side) and side.columns is not None and "user" in predictor.features else None


def _encoded(predictor: RecommendPredictor, features: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One row of features. Raises ConfigError for a model that reads none, and for columns that it does not have."""
    if _side(predictor) is None:
        raise ConfigError(
            f"{type(predictor.model).__name__} reads no features of users, so nobody can be known by them. "
            "Give a user or a history, or train one that does: model=neural/two_tower data.user_features=..."
        )
    learnt = predictor.features["user"]
    if unknown := [name for name in features if name not in learnt.kinds]:
        raise ConfigError(f"features.{unknown[0]}: no such column.\n  allowed: {', '.join(learnt.kinds)}")
    for name, value in features.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, float) and not math.isfinite(part):
                raise ConfigError(f"features.{name}: {part}\n  allowed: finite numbers; null where it is not known")
            if isinstance(part, str) and any("\ud800" <= letter <= "\udfff" for letter in part):
                raise ConfigError(f"features.{name} has half a character (U+D800 ... U+DFFF), which is no text.")
    row = {name: "|".join(map(str, value)) if isinstance(value, list) else value for name, value in features.items()}
    return learnt.encode(pd.DataFrame([{name: row.get(name) for name in learnt.kinds}]))
