"""Every recommender that ships is trained, tested, recorded and put to use on the embedded world, in one sweep."""

import json

import numpy as np

import marquee
from marquee.config.fitting import option_class
from marquee.config.folders import options
from marquee.models.base import Recommender


def test_all_are_trained_in_one_sweep_and_recommend(shell, tmp_path):
    names = [name for name in options("model") if issubclass(option_class("model", name), Recommender)]
    words = ["data=world_ratings", "data.item_features={genres: multi_hot}", "trainer=smoke", "tracker=none"]
    words += ["sweep=all", "hydra.launcher.n_jobs=2"]
    done = shell("train", "-m", *words, f"model={','.join(names)}")
    assert done.code == 0, done.out + done.err
    jobs = json.loads((tmp_path / "outputs/sweeps/all/sweep.json").read_text())["jobs"]
    assert {job["model"]: job["status"] for job in jobs} == dict.fromkeys(names, "finished")
    for job in jobs:
        predictor = marquee.load(tmp_path / "outputs" / "runs" / job["run"])
        together = predictor.recommend(users=[1, 2, 3], k=5)
        alone = predictor.recommend(users=[2], k=5)
        assert len(together) == 15 and np.isfinite(together["score"]).all(), job["model"]
        of_two = together[together["user"] == 2]
        np.testing.assert_allclose(of_two["score"], alone["score"], rtol=1e-3, atol=1e-5, err_msg=job["model"])
        if predictor.model.scores_unseen_users:
            history = predictor.items["title"][:3].tolist()
            typed = predictor.recommend(histories=[history], k=5)
            assert len(typed) == 5 and not set(typed["title"]) & set(history), job["model"]
