"""What lists are beyond their hits, against the definitions by loops, over every order of what ties."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from marquee.data.interactions.views import RankingBatch
from marquee.errors import ConfigError
from marquee.metrics.beyond import BEYOND, Beyond
from marquee.metrics.direction import direction, neither
from marquee.metrics.groups import Groups, by_group, popularity_thirds, values_or_quartiles
from marquee.metrics.ranking import Ranking

from .small import histories

POPULARITY = torch.tensor([9.0, 5.0, 5.0, 2.0, 1.0, 0.0])
GENRES = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).float()
N_USERS = 10


def orders(scores):
    """Every order of the items that the scores allow, best first, without those of -inf."""
    shown = [item for item, score in enumerate(scores) if score > -math.inf]
    return [
        order
        for order in itertools.permutations(shown)
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


def by_definition(scores, relevant, history, k):
    """Each metric of one list, averaged over all orders; the expected share of each item and genre for the others."""
    scores = [-math.inf if item in history else score for item, score in enumerate(scores)]
    rows, chance = [], np.zeros(6)
    popular = sorted(
        (item for item in range(6) if scores[item] > -math.inf), key=lambda item: (-POPULARITY[item], item)
    )
    tail = {3, 4, 5}  # 9 + 5 + 5 + 2 + 1 interactions: the last three have 3, the last four 8; a fifth is 4.4
    for order in orders(scores):
        top = order[:k]
        chance[list(top)] += 1
        place = {item: rank for rank, item in enumerate(order)}
        wrong = [(a, b) for a in relevant for b in order if b not in relevant]
        right = np.mean([place[a] < place[b] for a, b in wrong])
        novelty = np.mean([-math.log2(max(float(POPULARITY[item]), 1) / N_USERS) for item in top])
        share = np.mean([item in tail for item in top])
        lift = np.mean([float(POPULARITY[item]) for item in top]) / np.mean([float(POPULARITY[i]) for i in history]) - 1
        surprise = np.mean([item in relevant and item not in popular[:k] for item in top])
        rows.append([right, novelty, share, lift, surprise, np.mean([1 - alike(a, b) for a, b in pairs(top)] or [0])])
    return np.mean(rows, axis=0), chance / len(rows)


def pairs(items):
    return list(itertools.combinations(items, 2))


def alike(a, b):
    one, two = GENRES[a].numpy(), GENRES[b].numpy()
    size = np.linalg.norm(one) * np.linalg.norm(two)
    return float(one @ two / size) if size else 0.0


def divergence(chance, history):
    each = GENRES.numpy() / np.maximum(GENRES.numpy().sum(1, keepdims=True), 1e-12)
    p, q = each[history].sum(0), chance @ each
    p, q = p / p.sum(), q / q.sum()
    q = 0.99 * q + 0.01 * p
    return sum(x * math.log(x / y) for x, y in zip(p, q) if x > 0)


def measured(scores, targets, seen, ks, names=BEYOND, **others):
    evaluator = Ranking(ks, POPULARITY, beyond=Beyond(names, ks, POPULARITY, N_USERS, GENRES), **others)
    batch = RankingBatch(torch.arange(len(targets)), histories(*seen), histories(*targets))
    evaluator.update(torch.as_tensor(scores, dtype=torch.float32), batch)
    return evaluator.compute([evaluator.state()])


@pytest.mark.parametrize("seed", range(12))
def test_each_is_its_definition_averaged_over_the_orders_of_what_ties(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (2, 6)).astype(float)
    seen, targets = [[0, 3], [1]], [[1, 4], [5]]
    k = 1 + seed % 4
    metrics, table = measured(scores, targets, seen, [k])
    shown = np.zeros(6)
    for user in range(2):
        expected, chance = by_definition(scores[user], targets[user], seen[user], k)
        shown += chance
        row = table.iloc[user]
        names = ["auc", f"novelty@{k}", f"tail_share@{k}", f"popularity_lift@{k}", f"serendipity@{k}", f"diversity@{k}"]
        np.testing.assert_allclose(row[names].to_numpy(float), expected, atol=1e-9)
        assert row[f"miscalibration@{k}"] == pytest.approx(divergence(chance, seen[user]))
    spread = [abs(a - b) for a in shown for b in shown]  # Gini as the mean difference over twice the mean
    assert metrics[f"gini@{k}"] == pytest.approx(sum(spread) / 36 / 2 / shown.mean())
    share = shown[shown > 0] / shown.sum()
    assert metrics[f"entropy@{k}"] == pytest.approx(-(share * np.log2(share)).sum())


def test_lists_of_one_and_of_ties_alone_and_users_without_history():
    metrics, table = measured(np.zeros((1, 6)), [[2]], [[]], [1, 3])
    assert table["auc"].tolist() == [0.5] and table["diversity@1"].tolist() == [0]
    assert table["diversity@3"][0] == pytest.approx(np.mean([1 - alike(a, b) for a, b in pairs(range(6))]))
    assert table["popularity_lift@3"].tolist() == [0] and table["miscalibration@3"].tolist() == [0]
    assert metrics["gini@1"] == pytest.approx(0) and metrics["entropy@3"] == pytest.approx(math.log2(6))


def test_the_auc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(4, 6)), 1)
    targets = [[0], [1, 5], [2, 3, 4], [0, 1, 2, 3, 4]]
    _, table = measured(scores, targets, [[]] * 4, [2], ["auc"])
    expected = [roc_auc_score(np.isin(np.arange(6), own), row) for own, row in zip(targets, scores)]
    np.testing.assert_allclose(table["auc"], expected)


def test_the_state_of_several_processes_gives_what_one_gives():
    scores, targets, seen = np.random.default_rng(1).normal(size=(4, 6)), [[1], [2], [3], [4]], [[0]] * 4
    whole, _ = measured(scores, targets, seen, [2])
    states = []
    for rank in range(2):
        evaluator = Ranking([2], POPULARITY, beyond=Beyond(BEYOND, [2], POPULARITY, N_USERS, GENRES))
        users = torch.arange(rank, 4, 2)
        batch = RankingBatch(users, histories(*seen[rank::2]), histories(*targets[rank::2]))
        evaluator.update(torch.as_tensor(scores[rank::2], dtype=torch.float32), batch)
        states.append(evaluator.state())
    joined, _ = evaluator.compute(states)
    assert joined == pytest.approx(whole)


# Groups --------------------------------------------------------------------------------------------------------------


def test_groups_have_their_means_and_the_gap_between_the_best_and_the_worst():
    table = pd.DataFrame({"user": [0, 1, 3, 4], "ndcg@2": [0.1, 0.5, 0.3, 0.9]})
    groups = {"gender": Groups(["F", "M", "X"], np.array([0, 1, 2, 0, -1]))}
    found = by_group(table, "ndcg@2", groups)
    assert found == pytest.approx({"ndcg@2[gender=F]": 0.2, "ndcg@2[gender=M]": 0.5, "gap_ndcg@2[gender]": 0.3})


def test_recall_is_told_apart_by_the_popularity_of_what_was_to_be_found():
    # 22 interactions: item 0 begins in the first third, item 1 (9 before it) in the second, item 2 (14) in the second,
    # items 3 to 5 (19 and more before them) in the third.
    assert popularity_thirds(POPULARITY.long().numpy()).tolist() == [0, 1, 1, 2, 2, 2]
    beyond = Beyond([], [2], POPULARITY, N_USERS, by_item=2)
    evaluator = Ranking([2], POPULARITY, beyond=beyond)
    scores = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1]])
    evaluator.update(scores, RankingBatch(torch.arange(2), histories([], []), histories([0, 1, 2, 5], [1])))
    metrics, table = evaluator.compute([evaluator.state()])
    assert metrics["recall@2[item_popularity=head]"] == 1  # over the one user who has such a target
    assert metrics["recall@2[item_popularity=middle]"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["recall@2[item_popularity=tail]"] == 0
    assert metrics["gap_recall@2[item_popularity]"] == 1
    assert table["recall@2[item_popularity=head]"].isna().tolist() == [False, True]


def test_numbers_are_grouped_in_quarters_and_many_texts_are_refused():
    assert values_or_quartiles(pd.Series(["F", "M", "", None, "F"]), "x")[1].tolist() == [0, 1, -1, -1, 0]
    names, places = values_or_quartiles(pd.Series(range(100)), "x")
    assert names == ["0 to 24", "25 to 49", "50 to 74", "75 to 99"] and np.bincount(places).tolist() == [25] * 4
    with pytest.raises(ConfigError, match="task.groups: zip has 30 values, which are too many"):
        values_or_quartiles(pd.Series([f"z{n}" for n in range(30)]), "task.groups: zip")


def test_quarters_of_fractions_have_names_of_their_own():
    """Cut to whole numbers all four were called 0, and one group's score stood for them all."""
    names, places = values_or_quartiles(pd.Series(np.arange(100) / 100), "x")
    assert names == ["0 to 0.24", "0.25 to 0.49", "0.5 to 0.74", "0.75 to 0.99"]
    assert np.bincount(places).tolist() == [25] * 4
    close, _ = values_or_quartiles(pd.Series(0.5 + np.arange(100) * 1e-9), "x")
    assert len(set(close)) == 4


