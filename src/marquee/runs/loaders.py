"""Gives a view's and a task's batches to Lightning, with the epoch as the only state."""

import copy
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from marquee.data.dataset import Part
from marquee.tasks.base import Task


class TrainLoader:
    """The training batches of whichever epoch the trainer is in.

    Lightning makes an iterator before it announces the epoch to anyone, so the epoch is asked for when the iterator
    is made; after a resume that is the first epoch not yet trained.

    epoch        the number of the epoch, from 0
    rank, world  this process and how many there are
    """

    def __init__(self, task: Task, epoch: Callable[[], int], rank: int, world: int):
        self.task, self.epoch = task, epoch
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        if self.task.passes > 1:  # windows differ in length, and Lightning would keep to that of the first
            raise TypeError("each pass has a length of its own")
        return -(-self.task.model.view.steps(self.task.trains_on) // self.task.steps_at_once)

    def __iter__(self) -> Iterator[Any]:
        view = self.task.model.view
        policy = {"policy": _frozen(self.task.model)} if view.wants_policy else {}
        epoch = self.epoch()
        batches = view.train_batches(self.task.training_data(epoch), self.task.seed, epoch, **policy)
        if self.task.steps_at_once > 1:
            while joined := list(islice(batches, self.task.steps_at_once)):
                yield joined
            return
        for batch in batches:
            yield view.shard(batch, self.rank, self.world)


def _frozen(model: Any) -> Any:
    """A copy of the model as it is now, which no step of training reaches. The view stays the model's own."""
    view, model.view = model.view, None
    try:
        policy = copy.deepcopy(model)
    finally:
        model.view = view
    return policy.eval().requires_grad_(False)


class EvaluationLoader:
    """The units of one part that belong to this process, each exactly once."""

    def __init__(self, task: Task, part: Part, rank: int, world: int):
        self.task, self.part = task, part
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[Any]:
        return iter(self.task.evaluation_batches(self.part, self.rank, self.world))


# What asks the Trainer to look between two steps, or makes them otherwise, and the values that do not.
BETWEEN_STEPS: dict[str, tuple[Any, ...]] = {
    "max_steps": (-1,), "limit_train_batches": (None, 1.0), "val_check_interval": (None, 1.0),
    "accumulate_grad_batches": (1,), "gradient_clip_val": (None, 0, 0.0), "precision": (None, 32, "32", "32-true"),
    "overfit_batches": (0, 0.0), "fast_dev_run": (False, 0), "plugins": (None,), "profiler": (None,),
    "min_steps": (None,), "strategy": (None, "auto", "ddp"),
}  # fmt: skip


def nothing_between_steps(config: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether an epoch is nothing but steps on one device, so that several may be taken at once."""
    own = {"checkpoint", "early_stopping", "pruning"}
    return (
        # With its type: 1 is after each batch, 1.0 after all of them.
        all(
            any(type(value) is type(other) and value == other for other in allowed)
            for key, allowed in BETWEEN_STEPS.items()
            for value in [settings.get(key, allowed[0])]
        )
        and (config.get("scheduler") or {}).get("interval", "epoch") == "epoch"
        and set(config["callbacks"]) <= own
    )
