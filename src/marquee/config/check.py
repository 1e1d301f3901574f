"""One walk over a composed configuration that reports all its mistakes at once, before anything is loaded."""

from collections.abc import Iterator, Sequence
from typing import Any

from marquee.config import schema
from marquee.config.complaints import Problem
from marquee.config.compose import Composed, compose_all
from marquee.config.fitting import everything, learners_of, misfits
from marquee.config.folders import file_of_option, options, read_yaml
from marquee.config.former import KEYS
from marquee.config.kinds import NO_INSTRUCTION, holds_node, misfit, name_of, part
from marquee.config.targets import closest, resolve, signature
from marquee.config.values import describe, fits, kind, shown
from marquee.errors import ConfigError

MISSING = "???"


def check(composed: Composed) -> None:
    """Raise one ConfigError with every problem of the configuration."""
    found = problems(composed)
    if found:
        raise ConfigError(report(found))


def report(found: Sequence[Problem]) -> str:
    """All problems as one message."""
    head = "1 problem in the configuration" if len(found) == 1 else f"{len(found)} problems in the configuration"
    return "\n\n".join([head, *map(str, found)])


def problems(composed: Composed) -> list[Problem]:
    """Every mistake in a configuration, in the order of its keys."""
    config = composed.config
    found: list[Problem] = []
    for key in config:
        if key not in schema.ROOT:
            found.append(_unknown(key, config[key], key, "the root", schema.ROOT, composed))
    for key, annotation in schema.VALUES.items():
        found += _value(key, config.get(key, MISSING), annotation, composed)
    found += _mapping("paths", config.get("paths"), schema.PATHS, composed)
    classes: dict[str, type] = {}
    for key, base in schema.NODES.items():
        node = config.get(key)
        if node is None and key in schema.OPTIONAL:
            continue
        names = (
            learners_of(_resolved(config.get("task")), _resolved(config.get("model"))) if key in schema.NAMED else ()
        )
        if names and isinstance(node, dict) and "_target_" not in node:
            found += _named(key, node, names, resolve(base), composed)
            continue
        found += _node(key, MISSING if node is None else node, resolve(base), composed)
        if isinstance(node, dict):
            target = _resolved(node)
            if target is not None and not misfit(target, resolve(base)):
                classes[key] = target
    for key, base in schema.COLLECTIONS.items():
        nodes = config.get(key) or {}
        if not isinstance(nodes, dict):
            allowed = f"names with a _target_ each; a choice is made by {key}={'|'.join(options(key))}"
            found.append(Problem(key, shown(nodes), allowed, composed.origin(key)))
            continue
        for name, node in nodes.items():
            if node == MISSING or _is_node(node):
                found += _node(f"{key}.{name}", node, resolve(base), composed)
            else:
                found.append(_misnamed(key, name, nodes, composed))
    found += misfits(classes, composed)
    found += _counted_wrongly(config, composed)
    return found


def _named(key: str, nodes: dict[str, Any], names: Sequence[str], base: type, composed: Composed) -> Iterator[Problem]:
    """The problems of a node for each of `names`."""
    for name, node in nodes.items():
        if name in names:
            yield from _node(f"{key}.{name}", node, base, composed)
        else:
            yield _unknown(f"{key}.{name}", node, name, key, names, composed)
    for name in names:
        if name not in nodes:
            path = f"{key}.{name}"
            yield Problem(path, "nothing", "a class (_target_)", composed.origin(path), missing=True)


