"""The rating task: its metrics by hand and against loops, what it refuses, and runs as a user starts them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from marquee.data.interactions.store import Interactions
from marquee.data.interactions.views import Matrix, Ratings
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, JobError
from marquee.metrics.rating import RatingErrors
from marquee.models.baseline.bias import Bias
from marquee.models.baseline.global_mean import GlobalMean
from marquee.models.mf.biased_mf import BiasedMF
from marquee.tasks import rating
from marquee.tasks.rating import RatedBatch, Rating


def batch(users, rows, values):
    of_users = SimpleNamespace(users=torch.tensor(users), rows=torch.tensor(rows), values=torch.tensor(values))
    return of_users


def judged(*given, clip=()):
    evaluator = RatingErrors(*clip)
    for predictions, *rest in given:
        evaluator.update(torch.tensor(predictions), batch(*rest))
    return evaluator.compute([evaluator.state()])


def test_errors_by_hand():
    # User 7 is off by 1, 0 and 2; user 3 by 1.
    metrics, table = judged(([2.0, 3.0, 3.0, 4.0], [7, 3], [0, 0, 0, 1], [3.0, 3.0, 5.0, 5.0]))
    assert metrics == {
        "rmse": pytest.approx(math.sqrt(6 / 4)),
        "mae": pytest.approx(4 / 4),
        "rmse_user": pytest.approx((math.sqrt(5 / 3) + 1) / 2),
        "mae_user": pytest.approx((1 + 1) / 2),
    }
    assert table["user"].tolist() == [3, 7]
    assert table["n"].tolist() == [1, 3]
    assert table["squared_error"].tolist() == pytest.approx([1, 5 / 3])
    assert table["absolute_error"].tolist() == pytest.approx([1, 1])


def test_every_metric_is_the_mean_of_its_column_and_its_standard_error_is_that_of_the_delta_method():
    generator = np.random.default_rng(0)
    n = generator.integers(1, 30, 400)
    rows = np.repeat(np.arange(400), n)
    errors = generator.normal(0, 0.5 + generator.random(400)[rows])
    metrics, table = judged((errors.tolist(), list(range(400)), rows.tolist(), [0.0] * len(rows)))
    for name, value in metrics.items():
        assert table[name].mean() == pytest.approx(value, rel=1e-12)
    # The oracle draws users with all their errors, again and again.
    squares, drawn = np.bincount(rows, errors**2), generator.integers(0, 400, (4000, 400))
    rmse = np.sqrt(squares[drawn].sum(1) / n[drawn].sum(1))
    assert table["rmse"].std() / 20 == pytest.approx(rmse.std(), rel=0.05)
    mae = np.bincount(rows, np.abs(errors))[drawn].sum(1) / n[drawn].sum(1)
    assert table["mae"].std() / 20 == pytest.approx(mae.std(), rel=0.05)


def test_processes_join_clipping_helps_and_a_perfect_model_has_no_error():
    one, two = ([9.0, 3.0], [0], [0, 0], [5.0, 3.0]), ([-4.0], [1], [0], [1.0])
    together, table = judged(one, two, clip=(1.0, 5.0))
    assert together == dict.fromkeys(("rmse", "mae", "rmse_user", "mae_user"), 0.0)
    assert table["rmse"].tolist() == [0, 0]
    parts = []
    for given in (two, one):
        evaluator = RatingErrors()
        evaluator.update(torch.tensor(given[0]), batch(*given[1:]))
        parts.append(evaluator.state())
    metrics, table = RatingErrors().compute([*parts, RatingErrors().state()])
    assert metrics["rmse"] == pytest.approx(math.sqrt((16 + 25) / 3))
    assert table["user"].tolist() == [0, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_predictions_that_are_no_numbers_fail_the_run(bad):
    with pytest.raises(JobError, match="lower the learning rate"):
        judged(([bad], [0], [0], [1.0]), clip=(1.0, 5.0))


class Rated:
    """Train, validation and test as lists of (user, item, value)."""

    def __init__(self, train, validation, test, n_users=4, n_items=5, has_values=True):
        self.spec = InteractionSpec(n_users, n_items, has_values=has_values)
        self.store = SimpleNamespace(user_ids=np.arange(n_users))
        self.parts = {"train": self._part(train), "validation": self._part(validation), "test": self._part(test)}
        self._known = {"validation": self.parts["train"], "test": self._part(sorted([*train, *validation]))}
        self.report = {"targets_repeated": 1, "targets_of_unseen_users": 2, "targets_of_unseen_items": 0}

    def _part(self, rows):
        users, items, values = (np.array(column) for column in zip(*rows, strict=True))
        return Interactions(
            users=users.astype(np.int32), items=items.astype(np.int32), timestamps=None, labels=None,
            values=values.astype(np.float32), user_ids=np.arange(self.spec.n_users),
            item_ids=np.arange(self.spec.n_items), ordered=True, repeats=True,
        )  # fmt: skip

    def history(self, part):
        return self._known[part]


TRAIN = [(0, 0, 5.0), (0, 1, 3.0), (1, 1, 4.0), (1, 2, 1.0), (3, 0, 2.0)]
TEST = [(0, 2, 4.0), (0, 2, 2.0), (1, 0, 3.0), (2, 4, 1.0), (3, 3, 5.0)]


def asked(model=None, data=None, **options):
    data = data or Rated(TRAIN, [(1, 3, 2.0)], TEST)
    return Rating(model or GlobalMean(data.spec, view=Matrix()), data, **options)


def test_every_interaction_is_judged_once_whatever_the_batch_and_the_processes(monkeypatch):
    task = asked()
    (mean,) = [scorer for name, scorer in task.baselines().items() if name == "baseline/global_mean"]
    metrics, table = task.evaluate(mean, "test")
    errors = np.array([4, 2, 3, 1, 5]) - 3.0
    assert metrics["rmse"] == pytest.approx(math.sqrt((errors**2).mean()))
    assert table["n"].tolist() == [2, 1, 1, 1]
    monkeypatch.setattr(rating, "EVALUATION_CELLS", 3)
    batches = list(task.evaluation_batches("test"))
    assert len(batches) > 1
    assert task.evaluate(mean, "test")[0] == metrics
    parts = []
    for rank in range(3):
        evaluator = task.evaluator()
        for part in task.evaluation_batches("test", rank, 3):
            assert isinstance(part, RatedBatch)
            evaluator.update(task.scores(mean, part), part)
        parts.append(evaluator.state())
    assert task.evaluator().compute(parts)[0] == pytest.approx(metrics)
    histories = batches[0].histories
    assert histories.items.tolist() == [0, 1]  # of user 0


def test_pairs_get_the_histories_of_their_users():
    class Echo(Bias):
        def predict(self, users, items, histories):
            return users * 100.0 + items * 10 + (histories.offsets[1:] - histories.offsets[:-1])

    task = asked(clip=False)
    (part,) = task.evaluation_batches("test")
    assert task.scores(Echo(task.data.spec, view=Matrix()), part).tolist() == [22, 22, 103, 240, 331]


def test_what_it_says_and_which_way_is_better():
    task = asked()
    assert task.mode == "min" and task.monitor == "rmse"
    words = task.protocol()
    assert "clipped to 1 ... 5" in words
    assert "1 repeated targets counted as often as they occur" in words
    assert "2 targets of users without training interactions" in words
    assert "not clipped" in asked(clip=False).protocol()
    assert set(task.directions.values()) == {"min"}
    assert list(task.baselines()) == ["baseline/global_mean", "baseline/item_mean", "baseline/bias"]


def test_it_refuses_data_without_values_and_models_that_predict_none():
    with pytest.raises(ConfigError, match="task=recommendation"):
        asked(data=Rated(TRAIN, TRAIN, TEST, has_values=False))
    model = BiasedMF(InteractionSpec(4, 5, has_values=True), view=Ratings())
    model.predicts_values = False
    with pytest.raises(ConfigError, match="predicts none"):
        asked(model)
