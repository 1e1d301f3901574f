"""A run's identity: the sha256 of its whole resolved configuration, its data, its split and its code."""

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from marquee.config.targets import resolve

# What cannot change a result: where things lie, who watches, how much is printed, what the run is called.
# `callbacks.pruning` is who watches from outside: it may end a run early, and a finished one is what it is without.
# `data.path` is where a user's own file lies; its bytes are in the data fingerprint. `model.run_folders` is where the
# members of an ensemble lie; `model.runs` has their ids and digits of their weights' sha256. `task.extractor_folder` is
# likewise where the run lies that `task.extractor` names.
EXCLUDED = (
    "paths",
    "tracker",
    "plots",
    "hydra",
    "resume",
    "name",
    "tags",
    "sweep",
    "callbacks.pruning",
    "data.path",
    "model.run_folders",
    "task.extractor_folder",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the excluded keys."""
    kept = copy.deepcopy(dict(config))
    for key in EXCLUDED:
        *parents, leaf = key.split(".")
        node: Any = kept
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(leaf, None)
    return kept


def without_repetition(config: Mapping[str, Any], fold_key: str | None) -> dict[str, Any]:
    """The identity without what repeats one experiment: the run's seed, its fold, and the seed of its split's draw."""
    kept = identity(config)
    kept.pop("seed", None)
    for key in (fold_key, "seed"):
        (kept.get("split") or {}).pop(key, None)
    return kept


def pool(data: str, split: Mapping[str, Any], fold_key: str | None) -> str | None:
    """Equal for the folds of a cross-validation and for the draws of a random split, over one data fingerprint.

    A split's parameter `seed` is the seed of its draw. None for a split that has neither folds nor a draw.
    """
    if fold_key is None and "seed" not in split:
        return None
    shared = {key: value for key, value in split.items() if key not in (fold_key, "seed")}
    return hashlib.sha256(canonical([data, shared]).encode()).hexdigest()


def canonical(content: Any) -> str:
    """JSON with one spelling: keys sorted, no spaces.

    1 and 1.0 stay apart: `trainer.limit_train_batches=1` is one batch, 1.0 is all of them.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def fingerprint(config: Mapping[str, Any], data: str, split: str, code: Mapping[str, Any]) -> str:
    """The identity of a run as 64 hexadecimal digits.

    `data` and `split` are fingerprints of their own; `code` is what `runs.code.code_identity` returns.
    """
    content = {"config": identity(config), "data": data, "split": split, "code": code["sha256"]}
    content |= _pretrained(config.get("model") or {})
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _pretrained(node: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of the file that an image model begins with: it counts by its bytes, as data does."""
    if not isinstance(node.get("weights"), str):
        return {}
    from marquee.data.cache import file_sha256
    from marquee.models.pretrained import ImageClassifier, weights_file

    # A plug-in's key of that name may mean anything.
    own = issubclass(resolve(node["_target_"]), ImageClassifier)
    return {"weights": file_sha256(weights_file(node["weights"]))} if own else {}
