"""How interactions become batches: pairs for BPR, sequences for next-item models, the matrix for closed forms.

All views read one in-memory store and build batches by indexing whole tensors. There are no DataLoader workers and no
per-sample objects. Negatives and order are functions of (seed, epoch).
"""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.module import Part, View
from marquee.models.base import Histories
from marquee.seeding import torch_generator

# Evaluation scores about this many (user, item) cells at a time: 8 MB of float32. Twice as many save 0.04 CPU s on
# MovieLens-1M, but cost 0.08 GB of peak memory in the metrics of scores that tie.
EVALUATION_CELLS = 2_000_000
# A table of all (user, item) cells tells at one look whether an item was seen; above this size a search does.
BITMAP_CELLS = 200_000_000


class RankingBatch(NamedTuple):
    """Users to rank items for: what is known of them, and what should be found."""

    users: Tensor  # int64 [batch]
    histories: Histories
    targets: Histories


class PairBatch(NamedTuple):
    """Observed interactions with sampled items that the user has not interacted with in training."""

    users: Tensor  # int64 [batch]
    items: Tensor  # int64 [batch]
    negatives: Tensor  # int64 [batch, n_negatives]


class SequenceBatch(NamedTuple):
    """One row a user: at each position the item seen and the item that followed; padding is `n_items`, at the end."""

    items: Tensor  # int64 [batch, length]
    targets: Tensor  # int64 [batch, length]


class MatrixBatch(NamedTuple):
    """All training interactions at once, as coordinates."""

    users: Tensor  # int64 [n]
    items: Tensor  # int64 [n]


def gather_rows(items: np.ndarray, offsets: np.ndarray, users: np.ndarray) -> Histories:
    """The rows of some users out of a CSR store, as one flat vector with offsets of their own."""
    starts, counts = offsets[users], offsets[users + 1] - offsets[users]
    ends = np.cumsum(counts)
    index = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)
    flat = torch.from_numpy(items[index].astype(np.int64))
    return Histories(flat, torch.from_numpy(np.concatenate([[0], ends]).astype(np.int64)))


class InteractionView(View):
    """What the views of interactions share: every one is evaluated in the same way, by ranking the full catalogue."""

    def evaluation_batches(self, data: Any, part: Part, rank: int = 0, world: int = 1) -> Iterator[RankingBatch]:
        known, wanted = data.history(part), data.parts[part]
        users = np.flatnonzero(np.diff(wanted.offsets))[rank::world]
        size = max(1, EVALUATION_CELLS // data.spec.n_items)
        for start in range(0, len(users), size):
            chunk = users[start : start + size]
            yield RankingBatch(
                torch.from_numpy(chunk),
                gather_rows(known.items, known.offsets, chunk),
                gather_rows(wanted.items, wanted.offsets, chunk),
            )


class Pairs(InteractionView):
    """Each interaction once an epoch, in random order, beside uniformly sampled items unseen by the user."""

    def __init__(self, *, batch_size: Annotated[int, Ge(1)] = 2048, n_negatives: Annotated[int, Ge(1)] = 1):
        self.batch_size = batch_size
        self.n_negatives = n_negatives

    def steps(self, data: Any) -> int:
        return -(-len(data.parts["train"].items) // self.batch_size)

    def train_batches(self, data: Any, seed: int, epoch: int) -> Iterator[PairBatch]:
        train = data.parts["train"]
        users, items = _columns(train)
        seen = _Seen(train, data.spec.n_items)
        order = torch.randperm(len(users), generator=torch_generator(seed, "order", epoch))
        generator = torch_generator(seed, "negatives", epoch)
        # Negatives are drawn for many batches at once: the checks cost a few large operations, not many small ones.
        block = self.batch_size * max(1, 2**19 // (self.batch_size * self.n_negatives))
        for start in range(0, len(order), block):
            index = order[start : start + block]
            block_users, block_items = users[index], items[index]
            negatives = seen.sample_unseen(block_users, self.n_negatives, generator)
            yield from map(PairBatch, *(t.split(self.batch_size) for t in (block_users, block_items, negatives)))


class Sequences(InteractionView):
    """The last `max_length` + 1 training items of each user, shifted by one: every position is a target, once.

    One row a user, never one row a prefix. Rows are right-padded: under a causal mask real positions then never see
    padding, so no padding mask is needed.
    """

    def __init__(self, *, batch_size: Annotated[int, Ge(1)] = 128, max_length: Annotated[int, Ge(1)] = 50):
        self.batch_size = batch_size
        self.max_length = max_length

    def steps(self, data: Any) -> int:
        users = np.count_nonzero(np.diff(data.parts["train"].offsets) > 1)
        return -(-users // self.batch_size)

    def train_batches(self, data: Any, seed: int, epoch: int) -> Iterator[SequenceBatch]:
        train, padding = data.parts["train"], data.spec.n_items
        users = np.flatnonzero(np.diff(train.offsets) > 1)
        rows, lengths = gather_rows(train.items, train.offsets, users).padded(self.max_length + 1, padding)
        order = torch.randperm(len(users), generator=torch_generator(seed, "order", epoch))
        for index in order.split(self.batch_size):
            width = int(lengths[index].max())
            batch = rows[index, :width]
            yield SequenceBatch(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())


class Matrix(InteractionView):
    """One batch an epoch: the whole training matrix, for closed forms."""

    def steps(self, data: Any) -> int:
        return 1

    def train_batches(self, data: Any, seed: int, epoch: int) -> Iterator[MatrixBatch]:
        yield MatrixBatch(*_columns(data.parts["train"]))

    def shard(self, batch: MatrixBatch, rank: int, world: int) -> MatrixBatch:
        return batch  # a closed form needs all of it


def _columns(interactions: Any) -> tuple[Tensor, Tensor]:
    users = torch.from_numpy(np.asarray(interactions.users, dtype=np.int64))
    return users, torch.from_numpy(np.asarray(interactions.items, dtype=np.int64))


class _Seen:
    """Tells which (user, item) pairs are training interactions."""

    def __init__(self, train: Any, n_items: int):
        self.n_items = n_items
        users, items = _columns(train)
        keys = users * n_items + items
        n_cells = (len(train.offsets) - 1) * n_items
        self.bitmap = self.keys = None
        if n_cells <= BITMAP_CELLS:
            self.bitmap = torch.zeros(n_cells, dtype=torch.bool)
            self.bitmap[keys] = True
        else:
            self.keys = keys.unique()

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """Bool, same shape as `items`."""
        keys = users * self.n_items + items
        if self.bitmap is not None:
            return self.bitmap[keys]
        position = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return self.keys[position] == keys

    def sample_unseen(self, users: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Uniform over the items that each user has not seen: int64 [len(users), n].

        Seen items are drawn again, a few times; a user who has seen nearly everything keeps the last draw.
        """
        drawn = torch.randint(self.n_items, (len(users), n), generator=generator).view(-1)
        owners = users.repeat_interleave(n) if n > 1 else users
        pending = self.contains(owners, drawn).nonzero()[:, 0]
        for _ in range(20):
            if not len(pending):
                break
            drawn[pending] = torch.randint(self.n_items, (len(pending),), generator=generator)
            pending = pending[self.contains(owners[pending], drawn[pending])]
        return drawn.view(len(users), n)
