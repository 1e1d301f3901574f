"""Gives a view's batches to Lightning, with the epoch as the only state."""

from collections.abc import Callable, Iterator
from typing import Any

from marquee.data.module import DataModule, Part, View


class TrainLoader:
    """The training batches of whichever epoch the trainer is in.

    Lightning makes an iterator before it announces the epoch to anyone, so the epoch is asked for when the iterator
    is made; after a resume that is the first epoch not yet trained.
    """

    def __init__(self, view: View, data: DataModule, seed: int, epoch: Callable[[], int], rank: int, world: int):
        self.view, self.data, self.seed, self.epoch = view, data, seed, epoch
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.view.steps(self.data)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.view.train_batches(self.data, self.seed, self.epoch()):
            yield self.view.shard(batch, self.rank, self.world)


class EvaluationLoader:
    """The units of one part that belong to this process, each exactly once."""

    def __init__(self, view: View, data: DataModule, part: Part, rank: int, world: int):
        self.view, self.data, self.part = view, data, part
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[Any]:
        return iter(self.view.evaluation_batches(self.data, self.part, self.rank, self.world))
