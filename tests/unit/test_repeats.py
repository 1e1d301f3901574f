"""Repeated targets, and targets that were seen before: one rule, under which a perfect scorer reaches 1."""

import numpy as np
import pandas as pd
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.interactions.splits import TEST, TRAIN, VALIDATION, InteractionSplit
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Matrix
from marquee.errors import DataError
from marquee.metrics.ranking import PER_USER
from marquee.models.base import Recommender
from marquee.models.baseline.popular import Popular
from marquee.tasks.recommendation import Recommendation

# Train, validation and test of three listeners. Ann's test repeats f, and b was seen in train; Bob's test repeats both
# of his targets; Cid's only target was seen in validation.
PLAYS = {"ann": ("abc", "d", "fbfg"), "bob": ("aac", "d", "gfgff"), "cid": ("cd", "e", "ee")}
ITEMS = "abcdefg"


class ByPart(InteractionSplit):
    """The parts as PLAYS lists them, which is also the order of the file."""

    chronological = False

    def assign(self, store):
        sizes = [len(part) for name in sorted(PLAYS) for part in PLAYS[name]]
        return np.repeat([TRAIN, VALIDATION, TEST] * len(PLAYS), sizes)


@pytest.fixture
def data(tmp_path):
    rows = [(user, item) for user, parts in PLAYS.items() for part in parts for item in part]
    pd.DataFrame(rows, columns=["user_id", "item_id"]).to_csv(tmp_path / "plays.csv", index=False)
    columns = {"user": "user_id", "item": "item_id"}
    table = InteractionTable(path="plays.csv", columns=columns, duplicates="keep_all")
    table.setup(ByPart(), Paths(tmp_path, tmp_path / "cache"))
    assert [ITEMS.index(item) for _, item in sorted(rows, key=lambda row: row[0])] == table.store.items.tolist()
    return table


class Perfect(Recommender):
    """Knows the test part: its items score 1, all others 0."""

    def __init__(self, data):
        super().__init__()
        self.wanted = torch.zeros(data.spec.n_users, data.spec.n_items)
        self.wanted[data.parts["test"].users, data.parts["test"].items] = 1

    def score(self, users, histories):
        return self.wanted[users]


class Reversed(Perfect):
    """Scores that rank g, f, ... a for everybody."""

    def score(self, users, histories):
        return torch.arange(7.0).expand(len(users), -1)


def task(data, mask_seen, k=3):
    return Recommendation(Popular(data.spec, view=Matrix()), data, ks=[k], monitor=f"ndcg@{k}", mask_seen=mask_seen)


def judged(data, scorer, mask_seen, k=3):
    return task(data, mask_seen, k).evaluate(scorer(data), "test")


@pytest.mark.parametrize("mask_seen", [True, False])
def test_a_perfect_scorer_reaches_1_whatever_is_repeated(data, mask_seen):
    metrics, table = judged(data, Perfect, mask_seen)
    for name in ("hit_rate", "recall", "ndcg", "mrr", "map"):
        assert metrics[f"{name}@3"] == pytest.approx(1), name
    # Precision and F1 are 1 where the list is as long as the targets are many, which is 2 for Bob.
    _, table = judged(data, Perfect, mask_seen, k=2)
    assert table.set_index("user").loc[1, [f"{name}@2" for name in PER_USER]].tolist() == pytest.approx(
        [1] * len(PER_USER)
    )


def test_the_targets_are_a_set_and_seen_ones_go_where_seen_items_are_masked(data):
    # By hand. Masked: ann {f, g} (b was seen), bob {f, g}, cid nobody. Not masked: ann {b, f, g}, bob {f, g}, cid {e}.
    _, table = judged(data, Reversed, True)
    assert table["user"].tolist() == [0, 1] and table["n_relevant"].tolist() == [2, 2]
    assert table["recall@3"].tolist() == [1, 1]
    _, table = judged(data, Reversed, False)
    assert table["n_relevant"].tolist() == [3, 2, 1]
    # The first three are g, f, e: two of Ann's three, both of Bob's, and Cid's in the third place.
    assert table["recall@3"].tolist() == pytest.approx([2 / 3, 1, 1])
    assert table["f1@3"].tolist() == pytest.approx([4 / 6, 4 / 5, 2 / 4])
    assert table["map@3"].tolist() == pytest.approx([2 / 3, 1, 1 / 3])


@pytest.mark.parametrize("mask_seen", [True, False])
def test_ir_measures_agrees_about_repeated_and_seen_targets(data, mask_seen):
    measures = pytest.importorskip("ir_measures")
    metrics, table = judged(data, Reversed, mask_seen)
    known = [{ITEMS.index(item) for part in PLAYS[name][:2] for item in part} for name in sorted(PLAYS)]
    wanted = [{ITEMS.index(item) for item in PLAYS[name][2]} for name in sorted(PLAYS)]
    left_out = known if mask_seen else [set()] * 3
    qrels = [measures.Qrel(str(u), str(i), 1) for u in range(3) for i in wanted[u] - left_out[u]]
    run = [measures.ScoredDoc(str(u), str(i), float(i)) for u in range(3) for i in set(range(7)) - left_out[u]]
    theirs = {"ndcg": measures.nDCG @ 3, "recall": measures.R @ 3, "mrr": measures.RR @ 3, "precision": measures.P @ 3}
    aggregate = measures.calc_aggregate(list(theirs.values()), qrels, run)
    for name, measure in theirs.items():
        assert metrics[f"{name}@3"] == pytest.approx(aggregate[measure], abs=1e-6), name


def test_what_is_repeated_is_counted_and_stands_in_the_protocol(data):
    # By hand: in test, f is repeated once by Ann and twice by Bob, g once by Bob, e once by Cid; b and e, e were seen.
    assert data.report["targets_repeated"] == 5 and data.report["targets_seen_before"] == 3
    assert task(data, True).protocol() == (
        "full ranking of 7 items, seen items masked, 3 targets seen before left out, a repeated target counted once"
    )
    assert task(data, False).protocol() == (
        "full ranking of 7 items, seen items not masked, a repeated target counted once"
    )


def test_targets_that_have_all_been_seen_are_refused_before_training(data, monkeypatch):
    monkeypatch.setitem(data.parts, "test", data.store.take(data.store.users == 2).take(np.array([0, 1])))
    assert task(data, False)
    with pytest.raises(DataError, match=r"All 2 targets of the test part.*task\.mask_seen=false"):
        task(data, True)
