"""Ratings as a user predicts them: two folds trained, compared as one experiment, and recommended from."""

import json
import shlex

import numpy as np
import pytest

from marquee.config.compose import compose

FOLDS = ["data=world_ratings", "task=rating", "model=mf/biased_mf", "model.dim=4", "split=k_fold", "split.folds=2"]


def test_folds_of_ratings_are_trained_pooled_and_recommended_from(shell, tmp_path):
    for fold in (0, 1):
        done = shell("train", *FOLDS, f"split.fold={fold}", "trainer.max_epochs=2", "tracker=none")
        assert done.code == 0, done.err
        # What is suggested next asks the same question.
        (rivals,) = (line for line in done.out.splitlines() if "train -m" in line)
        assert "task=rating" in rivals
    words = [word for word in shlex.split(rivals)[3:] if not word.startswith(("model=", "seed="))]
    assert compose([*words, "model=mf/svdpp"]).config["task"]["_target_"].endswith(".Rating")
    manifests = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/manifest.json")]
    rmse = [manifest["metrics"]["test/rmse"] for manifest in manifests]
    assert len(rmse) == 2
    assert all(
        manifest["baselines"]["baseline/global_mean"]["rmse"] > value
        for manifest, value in zip(manifests, rmse, strict=True)
    )
    done = shell("compare", "outputs")
    assert done.code == 0, done.err
    assert "2 folds pooled" in done.out
    (row,) = (line.split() for line in done.out.splitlines() if line.startswith("mf/biased_mf   "))
    # 1,000 users are in one fold and 979 or more in the other, so that both count all but the same.
    assert float(row[2]) == pytest.approx(np.mean(rmse), abs=1e-3)
    done = shell("recommend", "latest", "--user", "1")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) >= 10
