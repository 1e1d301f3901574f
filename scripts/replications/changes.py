"""What a run was trained with, and a configuration says otherwise."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from marquee.runs.record import Run


def changes(run: Run, config: Mapping[str, Any]) -> list[str]:
    """`model.dim=32, not 64` of each key that a run was trained with and a configuration says otherwise."""
    from marquee.config.fingerprint import identity

    then, now = (_with_path(identity(whole), whole) for whole in (run.manifest["config"], config))
    return [f"{key}={was}, not {is_now}" for key, was, is_now in _differing(then, now)]


def _with_path(kept: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with the name of the file that a recipe reads."""
    node = config.get("data") or {}
    return {**kept, "data": {**kept["data"], "path": node["path"]}} if "path" in node else kept


def _differing(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Keys that differ, with both values. One that only `now` has came after the run, unless it names what a user adds:
    a callback or a feature."""
    for name in {**then, **now}:
        was, is_now = then.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            yield from _differing(was, is_now, f"{prefix}{name}.")
        elif name in then or prefix == "callbacks." or prefix.endswith("_features."):
            words = _without_digits(was), _without_digits(is_now)
            if words[0] != words[1]:
                yield f"{prefix}{name}", *words


def _without_digits(value: Any) -> str:
    """A value in words; a record has twelve digits of a sha256 behind each run and file that features come from."""
    from marquee.runs.listing import brief_value

    return re.sub(r"@[0-9a-f]{12}\b", "", brief_value(value))
