"""What two runs must share before their numbers may stand in one column: data, split, and the way they are measured."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from marquee.config.fingerprint import canonical, identity, pool, without_repetition
from marquee.runs.listing import brief_value, flat


def protocol(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The switches of a run's protocol by name; runs with equal ones form a block."""
    config, split, said = identity(manifest["config"]), manifest["split"], manifest.get("task") or {}
    # Of the task's keys, those decide that it says measure; label smoothing and the like belong to the training.
    measured = ("_target_", *(said.get("measured") or ()))
    # A null says nothing, so that the key may have been added since.
    task = {f"task.{key}": value for key, value in (config.get("task") or {}).items() if key in measured}
    task = {key: value for key, value in task.items() if value is not None} | (said.get("fingerprints") or {})
    if "task.ks" in task:
        task["task.ks"] = sorted(task["task.ks"])
    # What a model may read of users and items besides is the model's business.
    spec = {key: value for key, value in manifest["data"]["spec"].items() if not key.endswith("_features")}
    # How many words training knows differs from fold to fold, and labels are judged; bits per character are the same
    # measure whatever the tokens are.
    if spec.get("kind") in ("TextSpec", "SlotSpec", "PairSpec", "TokenSpec"):
        spec.pop("vocab_size", None)
    return {
        "data": manifest["data"]["fingerprint"],
        "split": _pool(manifest) or split["fingerprint"],
        "spec": spec,
        **task,
        # 1 is one batch and 1.0 is all of them.
        "trainer.limit_test_batches": repr((config.get("trainer") or {}).get("limit_test_batches", 1.0)),
    }


def fold_and_draw(manifest: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Which repetition of its split a run is: the number of its fold and the seed of its draw, where it has them."""
    split = manifest["split"]
    return split.get("fold"), (split.get("config") or {}).get("seed")


def _pool(manifest: Mapping[str, Any]) -> str | None:
    split = manifest["split"]  # not the recorded pool: earlier versions counted draws as protocols
    return pool(manifest["data"]["fingerprint"], split["config"], split.get("fold_key"))


def protocol_key(manifest: Mapping[str, Any]) -> str:
    """Equal for runs of one protocol."""
    return json.dumps(protocol(manifest), sort_keys=True)


def configuration_key(manifest: Mapping[str, Any]) -> str:
    """Equal for runs that differ in nothing but seed, fold, draw of the split, folder, tracker and name."""
    return protocol_key(manifest) + canonical(_without_nulls(configuration(manifest)))


def configuration(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings without its repetition, and without what cannot be told from a key that was added since."""
    config = without_repetition(manifest["config"], manifest["split"].get("fold_key"))
    if manifest.get("parent"):  # a child has its parent's configuration, and is another model
        config["update"] = (manifest.get("update") or {}).get("label") or manifest["id"]
    more = (manifest.get("task") or {}).get("measures_more") or ()
    for key in ("evaluation_batch_size", *more):  # time and memory only, or further metrics
        (config.get("task") or {}).pop(key, None)
    if (config.get("scheduler") or {}).get("interval") == "epoch":
        config["scheduler"].pop("interval")
    return config


def _without_nulls(value: Any) -> Any:
    """A key that is null by default says nothing, so it may have been added since one of the runs was recorded."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return value


def describe(manifest: Mapping[str, Any], draws: Sequence[int] = (), others: Iterable[Mapping[str, Any]] = ()) -> str:
    """The protocol on one line: data, split, what is ranked, and whether the test set was cut.

    `others` are the manifests of further runs: of how is measured only what holds of all is said (a threshold may
    differ, which their names then tell). `draws` are the seeds of the split that are pooled, where there are several.
    """
    data, split, config = manifest["data"], manifest["split"], manifest["config"]
    several = len(draws) > 1
    hidden = ("_target_", split.get("fold_key"), "seed" if several else None)
    values = ", ".join(f"{key}={brief_value(value)}" for key, value in split["config"].items() if key not in hidden)
    pooled = [f"{split['folds']} folds"] if split.get("folds") else []
    pooled += [f"draws of seeds {', '.join(map(str, draws))}"] if several else []
    print_ = (_pool(manifest) or "" if pooled else split["fingerprint"])[:8]
    told = [values, f"{' and '.join(pooled)} pooled" if pooled else "", print_]
    parts = [
        f"data {data['name']} ({data['fingerprint'][:8]})",
        f"split {split['name']} ({'; '.join(filter(None, told))})",
    ]
    of_others = [_said(other) for other in others]
    parts += [words for words in _said(manifest) if all(words in said for said in of_others)]
    limit = (config.get("trainer") or {}).get("limit_test_batches", 1.0)
    if repr(limit) != "1.0":
        parts.append(f"only a part of the test set (trainer.limit_test_batches={limit!r})")
    return ", ".join(parts)


def _said(manifest: Mapping[str, Any]) -> list[str]:
    """How is measured, in the task's words, part by part."""
    return [words for words in ((manifest.get("task") or {}).get("protocol") or "").split(", ") if words]


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
