"""What fits what, by type alone: splits, tasks and models to data, and models to tasks."""

import typing
from functools import cache

from marquee.config.folders import file_of_option, options, read_yaml
from marquee.config.kinds import asked
from marquee.config.targets import resolve, signature
from marquee.errors import ConfigError


def fits_data(group: str, target: type, data: type) -> bool:
    """Whether a split, task or model class can work with a data class."""
    if group == "split":
        return issubclass(target, data.split_type)
    takes = getattr(target, "spec_types", ()) if group == "task" else specs_of(target)
    return any(issubclass(data.spec_type, spec) for spec in takes)


def fits_task(model: type, task: type) -> bool:
    """Whether a model class offers what a task class asks of its models."""
    return issubclass(model, models_of(task))


def specs_of(model: type) -> tuple[type, ...]:
    """The specs that a model takes: the annotation of its first parameter."""
    from marquee.data.spec import Spec

    supplied = list(signature(model).supplied.values())
    if not supplied:
        return ()
    parts = typing.get_args(supplied[0]) or (supplied[0],)
    return tuple(part for part in parts if isinstance(part, type) and issubclass(part, Spec))


def models_of(task: type) -> tuple[type, ...]:
    """The base classes of the models that a task takes: the annotation of its `model`, its own or an inherited one."""
    for base in task.__mro__:
        if "__init__" in vars(base) and (named := asked(signature(base).supplied.get("model", object))[0]):
            return named
    return ()


def fitting(group: str, data: type, other: type | None = None) -> list[str]:
    """The options of a group that fit a data class and, where `other` is given, that task or model."""
    found = []
    for option in options(group):
        target = option_class(group, option)
        if target is None or not fits_data(group, target, data):
            continue
        if other is None or (fits_task(target, other) if group == "model" else fits_task(other, target)):
            found.append(option)
    return found


def combinations() -> list[tuple[str, str, str]]:
    """Every data set with each task and each model that fit it and each other: (data, task, model)."""
    found = []
    for data in options("data"):
        target = option_class("data", data)
        if hasattr(target, "spec_type"):
            for task in fitting("task", target):
                found += [(data, task, model) for model in fitting("model", target, option_class("task", task))]
    return found


def everything() -> list[list[str]]:
    """The words of every configuration that ships, or that lies in a folder of the user's."""
    jobs = [[f"data={data}"] for data in options("data")]
    jobs += [[f"data={data}", f"task={task}", f"model={model}"] for data, task, model in combinations()]
    jobs += [[f"experiment={experiment}"] for experiment in options("experiment")]
    for group in ("split", "task", "model"):  # composing it will say what is wrong
        jobs += [[f"{group}={option}"] for option in options(group) if option_class(group, option) is None]
    jobs += [[*_home(option), f"optimizer={option}"] for option in options("optimizer")]
    for group in ("scheduler", "trainer", "callbacks", "tracker"):
        jobs += [[f"{group}={option}"] for option in options(group)]
    return jobs


def _home(optimizer: str) -> list[str]:
    """The words of a task whose learners an option with a node for each of them is made for; none for other options."""
    content = read_yaml(file_of_option("optimizer", optimizer))
    if "_target_" in content or "defaults" in content:
        return []
    for data, task, model in combinations():
        if set(getattr(option_class("task", task), "learners", ())) == set(content):
            return [f"data={data}", f"task={task}", f"model={model}"]
    return []


@cache
def option_class(group: str, option: str) -> type | None:
    """The class that an option's YAML names, or None where it names none that can be resolved."""
    file = file_of_option(group, option)
    content = read_yaml(file) if file else None
    try:
        return resolve(content["_target_"])
    except (ConfigError, KeyError, TypeError):
        return None
