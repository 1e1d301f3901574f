"""Which class may stand where: each node is of the kind that its place asks for, in the check and when it is built.

A package such as torch holds classes that run commands, load pickles and compile code. So a class of others is built
only if it is of one of a few kinds, whatever asks for it; and where nothing says what is asked for (`Any`, a parameter
without annotation, `**kwargs`, a callable), only classes of such a kind may stand, ours included.
"""

import collections.abc
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from marquee.config.targets import is_own
from marquee.config.values import describe

# Base classes by name, so that nothing is imported for it, with the word for what descends from them.
KINDS = {
    "torch.optim.optimizer.Optimizer": "optimizers",
    "torch.optim.lr_scheduler.LRScheduler": "schedulers",
    "torch.nn.modules.module.Module": "modules of torch.nn",
    "torchmetrics.metric.Metric": "metrics",
    "pytorch_lightning.callbacks.callback.Callback": "callbacks",
    "pytorch_lightning.strategies.strategy.Strategy": "strategies",
    "pytorch_lightning.profilers.profiler.Profiler": "profilers",
    "pytorch_lightning.trainer.trainer.Trainer": "the Trainer",
}
# Arguments of strategies and of the Trainer: they stand only where an annotation names them.
ARGUMENTS = {
    "pytorch_lightning.accelerators.accelerator.Accelerator": "accelerators",
    "pytorch_lightning.plugins.precision.precision.Precision": "precisions",
    "pytorch_lightning.plugins.layer_sync.LayerSync": "layer syncs",
    "pytorch_lightning.callbacks.progress.rich_progress.RichProgressBarTheme": "themes",
    "lightning_fabric.plugins.environments.cluster_environment.ClusterEnvironment": "cluster environments",
    "lightning_fabric.plugins.io.checkpoint_io.CheckpointIO": "checkpoint writers",
}
OURS = (
    "marquee.data.dataset.DataSet",
    "marquee.data.dataset.Split",
    "marquee.data.dataset.View",
    "marquee.models.base.Model",
    "marquee.tasks.base.Task",
    "marquee.tracking.tracker.Tracker",
)
# torch's other modules trace, load, compile or call remote ones.
_MODULES = ("torch.nn.", "torchmetrics.")

NO_INSTRUCTION = "none: Marquee builds nodes itself, without Hydra's _partial_, _args_, _recursive_ and _convert_"


def misfit(target: type, annotation: Any) -> str | None:
    """What is allowed instead of a node of `target` where `annotation` is asked for; None where it fits."""
    classes, anything = asked(annotation)
    # By the order of resolution and not by `issubclass`, which a metaclass or `register` may answer as it likes.
    named = any(base in target.__mro__ for base in classes)
    if not (named or anything):
        return " or ".join(f"a sub-class of {name_of(base)}" for base in classes) or describe(annotation)
    if is_own(target):
        if named or _is_of(target, (*OURS, *KINDS)):
            return None
        return (
            f"{name_of(target)} is of no kind that may stand where nothing says what is asked for (a "
            f"{', '.join(name.rpartition('.')[2] for name in [*OURS, *KINDS])}): annotate the parameter with its class"
        )
    if _is_of(target, (*KINDS, *ARGUMENTS) if named else KINDS):
        return None
    return (
        f"{name_of(target)} may not be instantiated: of other packages' classes only {', '.join(KINDS.values())} and, "
        f"where they are asked for, {', '.join(ARGUMENTS.values())}"
    )


def part(annotation: Any, key: str | int) -> Any:
    """The annotation of what lies at `key` in a list or mapping of `annotation`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return part(arguments[0], key)
    if origin in (Union, types.UnionType):
        return Union[tuple(part(argument, key) for argument in arguments)]  # noqa: UP007  (made at run time)
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return arguments[key] if isinstance(key, int) and key < len(arguments) else None
    container = origin or annotation
    if isinstance(container, type) and issubclass(container, collections.abc.Mapping):
        return (arguments or (Any, Any))[1] if isinstance(key, str) else None
    if isinstance(container, type) and issubclass(container, collections.abc.Iterable) and container is not str:
        return (arguments or (Any,))[0] if isinstance(key, int) else None
    return Any if asked(annotation)[1] else None


def asked(annotation: Any) -> tuple[tuple[type, ...], bool]:
    """The classes that an annotation names, and whether it (also) says nothing of what is asked for."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return asked(arguments[0])
    if origin in (Union, types.UnionType):
        found = [asked(argument) for argument in arguments]
        return tuple(base for bases, _ in found for base in bases), any(anything for _, anything in found)
    # `Any` before classes: it is one from Python 3.11 on, and every class would descend from `object`.
    if annotation is Any or annotation is object or collections.abc.Callable in (origin, annotation):
        return (), True
    if annotation is None or origin is Literal:
        return (), False
    kind = origin or annotation
    if not isinstance(kind, type):
        return (), True  # a type variable, a name that could not be resolved
    plain = kind in (type(None), type) or kind.__module__ in ("builtins", "datetime", "collections.abc")
    return ((), False) if plain or issubclass(kind, Path) else ((kind,), False)


def holds_node(value: Any) -> bool:
    """Whether a value is a `_target_` node, or has one somewhere in it."""
    if isinstance(value, collections.abc.Mapping):
        return "_target_" in value or any(map(holds_node, value.values()))
    return isinstance(value, (list, tuple)) and any(map(holds_node, value))


def name_of(target: type) -> str:
    """The dotted name of a class."""
    return f"{target.__module__}.{target.__qualname__}"


def _is_of(target: type, kinds: collections.abc.Iterable[str]) -> bool:
    names = {name_of(base) for base in target.__mro__} & set(kinds)
    if names == {"torch.nn.modules.module.Module"} and not is_own(target):
        return target.__module__.startswith(_MODULES)
    return bool(names)
