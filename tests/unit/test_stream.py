"""Windows of a stream, what trains and what tests in each, and the world that drifts."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.interactions.diginetica import Diginetica
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.store import Interactions
from marquee.data.interactions.stream import Stream as Windows
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Matrix, Pairs, RankingBatch
from marquee.data.world.drifting import WorldDrift, generate
from marquee.errors import ConfigError, DataError
from marquee.metrics import one_target
from marquee.metrics.ranking import Ranking
from marquee.models.baseline.popular import Popular
from marquee.models.mf.bpr import BPR
from marquee.tasks.stream import Stream

# The table of the class, by user and time, with items.
ROWS = [("Ann", "a", 1), ("Bob", "b", 2), ("Ann", "b", 5), ("Cid", "a", 6), ("Bob", "c", 8), ("Cid", "b", 9)]


def table(folder, rows, split):
    pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_csv(folder / "plays.csv", index=False)
    columns = {"user": "user", "item": "item", "timestamp": "timestamp"}
    data = InteractionTable(path=str(folder / "plays.csv"), columns=columns, duplicates="keep_all")
    data.setup(split, Paths(folder, folder / "cache"))
    return data


def stream(data, **settings):
    task = Stream(Popular(data.spec, view=Matrix()), data, ks=[1, 2], monitor="recall@2", **settings)
    task.total_epochs(1)
    return task


def world(cache, seed):
    data = WorldDrift(seed=seed)
    data.setup(Windows(held_out=0), Paths(cache, cache))
    return data


def named(data, rows):
    store = data.store
    return [(store.user_ids[store.users[row]], store.item_ids[store.items[row]]) for row in rows]


def test_the_windows_are_those_of_the_docstring(tmp_path):
    data = table(tmp_path, ROWS, Windows(windows=3, held_out=0))
    by_window = data.split.numbered(data.store).tolist()
    assert dict(zip(named(data, range(6)), by_window, strict=True)) == {
        ("Ann", "a"): 0, ("Bob", "b"): 0, ("Ann", "b"): 1, ("Cid", "a"): 1, ("Bob", "c"): 2, ("Cid", "b"): 2,
    }  # fmt: skip


def test_rows_of_one_moment_are_not_separated_and_too_few_moments_are_refused(tmp_path):
    rows = [("u", f"i{n}", time) for n, time in enumerate([1, 1, 1, 2, 3, 3])]
    data = table(tmp_path, rows, Windows(windows=2, held_out=0))
    assert data.split.numbered(data.store).tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match=r"split.windows=4: window 0 is empty"):
        table(tmp_path, rows, Windows(windows=4, held_out=0))


def test_periods_of_the_data_are_the_windows_and_no_other_number_is_taken():
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [1, 1, 1], "label": [0, 4, 9]})
    store, _ = Interactions.from_frame(frame, duplicates="keep_all", ordered=True, periods=True)
    for windows in (None, 3):
        assert Windows(windows=windows).numbered(store).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="split.windows=2: this data comes in 3 periods"):
        Windows(windows=2).numbered(store)
    ordered, _ = Interactions.from_frame(frame.drop(columns="label"), duplicates="keep_all", ordered=True)
    with pytest.raises(ConfigError, match="an order but no times"):
        Windows().numbered(ordered)


def test_each_window_has_a_fingerprint_that_its_rows_and_who_is_held_out_decide(tmp_path):
    data = table(tmp_path, ROWS, Windows(windows=3, held_out=0))
    found = data.split.fingerprints(data.store, data.fingerprint)
    assert len(set(found)) == 3 and found == data.split.fingerprints(data.store, data.fingerprint)
    assert Windows(windows=2, held_out=0).fingerprints(data.store, data.fingerprint)[0] != found[0]
    other = Windows(windows=3, held_out=0.99)
    assert other.apart(data.store).any() and other.fingerprints(data.store, data.fingerprint)[0] != found[0]


@pytest.mark.parametrize(
    "method, trained",
    [
        ("fine_tune", [{0, 1}, {2, 3}]),
        ("joint", [{0, 1}, {0, 1, 2, 3}]),
        ("refit", [{0, 1}, {0, 1, 2, 3}]),
        ("replay", [{0, 1}, {0, 2, 3}]),
    ],
)
def test_what_trains_after_a_window_is_what_the_method_says(tmp_path, method, trained):
    """Rows by their place in ROWS; one user of window 0 is replayed: whose, the seed decides."""
    data = table(tmp_path, ROWS, Windows(windows=3, held_out=0))
    task = stream(data, method=method, exemplars=1)
    for window, expected in enumerate(trained):
        train = task._trains_on(window).parts["train"]
        pairs = zip(data.store.user_ids[train.users], data.store.item_ids[train.items], strict=True)
        found = {ROWS.index((user, item, time)) for (user, item), time in zip(pairs, train.timestamps, strict=True)}
        assert found == expected or (method == "replay" and found == {1, 2, 3})


def test_who_is_held_out_never_trains(tmp_path):
    data = table(tmp_path, ROWS, Windows(windows=3, held_out=0.5, seed=3))
    task = stream(data, method="joint")
    apart = set(data.store.users[task.apart])
    assert 0 < len(apart) < 3
    assert not apart & set(task._trains_on(1).parts["train"].users)


def test_targets_are_known_items_that_come_behind_something_known(tmp_path):
    """In window 1 Ann's b is a target, from a; Cid's a is his first. In window 2 c is new; Cid's b follows his a."""
    data = table(tmp_path, ROWS, Windows(windows=3, held_out=0))
    task = stream(data)
    for window, targets, left in ((1, [("Ann", "b")], (0, 1)), (2, [("Cid", "b")], (1, 0))):
        known = task.met(window)
        (places, starts, kept, items), why = task._events(task.windows <= window, known, task.windows == window)
        assert named(data, kept[places]) == targets and (why["new_items"], why["first"]) == left
        assert items[torch.from_numpy(starts)].tolist() == [data.store.item_ids.tolist().index("a")]


