"""What a run needs before its first epoch: batches, and a validation part where something waits for one."""

from typing import Any

import torch

from marquee.config.targets import resolve
from marquee.errors import ConfigError, DataError
from marquee.models.base import Model
from marquee.runs.averaging import ExponentialAverage
from marquee.tasks.base import Task


def validated(config: dict[str, Any], task: Task) -> bool:
    """Whether validation judges the epochs. Without it all of them are trained, and the last weights are kept."""
    return task.data.validates and config["trainer"].get("limit_val_batches") != 0


def refuse_untrainable(config: dict[str, Any], task: Task) -> None:
    """Raise DataError where the data gives no batch to train on, ConfigError where the settings leave none, a
    schedule waits for validation that there is not, an average for steps, or the model lacks a part that is trained."""
    for name in task.learners:
        try:
            task.learner(name)
        except AttributeError as error:
            raise ConfigError(
                f"model: {config['model']['_target_']} has no part {name}, and {type(task).__name__} trains one after "
                f"the other: {', '.join(task.learners)}. Choose a model that has them."
            ) from error
    view, settings = task.model.view, config["trainer"]
    steps = view.steps(task.data)
    if not steps:
        counts = ", ".join(f"{name} {value}" for name, value in task.data.report.items())
        raise DataError(
            f"{type(view).__name__} finds nothing to train on ({counts}). A sequence needs two training interactions "
            "of a user. Loosen the filters, or choose another split or model."
        )
    limit = settings.get("limit_train_batches", 1.0)
    for key, none_left in (
        ("limit_train_batches", not (int(steps * limit) if isinstance(limit, float) else limit)),
        ("max_epochs", settings.get("max_epochs") == 0),
    ):
        if none_left:
            raise ConfigError(f"trainer.{key}={settings[key]} leaves nothing to train ({steps} batches an epoch).")
    averages = [name for name, node in config["callbacks"].items() if _averages(node)]
    if averages and task.model.learns_in_fit:
        raise ConfigError(
            f"callbacks.{averages[0]}: {type(task.model).__name__} takes no gradient steps, so there is nothing to "
            "average.\n  fix: callbacks=default"
        )
    watches = str((config.get("scheduler") or {}).get("_target_")).endswith("ReduceLROnPlateau")
    if watches and not task.model.learns_in_fit and not validated(config, task):
        raise ConfigError(
            f"scheduler: ReduceLROnPlateau goes by validation/{task.monitor}, and there is no validation.\n"
            "  fix: scheduler=none or scheduler=cosine, or a split with a validation part"
        )


def _averages(node: dict[str, Any]) -> bool:
    target = resolve(node["_target_"])
    return isinstance(target, type) and issubclass(target, ExponentialAverage)


def refuse_unfit_gradients(config: dict[str, Any], model: Model) -> None:
    """Raise ConfigError where an optimiser, or clipping, cannot take the gradients that the model makes."""
    node = config["optimizer"]
    if model.sparse_gradients and config["trainer"].get("gradient_clip_val"):
        raise ConfigError(
            "trainer.gradient_clip_val: sparse gradients cannot be clipped.\n"
            "  fix: trainer.gradient_clip_val=null, or model.sparse_gradients=false"
        )
    for key, own in ({"optimizer": node} if "_target_" in node else node).items():
        kind = resolve(own["_target_"])
        if kind is torch.optim.SparseAdam and not model.sparse_gradients:
            raise ConfigError(f"{key}: SparseAdam takes sparse gradients only.\n  fix: model.sparse_gradients=true")
        if model.sparse_gradients and not issubclass(kind, (torch.optim.SparseAdam, torch.optim.Adagrad)):
            raise ConfigError(
                f"model.sparse_gradients=true: {kind.__name__} takes dense gradients only.\n"
                "  fix: optimizer=adagrad or optimizer=sparse_adam"
            )
