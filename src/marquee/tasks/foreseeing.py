"""Events foreseen one by one: which of them are targets, what is known before each, and how well a scorer does."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.data.interactions.histories import EVALUATION_CELLS, Histories
from marquee.data.interactions.store import Interactions
from marquee.metrics import one_target
from marquee.models.base import Recommender

LEFT = ("new_items", "first")  # why an event is no target


class Events(NamedTuple):
    """Targets among the rows of a store, each with what its user had met before.

    places  int64 [targets], their positions among `rows`
    starts  int64 [targets], where their users' rows begin there
    rows    int64 [kept], the rows of the store that are read, by user and then by time
    items   int64 [kept], their items
    """

    places: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    items: Tensor


class Constant:
    """The same scores [n_items] for every event."""

    def __init__(self, scores: Tensor):
        self.scores = scores

    def score_events(self, rows: np.ndarray) -> Tensor:
        return self.scores.expand(len(rows), -1)


def events_of(
    store: Interactions, seen: np.ndarray, known: Tensor, wanted: np.ndarray
) -> tuple[Events, dict[str, int]]:
    """Targets among the rows `wanted`, from what is known before them among the rows `seen` (both bool [n]), and how
    many of the wanted rows are no targets, by why (LEFT). Items that are not `known` (bool [n_items]) are not there."""
    there = known.numpy()[store.items]
    kept = np.flatnonzero(seen & there)
    users = store.users[kept]
    starts = np.searchsorted(users, users, side="left")
    places = np.arange(len(kept))
    hit = wanted[kept] & (places > starts)
    counts = int((wanted & ~there).sum()), int((wanted[kept] & (places == starts)).sum())
    found = Events(places[hit], starts[hit], kept, torch.from_numpy(store.items[kept]).long())
    return found, dict(zip(LEFT, counts, strict=True))


def judge(
    scorer: Any,
    events: Events,
    store: Interactions,
    known: Tensor,
    ks: Sequence[int],
    mask_seen: bool,
    device: torch.device,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Metrics and a row an event of a recommender, or of what has `score_events(rows)`; ranked is what is known."""
    places, starts, kept, items = events
    times = store.timestamps
    hidden = (~known).nonzero()[:, 0].to(device)
    size = max(1, EVALUATION_CELLS // store.n_items)
    found = np.zeros((2, len(places)), dtype=np.int64)
    for begin in range(0, len(places), size):
        chunk, first = places[begin : begin + size], starts[begin : begin + size]
        ends = np.cumsum(chunk - first)
        index = np.arange(ends[-1]) + np.repeat(first - (ends - (chunk - first)), chunk - first)
        when = None if times is None else torch.from_numpy(times[kept[index]])
        offsets = torch.from_numpy(np.concatenate([[0], ends]))
        histories = _moved(Histories(items[torch.from_numpy(index)], offsets, when), device)
        if isinstance(scorer, Recommender):
            with torch.autocast(device.type, enabled=False):
                scores = scorer.score(None, histories).float().clone()
        else:
            scores = scorer.score_events(kept[chunk]).float().clone().to(device)
        one_target.refuse_no_order(scores)
        scores[:, hidden] = -torch.inf
        if mask_seen:
            scores[histories.rows(), histories.items] = -torch.inf
        targets = items[torch.from_numpy(chunk)].to(device)
        above, tied = one_target.places(scores, targets)
        tied[scores.gather(1, targets[:, None])[:, 0] == -torch.inf] = 0  # it has been seen, so it is no target
        found[:, begin : begin + size] = torch.stack([above, tied]).cpu().numpy()
    judged = found[1] > 0
    columns = one_target.of_one_target(*found[:, judged], ks)
    units = pd.DataFrame({"event": kept[places[judged]], **columns})
    return {name: float(column.mean()) if len(column) else 0.0 for name, column in columns.items()}, units


def _moved(histories: Histories, device: torch.device) -> Histories:
    return Histories(*(None if tensor is None else tensor.to(device) for tensor in histories))
