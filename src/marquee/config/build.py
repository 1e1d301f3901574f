"""From checked nodes to objects: `_target_` is resolved through the whitelist, and nothing is ever evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.config.kinds import NO_INSTRUCTION, holds_node, misfit, part
from marquee.config.targets import resolve, signature
from marquee.config.values import convert
from marquee.data.dataset import Paths
from marquee.errors import ConfigError


def build(node: Mapping[str, Any] | None, *supplied: Any, **by_name: Any) -> Any:
    """The object that a `_target_` node describes, nodes inside it first; None for no node.

    `supplied` are the positional arguments that the framework gives (spec, parameters, optimizer); `by_name` are the
    same by name, and win over the node. Raises ConfigError for a class that may not be built, or not there: a node may
    come from a record or a frozen job that no check has seen.
    """
    return _built(node, Any, supplied, by_name) if node else None


def _built(
    node: Mapping[str, Any], annotation: Any, supplied: Sequence[Any] = (), by_name: Mapping[str, Any] | None = None
) -> Any:
    target = resolve(node["_target_"])
    if allowed := misfit(target, annotation):
        raise ConfigError(f"{node['_target_']} may not be built here.\n  allowed: {allowed}")
    if instructions := [key for key in node if str(key).startswith("_") and key != "_target_"]:
        raise ConfigError(f"{node['_target_']}: {', '.join(instructions)}: {NO_INSTRUCTION}")
    keys = signature(target).keys
    arguments = {
        key: _value(value, keys[key].annotation if key in keys else Any)
        for key, value in node.items()
        if key != "_target_"
    }
    return target(*supplied, **{**arguments, **by_name})


def _value(value: Any, annotation: Any) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _built(value, annotation, (), {})
        if holds_node(value):
            return {key: _value(inner, part(annotation, key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and holds_node(value):
        return [_value(inner, part(annotation, index)) for index, inner in enumerate(value)]
    try:
        return convert(annotation, value)
    except ValueError:  # the check has judged; a value built in Python may be an object that YAML cannot write
        return value


def paths(node: Mapping[str, str]) -> Paths:
    """The `paths` section with `~` expanded."""
    return Paths(**{key: Path(value).expanduser() for key, value in node.items()})
