"""Run folders as training leaves them, written by hand: manifest and per-unit table, no training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marquee.runs.record import Run

CLASSES = {
    "mf/bpr": "marquee.models.mf.bpr.BPR",
    "linear/ease": "marquee.models.linear.ease.EASE",
    "neighbours/item_knn": "marquee.models.neighbours.item_knn.ItemKNN",
    "rnn/gru4rec": "marquee.models.rnn.gru4rec.GRU4Rec",
}
BASELINES = {"baseline/popular": {"ndcg@10": 0.05, "ndcg@20": 0.06}, "baseline/random": {"ndcg@10": 0.01}}


def write_run(
    output: Path,
    model: str,
    seed: int,
    values: Sequence[float] | np.ndarray,
    *,
    data: str = "world",
    settings: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    validation: float | None = None,
    status: str = "finished",
    units: bool = True,
    **manifest: Any,
) -> Run:
    """A recommendation run whose users 0, 1, ... have these values of ndcg@10.

    `data` and `split` are taken into the fingerprints; further keyword arguments replace fields of the manifest.
    """
    values = np.asarray(values, dtype=np.float64)
    split = {"_target_": "marquee.data.interactions.splits.Ratio", "test": 0.1, **(split or {})}
    config = {
        "seed": seed,
        "task": {"_target_": "marquee.tasks.recommendation.Recommendation", "ks": [10, 20], "monitor": "ndcg@10",
                 "mask_seen": True, **(task or {})},
        "model": {"_target_": CLASSES.get(model, model), **(settings or {})},
        "data": {"_target_": f"marquee.data.{data}", "path": str(output)},
        "split": split,
        "trainer": {"limit_test_batches": 1.0, **(trainer or {})},
        "paths": {"output": str(output)},
    }  # fmt: skip
    content = {
        "config": config,
        "overrides": [f"model={model}", *(f"model.{key}={value}" for key, value in (settings or {}).items()),
                      f"seed={seed}", f"paths.output={output}"],
        "model": model,
        "seed": seed,
        "code": {"commit": "c" * 40, "dirty": False, "sha256": "d" * 64},
        "environment": {"cpu": "one", "gpu": None, "threads": "1"},
        "data": {"name": data, "fingerprint": f"{data}-data",
                 "spec": {"kind": "InteractionSpec", "n_users": 1000, "n_items": 400}},
        "task": {"unit": "user", "measured": ["ks", "mask_seen"], "shown": ["ndcg@10", "coverage@10"],
                 "protocol": "full ranking of 400 items, seen items "
                             + ("masked" if config["task"]["mask_seen"] else "not masked")},
        "split": {"name": "ratio", "fingerprint": f"{data}-{sorted(split.items())}", "config": split},
        "parameters": 1000,
    }  # fmt: skip
    run = Run.create(output, f"{seed:08d}" * 8, f"{model}-s{seed}", content)
    if units:
        pd.DataFrame({"user": np.arange(len(values)), "ndcg@10": values}).to_parquet(run.folder / "per_unit.parquet")
    found = {"test/ndcg@10": float(values.mean()), "test/coverage@10": 0.5, **(metrics or {})}
    if validation is not None:
        found["validation/ndcg@10"] = validation
    fields = {
        "metrics": found if status == "finished" else {}, "baselines": BASELINES, "oracle": {"ndcg@10": 0.9},
        "monitor": "ndcg@10", "mode": "max", "best_epoch": 4, "durations": {"fit": 10.0}, **manifest,
    }  # fmt: skip
    run.finish(status, **fields)
    return run
