"""What a model does with what has come since, against training on all of it, and what events are refused."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from marquee.apply.updating.learning import changed, replayed
from marquee.data.dataset import Paths
from marquee.data.interactions.events import read_events
from marquee.data.interactions.growing import hashed, joined, positions_of, without
from marquee.data.interactions.splits import LeaveOneOut
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Matrix, MatrixBatch, Pairs
from marquee.data.spec import InteractionSpec
from marquee.errors import DataError
from marquee.models.base import Change
from marquee.models.graph.lightgcn import LightGCN
from marquee.models.linear.ease import EASE
from marquee.models.linear.edlae import EDLAE
from marquee.models.mf.bpr import BPR
from marquee.models.mf.ials import IALS
from marquee.models.tables import Tables, take_over

COLUMNS = {"user": "user", "item": "item", "value": "value", "timestamp": "timestamp"}
# Ann's and Bob's last rows are test, the last but one validation.
ROWS = """\
Ann,a,5,1
Ann,b,4,2
Ann,c,5,3
Ann,d,5,4
Bob,a,3,1
Bob,c,5,2
Bob,e,4,5
Bob,b,5,6
Cid,a,5,3
Cid,b,2,9
"""


@pytest.fixture
def data(tmp_path):
    return small(tmp_path)


def small(folder, **settings):
    (folder / "plays.csv").write_text("user,item,value,timestamp\n" + ROWS)
    data = InteractionTable(path=str(folder / "plays.csv"), columns=COLUMNS, **settings)
    data.setup(LeaveOneOut(), Paths(folder, folder / "cache"))
    return data


def events(folder, text, name="new.csv"):
    (folder / name).write_text(text)
    return folder / name


def frame(*rows):
    return pd.DataFrame(rows, columns=["user", "item", "value", "timestamp"])


def ids(data, part):
    rows = data.parts[part]
    return list(zip(data.store.user_ids[rows.users], data.store.item_ids[rows.items], strict=True))


# Data that grows and shrinks -----------------------------------------------------------------------------------------


def test_events_become_training_rows_in_the_order_of_time_and_nothing_else_moves(data):
    grown, report = joined(data, frame(("Bob", "z", 5, 3), ("Abe", "a", 4, 8), ("Ann", "e", 3, 0)))
    assert grown.store.user_ids.tolist() == ["Abe", "Ann", "Bob", "Cid"]
    assert grown.store.item_ids.tolist() == ["a", "b", "c", "d", "e", "z"]
    assert ids(grown, "train") == [("Abe", "a"), ("Ann", "e"), ("Ann", "a"), ("Ann", "b"), ("Bob", "a"), ("Bob", "c"),
                                   ("Bob", "z"), ("Cid", "a"), ("Cid", "b")]  # fmt: skip
    for part in ("validation", "test"):
        assert ids(grown, part) == ids(data, part)
    assert report == {"new_users": 1, "new_items": 1, "replaced": 0, "known_before": 0}
    assert ids(data, "train")[0] == ("Ann", "a") and data.store.n_users == 3


def test_the_data_sets_own_rule_decides_between_an_event_and_a_former_row(tmp_path):
    for rule, value, report in (("keep_last", 1.0, (1, 0)), ("keep_first", 5.0, (0, 1))):
        grown, found = joined(small(tmp_path, duplicates=rule), frame(("Ann", "a", 1.0, 7)))
        train = grown.parts["train"]
        assert train.values[(train.users == 0) & (train.items == 0)].tolist() == [value]
        assert (found["replaced"], found["known_before"]) == report


def test_who_is_forgotten_has_no_row_no_id_and_no_place(data):
    left = without(data, np.array([1]))
    assert left.store.user_ids.tolist() == ["Ann", "Cid"] and left.users["user_id"].tolist() == ["Ann", "Cid"]
    assert ids(left, "train") == [("Ann", "a"), ("Ann", "b"), ("Cid", "a"), ("Cid", "b")]
    assert ids(left, "test") == [("Ann", "d")] and left.store.n_items == 5
    assert positions_of(data, hashed(["Bob"], "salt"), "salt").tolist() == [1]
    assert not len(positions_of(data, hashed(["Bob"], "other"), "salt"))


def test_how_features_are_encoded_no_longer_knows_the_forgotten_either(tmp_path):
    """Bob's city is nobody else's, and the mean age is that of the others: (20 + 30) / 2."""
    (tmp_path / "users.csv").write_text("user_id,city,age\nAnn,Ulm,20\nBob,Atlantis,60\nCid,Ulm,30\n")
    kinds = {"city": "categorical", "age": "dense"}
    data = small(tmp_path, users_path=str(tmp_path / "users.csv"), user_features=kinds)
    left = without(data, np.array([1]))
    assert "Atlantis" in str(data.features["user"].to_json()) and "Atlantis" not in str(left.features["user"].to_json())
    assert left.features["user"].encoding["age"][0] == 25
    assert left.spec.user_features == left.features["user"].columns != data.spec.user_features
    assert left.encoded("user")["city"].tolist() == [1, 1]


# Events that are refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, parts",
    [
        ("user,item,value,timestamp\nAnn,d,5,9\n", ["1 of 1 events", "user Ann, item d", "leak"]),
        ("user,item,value,timestamp\nAnn,c,5,9\nCid,e,2,1\n", ["1 of 2 events", "validation or test"]),
        ("user,item,value\nAnn,e,5\n", ["no column timestamp", "Columns seen: user, item, value"]),
        ("person,item,value,timestamp\nAnn,e,5,9\n", ["no column user"]),
        ("user,item,value,timestamp\nAnn,e,7,9\n", ["event 1", "the value 7 is out of range", "2 to 5"]),
        ("user,item,value,timestamp\nAnn,e,5,1735689600000\n", ["another unit", "milliseconds"]),
        ("user,item,value,timestamp\nAnn,e,five,9\n", ["line 2", "five"]),
        ("user,item,value,timestamp\n", ["holds no interactions"]),
        ("", ["is empty"]),
    ],
)
def test_events_that_cannot_be_used_are_refused_with_what_is_wrong(data, tmp_path, text, parts):
    with pytest.raises(DataError) as error:
        read_events(events(tmp_path, text), data)
    for part in parts:
        assert part in str(error.value), error.value


def test_a_file_of_no_known_kind_and_none_at_all_are_refused(data, tmp_path):
    with pytest.raises(DataError, match="unknown ending '.doc'"):
        read_events(events(tmp_path, "x", "a.doc"), data)
    with pytest.raises(DataError, match="does not exist"):
        read_events(tmp_path / "none.csv", data)
    with pytest.raises(DataError, match="cannot be read"):
        read_events(events(tmp_path, "{not json", "a.jsonl"), data)
    with pytest.raises(DataError, match="line 2: a value is missing"):
        text = '{"user": "Ann", "item": "e", "value": 4, "timestamp": 9}\n{"user": "Ann", "item": "b"}\n'
        read_events(events(tmp_path, text, "b.jsonl"), data)


def test_all_kinds_of_file_say_the_same(data, tmp_path):
    rows = frame(("Ann", "e", 5, 9), ("Zoe", "a", 4, 8))
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    rows.to_parquet(tmp_path / "a.parquet")
    rows.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    found = [read_events(tmp_path / f"a.{kind}", data).rows for kind in ("csv", "tsv", "parquet", "jsonl")]
    for other in found:
        assert other["user"].tolist() == ["Zoe", "Ann"] and other["timestamp"].tolist() == [8, 9]
        assert other["value"].tolist() == [4.0, 5.0]


def test_the_runs_own_preparation_is_applied_and_counted(tmp_path):
    text = "user,item,value,timestamp\nAnn,e,2,9\nAnn,e,5,10\nAnn,e,4,8\nZoe,a,5,11\nZoe,q,5,12\nZoe,b,2,13\n"
    found = read_events(events(tmp_path, text), small(tmp_path, min_rating=3))
    assert found.report == {"read": 6, "below_min_rating": 1, "out_of_order": 1, "duplicates": 2, "below_k_core": 0}
    assert found.rows.values.tolist() == [["Ann", "e", 10, 5.0], ["Zoe", "a", 11, 5.0], ["Zoe", "q", 12, 5.0]]
    # In a 2-core q has one user and so goes; then Zoe has one item and goes, too.
    text = "user,item,value,timestamp\nAnn,a,5,10\nZoe,a,5,11\nZoe,q,5,12\nCid,c,5,13\n"
    found = read_events(events(tmp_path, text), small(tmp_path, k_core=2))
    assert found.report["below_k_core"] == 2 and found.rows["user"].tolist() == ["Ann", "Cid"]


def test_the_k_core_counts_what_earlier_updates_have_brought(tmp_path):
    """Zoe came with a and c; b is her third, though the first data never had her."""
    data = small(tmp_path, k_core=2)
    grown, _ = joined(data, frame(("Zoe", "a", 5, 11), ("Zoe", "c", 5, 12)))
    one = events(tmp_path, "user,item,value,timestamp\nZoe,b,5,13\n")
    assert read_events(one, grown).rows["item"].tolist() == ["b"]
    with pytest.raises(DataError, match="no event is left"):
        read_events(one, data)


def test_a_rating_that_has_fallen_takes_its_pair_away_as_where_the_data_is_prepared(tmp_path):
    data = small(tmp_path, min_rating=3)
    found = read_events(events(tmp_path, "user,item,value,timestamp\nAnn,a,2,9\nZoe,a,2,9\nZoe,b,5,9\n"), data)
    assert found.rows[["user", "item"]].values.tolist() == [["Ann", "a"], ["Zoe", "b"]]
    grown, report = joined(data, found.rows)
    assert report == {"new_users": 1, "new_items": 0, "replaced": 1, "known_before": 0, "withdrawn": 1}
    (tmp_path / "plays.csv").write_text("user,item,value,timestamp\n" + ROWS + "Ann,a,2,9\nZoe,a,2,9\nZoe,b,5,9\n")
    anew = InteractionTable(path=str(tmp_path / "plays.csv"), columns=COLUMNS, min_rating=3)
    anew.setup(LeaveOneOut(), Paths(tmp_path, tmp_path / "cache"))
    for one in (grown.store, anew.store):
        rows = zip(one.user_ids[one.users], one.item_ids[one.items], strict=True)
        assert ("Ann", "a") not in (rows := list(rows)) and ("Zoe", "b") in rows and len(rows) == 9


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_dates_are_in_the_unit_of_the_runs_times_and_fractions_are_refused(tmp_path, kind):
    def told(moment):
        if kind == "csv":
            return events(tmp_path, f"user,item,value,timestamp\nAnn,e,5,{moment}\n")
        quoted = moment if isinstance(moment, float) else f'"{moment}"'
        return events(tmp_path, f'{{"user": "Ann", "item": "e", "value": 5, "timestamp": {quoted}}}\n', "new.jsonl")

    for factor in (1, 1000, 1_000_000):  # seconds, milliseconds, microseconds of 2020
        data = small(tmp_path)
        data.store = replace(data.store, timestamps=(data.store.timestamps + 1_577_836_800) * factor)
        rows = read_events(told("2020-01-02 00:00:00"), data).rows
        assert rows["timestamp"].tolist() == [1_577_923_200 * factor]
        with pytest.raises(DataError, match=r"1577923200\.5.*whole numbers"):
            read_events(told(1577923200.5), data)
    with pytest.raises(DataError, match="of another unit"):
        read_events(events(tmp_path, "user,item,value,timestamp\nAnn,e,5,1577923200\n"), data)


def test_ids_of_another_kind_than_the_runs_are_refused(tmp_path):
    (tmp_path / "n.csv").write_text("user,item\n1,1\n1,2\n1,3\n2,1\n")
    data = InteractionTable(path=str(tmp_path / "n.csv"), columns={"user": "user", "item": "item"}, ordered=True)
    data.setup(LeaveOneOut(), Paths(tmp_path, tmp_path / "cache"))
    with pytest.raises(DataError, match="user 'x7' is no whole number"):
        read_events(events(tmp_path, "user,item\n3,1\nx7,1\n"), data)


# Models --------------------------------------------------------------------------------------------------------------


def matrix_batch(matrix):
    users, items = np.nonzero(matrix)
    return MatrixBatch(torch.from_numpy(users), torch.from_numpy(items))


def fitted(kind, matrix, **settings):
    model = kind(InteractionSpec(*matrix.shape), view=Matrix(), **settings)
    model.fit(matrix_batch(matrix))
    return model


def worlds():
    """A matrix before and after: (before, after, where users stood, where items stood, what went, what came)."""
    rng = np.random.default_rng(0)
    before = (rng.random((60, 40)) < 0.15).astype(np.float32)
    after = before.copy()
    after[[3, 7]] = rng.random((2, 40)) < 0.3
    yield "changed rows", before, after, np.arange(60), np.arange(40), before[[3, 7]], after[[3, 7]]
    newcomer = (rng.random((2, 40)) < 0.3).astype(np.float32)
    yield ("new users", before, np.vstack([before, newcomer]), np.r_[np.arange(60), -1, -1], np.arange(40),
           np.zeros((0, 40)), newcomer)  # fmt: skip
    yield "forgotten", before, before[5:], np.arange(5, 60), np.arange(40), before[:5], np.zeros((0, 40))
    wide = np.hstack([np.zeros((60, 1), np.float32), before, np.zeros((60, 1), np.float32)])
    grown = wide.copy()
    grown[2, [0, 4, 41]] = 1
    yield ("new items", before, grown, np.arange(60), np.r_[-1, np.arange(40), -1], wide[2:3], grown[2:3])


@pytest.mark.parametrize("name, before, after, users, items, gone, came", worlds(), ids=[w[0] for w in worlds()])
def test_a_step_of_ease_gives_the_weights_of_a_refit(name, before, after, users, items, gone, came):
    former, refit = fitted(EASE, before, l2=5.0), fitted(EASE, after, l2=5.0)
    model = EASE(InteractionSpec(*after.shape), view=Matrix(), l2=5.0)
    parts = sparse.csr_matrix(gone), sparse.csr_matrix(came)
    assert model.update(
        former, Change(torch.from_numpy(users), torch.from_numpy(items), *before.shape, *parts, matrix_batch(after))
    )
    assert (model.weight - refit.weight).abs().max() < 2e-6
    assert (model.inverse_diagonal - refit.inverse_diagonal).abs().max() < 2e-6
    assert (model.weight - refit.weight).abs().max() < 1e-3 * refit.weight.abs().max()


def test_ease_says_no_where_a_step_would_not_be_exact_or_not_be_shorter():
    before = (np.random.default_rng(0).random((60, 40)) < 0.15).astype(np.float32)
    same = torch.arange(60), torch.arange(40), 60, 40

    def change(n):
        rows = sparse.csr_matrix(before[:n]), sparse.csr_matrix(1 - before[:n])
        return Change(*same, *rows, matrix_batch(np.vstack([1 - before[:n], before[n:]])))

    def fresh(kind, **settings):
        return kind(InteractionSpec(60, 40), view=Matrix(), **settings)

    former = fitted(EASE, before)
    assert fresh(EASE).update(former, change(5)) and not fresh(EASE).update(former, change(6))
    assert not fresh(EASE, keep=5).update(fitted(EASE, before, keep=5), change(1))
    assert not fresh(EDLAE).update(fitted(EDLAE, before), change(1))
    earlier = fresh(EASE)
    earlier.load_state_dict({"weight": former.weight})  # of a version that did not keep the diagonal
    assert not fresh(EASE).update(earlier, change(1))
    gone = Change(
        torch.arange(60), torch.arange(39), 60, 40, sparse.csr_matrix((0, 39)), sparse.csr_matrix((0, 39)), None
    )
    assert not EASE(InteractionSpec(60, 39), view=Matrix()).update(former, gone)


def test_steps_of_ease_that_single_precision_does_not_carry_are_refused():
    """A lambda that is tiny beside the counts: each step would be further off, and the child not what a refit is."""
    rng, same = np.random.default_rng(0), (torch.arange(900), torch.arange(80), 900, 80)
    cell = rng.random((900, 1)) < 0.5
    before = (rng.random((900, 80)) < np.where(cell, 0.9, 0.05)).astype(np.float32)
    before[:, 40:] = before[:, :40]  # twins, so that nothing but lambda keeps X^T X from being singular
    after = before.copy()
    after[:5] = 1 - before[:5]
    change = Change(*same, sparse.csr_matrix(before[:5]), sparse.csr_matrix(after[:5]), matrix_batch(after))
    for l2, taken in ((5.0, True), (0.02, False)):
        former, model = fitted(EASE, before, l2=l2), EASE(InteractionSpec(900, 80), view=Matrix(), l2=l2)
        assert model.update(former, change) == taken
        assert bool(model.weight.any()) == taken
        if taken:
            assert (model.weight - fitted(EASE, after, l2=l2).weight).abs().max() < 1e-4


def test_ials_folds_users_in_by_the_normal_equations_and_keeps_its_items():
    """Second implementation: the problem of one user, written out with NumPy."""
    rng = np.random.default_rng(1)
    before = (rng.random((50, 30)) < 0.2).astype(np.float32)
    after = np.vstack([before, rng.random((1, 30)) < 0.3]).astype(np.float32)
    former = IALS(InteractionSpec(50, 30), view=Matrix(), dim=4)
    for _ in range(3):
        former.fit(matrix_batch(before))
    model = IALS(InteractionSpec(51, 30), view=Matrix(), dim=4)
    users = torch.cat([torch.arange(50), torch.tensor([-1])])
    nothing = sparse.csr_matrix((0, 30))
    assert model.update(former, Change(users, torch.arange(30), 50, 30, nothing, nothing, matrix_batch(after)))
    assert torch.equal(model.items, former.items)
    q, met = former.items.double().numpy(), np.flatnonzero(after[50])
    penalty = 0.3 * (len(met) + 0.3 * 30) ** 0.5
    left = q[met].T @ q[met] + 0.3 * q.T @ q + penalty * np.eye(4)
    np.testing.assert_allclose(model.users[50].numpy(), np.linalg.solve(left, q[met].sum(0)), rtol=1e-3, atol=1e-5)


def test_tables_are_found_whatever_other_lengths_happen_to_be():
    """dim is the number of items, and there are as many users."""
    found = Tables(partial(BPR, view=Pairs(), dim=9, item_bias=True), InteractionSpec(9, 9)).dimensions
    assert found == {"users.weight": [(0, "users")], "items.weight": [(0, "items")], "item_bias": [(0, "items")]}
    found = Tables(partial(LightGCN, view=Pairs(), dim=9), InteractionSpec(9, 9)).dimensions
    assert found == {"ego": [(0, "both")], "vectors": [(0, "both")]}


@pytest.mark.parametrize("kind", [BPR, LightGCN])
def test_rows_of_who_was_there_go_over_and_rows_of_who_is_new_stay_as_drawn(kind):
    former = kind(InteractionSpec(3, 4), view=Pairs(), dim=2)
    model = kind(InteractionSpec(4, 5), view=Pairs(), dim=2)
    drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    users, items = torch.tensor([2, -1, 0, 1]), torch.tensor([0, 1, -1, 2, 3])
    tables = Tables(partial(kind, view=Pairs(), dim=2), InteractionSpec(4, 5))
    take_over(model, former.state_dict(), tables, users, items, InteractionSpec(3, 4))
    now, then = model.state_dict(), former.state_dict()
    if kind is BPR:
        pairs = [("users.weight", users, 0, 0), ("items.weight", items, 0, 0)]
    else:
        pairs = [("ego", users, 0, 0), ("ego", items, 4, 3)]
    for name, places, shift, former_shift in pairs:
        for place, source in enumerate(places.tolist()):
            expected = drawn[name][place + shift] if source < 0 else then[name][source + former_shift]
            assert torch.equal(now[name][place + shift], expected)


def test_what_stands_behind_the_items_in_a_table_keeps_its_place_behind_them():
    """Padding at n_items, and a mask behind it."""
    tables = Tables(partial(BPR, view=Pairs(), dim=2), InteractionSpec(2, 4))
    rows = tables.rows("items", 6, torch.arange(2), torch.tensor([0, -1, 1, 2]), InteractionSpec(2, 3))
    assert rows.tolist() == [0, -1, 1, 2, 3, 4]


def test_what_trains_on_is_of_who_has_anything_new_also_a_changed_rating(data):
    """And of as many others as `replay` says."""
    after, _ = joined(data, frame(("Bob", "a", 1, 20), ("Zoe", "b", 4, 8)))
    assert ids(replayed(data, after, 0.0, 1), "train") == [("Bob", "c"), ("Bob", "a"), ("Zoe", "b")]
    some = replayed(data, after, 0.5, 1)  # one of Ann and Cid beside the two
    assert {user for user, _ in ids(some, "train")} in ({"Bob", "Zoe", "Ann"}, {"Bob", "Zoe", "Cid"})
    assert ids(some, "validation") == ids(data, "validation")
    more, _ = joined(small_all(data), frame(("Cid", "a", 5, 3)))  # once more the same
    assert {user for user, _ in ids(replayed(data, more, 0.0, 1), "train")} == {"Cid"}


def small_all(data):
    data.duplicates = "keep_all"
    return data


def test_only_users_whose_rows_differ_count_as_changed(data):
    model = EASE(data.spec, view=Matrix())
    after, _ = joined(data, frame(("Cid", "e", 4, 20), ("Zoe", "a", 4, 8), ("Ann", "a", 1, 30)))
    change = changed(data, after, model, 1)
    assert change.users.tolist() == [0, 1, 2, -1] and change.items.tolist() == [0, 1, 2, 3, 4]
    # Ann has met a before: her row of ones is what it was. Zoe had none.
    assert change.removed.toarray().tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert change.added.toarray().tolist() == [[1, 1, 0, 0, 1], [1, 0, 0, 0, 0]]
    left = without(data, np.array([0]))
    change = changed(data, left, model, 1)
    assert change.removed.toarray().tolist() == [[1, 1, 0, 0, 0]] and change.added.shape == (0, 5)
