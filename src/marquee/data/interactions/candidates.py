"""Which items are ranked for a user, where it is not all: those that train or do not, a list, a sample drawn once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from marquee.data.cache import cached, file_sha256
from marquee.data.dataset import Part
from marquee.data.interactions.columns import locate, read_bytes
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import gather_rows
from marquee.data.interactions.ids import canonical
from marquee.data.interactions.sequences import read_sequences
from marquee.errors import DataError
from marquee.seeding import numpy_generator

SAMPLED = ("uniform", "popular")
CELLS = 4_000_000  # (user, item) cells for which lots are drawn at a time


@dataclass(frozen=True)
class Candidates:
    """The items that may be ranked.

    everyone     bool [n_items], the same for all users; or None
    own          int32 [n_users, n], each user's own besides the targets; places left over hold n_items; or None
    words        what they are, for the protocol
    suffix       what the metrics' names say of them: `_uniform100`; empty where nothing was drawn or listed
    fingerprint  sha256 of which items they are
    """

    everyone: Tensor | None
    own: Tensor | None
    words: str
    suffix: str
    fingerprint: str

    def limit(self, scores: Tensor, users: Tensor, relevant: Tensor) -> Tensor:
        """`scores` [batch, n_items] with -inf for what is no candidate of `users`; `relevant` items are some where each
        user has candidates of their own."""
        if self.everyone is not None:
            return scores.masked_fill(~self.everyone.to(scores.device), -torch.inf)
        allowed = torch.zeros(len(users), scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
        allowed.scatter_(1, self.own.to(users.device)[users].long().to(scores.device), True)
        return scores.masked_fill(~(allowed[:, :-1] | relevant), -torch.inf)


def candidates_of(data: InteractionData, kind: str, n: int, seed: int, part: Part) -> Candidates:
    """The candidates that `task.candidates` names: train, new, uniform, popular, or the path of a list.

    Samples leave out all that a user has met in any part, and are kept in the cache, because other runs rank the same.
    Raises DataError for a list that holds none of the items, and for `new` where no item is.
    """
    if kind in ("train", "new"):
        known = np.bincount(data.parts["train"].items, minlength=data.spec.n_items) > 0
        if kind == "train":
            return _for_all(known, f"of {int(known.sum()):,} items with training interactions", "")
        if known.all():
            raise DataError("task.candidates=new: every item has training interactions. Hold some out: split=new_items")
        return _for_all(~known, f"of {int((~known).sum()):,} items without training interactions", "_new")
    if kind in SAMPLED:
        key = {"kind": kind, "n": n, "seed": seed, "data": data.fingerprint, "split": data.split_fingerprint,
               "part": part}  # fmt: skip

        def build(folder: Path) -> None:
            np.save(folder / "candidates.npy", _sample(data, kind, n, seed, part))

        own = np.load(cached(data.paths, f"{data.name}_candidates", key, build) / "candidates.npy")
        return _own(own, f"of each target set among {n} {kind} items drawn once (seed {seed})", f"_{kind}{n}")
    return _listed(data, locate(kind, data.paths, "task.candidates"))


def _for_all(allowed: np.ndarray, words: str, suffix: str) -> Candidates:
    return Candidates(torch.from_numpy(allowed), None, words, suffix, hashlib.sha256(allowed.tobytes()).hexdigest())


def _own(own: np.ndarray, words: str, suffix: str) -> Candidates:
    return Candidates(None, torch.from_numpy(own), words, suffix, hashlib.sha256(own.tobytes()).hexdigest())


def _sample(data: InteractionData, kind: str, n: int, seed: int, part: Part) -> np.ndarray:
    """int32 [n_users, n]: for each user with targets, items that they have not met, without replacement.

    Items win by the smallest exponential lot, which draws each with a probability in proportion to its weight.
    """
    store, n_items = data.store, data.spec.n_items
    weight = np.ones(n_items, np.float32)
    if kind == "popular":
        weight = np.bincount(data.parts["train"].items, minlength=n_items).astype(np.float32)
    own = np.full((data.spec.n_users, n), n_items, np.int32)
    users = np.flatnonzero(np.diff(data.parts[part].offsets))
    generator = numpy_generator(seed, f"candidates/{part}")
    size = max(1, CELLS // n_items)
    taken = min(n, n_items)
    for start in range(0, len(users), size):
        chunk = users[start : start + size]
        with np.errstate(divide="ignore"):
            lots = generator.standard_exponential((len(chunk), n_items), dtype=np.float32) / weight
        met = gather_rows(store.items, store.offsets, chunk)
        lots[met.rows().numpy(), met.items.numpy()] = np.inf
        first = np.argpartition(lots, taken - 1, axis=1)[:, :taken]
        drawn = np.isfinite(np.take_along_axis(lots, first, axis=1))
        own[chunk, :taken] = np.sort(np.where(drawn, first, n_items), axis=1)
    return own


def _listed(data: InteractionData, path: Path) -> Candidates:
    """One item id a line, for all users; or `user item item ...` a line, each user's own."""
    lines = read_bytes(path).decode("utf-8", errors="replace").split("\n")
    name = f"in {path.name} ({file_sha256(path)[:8]})"
    position = _positions(data.store.item_ids)
    if all(len(line.split()) <= 1 for line in lines):
        rows = [position.get(item) for item in canonical([line.strip() for line in lines if line.strip()])]
        allowed = np.zeros(data.spec.n_items, dtype=bool)
        allowed[[row for row in rows if row is not None]] = True
        if not allowed.any():
            raise DataError(f"task.candidates: none of the {len(rows):,} items of {path} is an item of this data.")
        return _for_all(allowed, f"of {int(allowed.sum()):,} items {name}", "_given")
    frame = read_sequences(path)
    users, items = (
        frame[column].cat.codes.map(_codes(frame[column].cat.categories, find)).to_numpy()
        for column, find in (("user", _positions(data.store.user_ids)), ("item", position))
    )
    good = (users >= 0) & (items >= 0)
    users, items = users[good], items[good]
    if not len(users):
        raise DataError(f"task.candidates: no pair of {path} is a user and an item of this data.")
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    counts = np.bincount(users, minlength=data.spec.n_users)
    own = np.full((data.spec.n_users, counts.max()), data.spec.n_items, np.int32)
    own[users, np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)] = items
    return _own(own, f"of each target set among up to {counts.max()} items {name}", f"_given{counts.max()}")


def _positions(ids: np.ndarray) -> dict[str, int]:
    return {str(name): place for place, name in enumerate(ids.tolist())}


def _codes(categories, position: dict[str, int]) -> Callable[[int], int]:
    places = [position.get(str(name), -1) for name in categories]
    return places.__getitem__
