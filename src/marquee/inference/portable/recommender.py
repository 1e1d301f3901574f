"""Recommend with an exported run: scores from ONNX Runtime, ids, titles and what was seen from the artefact."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from marquee.data.interactions.known import EVALUATION_CELLS, known_of
from marquee.errors import ConfigError
from marquee.inference.portable.artefact import Artefact
from marquee.inference.portable.index import ItemIndex
from marquee.inference.recommender import RecommendPredictor, item_table

if TYPE_CHECKING:
    import pandas as pd


class PortableRecommender(RecommendPredictor):
    """As `RecommendPredictor`. What the graph reads is told by its inputs:

    users           int64 [batch]: a model of ids
    seen            float32 [batch, n_items], 1 for what a history holds: a model that adds up over the history
    items, lengths  int64 [batch, length] and [batch]: a model that reads the order; `times` int64, -1 for not known
    """

    def __init__(self, artefact: Artefact):
        settings = artefact.told["settings"]
        self.artefact = artefact
        self.n_items: int = settings["n_items"]
        self.max_length: int = settings.get("max_length", 0)
        self.filter_seen = settings["filter_seen"]
        self.features = {}
        self.index = ItemIndex.beside(artefact)
        known = known_of(artefact.tensors("histories.safetensors"), artefact.json("ids.json"))
        self._know(known, "users" not in artefact.inputs, artefact.told["model"].rpartition(".")[2])

    @cached_property
    def items(self) -> "pd.DataFrame":
        facts = self.artefact.bytes("items.json").decode() if self.artefact.has("items.json") else None
        return item_table(self.known, facts)

    def recommend_like(self, **given: Any) -> "pd.DataFrame":
        raise ConfigError(
            f"{self.artefact.path} scores users and histories; what is like a text or an image, the run itself says: "
            f"marquee recommend {self.artefact.told['run']} --like-text ..."
        )

    def scores(
        self, users: np.ndarray | None, items: np.ndarray, offsets: np.ndarray, times: np.ndarray | None
    ) -> np.ndarray:
        """Float32 [batch, n_items] for users with histories, flat with offsets, as `Histories` holds them."""
        return self.artefact.run(**self.feeds(users, items, offsets, times))[0]

    def feeds(
        self, users: np.ndarray | None, items: np.ndarray, offsets: np.ndarray, times: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """What the graph is given."""
        n, inputs = len(offsets) - 1, self.artefact.inputs
        if "users" in inputs:
            return {"users": np.ascontiguousarray(users, dtype=np.int64)}
        if "seen" in inputs:
            seen = np.zeros((n, self.n_items), dtype=np.float32)
            seen[np.repeat(np.arange(n), np.diff(offsets)), items] = 1
            return {"seen": seen}
        lengths = np.minimum(np.diff(offsets), self.max_length)
        columns = np.arange(max(int(lengths.max(initial=0)), 1))
        inside = columns < lengths[:, None]
        place = np.where(inside, offsets[1:, None] - lengths[:, None] + columns, len(items))
        feeds = {"items": np.append(items, self.n_items)[place].astype(np.int64), "lengths": lengths.astype(np.int64)}
        if "times" in inputs:
            known = np.full(len(items) + 1, -1, dtype=np.int64)
            if times is not None:
                known[:-1] = times
                known[-1] = 0
            feeds["times"] = known[place]
        return feeds

    def _top(self, known, rows, by_id: bool, k: int, excluded, filter_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        chunks = self._chunks(known, rows, by_id)
        if self.index is not None and excluded is None:  # few candidates are few: all of them are scored
            return self._searched(chunks, len(rows), k, filter_seen)
        return best_of(chunks, self.scores, len(rows), k, self.n_items, excluded, filter_seen)

    def _searched(self, chunks, n: int, k: int, mask: bool) -> tuple[np.ndarray, np.ndarray]:
        """By the index; rows of which it leaves fewer than `k` items are scored exactly."""
        width, done = min(k, self.n_items), 0
        items, scores = np.zeros((n, width), dtype=np.int64), np.full((n, width), -np.inf)
        for users, seen, offsets, times in chunks:
            part = slice(done, done + len(offsets) - 1)
            feeds = self.feeds(users, seen, offsets, times)
            items[part], scores[part], short = self.index.best(feeds, width, seen if mask else seen[:0], offsets)
            if short.any():
                rows = np.flatnonzero(short)
                index, ends = flat_index(offsets, rows)
                again = (
                    None if users is None else users[rows],
                    seen[index],
                    ends,
                    None if times is None else times[index],
                )
                items[done + rows], scores[done + rows] = best_of(
                    [again], self.scores, len(rows), width, self.n_items, None, mask
                )
            done = part.stop
        return items, scores

    def _chunks(self, known, rows: np.ndarray, by_id: bool):
        """Users (None where they are not known by id) with their histories, as many as EVALUATION_CELLS allows."""
        items, offsets, times = known
        size = max(1, EVALUATION_CELLS // self.n_items)
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            index, ends = flat_index(offsets, chunk)
            when = None if times is None else times[index]
            yield chunk if by_id else None, items[index].astype(np.int64), ends, when


def flat_index(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the entries of some rows of a CSR store stand, and offsets of their own [rows + 1]."""
    starts, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.arange(ends[-1]) - np.repeat(ends[:-1], counts) + np.repeat(starts, counts), ends


def best_of(
    chunks, score: Callable[..., np.ndarray], n: int, k: int, n_items: int, excluded: np.ndarray | None, mask: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items and their scores [n, k], -inf where nothing is left; of equal ones the lower number first."""
    width, done = min(k, n_items), 0
    items, scores = np.zeros((n, width), dtype=np.int64), np.full((n, width), -np.inf)
    for users, seen, offsets, times in chunks:
        table = np.array(score(users, seen, offsets, times), dtype=np.float32)
        if mask:
            table[np.repeat(np.arange(len(table)), np.diff(offsets)), seen] = -np.inf
        if excluded is not None:
            table[:, excluded] = -np.inf
        part = slice(done, done + len(table))
        items[part], scores[part] = top(table, width)
        done += len(table)
    return items, scores


def top(table: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values [rows, k] of the `k` largest of each row, the largest first."""
    index = (
        np.argpartition(-table, k - 1, axis=1)[:, :k]
        if k < table.shape[1]
        else np.tile(np.arange(table.shape[1]), (len(table), 1))
    )
    index.sort(axis=1)
    values = np.take_along_axis(table, index, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(values, order, axis=1)
