"""Names for configurations: the model, and only those keys that tell it from the others of the same model."""

from collections.abc import Mapping, Sequence
from typing import Any

from marquee.config.fingerprint import canonical
from marquee.runs.listing import brief_value, flat


def labels(models: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """A label for each configuration ("mf/bpr l2=0.01") and the keys in it in full ({"model.l2": 0.01}).

    Two configurations of one model are told apart by the keys that differ between configurations of the same class,
    so that `optimizer=SGD` beside `optimizer=Adam` does not bring along every setting that only one of them has.
    """
    differing: list[dict[str, Any]] = [{} for _ in configs]
    flats = [{key: value for key, value in flat(config).items() if value != {}} for config in configs]
    for model in dict.fromkeys(models):
        members = [index for index, name in enumerate(models) if name == model]
        for key in dict.fromkeys(key for index in members for key in flats[index]):
            peers: dict[Any, list[int]] = {}
            for index in members:
                peers.setdefault(_classes(flats[index], key), []).append(index)
            for same in peers.values():
                if len({canonical(flats[index].get(key)) for index in same}) > 1:
                    for index in same:
                        differing[index][key] = flats[index].get(key)
    short = _short_names(dict.fromkeys(key for keys in differing for key in keys))
    words = [
        " ".join([model, *(f"{short[key]}={_value(key, value)}" for key, value in keys.items())])
        for model, keys in zip(models, differing, strict=True)
    ]
    return words, differing


def _classes(content: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    """The classes of the nodes that a key lies in, from the outermost."""
    nodes = key.removesuffix("._target_").split(".")[:-1]
    return tuple(content.get(".".join([*nodes[: depth + 1], "_target_"])) for depth in range(len(nodes)))


def _short_names(keys: Any) -> dict[str, str]:
    """The last words of each key, as few as tell it from the others; `_target_` is named by its node."""
    names = {key: key.removesuffix("._target_").split(".") for key in keys}
    short = {}
    for key, parts in names.items():
        for count in range(1, len(parts) + 1):
            end = parts[-count:]
            if all(other == key or parts_[-count:] != end for other, parts_ in names.items()):
                break
        short[key] = ".".join(end)
    return short


def _value(key: str, value: Any) -> str:
    if key.endswith("_target_") and isinstance(value, str):
        return value.rpartition(".")[2]
    return "none" if value is None else brief_value(value).replace(" ", "")