def _misnamed(group: str, name: str, nodes: dict[str, Any], composed: Composed) -> Problem:
    """What stands under a name of `callbacks` or `tracker` and is no node: a name misspelt, or brought by nothing."""
    path, value = f"{group}.{name}", nodes[name]
    here = [other for other, node in nodes.items() if _is_node(node)]
    brought = {other: option for option in reversed(options(group))
               for other, node in read_yaml(file_of_option(group, option)).items() if _is_node(node)}  # fmt: skip
    owners = [other for other in here if (target := _resolved(nodes[other])) and name in signature(target).keys]
    near = closest(str(name), [*here, *brought])
    first = next(iter(value), None) if isinstance(value, dict) else None
    tail = "" if first is None else f".{first}"
    if not isinstance(value, dict) or (first is not None and not isinstance(value[first], (dict, list))):
        tail += f"={shown(value if first is None else value[first])}"
    if owners and not isinstance(value, dict):
        fix = f"did you mean {group}.{owners[0]}.{name}{tail}?"
    elif near in here:
        fix = f"did you mean {group}.{near}{tail if isinstance(value, dict) else ''}?"
    else:
        fix = f"{group}={brought[near]} brings {group}.{near}" if near else ""
    found = f"{kind(value)} {shown(value)}" if not isinstance(value, dict) else f"keys {', '.join(value) or 'none'}"
    allowed = f"{group} has {', '.join(here) or 'none'}; a further one needs its class, {path}._target_"
    return Problem(path, f"{found}, and no _target_", allowed, composed.origin(path + tail.partition("=")[0]), fix)


# One node, one value ------------------------------------------------------------------------------------------------


def _node(path: str, node: Any, annotation: Any, composed: Composed) -> Iterator[Problem]:
    """The problems of one `_target_` node where `annotation` is asked for, and of all below it."""
    if node == MISSING:
        group = path.split(".")[0]
        choices = options(group) if "." not in path else []
        yield Problem(path, "nothing", f"one of {', '.join(choices)}" if choices else "a class (_target_)",
                      composed.origin(path), f"{path}={choices[0]}" if choices else "", missing=True)  # fmt: skip
        return
    if not isinstance(node, dict) or "_target_" not in node:
        found = (
            f"{kind(node)} {shown(node)}" if not isinstance(node, dict) else f"keys {', '.join(node)} without _target_"
        )
        fix = ""
        if "." not in path and options(path):
            near = closest(str(node), options(path))
            fix = f"{path}={near}" if near else f"{path}={options(path)[0]}"
        yield Problem(path, found, "keys of a class, one of them _target_", composed.origin(path), fix)
        return
    try:
        target = resolve(node["_target_"])
    except ConfigError as error:
        key = f"{path}._target_"
        yield Problem(key, shown(node["_target_"]), str(error), composed.origin(key))
        return
    if allowed := misfit(target, annotation):
        yield Problem(path, node["_target_"], allowed, composed.origin(f"{path}._target_"))
        return
    accepted = signature(target)
    for key, value in node.items():
        if key == "_target_":
            continue
        full = f"{path}.{key}"
        if key in accepted.keys:
            yield from _value(full, value, accepted.keys[key].annotation, composed, accepted.keys[key].default)
        elif str(key).startswith("_"):
            yield Problem(full, "an instruction", NO_INSTRUCTION, composed.origin(full), f"leave {full} out")
        elif key in accepted.supplied:
            allowed = f"{name_of(target)} gets {key} from the framework; it cannot be configured"
            yield Problem(full, shown(value), allowed, composed.origin(full), f"leave {full} out")
        elif accepted.open:
            yield from _value(full, value, Any, composed)
        else:
            yield _unknown(full, value, key, name_of(target), accepted.keys, composed)
    for key, parameter in accepted.keys.items():
        if parameter.required and key not in node:
            full = f"{path}.{key}"
            yield Problem(
                full, "nothing", describe(parameter.annotation), composed.origin(full), f"{full}=...", missing=True
            )


