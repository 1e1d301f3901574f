"""Classification metrics against values worked out by hand and against scikit-learn."""

import logging
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn

from marquee.data.text.views import TextBatch
from marquee.errors import JobError
from marquee.metrics.classification import (
    EPSILON,
    ClassificationEvaluator,
    auroc,
    average_precision,
    calibration_error,
    classification_metrics,
    losses,
)

# Four units, second class positive; the predictions are 0, 1, 1, 0 and the targets 0, 1, 0, 1.
TARGETS = np.array([0, 1, 0, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], dtype=np.float32)


def random_case(n_classes, n=500, ties=True, seed=0):
    random = np.random.default_rng(seed)
    targets = random.integers(0, n_classes, n)
    logits = random.normal(size=(n, n_classes))
    logits[np.arange(n), targets] += 1
    if ties:
        logits = logits.round(0)
    p = np.exp(logits)
    return targets, (p / p.sum(1, keepdims=True)).astype(np.float32)


def random_labels(n_labels=5, n=400, seed=0):
    random = np.random.default_rng(seed)
    targets = (random.random((n, n_labels)) < np.linspace(0.1, 0.6, n_labels)).astype(np.float32)
    return targets, (0.5 * targets + random.random((n, n_labels)).round(1) * 0.5).astype(np.float32)


# By hand ------------------------------------------------------------------------------------------------------------


