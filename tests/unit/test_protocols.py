"""The protocols beyond leave-one-out and ratio, against the table of their docstring or an independent drawing."""

import gzip

import numpy as np
import pandas as pd
import pytest

from marquee.data.dataset import Paths
from marquee.data.interactions.cold import NewItems, UserHoldout
from marquee.data.interactions.folds import FileFolds, KFold
from marquee.data.interactions.predefined import read_parts
from marquee.data.interactions.splits import HISTORY, LEFT_OUT, TEST, TRAIN, VALIDATION
from marquee.data.interactions.timelines import GlobalTime, LeaveLastN, SlidingWindows, TimeRatio
from marquee.errors import ConfigError, DataError

from .test_splits import random_store, store

T, V, X, H, O = TRAIN, VALIDATION, TEST, HISTORY, LEFT_OUT  # noqa: E741


def parts(split, data):
    return split.cut(data, "data").assigned.tolist()


# By each user's order ------------------------------------------------------------------------------------------------


def test_leave_last_n_is_the_table_of_its_docstring():
    rows = [(1, 10, 1), (1, 11, 4), (1, 12, 6), (1, 13, 7), (2, 10, 2), (2, 11, 3)]
    cut = LeaveLastN(test=2, validation=1).cut(store(rows), "data")
    assert cut.assigned.tolist() == [T, V, X, X, T, T]
    assert cut.report["users_with_too_few"] == 1
    assert not LeaveLastN(validation=0).validates


def test_leave_last_n_of_one_and_one_is_leave_one_out():
    from marquee.data.interactions.splits import LeaveOneOut

    data = random_store()
    np.testing.assert_array_equal(LeaveLastN().assign(data), LeaveOneOut().assign(data))


def test_time_ratio_is_the_table_of_its_docstring_and_takes_the_youngest():
    rows = [(1, 10, 1), (1, 11, 2), (1, 12, 5), (1, 13, 6), (2, 10, 3), (2, 11, 4)]
    assert parts(TimeRatio(validation=0.25, test=0.25), store(rows)) == [T, T, V, X, T, X]
    data = random_store()
    assigned = TimeRatio().assign(data)
    for user in range(data.n_users):
        own = assigned[data.offsets[user] : data.offsets[user + 1]]
        n = len(own)
        held = [max(int(n / 10), int(n >= least)) for least in (3, 2)]
        assert own.tolist() == [T] * (n - sum(held)) + [V] * held[0] + [X] * held[1]


# By the clock --------------------------------------------------------------------------------------------------------


def test_global_time_leaves_a_gap_out_and_keeps_its_fingerprint_without_one():
    rows = [(1, 10, 1), (2, 11, 2), (1, 12, 5), (2, 13, 8), (3, 14, 9)]
    plain = GlobalTime(validation=0.2, test=0.4)
    assert parts(plain, store(rows)) == [T, V, T, X, O]
    # Times 2 and 5 are not more than 3 before 5 and 8; user 2 is then unknown to training.
    assert GlobalTime(validation=0.2, test=0.4, gap=3).assign(store(rows)).tolist() == [T, O, O, O, O]
    assert "gap" not in plain.parameters() and GlobalTime(gap=3).parameters()["gap"] == 3


def test_a_gap_that_leaves_nothing_is_said():
    with pytest.raises(DataError, match="leaves validation empty"):
        GlobalTime(gap=60).cut(random_store(), "data")


TWELVE = [(1, item, item) for item in range(1, 13)]


@pytest.mark.parametrize(
    "window, span, expected",
    [
        (0, None, [T] * 2 + [V] + [X] * 3 + [O] * 6),
        (1, None, [T] * 5 + [V] + [X] * 3 + [O] * 3),
        (2, None, [T] * 8 + [V] + [X] * 3),
        (2, 4, [O] * 4 + [T] * 4 + [V] + [X] * 3),
    ],
)
def test_sliding_windows_are_the_table_of_their_docstring(window, span, expected):
    split = SlidingWindows(windows=3, window=window, share=0.25, validation=0.3, span=span)
    assert parts(split, store(TWELVE)) == expected