def _value(path: str, value: Any, annotation: Any, composed: Composed, default: Any = None) -> Iterator[Problem]:
    """The problems of a value that a class, the root or `paths` asks for; `default` is what the fix proposes."""
    if value == MISSING:
        yield Problem(path, "nothing", describe(annotation), composed.origin(path), f"{path}=...", missing=True)
    elif isinstance(value, dict) and "_target_" in value:
        yield from _node(path, value, annotation, composed)
    elif holds_node(value):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _value(f"{path}.{key}", inner, part(annotation, key), composed)
    elif _holds_missing(value):
        yield Problem(path, shown(value), describe(annotation), composed.origin(path), f"{path}=...", missing=True)
    elif not fits(annotation, value):
        found = f"{shown(value)} ({kind(value)})"
        fix = f"{path}={'...' if default is None else shown(default)}"
        yield Problem(path, found, describe(annotation), composed.origin(path), fix)


def _mapping(path: str, node: Any, keys: dict[str, Any], composed: Composed) -> Iterator[Problem]:
    if not isinstance(node, dict):
        yield Problem(path, shown(node), f"keys {', '.join(keys)}", composed.origin(path), f"{path}=default")
        return
    for key, value in node.items():
        if key not in keys:
            yield _unknown(f"{path}.{key}", value, key, path, keys, composed)
    for key, annotation in keys.items():
        yield from _value(f"{path}.{key}", node.get(key, MISSING), annotation, composed)


def _unknown(path: str, value: Any, name: str, owner: str, keys: Any, composed: Composed) -> Problem:
    near = None if path in KEYS else closest(name, keys)
    allowed = f"{owner} takes {', '.join(keys)}" if keys else f"{owner} takes no keys"
    fix = f"it is {KEYS[path]} now" if path in KEYS else ""
    if near:
        right = path[: len(path) - len(name)] + near
        fix = f"did you mean {right}?"
        if not isinstance(value, (dict, list)) and value != MISSING:
            fix += f"  {right}={shown(value)}"
    return Problem(path, f"an unknown key, {shown(value)}" if not isinstance(value, dict) else "an unknown key",
                   allowed, composed.origin(path), fix)  # fmt: skip


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _resolved(node: dict[str, Any]) -> type | None:
    try:
        return resolve(node["_target_"])
    except (ConfigError, KeyError, TypeError):
        return None


def _holds_missing(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_missing, value.values()))
    return any(map(_holds_missing, value)) if isinstance(value, list) else value == MISSING


def _counted_wrongly(config: dict[str, Any], composed: Composed) -> Iterator[Problem]:
    """A schedule that goes by the step and whose length is still the run's in epochs, as its YAML has it."""
    node, trainer = config.get("scheduler"), config.get("trainer")
    if not isinstance(node, dict) or not isinstance(trainer, dict) or node.get("interval") != "step":
        return
    if any(word.startswith("resume=") for word in composed.overrides):
        return  # that run began with it, and may have been told so
    epochs, key = trainer.get("max_epochs"), "scheduler.T_max"
    if epochs is not None and node.get("T_max") == epochs and composed.origin(key) != "command line":
        yield Problem(
            key,
            f"{shown(epochs)}, which is trainer.max_epochs",
            "a number of optimizer steps, since scheduler.interval=step: epochs times batches an epoch",
            composed.origin(key),
            f"{key}=..., or scheduler.interval=epoch",
        )


# Everything that ships ----------------------------------------------------------------------------------------------


def check_all() -> list[tuple[str, list[Problem]]]:
    """Check every data set, every task and every model with what fits it, every experiment, every other choice.

    Loads no data.

    Returns (words of the command line, problems) for each. Values that only the user can give (`???` in the YAML of a
    bring-your-own data set) are no problem here.
    """
    jobs = everything()
    results = []
    try:
        composed = compose_all(jobs)
    except ConfigError:  # one of them: find which
        composed = []
    for index, words in enumerate(jobs):
        try:
            job = composed[index] if composed else compose_all([words])[0]
            found = [problem for problem in problems(job) if not problem.missing]
        except ConfigError as error:
            found = [Problem(" ".join(words), "a configuration that cannot be composed", str(error), "conf/")]
        results.append((" ".join(words), found))
    return results
