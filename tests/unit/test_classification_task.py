"""The classification task: losses, weights, scores, baselines and the monitored metric."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from marquee.data.label_view import AllLabels
from marquee.data.spec import TextSpec
from marquee.data.text.store import TextStore
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.baseline.majority import Majority
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.tasks.classification import Classification


def texts(labels, n_classes, multilabel=False):
    """A data set of one-word texts whose word is the row number modulo 4, plus 2."""
    labels = np.asarray(labels, dtype=np.float32 if multilabel else np.int64)
    n = len(labels)
    store = TextStore(np.arange(n, dtype=np.int32) % 4 + 2, np.arange(n + 1), np.arange(6, dtype=np.int32))
    rows = np.arange(n)
    parts = {"train": rows[: n // 2], "validation": rows[n // 2 : 3 * n // 4], "test": rows[3 * n // 4 :]}
    spec = TextSpec(6, n_classes, tuple("abc"[:n_classes]), multilabel)
    return SimpleNamespace(spec=spec, store=store, labels=labels, parts=parts)


def task(data, **options):
    return Classification(BagOfWords(data.spec, view=TextBatches(batch_size=4)), data, **options)


class Fixed(torch.nn.Module):
    """Gives the logits it was made with."""

    learns_in_fit = False
    view = None

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, batch):
        return self.logits


def one_batch(labels):
    n = len(labels)
    return TextBatch(torch.ones(n, 1, dtype=torch.int64), torch.ones(n), torch.tensor(labels), torch.arange(n))


def test_the_loss_of_classes_is_the_cross_entropy():
    data = texts([0, 1, 1, 1] * 4, 2)
    model = Fixed([[2.0, 0.0], [0.0, 1.0]])
    found = Classification(model, data).loss(one_batch([0, 0]))
    by_hand = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(1))) / 2
    assert float(found) == pytest.approx(by_hand, rel=1e-6)


def test_a_terminal_shows_what_the_decisions_ask_for():
    data = texts([0, 1, 1, 1] * 4, 2)
    assert task(data).shown() == ["accuracy", "f1_macro", "auroc", "log_loss"]
    assert task(data, costs={"a": 3.0}).shown() == ["accuracy", "f1_macro", "cost", "log_loss"]
    both = task(data, costs={"a": 3.0}, abstain=0.1).shown()
    assert both == ["accuracy", "cost", "coverage", "accuracy_covered", "log_loss"]


def test_the_loss_of_labels_is_the_binary_cross_entropy():
    data = texts([[0, 1], [1, 1]] * 8, 2, multilabel=True)
    model = Fixed([[2.0, -1.0]])
    found = Classification(model, data).loss(one_batch([[1.0, 0.0]]))
    assert float(found) == pytest.approx((np.log(1 + np.exp(-2)) + np.log(1 + np.exp(-1))) / 2, rel=1e-6)


def test_label_smoothing_moves_targets_towards_the_middle():
    data = texts([[0, 1], [1, 1]] * 8, 2, multilabel=True)
    model = Fixed([[2.0, 0.0]])
    plain, smooth = (Classification(model, data, label_smoothing=s).loss(one_batch([[1.0, 1.0]])) for s in (0.0, 0.2))
    assert float(smooth - plain) == pytest.approx(0.1 * 2 / 2, rel=1e-5)  # target 0.9 instead of 1 on a logit of 2


def test_balanced_weights_make_rare_classes_count_as_much():
    data = texts([0, 0, 0, 1] * 4, 2)
    weights = task(data, class_weights="balanced").weights
    assert weights.tolist() == pytest.approx([8 / (2 * 6), 8 / (2 * 2)])
    labels = texts([[0, 1], [1, 1], [0, 1], [0, 0]] * 4, 2, multilabel=True)
    assert task(labels, class_weights="balanced").weights.tolist() == pytest.approx([6 / 2, 2 / 6])


def test_scores_are_probabilities():
    data = texts([0, 1, 2, 1] * 4, 3)
    found = task(data).scores(Fixed([[1.0, 2.0, 3.0]]), None)
    assert float(found.sum()) == pytest.approx(1)
    labels = texts([[0, 1]] * 8, 2, multilabel=True)
    assert task(labels).scores(Fixed([[0.0, 100.0]]), None).tolist() == [[0.5, 1.0]]


def test_the_monitored_metric_and_its_direction():
    single, several = texts([0, 1] * 8, 2), texts([[0, 1], [1, 0]] * 8, 2, multilabel=True)
    assert (task(single).monitor, task(single).mode) == ("accuracy", "max")
    assert task(several).monitor == "average_precision"
    chosen = task(single, monitor="log_loss")
    assert (chosen.monitor, chosen.mode) == ("log_loss", "min")


def test_the_majority_baseline_predicts_the_class_shares_of_training():
    data = texts([0, 1, 1, 1] * 4, 2)  # two of class 0 and six of class 1 in train
    classification = task(data)
    majority = classification.baselines()["majority"]
    batch = next(iter(classification.evaluation_batches("test")))
    expected = torch.tensor([3 / 10, 7 / 10]).expand(4, 2)  # with one more of each
    assert torch.allclose(classification.scores(majority, batch), expected)
    metrics, units = classification.evaluate(majority, "test")
    assert metrics["accuracy"] == 0.75
    assert metrics["auroc"] == 0.5
    assert units["example"].tolist() == data.parts["test"].tolist()


def test_the_majority_of_labels_predicts_their_shares():
    data = texts([[0, 1], [1, 1], [0, 1], [0, 0]] * 4, 2, multilabel=True)
    classification = task(data)
    batch = next(iter(classification.evaluation_batches("test")))
    found = classification.scores(classification.baselines()["majority"], batch)
    assert found[0].tolist() == pytest.approx([3 / 10, 7 / 10])


def test_the_majority_is_also_a_model_that_learns_in_one_batch():
    data = texts([0, 1, 1, 1] * 4, 2)
    model = Majority(data.spec, view=AllLabels())
    classification = Classification(model, data)
    (batch,) = model.view.train_batches(data, seed=0, epoch=0)
    loss = model.fit(batch)
    assert float(loss) == pytest.approx(-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)), rel=1e-5)
    metrics, _ = classification.evaluate(model, "test")
    assert metrics["accuracy"] == 0.75
    assert all(torch.equal(model.view.shard(batch, rank, 2).labels, batch.labels) for rank in range(2))


def test_a_model_that_can_learn_does():
    data = texts([0, 1, 0, 1] * 16, 2)  # the word tells the class
    classification = task(data)
    optimizer = torch.optim.Adam(classification.parameters(), lr=0.1)
    for epoch in range(10):
        for batch in classification.model.view.train_batches(data, 0, epoch):
            optimizer.zero_grad()
            classification.loss(batch).backward()
            optimizer.step()
    metrics, _ = classification.evaluate(classification.model, "test")
    assert metrics["accuracy"] == 1.0


def test_weights_of_a_loss_that_a_model_does_not_have_are_said_to_change_nothing():
    data = texts([0, 1, 1, 1] * 4, 2)
    majority = Majority(data.spec, view=AllLabels())
    (remark,) = Classification(majority, data, class_weights="balanced").remarks
    assert "Majority takes none" in remark and "model.class_weights" in remark
    assert Classification(majority, data).remarks == () and task(data, class_weights="balanced").remarks == ()
