"""What fits what, by type alone: splits, tasks and models to data, and models to tasks."""

import typing
from collections.abc import Iterator, Sequence
from functools import cache

from marquee.config.complaints import Problem
from marquee.config.compose import Composed
from marquee.config.folders import file_of_option, options, read_yaml
from marquee.config.kinds import asked, name_of
from marquee.config.targets import closest, resolve, signature
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


def learners_of(task: type | None, model: type | None) -> tuple[str, ...]:
    """The parts that have an optimiser each: the task's, or the model's where the task leaves it to the model."""
    return getattr(task, "learners", ()) or getattr(model, "learners", ())


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
    """The words of every configuration that ships, or that lies in a folder of the user's.

    What fits is a matter of types, so each data set stands alone, with the task and model that it brings, and each task
    with each of its models once, on the embedded data where that fits: all with each other would be a thousand.
    """
    jobs = [[f"data={data}"] for data in options("data")]
    every = combinations()
    embedded = [combination for combination in every if combination[0].startswith("world_")]
    homes = {(task, model): (data, task, model) for data, task, model in (*reversed(every), *embedded)}
    jobs += [[f"data={data}", f"task={task}", f"model={model}"] for data, task, model in homes.values()]
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
        if set(learners_of(option_class("task", task), option_class("model", model))) == set(content):
            return [f"data={data}", f"task={task}", f"model={model}"]
    return []


def misfits(classes: dict[str, type], composed: Composed) -> Iterator[Problem]:
    """Data decides: split, task and model must be able to work with what it yields, and task and model together."""
    data = classes.get("data")
    if data is None or not hasattr(data, "spec_type"):
        return
    yields = f"{_chosen('data', data, composed)} yields {data.spec_type.__name__}"
    task, model = classes.get("task"), classes.get("model")
    fit = {group: target for group in ("split", "task", "model")
           if (target := classes.get(group)) and fits_data(group, target, data)}  # fmt: skip
    for group in ("split", "task", "model"):
        target = classes.get(group)
        if target is None or group in fit:
            continue
        specs = getattr(target, "spec_types", ()) if group == "task" else specs_of(target)
        takes = f"takes {' or '.join(spec.__name__ for spec in specs) or 'no spec'}"
        takes = "cuts another kind of data" if group == "split" else takes
        good = fitting(group, data, {"task": fit.get("model"), "model": fit.get("task")}.get(group))
        yield _misfit(group, target, takes, yields, good, composed)
    if "task" not in fit or "model" not in fit or fits_task(model, task):
        return
    wanted = " or ".join(base.__name__ for base in models_of(task))
    asks = f"{_chosen('task', task, composed)} takes a {wanted}"
    # Who typed the task and not the model wants other models; else the model is what was chosen wrongly.
    if _typed("task", composed) and not _typed("model", composed):
        told = f"{_chosen('model', model, composed)} is none"
        yield _misfit("task", task, f"takes a {wanted}", told, fitting("task", data, model), composed,
                      fitting("model", data, task))  # fmt: skip
    else:
        yield _misfit("model", model, f"is no {wanted}", asks, fitting("model", data, task), composed)


def _misfit(
    group: str, target: type, told: str, why: str, good: list[str], composed: Composed, models: Sequence[str] = ()
) -> Problem:
    """One part that does not fit: what it is, why it does not, and what does; `models` would fit it instead."""
    choice, words = composed.choices.get(group, name_of(target)), _typed(group, composed)
    near = closest(choice, good) or good[0] if good else ""
    fixes = [f"leave {word} out" for word in words[-1:]] + [f"{group}={near}"] * bool(near)
    fixes += [f"model={'|'.join(models)}"] * bool(models)
    return Problem(
        group,
        f"{group}={choice} ({name_of(target)}) {told}",
        f"{why}; what fits: {', '.join(good) or 'nothing yet'}",
        "command line" if words else composed.origin(f"{group}._target_"),
        ", or ".join(fixes),
    )


def _chosen(group: str, target: type, composed: Composed) -> str:
    return f"{group}={composed.choices.get(group, name_of(target))}"


def _typed(group: str, composed: Composed) -> list[str]:
    return [word for word in composed.overrides if word.startswith(f"{group}=")]


@cache
def option_class(group: str, option: str) -> type | None:
    """The class that an option's YAML names, or None where it names none that can be resolved."""
    file = file_of_option(group, option)
    content = read_yaml(file) if file else None
    try:
        return resolve(content["_target_"])
    except (ConfigError, KeyError, TypeError):
        return None
