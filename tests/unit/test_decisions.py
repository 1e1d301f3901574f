"""From probabilities to decisions: thresholds, costs, abstention and intervals, against counting by hand."""

import itertools
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from marquee.data.spec import TextSpec
from marquee.errors import ConfigError
from marquee.metrics import bootstrap
from marquee.metrics.classification import ClassificationEvaluator, Judged, classification_metrics
from marquee.metrics.decisions import (
    Decision,
    best_threshold,
    confidence_for,
    coverage_curve,
    error_rates,
    mean_cost,
    risk_coverage_area,
)
from marquee.metrics.groups import Groups
from marquee.tasks.decisions import Decisions, groups_of

SCORES = {
    "accuracy": lambda y, p: (y == p).mean(),
    "f1": lambda y, p: f1_score(y, p, zero_division=0),
    "balanced_accuracy": balanced_accuracy_score,
}


@pytest.mark.parametrize("by", SCORES)
@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_than_the_chosen_one(by, seed):
    """Compared with every cut between two scores, by scikit-learn; scores repeat."""
    rng = np.random.default_rng(seed)
    scores = rng.random(60).round(1)
    positive = rng.random(60) < scores * 0.7
    chosen = best_threshold(positive, scores, by)
    cuts = [-1, *(np.unique(scores)[:-1] + 0.05), 2]
    best = max(SCORES[by](positive, scores >= cut) for cut in cuts)
    assert SCORES[by](positive, scores >= chosen) == pytest.approx(best, abs=1e-12)
    assert 0 < chosen <= np.nextafter(1, 2)


def test_of_equally_good_thresholds_the_nearest_to_one_half_is_taken():
    positive = np.array([False, False, True, True])
    assert best_threshold(positive, np.array([0.1, 0.3, 0.8, 0.9]), "f1") == pytest.approx(0.55)


def test_a_threshold_says_no_to_all_where_that_is_best():
    positive = np.array([False, False, False, True])
    scores = np.array([1.0, 1.0, 1.0, 0.2])
    assert not (scores >= best_threshold(positive, scores, "accuracy")).any()


def test_weights_of_two_classes_are_a_threshold():
    decision = Decision((0.3, 0.7))
    p = np.array([[0.71, 0.29], [0.69, 0.31], [0.1, 0.9]])
    assert decision.predict(p).tolist() == [0, 1, 1]


def test_costs_give_the_least_expected_cost():
    """By trying every prediction (Elkan 2001, equation 1)."""
    costs = np.array([1.0, 5.0, 2.0])
    p = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    expected = np.stack([(p * costs).sum(1) - p[:, c] * costs[c] for c in range(3)], axis=1)
    assert (Decision(tuple(costs)).predict(p) == expected.argmin(1)).all()
    assert mean_cost(np.array([0, 1, 2]), np.array([0, 0, 1]), costs) == pytest.approx((0 + 5 + 2) / 3)


def test_a_decision_survives_json():
    decision = Decision((0.2, 0.5), True, 0.0)
    assert Decision.from_json(decision.to_json()) == decision


def test_the_least_certain_share_is_left_to_a_person():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]])
    least = confidence_for(p, 0.5)
    assert Decision((1.0, 1.0), least=least).asks(p).tolist() == [False, True, False, True]


def test_the_area_under_the_risk_is_the_mean_over_every_coverage():
    """By every order of the tied examples."""
    right, confidence = np.array([1.0, 0, 1, 1]), np.array([0.9, 0.7, 0.7, 0.2])
    orders = [[0, *middle, 3] for middle in itertools.permutations([1, 2])]
    areas = [np.mean([1 - right[order[: k + 1]].mean() for k in range(4)]) for order in orders]
    assert risk_coverage_area(right, confidence) == pytest.approx(np.mean(areas))
    covered, accuracy = coverage_curve(right, confidence)
    assert covered.tolist() == [0.25, 0.75, 1.0]
    assert accuracy.tolist() == pytest.approx([1, 2 / 3, 3 / 4])


def test_both_error_rates_are_shares_of_their_own_side():
    rates = error_rates(np.array([True, True, False, False, False]), np.array([True, False, True, False, False]))
    assert rates == {"false_positive_rate": pytest.approx(1 / 3), "false_negative_rate": pytest.approx(1 / 2)}
    assert set(error_rates(np.array([True]), np.array([True]))) == {"false_negative_rate"}


