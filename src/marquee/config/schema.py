"""The keys of the root, with the types of the plain ones and the base class of each node."""

from typing import Annotated, Any

from annotated_types import Ge, MinLen

# Plain values at the root and under `paths`.
VALUES: dict[str, Any] = {
    "seed": Annotated[int, Ge(0)],
    "name": Annotated[str, MinLen(1)] | None,
    "tags": list[str],
    "sweep": Annotated[str, MinLen(1)] | None,
    "threads": Annotated[int, Ge(1)] | None,
    "plots": bool,
    "resume": str | None,
}
PATHS: dict[str, Any] = dict.fromkeys(("data", "cache", "output"), Annotated[str, MinLen(1)])

# Nodes: one class each, by the class that it must descend from. `None` may stand where it says so.
NODES = {
    "data": "marquee.data.dataset.DataSet",
    "split": "marquee.data.dataset.Split",
    "task": "marquee.tasks.base.Task",
    "model": "marquee.models.base.Model",
    "optimizer": "torch.optim.Optimizer",
    "scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "trainer": "pytorch_lightning.Trainer",
}
OPTIONAL = ("scheduler",)
# May also hold a node for each of the task's learners, under its name.
NAMED = ("optimizer",)

# Named nodes: any number of them under a name each.
COLLECTIONS = {"callbacks": "pytorch_lightning.Callback", "tracker": "marquee.tracking.tracker.Tracker"}

ROOT = (*VALUES, *NODES, *COLLECTIONS, "paths")
