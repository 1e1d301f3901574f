"""What earlier versions have written, in today's words: classes that have moved, keys that lie elsewhere.

Runs that were recorded before can still be listed, compared, used and resumed. Whoever types an old name is told the
new one.
"""

import copy
from collections.abc import Mapping
from typing import Any

_INTERACTIONS, _TEXT, _IMAGES = "marquee.data.interactions", "marquee.data.text", "marquee.data.images"

# Dotted names of classes, then and now.
MOVED = {
    "marquee.data.interaction_table.InteractionTable": f"{_INTERACTIONS}.table.InteractionTable",
    "marquee.data.movielens.MovieLens100K": f"{_INTERACTIONS}.movielens.MovieLens100K",
    "marquee.data.movielens.MovieLens1M": f"{_INTERACTIONS}.movielens.MovieLens1M",
    "marquee.data.movielens.MovieLensLatestSmall": f"{_INTERACTIONS}.movielens.MovieLensLatestSmall",
    "marquee.data.sequences.Sequences": f"{_INTERACTIONS}.sequences.SequenceFile",
    "marquee.data.splits.LeaveOneOut": f"{_INTERACTIONS}.splits.LeaveOneOut",
    "marquee.data.splits.Ratio": f"{_INTERACTIONS}.splits.Ratio",
    "marquee.data.splits.GlobalTime": f"{_INTERACTIONS}.timelines.GlobalTime",
    f"{_INTERACTIONS}.splits.GlobalTime": f"{_INTERACTIONS}.timelines.GlobalTime",
    "marquee.data.predefined.Files": f"{_INTERACTIONS}.predefined.Files",
    "marquee.data.views.Pairs": f"{_INTERACTIONS}.views.Pairs",
    "marquee.data.views.Sequences": f"{_INTERACTIONS}.views.Sequences",
    "marquee.data.views.Matrix": f"{_INTERACTIONS}.views.Matrix",
    "marquee.data.imdb.Imdb": f"{_TEXT}.imdb.Imdb",
    "marquee.data.texts.Texts": f"{_TEXT}.files.Texts",
    "marquee.data.text_views.TextBatches": f"{_TEXT}.views.TextBatches",
    "marquee.data.mnist.Mnist": f"{_IMAGES}.mnist.Mnist",
    "marquee.data.posters.Posters": f"{_IMAGES}.posters.Posters",
    "marquee.data.images.Images": f"{_IMAGES}.folder.Images",
    "marquee.data.image_views.ImageBatches": f"{_IMAGES}.views.ImageBatches",
    "marquee.data.world.modules.WorldRatings": "marquee.data.world.datasets.WorldRatings",
    "marquee.data.world.modules.WorldReviews": "marquee.data.world.datasets.WorldReviews",
    "marquee.data.world.modules.WorldPosters": "marquee.data.world.datasets.WorldPosters",
    "marquee.models.baseline.majority.AllLabels": "marquee.data.label_view.AllLabels",
}

# Keys, then and now.
KEYS = {"model.view.evaluation_batch_size": "task.evaluation_batch_size"}

_PREDICTORS = {
    "InteractionSpec": "marquee.inference.recommender.RecommendPredictor",
    "TextSpec": "marquee.inference.classifier.TextPredictor",
    "ImageSpec": "marquee.inference.classifier.ImagePredictor",
}


def modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with the names and places of today."""
    renewed = _renamed(copy.deepcopy(dict(config)))
    for old, new in KEYS.items():
        *parents, leaf = old.split(".")
        node = _node(renewed, parents)
        if node is not None and leaf in node:
            *others, name = new.split(".")
            value, place = node.pop(leaf), _node(renewed, others)
            if place is not None:
                place.setdefault(name, value)
    return renewed


def modern_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of schema version 1 in the form of version 2: its task described, its configuration renewed."""
    renewed = dict(manifest)
    if manifest.get("config"):
        renewed["config"] = modern(manifest["config"])
    if (manifest.get("split") or {}).get("config"):
        renewed["split"] = {**manifest["split"], "config": modern(manifest["split"]["config"])}
    renewed["task"] = manifest.get("task") or _described(renewed)
    renewed["schema_version"] = 2
    return renewed


def modern_model(content: Mapping[str, Any]) -> dict[str, Any]:
    """A `model.json` of format 1 in the form of format 2."""
    model = modern({"model": content["model"]})["model"]
    return {**content, "model": model, "predictor": _PREDICTORS.get(content["spec"]["kind"])}


def _described(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the two tasks of version 1 would say of themselves."""
    task = (manifest.get("config") or {}).get("task") or {}
    spec = (manifest.get("data") or {}).get("spec") or {}
    k = str(manifest.get("monitor") or task.get("monitor") or "").rpartition("@")[2]
    if spec.get("kind") == "InteractionSpec":
        seen = "masked" if task.get("mask_seen", True) else "not masked"
        shown = [f"{name}@{k}" for name in ("ndcg", "hit_rate", "recall", "coverage")]
        protocol = f"full ranking of {spec['n_items']:,} items, seen items {seen}"
        measured = ["ks", "mask_seen", "candidates", "n_candidates", "candidate_seed"]
        more = ["beyond", "item_feature", "groups"]
        return {
            "unit": "user", "measured": measured, "protocol": protocol, "shown": shown, "directions": {},
            "measures_more": more,
        }  # fmt: skip
    if spec:
        shown = ["accuracy", "f1_macro", "auroc", "log_loss"]
        return {
            "unit": "example", "measured": ["costs", "positive"], "protocol": "", "shown": shown, "directions": {},
            "measures_more": ["groups"],
        }  # fmt: skip
    return None


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(part) for key, part in value.items()}
    if isinstance(value, list):
        return list(map(_renamed, value))
    return MOVED.get(value, value) if isinstance(value, str) else value


def _node(config: Any, path: list[str]) -> dict[str, Any] | None:
    for part in path:
        config = config.get(part) if isinstance(config, dict) else None
    return config if isinstance(config, dict) else None
