"""Candidates: what may be ranked, drawn once and named, and what cannot be reached is a miss."""

import json

import numpy as np
import pytest
import torch

from marquee.config.check import problems
from marquee.config.compose import compose
from marquee.data.interactions.candidates import Candidates, candidates_of
from marquee.data.interactions.views import RankingBatch
from marquee.errors import ConfigError, DataError
from marquee.metrics.ranking import Ranking
from marquee.runs.train import prepare_data, prepare_task

from .small import histories


def prepared(tmp_path, *words):
    composed = compose([f"paths.cache={tmp_path}", f"paths.data={tmp_path}", "model=baseline/popular", *words])
    assert [str(problem) for problem in problems(composed)] == []
    data = prepare_data(composed.config)
    return data, lambda: prepare_task(composed.config, data)


def of_all(allowed):
    return Candidates(torch.tensor(allowed), None, "", "", "")


def test_a_target_that_is_no_candidate_is_a_miss_and_the_ideal_knows_it():
    evaluator = Ranking([2], torch.ones(4), candidates=of_all([True, True, False, True]))
    scores = torch.tensor([[1.0, 3.0, 9.0, 2.0]])
    evaluator.update(scores, RankingBatch(torch.tensor([0]), histories([]), histories([1, 2])))
    metrics, table = evaluator.compute([evaluator.state()])
    assert table["n_relevant"].tolist() == [2]
    assert metrics["recall@2"] == 0.5 and metrics["mrr@2"] == 1  # item 1 moves up to the first place
    assert metrics["ndcg@2"] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_own_candidates_are_ranked_with_the_targets_alone():
    own = torch.tensor([[4, 4], [0, 4], [3, 0]], dtype=torch.int32)  # 4 items, so 4 is a place left over
    evaluator = Ranking([1], torch.ones(4), candidates=Candidates(None, own, "", "_given2", ""))
    scores = torch.tensor([[0.0, 1.0, 5.0, 9.0], [4.0, 3.0, 5.0, 9.0]])
    evaluator.update(scores, RankingBatch(torch.tensor([1, 2]), histories([], []), histories([1], [2])))
    metrics, table = evaluator.compute([evaluator.state()])
    # User 1: item 0 against target 1, which wins. User 2: items 3 and 0 against target 2: item 3 is above it.
    assert table["hit_rate_given2@1"].tolist() == [1, 0]
    assert set(metrics) == {f"{name}_given2@1" for name in (
        "hit_rate", "recall", "recall_min", "precision", "f1", "ndcg", "ndcg_fullk", "mrr", "map", "mean_popularity",
        "coverage")}  # fmt: skip


@pytest.mark.parametrize("kind", ["uniform", "popular"])
def test_samples_are_drawn_once_without_what_a_user_has_met(tmp_path, kind):
    data, _ = prepared(tmp_path)
    found = candidates_of(data, kind, 50, 0, "test")
    again = candidates_of(data, kind, 50, 0, "test")
    other = candidates_of(data, kind, 50, 1, "test")
    assert found.fingerprint == again.fingerprint != other.fingerprint
    assert found.suffix == f"_{kind}50"
    met = data.store.seen
    own = found.own.long()
    users = torch.arange(len(own))[:, None].expand_as(own)
    assert not met.contains(users.reshape(-1), own.reshape(-1)).any()
    assert (own < data.spec.n_items).all() and all(len(set(row)) == 50 for row in own.tolist())
    counts = np.bincount(data.parts["train"].items, minlength=data.spec.n_items)
    mean = counts[own.numpy()].mean() / counts.mean()
    assert (0.7 < mean < 1.0) if kind == "uniform" else mean > 1.2  # what is popular has mostly been met


def test_a_sampled_run_says_so_in_its_metrics_and_its_protocol(tmp_path):
    data, task = prepared(tmp_path, "task.candidates=uniform", "task.n_candidates=99")
    task = task()
    assert task.monitor == "ndcg_uniform99@10"
    assert "ndcg_uniform99@10" in task.metrics_of({"ks": [10], "candidates": "uniform", "n_candidates": 99})
    metrics, _ = task.evaluate(task.baselines()["baseline/random"], "test")
    # One target among 100, ranked at random: a hit at 10 in one case of ten.
    assert metrics["hit_rate_uniform99@10"] == pytest.approx(0.1, abs=0.03)
    assert "each target set among 99 uniform items drawn once (seed 0)" in task.protocol()
    assert set(task.described()["fingerprints"]) == {"candidates of validation", "candidates of test"}
    json.dumps(task.described())


