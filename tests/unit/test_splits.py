"""Each protocol against a table worked out by hand; what leaks is refused, what is lost is counted."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from marquee.data.interactions.splits import LEFT_OUT, TEST, TRAIN, VALIDATION, LeaveOneOut, Ratio, held_out
from marquee.data.interactions.store import Interactions
from marquee.data.interactions.timelines import GlobalTime
from marquee.errors import ConfigError, DataError


def store(rows, ordered=False):
    """(user, item, time) rows, or (user, item) rows without time."""
    columns = ["user", "item", "timestamp"][: len(rows[0])]
    return Interactions.from_frame(pd.DataFrame(rows, columns=columns), duplicates="keep_all", ordered=ordered)[0]


ROWS = [(1, 10, 1), (1, 11, 4), (1, 12, 6), (2, 10, 2), (2, 11, 3), (3, 13, 5)]


def random_store(seed=0, n=4000, times=500):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": rng.integers(0, 150, n), "item": rng.integers(0, 90, n)})
    frame["timestamp"] = rng.integers(0, times, n)
    return Interactions.from_frame(frame)[0]


# Leave one out -------------------------------------------------------------------------------------------------------


def test_leave_one_out_takes_the_last_two_of_each_user():
    cut = LeaveOneOut().cut(store(ROWS), "data")
    assert cut.assigned.tolist() == [TRAIN, VALIDATION, TEST, TRAIN, TRAIN, TRAIN]
    assert cut.report["users_with_too_few"] == 2 and cut.report["users_without_targets"] == 2
    assert cut.report["train_interactions"] == 4 and cut.report["test_interactions"] == 1
    assert cut.report["targets_of_unseen_items"] == 1  # item 12 is met nowhere in train


def test_leave_one_out_works_on_an_order_without_times_and_refuses_without_either():
    rows = [(1, 10), (1, 12), (1, 11)]
    assert LeaveOneOut().cut(store(rows, ordered=True), "data").parts["test"].items.tolist() == [1]
    with pytest.raises(ConfigError, match=r"split=leave_one_out.*split=ratio.*data=sequences"):
        LeaveOneOut().cut(store(rows), "data")


def test_users_with_one_interaction_only_leave_no_targets_and_say_so():
    with pytest.raises(DataError, match="LeaveOneOut leaves test empty: 2 interactions of 2 users"):
        LeaveOneOut().cut(store([(1, 10, 1), (2, 11, 2)]), "data")


def test_the_share_of_targets_that_hang_on_ties():
    # By hand: user 1's test row ties with the validation row (both hang on it); user 2's targets stand alone; the tie
    # in user 2's train rows decides nothing. 2 of 4 targets.
    rows = [(1, 10, 1), (1, 11, 5), (1, 12, 5), (2, 10, 2), (2, 11, 2), (2, 12, 3), (2, 13, 4)]
    assert LeaveOneOut().cut(store(rows), "data").report["targets_on_ties_share"] == 0.5
    assert "targets_on_ties_share" not in Ratio().cut(store(rows), "data").report


def test_targets_that_were_seen_before_are_counted():
    rows = [(1, 10, 1), (1, 11, 2), (1, 10, 3), (2, 10, 1), (2, 11, 2), (2, 12, 3)]
    assert LeaveOneOut().cut(store(rows), "data").report["targets_seen_before"] == 1


# Ratio ----------------------------------------------------------------------------------------------------------------


def test_ratio_counts_per_user_are_those_by_hand():
    counts = np.array([1, 2, 3, 9, 10, 19, 20, 29, 100])
    assert held_out(counts, 0.1, at_least_from=2).tolist() == [0, 1, 1, 1, 1, 1, 2, 2, 10]
    assert held_out(counts, 0.1, at_least_from=3).tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 10]
    assert held_out(counts, 0.29, at_least_from=2)[-1] == 29  # 0.29 * 100 is 28.999... in floating point
    assert held_out(counts, 0.0, at_least_from=2).sum() == 0


def test_ratio_is_random_per_user_and_a_function_of_the_seed():
    data = random_store()
    first, second = Ratio(seed=1).cut(data, "data"), Ratio(seed=1).cut(data, "data")
    other = Ratio(seed=2).cut(data, "data")
    assert (first.assigned == second.assigned).all() and first.fingerprint == second.fingerprint
    assert (first.assigned != other.assigned).any() and first.fingerprint != other.fingerprint
    sizes = np.diff(data.offsets)
    for part, least in ((TEST, 2), (VALIDATION, 3)):
        held = np.bincount(data.users[first.assigned == part], minlength=data.n_users)
        assert (held == held_out(sizes, 0.1, least)).all()
    # Every place in a user's order is drawn about equally often, the first as the last.
    places = (np.arange(len(data)) - data.offsets[data.users])[first.assigned == TEST] / sizes[data.users][
        first.assigned == TEST
    ]
    assert 0.4 < places.mean() < 0.6


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"split\.validation=0\.5 and split\.test=0\.5"):
        Ratio(validation=0.5, test=0.5)
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        GlobalTime(validation=0.6, test=0.4)


# Global time ---------------------------------------------------------------------------------------------------------


def test_global_time_cuts_at_two_points_and_leaves_out_who_training_does_not_know():
    rows = [(1, 10, 1), (2, 10, 2), (1, 11, 3), (2, 11, 4), (1, 12, 5), (2, 12, 8), (3, 13, 9), (1, 13, 9)]
    cut = GlobalTime(validation=0.25, test=0.25).cut(store(rows), "data")
    # By hand: 8 rows; test from the 7th oldest (time 9), validation from the 5th (time 5). User 3 is new at 9.
    assert cut.assigned.tolist() == [TRAIN, TRAIN, VALIDATION, TEST, TRAIN, TRAIN, VALIDATION, LEFT_OUT]
    assert cut.report["left_out"] == 1 and cut.report["users_without_targets"] == 2
    assert cut.report["targets_on_ties_share"] == 0


def test_global_time_never_separates_a_second():
    data = random_store(times=12)
    cut = GlobalTime().cut(data, "data")
    times = [set(cut.parts[part].timestamps.tolist()) for part in ("train", "validation", "test")]
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])


def test_global_time_needs_times():
    with pytest.raises(ConfigError, match=r"split=global_time needs timestamps.*split=ratio"):
        GlobalTime().cut(store([(1, 10), (1, 11), (1, 12)], ordered=True), "data")


# What holds for all --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [LeaveOneOut(), Ratio(), GlobalTime()], ids=lambda split: type(split).__name__)
def test_parts_are_disjoint_and_make_up_the_whole(split):
    data = random_store()
    cut = split.cut(data, "data")
    rows = Counter(zip(data.users.tolist(), data.items.tolist(), strict=True))
    parts = Counter()
    for part in cut.parts.values():
        parts.update(zip(part.users.tolist(), part.items.tolist(), strict=True))
    assert not parts - rows and sum(rows.values()) == sum(parts.values()) + cut.report["left_out"]
    for part in cut.parts.values():
        assert (np.diff(part.users) >= 0).all() and part.offsets[-1] == len(part)
        assert part.user_ids is data.user_ids and len(part.offsets) == data.n_users + 1


class Leaky(LeaveOneOut):
    """A protocol with the classic mistake: the test target is the first interaction."""

    def assign(self, store):
        return super().assign(store)[::-1]


class LeakyTime(GlobalTime):
    """One row of the future slips into train."""

    def assign(self, store):
        assigned = super().assign(store)
        assigned[-1] = TRAIN
        return assigned


class Unsorted(LeaveOneOut):
    """What a store that is sorted by row and not by time would be."""

    def cut(self, data, fingerprint):
        return super().cut(replace(data, timestamps=data.timestamps[::-1].copy()), fingerprint)


def test_a_target_that_is_older_than_its_history_is_refused_whatever_the_rows_order():
    with pytest.raises(DataError, match="leaks: user 1 has a target before"):
        Unsorted().cut(store([(1, 10, 1), (1, 11, 2), (1, 12, 3)]), "data")


def test_a_protocol_that_leaks_is_refused():
    rows = [(1, 10, 1), (1, 11, 2), (1, 12, 3)]
    with pytest.raises(DataError, match="leaks: user 1 has a target before"):
        Leaky().cut(store(rows), "data")
    rows = [(1, 10, 1), (2, 10, 2), (1, 11, 3), (2, 11, 4), (1, 12, 5), (2, 12, 8), (1, 13, 9), (3, 13, 9)]
    with pytest.raises(DataError, match="leaks: a part holds interactions that are younger"):
        LeakyTime(validation=0.25, test=0.25).cut(store(rows), "data")


def test_the_fingerprint_tells_membership_protocol_parameters_and_data():
    data = random_store()
    prints = {
        LeaveOneOut().cut(data, "a").fingerprint,
        LeaveOneOut().cut(data, "b").fingerprint,
        Ratio().cut(data, "a").fingerprint,
        Ratio(seed=1).cut(data, "a").fingerprint,
        Ratio(test=0.2).cut(data, "a").fingerprint,
        GlobalTime().cut(data, "a").fingerprint,
    }
    assert len(prints) == 6
    assert LeaveOneOut().cut(data, "a").fingerprint in prints


def test_the_draw_of_ratio_is_the_same_on_every_machine():
    """Golden: computed once with NumPy 2.4; a change here changes every run that is compared with older ones."""
    rows = [(user, item) for user in range(3) for item in range(10)]
    assigned = Ratio(validation=0.2, test=0.2).cut(store(rows), "data").assigned
    assert "".join(map(str, assigned)) == "010001220010120002000001220100"