def test_intervals_hold_what_resampling_the_examples_gives():
    """Against 4,000 plain resamples, examples drawn one by one."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 3, 300)
    p = rng.dirichlet(np.ones(3), 300)
    p[np.arange(300), targets] += 0.4
    p /= p.sum(1, keepdims=True)
    predicted = p.argmax(1)
    found = bootstrap.intervals(targets, predicted, p, np.random.default_rng(0))
    rows = rng.integers(300, size=(4000, 300))
    accuracy = np.quantile((targets == predicted)[rows].mean(1), [0.025, 0.975])
    f1 = np.quantile([f1_score(targets[r], predicted[r], average="macro") for r in rows[:1000]], [0.025, 0.975])
    loss = np.quantile(-np.log(p[np.arange(300), targets])[rows].mean(1), [0.025, 0.975])
    assert found["accuracy"] == pytest.approx(accuracy, abs=0.01)
    assert found["f1_macro"] == pytest.approx(f1, abs=0.015)
    assert found["log_loss"] == pytest.approx(loss, abs=0.03)


def test_the_intervals_of_a_thousand_classes_take_no_sixteen_gigabytes():
    """Half of 2,000 examples right: accuracy within two standard errors, 0.5 -+ 1.96 * sqrt(0.25 / 2000)."""
    targets = np.arange(2000) % 1000
    predicted = np.where(np.arange(2000) < 1000, targets, (targets + 1) % 1000)
    p = np.full((2000, 1000), 0.001, dtype=np.float32)
    tracemalloc.start()
    found = bootstrap.intervals(targets, predicted, p, np.random.default_rng(0))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["accuracy"] == pytest.approx((0.478, 0.522), abs=0.004)
    assert most < 500e6


def test_two_classes_have_intervals_of_their_ranking_too():
    rng = np.random.default_rng(2)
    targets = rng.integers(0, 2, 200)
    good = np.clip(0.3 * targets + 0.7 * rng.random(200), 0, 1)
    p = np.stack([1 - good, good], axis=1)
    found = bootstrap.intervals(targets, p.argmax(1), p, rng)
    value = classification_metrics(targets, p)["auroc"]
    assert found["auroc"][0] < value < found["auroc"][1]
    assert set(found) == {"accuracy", "f1_macro", "log_loss", "auroc", "average_precision"}


def test_each_of_several_classes_has_its_own_f1():
    targets, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    metrics = classification_metrics(targets, np.eye(3)[predicted], ["a", "b", "c"])
    assert [metrics[f"f1[{name}]"] for name in "abc"] == pytest.approx([2 / 3, 1 / 2, 0])
    assert metrics["recall[a]"] == 0.5 and metrics["precision[b]"] == pytest.approx(1 / 3)


class Batch:
    def __init__(self, index, labels):
        import torch

        self.index, self.labels = torch.tensor(index), torch.tensor(labels)


def judged(judged, probabilities, labels, names="ab"):
    import torch

    evaluator = ClassificationEvaluator(list(names), judged=judged)
    evaluator.update(torch.tensor(probabilities), Batch(list(range(len(labels))), labels))
    return evaluator.compute([evaluator.state()])


def test_groups_are_told_apart_in_accuracy_and_both_error_rates():
    groups = {"length": Groups(["short", "long"], np.array([0, 0, 1, 1]))}
    p = [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]
    metrics, _ = judged(Judged(positive=(1,), groups=groups), p, [0, 0, 1, 0])
    assert metrics["accuracy[length=short]"] == metrics["accuracy[length=long]"] == 0.5
    assert metrics["false_positive_rate[length=short]"] == 0.5
    assert metrics["false_positive_rate[length=long]"] == 1.0
    assert metrics["gap_false_positive_rate[length]"] == 0.5
    assert metrics["false_negative_rate[length=long]"] == 0.0
    assert "false_negative_rate[length=short]" not in metrics  # nothing there is positive


def test_what_is_left_to_a_person_is_told_and_marked():
    metrics, units = judged(Judged(Decision((1.0, 1.0), least=0.75)), [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]], [0, 0, 1])
    assert metrics["coverage"] == pytest.approx(2 / 3) and metrics["accuracy_covered"] == 1.0
    assert units["asked"].tolist() == [False, True, False]
    assert metrics["accuracy"] == pytest.approx(2 / 3)  # of all: what a person decides is not the model's merit


def spec(names, multilabel=False):
    return TextSpec(5, len(names), tuple(names), multilabel)


def test_a_threshold_on_the_first_class_where_that_is_the_positive_one():
    decisions = Decisions(spec(["bad", "good"]), 0.3, None, ["bad"], 0.0)
    assert decisions.plain.predict(np.array([[0.31, 0.69], [0.29, 0.71]])).tolist() == [0, 1]


def test_each_label_gets_a_threshold_of_its_own():
    decisions = Decisions(spec("ab", True), "f1", None, None, 0.0)
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], dtype=np.float32)
    p = np.array([[0.3, 0.2], [0.2, 0.9], [0.1, 0.6], [0.05, 0.1]])
    chosen = decisions.choose(targets, p)
    assert (chosen.predict(p) == targets).all()
    assert chosen.values == pytest.approx((0.15, 0.75))


@pytest.mark.parametrize("options, message", [
    ((0.3, None, None, 0.0), "needs two classes"),
    ((None, {"x": 2.0}, None, 0.0), "no class 'x'"),
    ((None, None, ["a", "b", "c"], 0.0), "names every class"),
    ((None, None, ["z"], 0.0), "allowed: a, b, c"),
])  # fmt: skip
def test_what_does_not_fit_the_classes_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Decisions(spec("abc"), *options)


def test_a_class_that_is_named_twice_is_one_class():
    assert Decisions(spec("ab"), None, None, ["a", "a"], 0.0).positive == (0,)


def test_a_threshold_on_the_first_class_says_which_class_it_is_on():
    assert Decisions(spec("ab"), 0.3, None, None, 0.0).told() == ["threshold 0.3"]
    assert Decisions(spec("ab"), 0.3, None, ["a"], 0.0).told() == ["threshold 0.3 of a"]
    assert Decisions(spec("ab"), "f1", None, ["a"], 0.0).told() == ["thresholds chosen on validation by f1 of a"]


def test_labels_that_go_together_have_thresholds_and_no_costs():
    for options, message in [((None, {"a": 2.0}, None, 0.0), "threshold=f1"), ((None, None, None, 0.1), "abstain"),
                             ((None, None, ["a"], 0.0), "several labels")]:  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            Decisions(spec("ab", True), *options)


def test_groups_by_what_is_not_known_say_what_is():
    class Data:
        attributes = {"length": np.arange(100)}

    with pytest.raises(ConfigError, match="allowed: length"):
        groups_of(Data(), ["language"])
    assert len(groups_of(Data(), ["length"])["length"].names) == 4
