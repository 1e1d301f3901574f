"""How interactions become batches: pairs, ratings, rows, sequences, or the whole matrix at once.

All views read one in-memory store and build batches by indexing whole tensors. There are no DataLoader workers and no
per-sample objects. Negatives and order are functions of (seed, epoch).
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from marquee.data.dataset import View
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.histories import Histories, gather_rows
from marquee.data.interactions.seen import Seen
from marquee.data.interactions.store import Interactions
from marquee.errors import ConfigError
from marquee.seeding import torch_generator

# Batches of sequences that share out rows by length. Of the positions of an epoch on MovieLens-1M (leave one out, 128
# rows a batch) 8 leave 4 % padding at length 50 and 10 % at length 200, where rows at random leave 12 % and 46 %.
BUCKETS = 8


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
    """One row a user: at each position what is read and what is to be predicted; padding is `n_items`, at the end."""

    items: Tensor  # int64 [batch, length]
    targets: Tensor  # int64 [batch, length]
    times: Tensor | None = None  # int64 [batch, length], when the items were met, in seconds, where the data says so


class RowBatch(NamedTuple):
    """Users with all that they have met in training."""

    users: Tensor  # int64 [batch]
    histories: Histories


class RatingBatch(NamedTuple):
    """Observed interactions with the value that each of them has, such as a rating."""

    users: Tensor  # int64 [batch]
    items: Tensor  # int64 [batch]
    values: Tensor  # float32 [batch]


class MatrixBatch(NamedTuple):
    """All training interactions at once, as coordinates, sorted by user and then by time."""

    users: Tensor  # int64 [n]
    items: Tensor  # int64 [n]
    values: Tensor | None = None  # float32 [n], such as ratings or counts, where the data has them
    timestamps: Tensor | None = None  # int64 [n], likewise


class Pairs(View):
    """Each interaction once an epoch, in random order, beside uniformly sampled items unseen by the user.

    With `split=new_items` those are items that training met: of the others nobody knows yet.
    """

    def __init__(self, *, batch_size: Annotated[int, Ge(1)] = 2048, n_negatives: Annotated[int, Ge(1)] = 1):
        self.batch_size = batch_size
        self.n_negatives = n_negatives

    def steps(self, data: InteractionData) -> int:
        return -(-len(data.parts["train"].items) // self.batch_size)

    def train_batches(self, data: InteractionData, seed: int, epoch: int) -> Iterator[PairBatch]:
        train = data.parts["train"]
        users, items = _columns(train)
        # Where whole items are held out nobody knows of them yet: as negatives they would teach that all such are bad.
        met = torch.from_numpy(np.unique(train.items)) if "new_items_tested" in data.report else None
        seen = train.seen if met is None else Seen.among(train.users, train.items, train.n_users, met)
        order = torch.randperm(len(users), generator=torch_generator(seed, "order", epoch))
        generator = torch_generator(seed, "negatives", epoch)
        # Negatives are drawn for many batches at once: the checks cost a few large operations, not many small ones.
        block = self.batch_size * max(1, 2**19 // (self.batch_size * self.n_negatives))
        for start in range(0, len(order), block):
            index = order[start : start + block]
            block_users, block_items = users.index_select(0, index), items.index_select(0, index)
            negatives = seen.sample_unseen(block_users, self.n_negatives, generator)
            negatives = negatives if met is None else met[negatives]
            yield from map(PairBatch, *(t.split(self.batch_size) for t in (block_users, block_items, negatives)))


class Ratings(View):
    """Each interaction once an epoch, in random order, with its value (rating). Raises ConfigError where there is none.

    batch_size  interactions a step
    """

    def __init__(self, *, batch_size: Annotated[int, Ge(1)] = 1024):
        self.batch_size = batch_size

    def steps(self, data: InteractionData) -> int:
        return -(-len(data.parts["train"].items) // self.batch_size)

    def train_batches(self, data: InteractionData, seed: int, epoch: int) -> Iterator[RatingBatch]:
        train = data.parts["train"]
        if train.values is None:
            raise ConfigError(
                "model.view: Ratings needs a value for each interaction, and this data has none. Name its column "
                "(data.columns.value=...), or choose a model that learns from what was met, such as model=mf/bpr."
            )
        order = torch.randperm(len(train), generator=torch_generator(seed, "order", epoch))
        columns = (*_columns(train), torch.from_numpy(train.values))
        # All at once and then in slices: many small look-ups take longer.
        yield from map(RatingBatch, *(column.index_select(0, order).split(self.batch_size) for column in columns))


class Sequences(View):
    """The last `max_length` + 1 training items of each user, shifted by one: every position is a target, once.

    One row a user, never one row a prefix. Rows are right-padded: under a causal mask real positions then never see
    padding, so no padding mask is needed.
    """

    def __init__(self, *, batch_size: Annotated[int, Ge(1)] = 128, max_length: Annotated[int, Ge(1)] = 50):
        self.batch_size = batch_size
        self.max_length = max_length

    def steps(self, data: InteractionData) -> int:
        users = np.count_nonzero(np.diff(data.parts["train"].offsets) > 1)
        return -(-users // self.batch_size)

    def lengths(self, batch: SequenceBatch, padding: int) -> Tensor:
        """The positions of each row that are read, int64 [batch]: those with a target."""
        return (batch.targets != padding).sum(1)

    def train_batches(self, data: InteractionData, seed: int, epoch: int) -> Iterator[SequenceBatch]:
        train, padding = data.parts["train"], data.spec.n_items
        users = np.flatnonzero(np.diff(train.offsets) > 1)
        histories = gather_rows(train.items, train.offsets, users, train.timestamps)
        rows, lengths = histories.padded(self.max_length + 1, padding)
        times = histories.padded_times(self.max_length + 1)
        for index in _by_length(lengths, self.batch_size, seed, epoch):
            width = int(lengths[index].max())
            batch = rows[index, :width]
            when = None if times is None else times[index, : width - 1]
            yield SequenceBatch(batch[:, :-1].contiguous(), batch[:, 1:].contiguous(), when)


class MaskedSequences(View):
    """The last `max_length` training items of each user with some hidden behind a mask: what was there is the target.

    A hidden position holds the token `n_items + 1` and has a target; the others have the target `n_items`, which is
    padding. In every row one position at least is hidden. Sun et al. 2019, "BERT4Rec", CIKM, section 3.6 (Cloze task).

    batch_size    users a step
    max_length    items of a row, of which one is the mask when recommending; so 2 at least
    masked_share  share of the positions that are hidden, each on its own
    newest_share  share of the rows, each on its own, in which the newest item is hidden and no other, which is what is
                  asked when recommending; the paper's code adds such rows to the others, its text does not
    """

    extra_tokens: ClassVar[int] = 1

    def __init__(
        self,
        *,
        batch_size: Annotated[int, Ge(1)] = 128,
        max_length: Annotated[int, Ge(2)] = 50,
        masked_share: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        newest_share: Annotated[float, Interval(ge=0, le=1)] = 0.0,
    ):
        self.batch_size = batch_size
        self.max_length = max_length
        self.masked_share = masked_share
        self.newest_share = newest_share

    def steps(self, data: InteractionData) -> int:
        return -(-np.count_nonzero(np.diff(data.parts["train"].offsets)) // self.batch_size)

    def lengths(self, batch: SequenceBatch, padding: int) -> Tensor:
        """The positions of each row that are read, int64 [batch]: all but padding."""
        return (batch.items != padding).sum(1)

    def train_batches(self, data: InteractionData, seed: int, epoch: int) -> Iterator[SequenceBatch]:
        train, padding = data.parts["train"], data.spec.n_items
        users = np.flatnonzero(np.diff(train.offsets))
        rows, lengths = gather_rows(train.items, train.offsets, users).padded(self.max_length, padding)
        chance = torch.rand(rows.shape, generator=torch_generator(seed, "mask", epoch))
        real = rows != padding
        chance = chance.masked_fill(~real, 1.0)
        hidden = chance < self.masked_share
        hidden.scatter_(1, chance.argmin(1, keepdim=True), True)  # the least of a row is hidden whatever the share
        if self.newest_share:
            generator = torch_generator(seed, "newest", epoch)
            chosen = torch.rand((len(users), 1), generator=generator) < self.newest_share
            newest = torch.arange(rows.shape[1]) == lengths[:, None] - 1
            hidden = torch.where(chosen, newest, hidden)
        items = rows.masked_fill(hidden, padding + 1)
        targets = rows.masked_fill(~hidden, padding)
        for index in _by_length(lengths, self.batch_size, seed, epoch):
            width = int(lengths[index].max())
            yield SequenceBatch(items[index, :width].contiguous(), targets[index, :width].contiguous())


class Rows(View):
    """Each user's whole training row once an epoch, in random order, for autoencoders (Liang et al. 2018, Mult-VAE).

    batch_size  users a step
    """

    def __init__(self, *, batch_size: Annotated[int, Ge(1)] = 512):
        self.batch_size = batch_size

    def steps(self, data: InteractionData) -> int:
        return -(-np.count_nonzero(np.diff(data.parts["train"].offsets)) // self.batch_size)

    def train_batches(self, data: InteractionData, seed: int, epoch: int) -> Iterator[RowBatch]:
        train = data.parts["train"]
        users = torch.from_numpy(np.flatnonzero(np.diff(train.offsets)))
        order = torch.randperm(len(users), generator=torch_generator(seed, "order", epoch))
        for index in order.split(self.batch_size):
            yield RowBatch(users[index], gather_rows(train.items, train.offsets, users[index].numpy()))

    def shard(self, batch: RowBatch, rank: int, world: int) -> RowBatch:
        if world == 1 or len(batch.users) < world:
            return batch
        return RowBatch(batch.users[rank::world], batch.histories.take(torch.arange(rank, len(batch.users), world)))


class Matrix(View):
    """One batch an epoch: the whole training matrix, for closed forms."""

    def steps(self, data: InteractionData) -> int:
        return 1

    def train_batches(self, data: InteractionData, seed: int, epoch: int) -> Iterator[MatrixBatch]:
        train = data.parts["train"]
        others = (None if column is None else torch.from_numpy(column) for column in (train.values, train.timestamps))
        yield MatrixBatch(*_columns(train), *others)

    def shard(self, batch: MatrixBatch, rank: int, world: int) -> MatrixBatch:
        return batch  # a closed form needs all of it


def _by_length(lengths: Tensor, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """The rows of each batch (int64), those of like length together, so that little is padded.

    Rows are shuffled, and sorted by length (int64 [n]) among those of each `BUCKETS` batches, whose order is random
    again: who meets whom still changes from epoch to epoch.
    """
    generator = torch_generator(seed, "order", epoch)
    for rows in torch.randperm(len(lengths), generator=generator).split(BUCKETS * batch_size):
        batches = rows[lengths[rows].argsort(stable=True)].split(batch_size)
        yield from (batches[place] for place in torch.randperm(len(batches), generator=generator).tolist())


def _columns(interactions: Interactions) -> tuple[Tensor, Tensor]:
    users = torch.from_numpy(np.asarray(interactions.users, dtype=np.int64))
    return users, torch.from_numpy(np.asarray(interactions.items, dtype=np.int64))