def test_windows_test_every_young_interaction_once_and_never_split_a_second():
    data = random_store(times=60)
    tested = np.zeros(len(data), int)
    for window in range(4):
        assigned = SlidingWindows(windows=4, window=window, share=0.15).cut(data, "data").assigned
        tested += assigned == X
        times = [data.timestamps[assigned == part] for part in (T, V, X)]
        assert times[0].max() < times[1].min() and times[1].max() < times[2].min()
    assert tested.max() == 1
    young = data.timestamps >= np.sort(data.timestamps)[int(len(data) * 0.4)]
    assert (tested == young).all()  # every user of this data is known to training


def test_windows_that_leave_nothing_or_do_not_exist_are_refused():
    with pytest.raises(ConfigError, match=r"split.window=5: windows are numbered from 0 to 4"):
        SlidingWindows(window=5)
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        SlidingWindows(windows=10)
    with pytest.raises(ConfigError, match=r"split=sliding_windows needs timestamps"):
        SlidingWindows().cut(store([(1, 10), (1, 11)]), "data")


# Folds ---------------------------------------------------------------------------------------------------------------


def test_folds_test_every_interaction_once_and_are_of_one_size():
    data = random_store()
    cuts = [KFold(folds=5, fold=fold, seed=3).cut(data, "data") for fold in range(5)]
    tested = np.stack([cut.assigned == X for cut in cuts])
    assert (tested.sum(0) == 1).all()
    sizes = tested.sum(1)
    assert sizes.max() - sizes.min() <= 1
    rest = len(data) - sizes[0]
    assert (cuts[0].assigned == V).sum() == round(0.1 * rest)
    assert len({cut.fingerprint for cut in cuts}) == 5
    assert not (KFold(fold=1, validation=0).assign(data) == V).any()


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"split.fold=5: the 5 folds are numbered from 0 to 4"):
        KFold(fold=5)
    with pytest.raises(ConfigError, match=r"split.test=u.test must have \{\}"):
        FileFolds(test="u.test", names=[1, 2])


@pytest.fixture
def published(tmp_path):
    """Six ratings, two folds of two; the other two always train."""
    whole = [(1, 10, 5), (1, 11, 4), (2, 10, 3), (2, 12, 2), (3, 11, 1), (3, 12, 5)]
    files = {"u.data": whole, "u1.test.gz": [whole[0], whole[3]], "u2.test.gz": [whole[5], whole[1]]}
    for name, rows in files.items():
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return tmp_path


def read(path):
    return pd.read_csv(path, sep="\t", names=["user", "item", "value"])


def labelled(folder, names=(1, 2)):
    split = FileFolds(test="u{}.test.gz", names=list(names), validation=0)
    sources = split.sources({"interactions": folder / "u.data"}, Paths(folder, folder))
    return read_parts(sources, read)


def test_published_folds_are_found_in_the_data_by_pair(published):
    assert labelled(published)["label"].tolist() == [0, 1, -1, 0, -1, 1]
    assert labelled(published, (2, 1))["label"].tolist() == [1, 0, -1, 1, -1, 0]


def test_published_folds_share_one_data_fingerprint_and_one_pool(published):
    from marquee.data.interactions.store import Interactions

    data = Interactions.from_frame(labelled(published))[0]
    for fold, tested in ((0, [0, 3]), (1, [1, 5])):
        split = FileFolds(test="u{}.test.gz", names=[1, 2], fold=fold, validation=0)
        assert np.flatnonzero(split.cut(data, "data").assigned == X).tolist() == tested
        assert split.folds == 2 and split.fold_key == "fold"


def test_folds_that_are_not_of_this_data_are_refused(published):
    (published / "u3.test.gz").write_bytes(gzip.compress(b"1\t10\t5\n9\t10\t5\n"))
    with pytest.raises(DataError, match=r"u3.test.gz: 1 of its 2 pairs of user and item do not stand in .*u.data"):
        labelled(published, (2, 3))
    (published / "u4.test.gz").write_bytes(gzip.compress(b"1\t10\t5\n"))
    with pytest.raises(DataError, match=r"u4.test.gz and .*u1.test.gz share 1 pairs"):
        labelled(published, (1, 4))


# Held-out users and items --------------------------------------------------------------------------------------------