def test_a_window_is_judged_as_a_plain_loop_judges_it(world_cache):
    """Second implementation: each event of window 3 by itself, ranking by the counts of the windows before."""
    data = world(world_cache, 3)
    store = data.store
    task = Stream(Popular(data.spec, view=Matrix()), data, ks=[20], monitor="recall@20")
    known = task.met(3)
    events, _ = task._events(task.windows <= 3, known, task.windows == 3)
    counts = np.bincount(store.items[task.windows < 3], minlength=store.n_items).astype(float)
    metrics, units = task.judge(_Scorer(counts), events, known)
    hits = []
    for row in np.flatnonzero(task.windows == 3):
        before = [i for i in np.flatnonzero(store.users == store.users[row]) if i < row and counts[store.items[i]]]
        if counts[store.items[row]] and before:
            above = (counts > counts[store.items[row]]).sum()
            tied = (counts == counts[store.items[row]]).sum()
            hits.append(min(max((20 - above) / tied, 0), 1))
    assert len(units) == len(hits) > 500
    assert metrics["recall@20"] == pytest.approx(np.mean(hits))


class _Scorer:
    def __init__(self, scores):
        self.scores = torch.from_numpy(scores)

    def score_events(self, rows):
        return self.scores.expand(len(rows), -1)


def test_metrics_of_one_target_are_those_of_the_ranking_metrics():
    """Second implementation: `metrics.ranking`, with ties at the border of the list, among left-out items and seen."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (200, 15), generator=generator).float()
    scores[:, 12:] = -torch.inf
    targets = torch.randint(12, (200,), generator=generator)
    above, tied = one_target.places(scores, targets)
    found = one_target.of_one_target(above.numpy(), tied.numpy(), [1, 3, 10])
    ranking = Ranking([1, 3, 10], torch.zeros(15), mask_seen=False)
    none = Histories(torch.zeros(0, dtype=torch.int64), torch.zeros(201, dtype=torch.int64))
    ranking.update(scores, RankingBatch(torch.arange(200), none, Histories(targets, torch.arange(201))))
    _, units = ranking.compute([ranking.state()])
    for name, column in found.items():
        np.testing.assert_allclose(column, units[name].to_numpy(), rtol=1e-12, err_msg=name)


def test_where_seen_items_are_masked_a_repeated_one_is_no_target(tmp_path):
    """Ann's second a is left out; her b is found among a (masked), b and c: Bob's c is not of window 1."""
    rows = [("Ann", "a", 1), ("Bob", "b", 2), ("Bob", "c", 3), ("Ann", "a", 11), ("Ann", "b", 12), ("Bob", "b", 13)]
    data = table(tmp_path, rows, Windows(windows=2, held_out=0))
    task = stream(data, mask_seen=True)
    known = task.met(1)
    events, _ = task._events(task.windows <= 1, known, task.windows == 1)
    metrics, units = task.judge(_Scorer(np.array([3.0, 1.0, 2.0])), events, known)
    assert named(data, units["event"]) == [("Ann", "b")]
    assert metrics["recall@1"] == 0 and metrics["recall@2"] == 1 and metrics["mrr@2"] == 0.5


def test_models_of_ids_and_other_splits_are_refused(tmp_path):
    data = table(tmp_path, ROWS, Windows(windows=3, held_out=0))
    with pytest.raises(ConfigError, match="BPR knows users by id only"):
        Stream(BPR(data.spec, view=Pairs(), dim=2), data, ks=[1], monitor="recall@1")


def test_diginetica_is_what_its_files_have(real_data, tmp_path):
    """Second implementation: the lines of the first two periods, read with gzip alone."""
    data = Diginetica(first=2)
    data.setup(Windows(held_out=0), Paths(real_data, tmp_path))
    files = [real_data / "diginetica" / f"period_{number}.txt.gz" for number in range(2)]
    lines = [line.split() for file in files for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    sessions, items = ({int(line[column]) for line in lines} for column in (0, 1))
    assert (len(data.store), data.store.n_users, data.store.n_items) == (len(lines), len(sessions), len(items))
    one = int(lines[0][0])
    own = data.store.users == data.store.user_ids.tolist().index(one)
    clicks = [int(item) for session, item in lines if int(session) == one]
    assert data.store.item_ids[data.store.items[own]].tolist() == clicks
    assert set(data.split.numbered(data.store)[own]) == {0}


# The world that drifts -----------------------------------------------------------------------------------------------


def test_a_seed_is_a_world_and_picks_follow_its_utilities():
    """The mean probability of what was picked is that of the softmax, which is known: sum of p^2."""
    world, again = generate(5, 0.3), generate.__wrapped__(5, 0.3)
    assert np.array_equal(world.items, again.items)
    assert not np.array_equal(world.items[:500], generate(6, 0.3).items[:500])
    weights = np.exp(world.utilities)
    chances = weights / weights.sum(axis=2, keepdims=True)
    picked = chances[world.windows, world.users, world.items]
    expected = np.square(chances).sum(axis=2)[world.windows, world.users]
    error = (picked - expected).std() / np.sqrt(len(picked))
    assert abs(picked.mean() - expected.mean()) < 4 * error
    assert np.isfinite(world.utilities[world.windows, world.users, world.items]).all()


def test_without_drift_all_windows_have_one_taste_and_with_all_of_it_none_is_like_the_last():
    still, moving = generate(5, 0.0).utilities[:, :, :40], generate(5, 1.0).utilities[:, :, :40]
    there = np.isfinite(still[0])
    assert np.allclose(still[0][there], still[-1][there], atol=1e-5)
    assert abs(np.corrcoef(moving[0][there], moving[-1][there])[0, 1]) < 0.2


def test_nobody_foresees_a_window_better_than_the_oracle(world_cache):
    data = world(world_cache, 3)
    store = data.store
    task = Stream(Popular(data.spec, view=Matrix()), data, ks=[20], monitor="recall@20")
    for window in (1, 5, 9):
        known = task.met(window)
        events, _ = task._events(task.windows <= window, known, task.windows == window)
        counts = np.bincount(store.items[task.windows < window], minlength=store.n_items).astype(float)
        best = task.judge(data.oracle(), events, known)[0]["recall@20"]
        assert best > 1.2 * task.judge(_Scorer(counts), events, known)[0]["recall@20"]
