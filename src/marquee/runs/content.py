"""The finished runs and files that `data.item_features` and `data.user_features` name: found, and named by content."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marquee.config.build import build, paths
from marquee.data.cache import cached, file_sha256
from marquee.data.dataset import DataSet, Paths
from marquee.data.interactions.columns import locate
from marquee.data.interactions.content import DIGITS, FACTS, ROWS, Side, Source, prepared_key
from marquee.data.interactions.dataset import SIDES
from marquee.data.interactions.histories import gather_rows
from marquee.data.interactions.joined import OTHER
from marquee.errors import ConfigError, DataError
from marquee.inference.embedding import Reader
from marquee.inference.predictor import predictor_of
from marquee.inference.recommender import RecommendPredictor
from marquee.runs.extractor import weights_sha256
from marquee.runs.finding import find_run
from marquee.runs.liveness import status_of
from marquee.runs.record import read_manifest


def with_content(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with twelve digits of a sha256 behind each run and each file that its features come from.

    The digits are those of the run's weights, or of the file's bytes, so that other features are another run. What a
    run makes of its examples is computed once and kept in the cache, where the data set finds it. Raises ConfigError
    for a name that fits no finished run, and for one whose weights are others than recorded.
    """
    node = config["data"]
    changed = {}
    for side in SIDES:
        entries = node.get(f"{side}_features")
        if isinstance(entries, (list, tuple)) and any(isinstance(entry, str) for entry in entries):
            where = paths(config["paths"])
            changed[f"{side}_features"] = [
                _known(entry, side, where) if isinstance(entry, str) else entry for entry in entries
            ]
    return {**config, "data": {**node, **changed}} if changed else config


def _known(entry: str, side: Side, where: Paths) -> str:
    key = f"data.{side}_features"
    source = Source.parse(entry, key)
    if source.kind == "published":
        return entry
    if source.kind == "file":
        digits = file_sha256(locate(source.where, where, key))[:DIGITS]
        return str(replace(source, digits=source.digits or digits))  # a record is compared where the file is read
    try:
        folder = find_run(source.where, where.output)
    except ConfigError as error:
        if source.digits:  # the run is gone, or lies elsewhere: what was computed of it may still be in the cache
            return entry
        raise ConfigError(f"{key}: {error}") from error
    manifest = read_manifest(folder)
    if (status := status_of(folder, manifest)) != "finished":
        raise ConfigError(f"{key}: {folder.name} is {status}, and features are those of a finished run.")
    digits = weights_sha256(folder, key)
    if not digits.startswith(source.digits):
        raise ConfigError(
            f"{key}: {folder.name} has other weights now (sha256 {digits[:DIGITS]}... instead of {source.digits}). "
            f"To take them: {key}=[{source.name}:{folder.name}{':scores' if source.scores else ''}]"
        )
    source = replace(source, where=folder.name, digits=digits[:DIGITS])
    cached(
        where,
        "features",
        prepared_key(source, side),
        lambda place: _write(place, folder, manifest, source, side, where),
    )
    return str(source)


def _write(place: Path, folder: Path, manifest: Mapping[str, Any], source: Source, side: Side, where: Paths) -> None:
    """Vectors with their ids, and what new content is read with."""
    facts = {"run": folder.name, "fingerprint": manifest["fingerprint"]}
    inference = folder / "inference"
    predictor = predictor_of(inference)
    if isinstance(predictor, RecommendPredictor):
        arrays = _of_recommender(predictor, source, side)
        facts |= {"data_name": manifest["data"]["name"], "data": manifest["data"]["fingerprint"]}
        facts["split"] = manifest["split"]["fingerprint"]
    else:
        arrays = _of_examples(folder, manifest, source, side, where)
        shutil.copytree(inference, place / "inference")
        (place / "inference" / "reader.json").write_text(json.dumps({"scores": source.scores}), encoding="utf-8")
    (place / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    np.savez(place / ROWS, **arrays)


def _of_recommender(predictor: RecommendPredictor, source: Source, side: Side) -> dict[str, np.ndarray]:
    model, name = predictor.model, type(predictor.model).__name__
    with torch.inference_mode():
        if side == "item":
            vectors, ids = model.item_vectors(), predictor.known.item_ids
        else:
            known, rows = predictor.known, np.arange(len(predictor.users))
            histories = gather_rows(known.items, known.offsets, rows, known.times)
            vectors, ids = model.user_vectors(torch.from_numpy(rows), histories), predictor.users
    if vectors is None or source.scores:
        what = "classifies nothing" if source.scores else f"is a {name}, which has no vectors of {side}s"
        raise ConfigError(f"data.{side}_features: {source.where} {what}. Models with vectors: mf/bpr, mf/ials, ...")
    return {"ids": ids.astype(np.str_), "vectors": vectors.detach().float().numpy()}


def _of_examples(
    folder: Path, manifest: Mapping[str, Any], source: Source, side: Side, where: Paths
) -> dict[str, np.ndarray]:
    key = f"data.{side}_features: {source.name}:{folder.name}"
    reader = Reader(folder / "inference", key, source.scores)
    data: DataSet = build(manifest["config"]["data"])
    data.setup(build(manifest["config"]["split"]), where)
    if data.fingerprint != manifest["data"]["fingerprint"]:
        raise DataError(
            f"{key} was trained on data that has changed since, so its examples are others. To train it again: "
            f"marquee rerun {folder.name}"
        )
    about = data.about()
    if side not in about:
        raise ConfigError(
            f"{key}: its examples do not say which {side} they are about. Give texts and images of your own a column "
            f"{side}_id and name it: data.attributes=[{side}_id]. Images without one are named as their item: 1193.jpg"
        )
    told = np.flatnonzero([bool(one) for one in about[side]])
    arrays = {"ids": np.asarray(about[side], dtype=np.str_)[told], "vectors": reader.read_data(data)[told]}
    if (other := OTHER[side]) in about:
        arrays["others"] = np.asarray(about[other], dtype=np.str_)[told]
    return arrays