def drawn_as_published(frame, seed, n_held, target=0.2):
    """The parts as sets of (user, item), by the steps of the protocol's description with pandas and a loop."""
    counts = frame.groupby("user").size()
    frame = frame[frame["user"].isin(counts.index[counts >= 5])]
    np.random.seed(seed)
    unique = frame.groupby("user").size().index
    unique = unique[np.random.permutation(unique.size)]
    n = unique.size
    groups = unique[: n - 2 * n_held], unique[n - 2 * n_held : n - n_held], unique[n - n_held :]
    train = frame[frame["user"].isin(groups[0])]
    found = {TRAIN: set(zip(train["user"], train["item"])), HISTORY: set()}
    for part, users in zip((VALIDATION, TEST), groups[1:], strict=True):
        held = frame[frame["user"].isin(users) & frame["item"].isin(train["item"].unique())]
        found[part] = set()
        np.random.seed(seed)
        for user, group in held.groupby("user"):
            chosen = np.zeros(len(group), dtype=bool)
            if len(group) >= 5:
                chosen[np.random.choice(len(group), size=int(target * len(group)), replace=False)] = True
            for item, is_target in zip(group["item"], chosen, strict=True):
                found[part if is_target else HISTORY].add((user, item))
    return found


def test_user_holdout_draws_what_the_published_code_draws():
    from marquee.data.interactions.store import Interactions

    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"user": rng.integers(0, 120, 1500), "item": rng.zipf(1.4, 1500) % 300})
    frame = frame.drop_duplicates().sort_values(["user", "item"], ignore_index=True)
    frame["timestamp"] = rng.integers(0, 50, len(frame))  # in another order than the items
    expected = drawn_as_published(frame, 98765, 20)
    data = Interactions.from_frame(frame)[0]
    cut = UserHoldout(validation=20, test=20).cut(data, "data")
    pairs = list(zip(data.user_ids[data.users], data.item_ids[data.items]))
    for part, wanted in expected.items():
        assert {pair for pair, own in zip(pairs, cut.assigned) if own == part} == wanted
    assert cut.report["history_only"] == len(expected[HISTORY])
    shares = UserHoldout(validation=0.1, test=0.1).assign(data)
    assert len(np.unique(data.users[shares == TEST])) <= 12


def test_user_holdout_that_leaves_nobody_to_train_on_is_refused():
    with pytest.raises(ConfigError, match="which leaves none to train on"):
        UserHoldout(validation=100, test=100).cut(random_store(), "data")


def test_new_items_are_unknown_to_training_and_blank_users_are_left_out():
    data = random_store()
    cut = NewItems(validation=0.1, test=0.2, seed=4).cut(data, "data")
    of = {part: set(data.items[cut.assigned == part]) for part in (T, V, X)}
    assert not of[T] & of[V] and not of[T] & of[X] and not of[V] & of[X]
    assert len(of[X]) == 18 and len(of[V]) == 9
    assert cut.report["new_items_tested"] == 18
    assert cut.report["targets_of_unseen_items"] == cut.report["test_interactions"]
    small = store([(1, 1, 1), (1, 2, 2), (1, 5, 3), (2, 1, 1), (2, 4, 2), (3, 5, 3)])
    newest = NewItems(validation=0.25, test=0.25, newest=True).cut(small, "data")
    # Items 2 and 4 appeared at once: the draw decides between them.
    assert newest.assigned.tolist() in ([T, V, X, T, T, O], [T, T, X, T, V, O])


def test_the_newest_items_are_those_that_appeared_last():
    rows = [(1, 1, 1), (1, 2, 5), (1, 3, 9), (2, 1, 2), (2, 2, 3), (2, 3, 10), (2, 4, 7), (1, 4, 8)]
    data = store(rows)  # first met: item 1 at 1, 2 at 3, 4 at 7, 3 at 9
    assigned = NewItems(validation=0.25, test=0.25, newest=True).assign(data)
    by_item = {int(data.item_ids[item]): int(part) for item, part in zip(data.items, assigned)}
    assert by_item == {1: T, 2: T, 4: V, 3: X}
    with pytest.raises(ConfigError, match=r"split.newest=true needs timestamps"):
        NewItems(newest=True).assign(store([(1, 10), (1, 11)]))


@pytest.mark.real_data
@pytest.mark.parametrize("names, each", [([1, 2, 3, 4, 5], 20_000), (["a", "b"], 9_430)])
def test_movielens_100k_has_the_folds_that_its_makers_published(tmp_path, real_data, names, each):
    from marquee.data.interactions.movielens import MovieLens100K

    data = MovieLens100K()
    data.setup(FileFolds(test="ml-100k/u{}.test.gz", names=names), Paths(real_data, tmp_path))
    assert len(data.parts["test"]) == each
    assert (np.bincount(data.store.labels + 1)[1:] == each).all()
