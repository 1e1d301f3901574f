"""From checked nodes to objects: `_target_` is resolved through the whitelist, and nothing is ever evaluated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marquee.config.targets import resolve, signature
from marquee.config.values import convert
from marquee.data.dataset import Paths


def build(node: Mapping[str, Any] | None, *supplied: Any, **by_name: Any) -> Any:
    """The object that a `_target_` node describes, nodes inside it first; None for no node.

    `supplied` are the positional arguments that the framework gives (spec, parameters, optimizer); `by_name` are the
    same by name, and win over the node.
    """
    if not node:
        return None
    target = resolve(node["_target_"])
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
            return build(value)
        if _holds_node(value):
            return {key: _value(part, Any) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and _holds_node(value):
        return [_value(part, Any) for part in value]
    try:
        return convert(annotation, value)
    except ValueError:  # the check has judged; a value built in Python may be an object that YAML cannot write
        return value


def _holds_node(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_holds_node, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_node, value))


def paths(node: Mapping[str, str]) -> Paths:
    """The `paths` section with `~` expanded."""
    return Paths(**{key: Path(value).expanduser() for key, value in node.items()})