@pytest.mark.parametrize(
    "metric, better",
    [("recall_min@20", "max"), ("ndcg_uniform100@10", "max"), ("gini@10", "min"), ("gap_ndcg@10[gender]", "min"),
     ("ndcg@10[gender=F]", "max"), ("auc_popular99", "max"), ("novelty@5", None)],
)  # fmt: skip
def test_which_way_is_better(metric, better):
    assert direction(metric) == better
    assert neither("tail_share@10") and not neither("gini@10")


def test_runs_that_measure_more_are_one_configuration_of_one_protocol():
    from marquee.compare.protocol import configuration_key, protocol_key

    def manifest(**task):
        return {
            "config": {"task": {"_target_": "t", "ks": [10], **task}, "split": {"_target_": "s"}},
            "split": {"fingerprint": "f", "config": {"_target_": "s"}},
            "data": {"fingerprint": "d", "spec": {"kind": "InteractionSpec"}},
            "task": {"measured": ["ks", "candidates"], "measures_more": ["beyond", "groups"]},
        }

    plain = manifest()
    for other in (manifest(beyond=["auc"], groups=None), manifest(candidates=None)):
        assert configuration_key(other) == configuration_key(plain)
    sampled = manifest(candidates="uniform")
    assert protocol_key(sampled) != protocol_key(plain)
    drawn = sampled | {"task": {**sampled["task"], "fingerprints": {"candidates of test": "a"}}}
    assert protocol_key(drawn) != protocol_key(sampled)  # the same words, other items
