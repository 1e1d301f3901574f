"""Ranking metrics against hand-computed values, against all permutations of ties, and against ir-measures."""

import itertools
import math

import numpy as np
import pytest
import torch

from marquee.data.interactions.views import RankingBatch
from marquee.errors import JobError
from marquee.metrics.ranking import PER_USER, Ranking

from .small import histories


def evaluate(scores, targets, ks, seen=None, popularity=None):
    """Metrics and per-user table of one batch."""
    scores = torch.as_tensor(scores, dtype=torch.float32)
    seen = seen or [[] for _ in targets]
    popularity = torch.ones(scores.shape[1]) if popularity is None else torch.tensor(popularity)
    evaluator = Ranking(ks, popularity)
    evaluator.update(scores, RankingBatch(torch.arange(len(targets)), histories(*seen), histories(*targets)))
    return evaluator.compute([evaluator.state()])


def test_values_computed_by_hand():
    # Ranking: items 3, 1, 0, 2. Relevant: 1 and 2, at positions 2 and 4.
    metrics, table = evaluate([[0.5, 0.7, 0.1, 0.9]], [[1, 2]], ks=[3], popularity=[4.0, 1.0, 7.0, 10.0])
    ideal = 1 + 1 / math.log2(3)
    assert metrics["hit_rate@3"] == 1
    assert metrics["recall@3"] == pytest.approx(1 / 2)
    assert metrics["precision@3"] == pytest.approx(1 / 3)
    assert metrics["f1@3"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert metrics["ndcg@3"] == pytest.approx(1 / math.log2(3) / ideal)
    assert metrics["mrr@3"] == pytest.approx(1 / 2)
    assert metrics["map@3"] == pytest.approx((1 / 2) / 2)
    assert metrics["coverage@3"] == pytest.approx(3 / 4)
    assert metrics["mean_popularity@3"] == pytest.approx((10 + 1 + 4) / 3)
    assert table["n_relevant"].tolist() == [2]


def test_seen_items_are_left_out_of_the_ranking():
    # Without item 3, which was seen, item 1 stands first.
    metrics, _ = evaluate([[0.5, 0.7, 0.1, 0.9]], [[1]], ks=[1], seen=[[3]])
    assert metrics["hit_rate@1"] == 1


def expectation(scores, relevant, k):
    """The metrics of PER_USER averaged over every order of tied items: the definition, by brute force."""
    n, total = len(scores), sum(relevant)
    orders = [
        order
        for order in itertools.permutations(range(n))
        if all(scores[a] >= scores[b] for a, b in zip(order, order[1:]))
    ]
    rows = []
    for order in orders:
        top = [relevant[i] for i in order[:k]]
        found = sum(top)
        gain = sum(hit / math.log2(i + 2) for i, hit in enumerate(top))
        ideal = sum(1 / math.log2(i + 2) for i in range(min(k, total)))
        first = next((1 / (i + 1) for i, hit in enumerate(top) if hit), 0)
        precision = sum(hit * sum(top[: i + 1]) / (i + 1) for i, hit in enumerate(top)) / min(k, total)
        full = sum(1 / math.log2(i + 2) for i in range(k))
        rows.append([
            found > 0, found / total, found / min(k, total), found / k, 2 * found / (k + total), gain / ideal,
            gain / full, first, precision,
        ])  # fmt: skip
    return np.mean(np.asarray(rows, dtype=float), axis=0)


@pytest.mark.parametrize("seed", range(25))
def test_ties_are_ranked_by_expectation(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 3, (6,), generator=generator).float()
    relevant = torch.rand(6, generator=generator) < 0.5
    relevant[seed % 6] = True
    k = 1 + seed % 5
    _, table = evaluate(scores[None], [relevant.nonzero()[:, 0].tolist()], ks=[k])
    expected = expectation(scores.tolist(), [int(value) for value in relevant], k)
    np.testing.assert_allclose(table[[f"{name}@{k}" for name in PER_USER]].iloc[0], expected, atol=1e-9)


def test_a_constant_scorer_scores_as_random_does():
    n_users, n_items, k = 400, 50, 10
    targets = [[user % n_items] for user in range(n_users)]
    metrics, _ = evaluate(torch.zeros(n_users, n_items), targets, ks=[k])
    assert metrics["hit_rate@10"] == pytest.approx(k / n_items)
    discounts = [1 / math.log2(position + 1) for position in range(1, k + 1)]
    assert metrics["ndcg@10"] == pytest.approx(sum(discounts) / n_items)
    assert metrics["coverage@10"] == pytest.approx(1 - (1 - k / n_items) ** n_users)


def test_agrees_with_ir_measures():
    measures = pytest.importorskip("ir_measures")
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(30, 40, generator=generator)
    targets = [torch.randperm(40, generator=generator)[: 1 + user % 7].tolist() for user in range(30)]
    metrics, _ = evaluate(scores, targets, ks=[5, 10])
    qrels = [measures.Qrel(str(u), str(i), 1) for u, items in enumerate(targets) for i in items]
    run = [measures.ScoredDoc(str(u), str(i), float(scores[u, i])) for u in range(30) for i in range(40)]
    wanted = {
        "ndcg@10": measures.nDCG @ 10,
        "recall@5": measures.R @ 5,
        "precision@10": measures.P @ 10,
        "mrr@10": measures.RR @ 10,
        "hit_rate@5": measures.Success @ 5,
    }
    theirs = measures.calc_aggregate(list(wanted.values()), qrels, run)
    for name, measure in wanted.items():
        assert metrics[name] == pytest.approx(theirs[measure], abs=1e-6), name


def test_metrics_do_not_depend_on_batches_or_processes():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(9, 20, generator=generator).round(decimals=1)  # with ties
    targets = [[int(i)] for i in torch.randint(0, 20, (9,), generator=generator)]
    whole, table = evaluate(scores, targets, ks=[5])
    states = []
    for rows in (range(0, 9, 2), range(1, 9, 2)):
        evaluator = Ranking([5], torch.ones(20))
        for row in rows:
            batch = RankingBatch(torch.tensor([row]), histories([]), histories(targets[row]))
            evaluator.update(scores[row : row + 1], batch)
        states.append(evaluator.state())
    split, split_table = evaluator.compute(states)
    assert split == pytest.approx(whole)
    assert split_table.equals(table)


@pytest.mark.parametrize("seed", range(5))
def test_each_cut_off_is_measured_for_itself(seed):
    """Several at once, where users have more targets than the shorter lists have places: by brute force."""
    generator = torch.Generator().manual_seed(seed)
    scores, relevant = torch.rand(7, generator=generator), torch.rand(7, generator=generator) < 0.7
    relevant[seed] = True
    _, table = evaluate(scores[None], [relevant.nonzero()[:, 0].tolist()], ks=[5, 1, 3])
    for k in (1, 3, 5):
        expected = expectation(scores.tolist(), relevant.int().tolist(), k)
        np.testing.assert_allclose(table[[f"{name}@{k}" for name in PER_USER]].iloc[0], expected, atol=1e-9)


def test_popularity_is_the_mean_over_what_can_be_recommended():
    # Items 1 and 2 were seen, so the list of three has one item.
    metrics, _ = evaluate([[0.1, 0.2, 0.3]], [[0]], ks=[3], seen=[[1, 2]], popularity=[6.0, 1.0, 1.0])
    assert metrics["mean_popularity@3"] == 6


def test_lists_longer_than_the_catalogue_and_exhausted_candidates():
    metrics, _ = evaluate([[0.1, 0.2, 0.3]], [[0]], ks=[10], seen=[[1, 2]])
    assert metrics["mrr@10"] == 1
    assert metrics["precision@10"] == pytest.approx(1 / 10)


def test_nan_and_infinity_fail_instead_of_ranking():
    with pytest.raises(JobError, match="NaN"):
        evaluate([[0.1, float("nan")]], [[0]], ks=[1])
    with pytest.raises(JobError, match="infinity"):
        evaluate([[float("inf"), float("inf"), 0.1]], [[0]], ks=[1])
    with pytest.raises(JobError, match="infinity"):  # beyond float32, in which is ranked
        evaluate(torch.tensor([[1e300, 1.0]], dtype=torch.float64), [[0]], ks=[1])


def test_an_item_scored_with_minus_infinity_is_left_out():
    metrics, _ = evaluate([[float("-inf"), 0.1, float("-inf")]], [[0]], ks=[3])
    assert metrics["hit_rate@3"] == 0 and metrics["coverage@3"] == pytest.approx(1 / 3)


def test_the_scores_given_are_left_as_they_were():
    scores = torch.tensor([[0.3, 0.2]])
    evaluate(scores, [[1]], ks=[1], seen=[[0]])
    assert scores.tolist() == [[pytest.approx(0.3), pytest.approx(0.2)]]