def test_items_that_train_and_lists_of_ids_are_the_same_for_all(tmp_path):
    (tmp_path / "ids.txt").write_text("".join(f"{item}\n" for item in range(1, 31)) + "99999\n")
    data, task = prepared(tmp_path, "task.candidates=ids.txt")
    task = task()
    assert task.monitor == "ndcg_given@10" and "ranking of 30 items in ids.txt (" in task.protocol()
    wanted = sum(int(data.store.item_ids[item]) > 30 for item in data.parts["test"].items)
    assert f"{wanted:,} targets are no candidates and count as missed" in task.protocol()
    metrics, _ = task.evaluate(task.baselines()["baseline/popular"], "test")
    assert metrics["coverage_given@10"] <= 30 / 400
    assert candidates_of(data, "train", 0, 0, "test").suffix == ""


def test_each_users_own_list_is_read_as_published(tmp_path):
    data, _ = prepared(tmp_path)
    users = data.store.user_ids.tolist()
    (tmp_path / "own.txt").write_text("".join(f"{user} 1 2 3 4 5\n" for user in users))
    found = candidates_of(data, "own.txt", 0, 0, "test")
    assert found.own.shape == (1000, 5) and found.suffix == "_given5"
    assert (data.store.item_ids[found.own[7].numpy()] == [1, 2, 3, 4, 5]).all()
    (tmp_path / "few.txt").write_text("1 1 2 3\n")
    _, task = prepared(tmp_path, "task.candidates=few.txt", "task.ks=[2]", "task.monitor=ndcg@2")
    with pytest.raises(DataError, match=r"999 of 1,000 users of the validation part have no candidates"):
        task()
    (tmp_path / "none.txt").write_text("77777\n88888\n")
    with pytest.raises(DataError, match=r"none of the 2 items of .*none.txt is an item of this data"):
        candidates_of(data, "none.txt", 0, 0, "test")


@pytest.mark.parametrize(
    "words, message",
    [
        (["task.ks=[10,500]"], r"500 is beyond the 400 that are ranked \(items are ranked\).\n  fix: task.ks=\[10\]"),
        (["task.candidates=uniform", "task.n_candidates=5"], r"20 is beyond the 6 that are ranked"),
        (["task.n_candidates=5"], r"belong to task.candidates=uniform|popular"),
        (["task.groups=[gender]"], r"gender is neither history_length nor item_popularity nor a column"),
        (["task.beyond=[diversity]"], r"task.beyond names diversity, which need a column of data.item_features"),
        (["task.beyond=[miscalibration]", "data.item_features={year: dense}", "task.item_feature=year"],
         r"year is dense, and miscalibration compares shares"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_with_what_to_type(tmp_path, words, message):
    _, task = prepared(tmp_path, *words)
    with pytest.raises(ConfigError, match=message):
        task()


def test_a_task_measures_lists_and_groups_where_it_is_asked_to(tmp_path):
    words = ["task.beyond=[auc,novelty,gini,diversity,miscalibration]", "data.item_features={genres: multi_hot}",
             "task.item_feature=genres", "task.groups=[history_length,item_popularity]"]  # fmt: skip
    _, task = prepared(tmp_path, *words)
    task = task()
    metrics, table = task.evaluate(task.baselines()["baseline/popular"], "test")
    assert 0.5 < metrics["auc"] < 1 and 0 < metrics["diversity@10"] < 1 and metrics["miscalibration@10"] > 0
    quarters = [name for name in metrics if name.startswith("ndcg@10[history_length=")]
    assert len(quarters) == 4 and "gap_ndcg@10[history_length]" in metrics
    assert metrics["recall@10[item_popularity=tail]"] == 0  # popular recommends none of them
    assert table["ndcg@10"].mean() == pytest.approx(metrics["ndcg@10"])


def test_new_items_alone_are_ranked_where_some_are_held_out(tmp_path):
    data, task = prepared(tmp_path, "split=new_items", "task.candidates=new")
    task = task()
    new = set(range(400)) - set(data.parts["train"].items.tolist())
    assert task.monitor == "ndcg_new@10"
    assert f"ranking of {len(new)} items without training interactions" in task.protocol()
    assert set(task.candidates["test"].everyone.nonzero()[:, 0].tolist()) == new
    assert set(data.parts["test"].items.tolist()) <= new
    assert "ndcg_new@10" in task.metrics_of({"ks": [10], "candidates": "new"})
    data, _ = prepared(tmp_path)
    with pytest.raises(DataError, match=r"candidates=new: every item has training interactions\. .*split=new_items"):
        candidates_of(data, "new", 0, 0, "test")
