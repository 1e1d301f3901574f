"""What two runs must share before their numbers may stand in one column: data, split, and the way they are measured."""

import json
from collections.abc import Mapping
from typing import Any

from marquee.config.fingerprint import canonical, identity
from marquee.runs.listing import brief_value, flat

# The task's keys that decide what is measured. Its other keys (label smoothing, monitor) belong to the training.
MEASURED = ("_target_", "ks", "mask_seen")


def protocol(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The switches of a run's protocol by name; runs with equal ones form a block."""
    config = identity(manifest["config"])
    task = {f"task.{key}": value for key, value in (config.get("task") or {}).items() if key in MEASURED}
    if "task.ks" in task:
        task["task.ks"] = sorted(task["task.ks"])
    return {
        "data": manifest["data"]["fingerprint"],
        "split": manifest["split"]["fingerprint"],
        "spec": manifest["data"]["spec"],
        **task,
        # 1 is one batch and 1.0 is all of them.
        "trainer.limit_test_batches": repr((config.get("trainer") or {}).get("limit_test_batches", 1.0)),
    }


def protocol_key(manifest: Mapping[str, Any]) -> str:
    """Equal for runs of one protocol."""
    return json.dumps(protocol(manifest), sort_keys=True)


def configuration_key(manifest: Mapping[str, Any]) -> str:
    """Equal for runs that differ in nothing but their seed, their folder, their tracker and their name."""
    config = identity(manifest["config"])
    config.pop("seed", None)
    return protocol_key(manifest) + canonical(config)


def describe(manifest: Mapping[str, Any]) -> str:
    """The protocol on one line: data, split, what is ranked, and whether the test set was cut."""
    data, split, config = manifest["data"], manifest["split"], manifest["config"]
    values = ", ".join(f"{key}={brief_value(value)}" for key, value in split["config"].items() if key != "_target_")
    parts = [
        f"data {data['name']} ({data['fingerprint'][:8]})",
        f"split {split['name']} ({'; '.join(filter(None, [values, split['fingerprint'][:8]]))})",
    ]
    if data["spec"]["kind"] == "InteractionSpec":
        seen = "masked" if config["task"].get("mask_seen", True) else "not masked"
        parts.append(f"full ranking of {data['spec']['n_items']:,} items, seen items {seen}")
    limit = (config.get("trainer") or {}).get("limit_test_batches", 1.0)
    if repr(limit) != "1.0":
        parts.append(f"only a part of the test set (trainer.limit_test_batches={limit!r})")
    return ", ".join(parts)


def switches(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between the protocols of two runs, in words: "split.test=0.2, not 0.1"."""
    mine, theirs = protocol(one), protocol(other)
    found = []
    for part in ("data", "split"):
        if mine[part] == theirs[part]:
            continue
        changed = _changed(part, *(_section(manifest, part) for manifest in (one, other)))
        names = one[part]["name"], other[part]["name"]
        if names[0] != names[1]:
            found.append(f"{part}={names[0]}, not {names[1]}")
        elif changed:
            found += changed
        elif part == "data" or mine["data"] == theirs["data"]:  # another split of other data needs no second word
            prints = mine[part][:8], theirs[part][:8]
            found.append(f"the {part} itself under the same keys (fingerprint {prints[0]}, not {prints[1]})")
    if mine["data"] == theirs["data"]:
        found += _changed("spec", mine["spec"], theirs["spec"])
    keys = dict.fromkeys([*mine, *theirs])
    rest = [key for key in keys if key not in ("data", "split", "spec")]
    if mine.get("task._target_") != theirs.get("task._target_"):  # then its keys need no further word
        rest = [key for key in rest if key == "task._target_" or not key.startswith("task.")]
    for key in rest:
        if mine.get(key) != theirs.get(key):
            found.append(f"{key}={_word(key, mine.get(key))}, not {_word(key, theirs.get(key))}")
    return found


def _section(manifest: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    return manifest["split"]["config"] if part == "split" else identity(manifest["config"]).get("data") or {}


def _changed(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    mine, theirs = flat(one, name), flat(other, name)
    return [
        f"{key}={brief_value(mine.get(key))}, not {brief_value(theirs.get(key))}"
        for key in dict.fromkeys([*mine, *theirs])
        if mine.get(key) != theirs.get(key)
    ]


def _word(key: str, value: Any) -> str:
    if key == "task._target_" and isinstance(value, str):
        return value.rpartition(".")[2]
    return value if key.startswith("trainer.") and isinstance(value, str) else brief_value(value)