def test_binary_metrics_by_hand():
    found = classification_metrics(TARGETS, PROBABILITIES)
    assert found["accuracy"] == 0.5
    # Of two predicted positives one is right; of two positives one is found.
    assert found["precision"] == found["recall"] == found["f1"] == 0.5
    assert found["precision_macro"] == found["recall_macro"] == found["f1_macro"] == 0.5
    # Positives score 0.8 and 0.3, negatives 0.1 and 0.6: three of four pairs are in order.
    assert found["auroc"] == pytest.approx(0.75)
    # Ranked 0.8+, 0.6-, 0.3+, 0.1-: precision 1 at the first positive, 2/3 at the second.
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, (0.9, 0.8, 0.4, 0.3))) / 4, rel=1e-6)
    # Confidences 0.9, 0.8, 0.6, 0.7 fall into four different bins; right, right, wrong, wrong.
    assert found["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.7) / 4, rel=1e-6)


def test_multilabel_metrics_by_hand():
    targets = np.array([[1, 0], [1, 1], [0, 0]], dtype=np.float32)
    probabilities = np.array([[0.9, 0.6], [0.4, 0.7], [0.1, 0.2]], dtype=np.float32)
    found = classification_metrics(targets, probabilities)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["subset_accuracy"] == pytest.approx(1 / 3)
    # Label 0: precision 1, recall 1/2; label 1: precision 1/2, recall 1. Together 2 hits, 3 predicted, 3 true.
    assert found["precision_macro"] == pytest.approx(0.75)
    assert found["recall_macro"] == pytest.approx(0.75)
    assert found["f1_macro"] == pytest.approx(2 / 3)
    assert found["precision_micro"] == found["recall_micro"] == pytest.approx(2 / 3)
    assert found["auroc"] == pytest.approx(1.0)


def test_ties_count_one_half_in_auroc_and_are_one_threshold_in_average_precision():
    positive = np.array([True, False, True, False])
    assert auroc(positive, np.array([0.5, 0.5, 0.9, 0.1])) == pytest.approx(3.5 / 4)
    assert average_precision(positive, np.array([0.5, 0.5, 0.9, 0.1])) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_constant_scorer_scores_as_chance_does():
    positive = np.array([True] * 3 + [False] * 7)
    for order in (slice(None), slice(None, None, -1)):
        assert auroc(positive[order], np.zeros(10)) == 0.5
        assert average_precision(positive[order], np.zeros(10)) == pytest.approx(0.3)


def test_calibration_bins_take_their_upper_edge():
    # 1/3 and 2/5 are edges of fifteen bins; the first and second unit share (4/15, 1/3], the third is alone.
    targets = np.array([0, 1, 0])
    probabilities = np.array([[0.3, 0.29, 0.21, 0.2], [1 / 3, 0.3, 0.2, 0.1667], [0.4, 0.2, 0.2, 0.2]])
    expected = (abs(1 - 0.3 - 1 / 3) + abs(1 - 0.4)) / 3
    assert calibration_error(targets, probabilities) == pytest.approx(expected)


def test_a_certain_and_wrong_prediction_has_a_finite_loss():
    assert losses(np.array([0]), np.array([[0.0, 1.0]]))[0] == pytest.approx(-math.log(EPSILON))
    assert losses(np.array([[1.0]]), np.array([[0.0]]))[0] == pytest.approx(-math.log(EPSILON))


# Against scikit-learn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("ties", [True, False])
def test_single_label_metrics_agree_with_scikit_learn(n_classes, ties):
    targets, probabilities = random_case(n_classes, ties=ties)
    found = classification_metrics(targets, probabilities)
    predicted = probabilities.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(targets, predicted))
    for average in ("macro", "micro"):
        expected = sklearn.precision_recall_fscore_support(targets, predicted, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert found[f"{name}_{average}"] == pytest.approx(value)
    wide = probabilities.astype(np.float64)
    assert found["log_loss"] == pytest.approx(
        sklearn.log_loss(targets, wide / wide.sum(1, keepdims=True)), rel=1e-5
    )  # fmt: skip
    one_hot = np.eye(n_classes)[targets]
    if n_classes == 2:
        assert found["f1"] == pytest.approx(sklearn.f1_score(targets, predicted))
        assert found["auroc"] == pytest.approx(sklearn.roc_auc_score(targets, probabilities[:, 1]))
        expected = sklearn.average_precision_score(targets, probabilities[:, 1])
    else:
        assert found["auroc"] == pytest.approx(sklearn.roc_auc_score(one_hot, probabilities, average="macro"))
        expected = sklearn.average_precision_score(one_hot, probabilities, average="macro")
    assert found["average_precision"] == pytest.approx(expected)


def test_multilabel_metrics_agree_with_scikit_learn():
    targets, probabilities = random_labels()
    found = classification_metrics(targets, probabilities)
    predicted = probabilities >= 0.5
    for average in ("macro", "micro"):
        expected = sklearn.precision_recall_fscore_support(targets, predicted, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert found[f"{name}_{average}"] == pytest.approx(value)
    assert found["subset_accuracy"] == pytest.approx(sklearn.accuracy_score(targets, predicted))
    assert found["auroc"] == pytest.approx(sklearn.roc_auc_score(targets, probabilities))
    assert found["average_precision"] == pytest.approx(sklearn.average_precision_score(targets, probabilities))
    columns = [sklearn.log_loss(targets[:, i], probabilities[:, i].astype(np.float64)) for i in range(5)]
    assert found["log_loss"] == pytest.approx(np.mean(columns), rel=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_calibration_error_agrees_with_torchmetrics(n_classes):
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    targets, probabilities = random_case(n_classes, ties=False)
    expected = torchmetrics.multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(targets), num_classes=n_classes, n_bins=15, norm="l1"
    )
    assert calibration_error(targets, probabilities) == pytest.approx(float(expected), abs=1e-5)


def test_classes_that_do_not_occur_are_left_out_with_a_note(caplog):
    targets, probabilities = random_case(3)
    present = targets < 2
    targets, probabilities = targets[present], probabilities[present]
    with caplog.at_level(logging.INFO):
        found = classification_metrics(targets, probabilities, ["a", "b", "c"])
    assert "auroc is undefined for, and leaves out, classes with one kind of unit: c" in caplog.text
    expected = np.mean([sklearn.roc_auc_score(targets == i, probabilities[:, i]) for i in range(2)])
    assert found["auroc"] == pytest.approx(expected)
    assert not any(math.isnan(value) for value in found.values())


def test_where_one_class_alone_occurs_no_metric_is_nan():
    found = classification_metrics(np.zeros(4, dtype=int), PROBABILITIES)
    assert "auroc" not in found
    assert not any(math.isnan(value) for value in found.values())


# The evaluator ------------------------------------------------------------------------------------------------------


def batch(index, labels):
    index = torch.as_tensor(index)
    return TextBatch(index[:, None], torch.ones(len(index)), torch.as_tensor(labels), index)


def test_batches_and_processes_do_not_change_the_result():
    targets, probabilities = random_case(3)
    scores = torch.from_numpy(probabilities)
    whole = ClassificationEvaluator("abc")
    whole.update(scores, batch(np.arange(500), targets))
    metrics, units = whole.compute([whole.state()])
    states = []
    for rank in range(3):
        evaluator = ClassificationEvaluator("abc")
        rows = np.arange(500)[::-1][rank::3].copy()
        for start in range(0, len(rows), 50):
            part = rows[start : start + 50]
            evaluator.update(scores[part], batch(part, targets[part]))
        states.append(evaluator.state())
    states.append(ClassificationEvaluator("abc").state())  # a process without units
    joined, joined_units = whole.compute(states)
    assert joined == metrics
    assert joined_units.equals(units)


def test_the_table_has_a_row_a_unit_sorted_by_unit():
    evaluator = ClassificationEvaluator(["neg", "pos"])
    evaluator.update(torch.from_numpy(PROBABILITIES), batch([7, 3, 5, 1], TARGETS))
    _, units = evaluator.compute([evaluator.state()])
    assert list(units.columns) == ["example", "target", "predicted", "correct", "loss", "p(neg)", "p(pos)"]
    assert units["example"].tolist() == [1, 3, 5, 7]
    assert units["target"].tolist() == ["pos", "pos", "neg", "neg"]
    assert units["predicted"].tolist() == ["neg", "pos", "pos", "neg"]
    assert units["correct"].tolist() == [0, 1, 0, 1]
    assert units["loss"].tolist() == pytest.approx([-math.log(p) for p in (0.3, 0.8, 0.4, 0.9)], rel=1e-6)


def test_the_table_joins_the_labels_of_a_multilabel_unit():
    evaluator = ClassificationEvaluator(["a", "b"], multilabel=True)
    targets = np.array([[1, 0], [0, 0]], dtype=np.float32)
    evaluator.update(torch.tensor([[0.9, 0.8], [0.1, 0.2]]), batch([0, 1], targets))
    _, units = evaluator.compute([evaluator.state()])
    assert units["target"].tolist() == ["a", ""]
    assert units["predicted"].tolist() == ["a|b", ""]
    assert units["correct"].tolist() == [0.5, 1.0]


def test_the_means_of_the_table_are_the_metrics():
    targets, probabilities = random_case(3)
    evaluator = ClassificationEvaluator("abc")
    evaluator.update(torch.from_numpy(probabilities), batch(np.arange(500), targets))
    metrics, units = evaluator.compute([evaluator.state()])
    assert units["correct"].mean() == pytest.approx(metrics["accuracy"])
    assert units["loss"].mean() == pytest.approx(metrics["log_loss"])


def test_nan_fails_the_run():
    evaluator = ClassificationEvaluator("ab")
    with pytest.raises(JobError, match=r"optimizer\.lr"):
        evaluator.update(torch.tensor([[float("nan"), 0.5]]), batch([0], [0]))
