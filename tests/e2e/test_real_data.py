"""The published data sets through the command line: counts as published, quality as others reach it."""

import pytest

from .commands import train
from .conftest import manifest_of

# Random per-user 8:1:1 of ML-100K, all ratings, full ranking, NDCG@10. Another library on the same protocol (its own
# random split): EASE 0.330, item-kNN 0.283, BPR 0.251, popular 0.101. Floors are those minus the spread of splits.
ML_100K = {
    "linear/ease": (["model=linear/ease"], 0.31, 0.35),
    "neighbours/item_knn": (["model=neighbours/item_knn"], 0.265, 0.30),
    "mf/bpr": (["model=mf/bpr", "trainer.max_epochs=32", "trainer.check_val_every_n_epoch=8"], 0.24, 0.31),
}


@pytest.fixture
def run(real_data, monkeypatch, tmp_path, world_cache):
    """Train on the published data; the manifest."""

    def run(*words):
        return train(monkeypatch, tmp_path / "outputs", world_cache, f"paths.data={real_data}", *words)

    return run


@pytest.mark.real_data
@pytest.mark.parametrize(("words", "low", "high"), ML_100K.values(), ids=ML_100K.keys())
def test_movielens_100k_is_ranked_as_well_as_others_rank_it(run, words, low, high):
    manifest = run("data=movielens_100k", "split=ratio", *words)
    report, spec = manifest["data"]["report"], manifest["data"]["spec"]
    assert (report["interactions"], spec["n_users"], spec["n_items"]) == (100_000, 943, 1_682)
    assert low <= manifest["metrics"]["test/ndcg@10"] <= high
    assert manifest["baselines"]["baseline/popular"]["ndcg@10"] < low
    assert manifest["baselines"]["baseline/random"]["ndcg@10"] < 0.02


@pytest.mark.real_data
def test_movielens_1m_as_sequences_has_the_published_counts(run):
    manifest = run("data=sequences", "data.path=ml-1m/sequences.txt.gz", "model=baseline/popular")
    report, spec = manifest["data"]["report"], manifest["data"]["spec"]
    assert (spec["n_users"], spec["n_items"], report["interactions"]) == (6_040, 3_416, 999_611)
    assert report["test_interactions"] == report["validation_interactions"] == 6_040
    # The most popular films, leave-one-out, full ranking: RecBole and others report about 0.01.
    assert 0.005 < manifest["metrics"]["test/ndcg@10"] < 0.02


@pytest.mark.real_data
def test_movielens_1m_without_times_refuses_and_then_takes_a_ratio(real_data, shell, tmp_path):
    words = ["train", "data=movielens_1m", f"paths.data={real_data}", "model=baseline/popular", "tracker=none"]
    refused = shell(*words)
    assert refused.code == 2 and "split=ratio" in refused.err
    assert shell(*words, "split=ratio").code == 0
    manifest = manifest_of(tmp_path / "outputs" / "latest")
    assert (manifest["data"]["report"]["interactions"], manifest["data"]["spec"]["n_items"]) == (1_000_209, 3_706)


# Longer than a few seconds: by hand, or by `pytest -m slow` ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.real_data
def test_sasrec_beats_popularity_on_movielens_1m(run):
    words = ["data=sequences", "data.path=ml-1m/sequences.txt.gz", "model=transformer/sasrec", "trainer.max_epochs=3"]
    manifest = run(*words)
    assert manifest["metrics"]["test/ndcg@10"] > 2 * manifest["baselines"]["baseline/popular"]["ndcg@10"]


@pytest.mark.slow
@pytest.mark.real_data
def test_two_epochs_of_lstm_tell_good_reviews_from_bad(run):
    manifest = run("data=imdb", "model=rnn/lstm", "trainer.max_epochs=2")
    assert manifest["metrics"]["test/accuracy"] > 0.86
    assert manifest["baselines"]["majority"]["accuracy"] == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.real_data
def test_three_epochs_of_the_poster_network_beat_the_majority(run):
    manifest = run("data=posters", "model=cnn/poster", "trainer.max_epochs=3")
    assert manifest["data"]["report"]["images"] == 5_574
    assert manifest["metrics"]["test/accuracy"] > 0.62 > 0.58 > manifest["baselines"]["majority"]["accuracy"]


@pytest.mark.slow
@pytest.mark.real_data
def test_a_small_network_reads_digits(run):
    words = ["data=mnist", "model=cnn/poster", "model.channels=[16,32]", "model.dense=64", "trainer.max_epochs=3"]
    assert run(*words)["metrics"]["test/accuracy"] > 0.98
