"""What training does to images: each change against numbers computed by hand or by a second implementation."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from marquee.data.images.views import ImageBatch, ImageBatches, mixed, uniform
from marquee.data.spec import ImageSpec
from marquee.seeding import derive
from marquee.tasks.classification import Classification


def noise(n=40, shape=(3, 12, 8), seed=0):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def data_of(images, labels, n_classes, multilabel=False):
    """A data set of which all rows are training."""
    spec = ImageSpec(*images.shape[1:], n_classes, multilabel=multilabel)
    parts = {"train": np.arange(len(images))}
    return SimpleNamespace(images=images.numpy(), labels=np.asarray(labels), spec=spec, parts=parts)


def epoch_of(data, view, seed=1, epoch=2):
    """Images, labels and row numbers of an epoch, by row number."""
    columns = (torch.cat(column) for column in zip(*view.train_batches(data, seed, epoch), strict=True))
    images, labels, index = columns
    order = index.argsort()
    return images[order], labels[order], index[order]


# Mixing ---------------------------------------------------------------------------------------------------------------


def test_two_images_and_their_labels_are_mixed_by_hand():
    images = torch.tensor([[0, 100], [200, 50], [10, 10]], dtype=torch.uint8).view(3, 1, 1, 2)
    batch = mixed(ImageBatch(images, torch.tensor([0, 2, 1]), torch.arange(3)), torch.tensor([0.75, 0.5]), 3)
    # 0.75 * 0 + 0.25 * 200 and so on.
    assert batch.images.flatten(1).tolist() == [[50, 88], [105, 30]]
    assert batch.labels.tolist() == [[0.75, 0, 0.25], [0, 0.5, 0.5]]
    assert batch.index.tolist() == [0, 1]


def test_several_labels_are_mixed_each_for_itself():
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    batch = mixed(ImageBatch(noise(2), labels, torch.arange(2)), torch.tensor([0.25]), 3)
    assert batch.labels.tolist() == [[0.25, 1.0, 0.75]]


def test_each_image_is_mixed_with_the_next_in_the_epochs_order_by_a_share_from_the_beta_distribution():
    # The first pixel tells the row, so that a mixed one tells both rows' share.
    images = torch.zeros(400, 1, 1, 1, dtype=torch.uint8)
    data = data_of(images, np.arange(400) % 400, 400)
    _, labels, _ = epoch_of(data, ImageBatches(batch_size=64, mixup=0.4))
    assert labels.shape == (400, 400)
    torch.testing.assert_close(labels.sum(1), torch.ones(400))
    own = labels.diagonal()
    # The others' shares come from one other row each, and every row is one other's.
    others = labels - torch.diag(own)
    assert bool(((others > 0).sum(1) <= 1).all())
    assert bool(((others > 0).sum(0) <= 1).all())
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1)).
    assert float(own.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(own.var()) == pytest.approx(1 / (4 * 1.8), abs=0.02)


@pytest.mark.parametrize("options", [{"mixup": 0.3}, {"mixup": 0.3, "erase": 0.5, "rotate": 20, "scale": 0.2}])
def test_no_change_depends_on_the_batch_but_on_seed_epoch_and_row(options):
    data = data_of(noise(), np.arange(40) % 3, 3)
    first = epoch_of(data, ImageBatches(batch_size=8, **options))
    for one, other in zip(first, epoch_of(data, ImageBatches(batch_size=7, **options)), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[0], epoch_of(data, ImageBatches(batch_size=8, **options), epoch=3)[0])
    assert not torch.equal(first[0], epoch_of(data, ImageBatches(batch_size=8, **options), seed=2)[0])


def test_a_batch_of_one_image_is_mixed_with_itself():
    data = data_of(noise(1), [1], 2)
    (batch,) = ImageBatches(mixup=0.5).train_batches(data, 1, 0)
    assert torch.equal(batch.images, noise(1))
    torch.testing.assert_close(batch.labels, torch.tensor([[0.0, 1.0]]))


@pytest.mark.parametrize("multilabel", [False, True])
def test_mixed_labels_give_the_loss_of_their_parts_also_with_smoothing(multilabel):
    """Cross-entropy is linear in its target: that of a mixture is the mixture of both."""
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    one, other = (torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 0, 1.0]]))
    model = SimpleNamespace(view=None, learns_in_fit=False)
    task = object.__new__(Classification)
    torch.nn.Module.__init__(task)
    task.multilabel, task.label_smoothing, task.weights = multilabel, 0.1, None
    task.__dict__["model"] = lambda batch: logits
    assert model is not None

    def loss(labels):
        return float(task.loss(SimpleNamespace(labels=labels)))

    assert loss(0.7 * one + 0.3 * other) == pytest.approx(0.7 * loss(one) + 0.3 * loss(other), rel=1e-5)
    if not multilabel:
        assert loss(one) == pytest.approx(loss(torch.tensor([0])), rel=1e-5)


# Erasing --------------------------------------------------------------------------------------------------------------


def test_a_rectangle_is_erased_where_the_numbers_of_the_row_say():
    """The rectangle computed in plain Python from the same five numbers in [0, 1)."""
    images, index, key = noise(60, (2, 20, 10)), torch.arange(60), 7
    erased = ImageBatches(erase=0.6).augment(images, index, key)
    drawn = [uniform(derive(key, "erase"), index, stream).tolist() for stream in range(5)]
    for row, (chosen, area, aspect, top, left) in enumerate(zip(*drawn, strict=True)):
        wanted = images[row].clone()
        if chosen < 0.6:
            area, aspect = (0.02 + 0.38 * area) * 200, (10 / 3) ** (2 * aspect - 1)
            tall, wide = (
                min(max(round(math.sqrt(area * aspect)), 1), 20),
                min(max(round(math.sqrt(area / aspect)), 1), 10),
            )
            top, left = int(top * (20 - tall + 1)), int(left * (10 - wide + 1))
            colour = images[row].float().mean((1, 2)).round().to(torch.uint8)
            wanted[:, top : top + tall, left : left + wide] = colour[:, None, None]
        assert torch.equal(erased[row], wanted)


def test_the_share_of_erased_images_is_the_one_asked_for():
    images = noise(1, (1, 10, 10)).expand(4000, -1, -1, -1)
    changed = (ImageBatches(erase=0.25).augment(images, torch.arange(4000), key=3) != images).flatten(1).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(ImageBatches().augment(images, torch.arange(4000), key=3), images)


# Turning and scaling --------------------------------------------------------------------------------------------------


def numbers(monkeypatch, **streams):
    """Numbers of one's own in the streams 5 (angle), 6 (height) and 7 (width); else the middle."""
    given = {"angle": 5, "height": 6, "width": 7}
    fixed = {given[name]: value for name, value in streams.items()}
    monkeypatch.setattr(
        "marquee.data.images.views.uniform",
        lambda key, index, stream: torch.full((len(index),), fixed.get(stream, 0.5)),
    )


def test_a_quarter_turn_is_that_of_numpy(monkeypatch):
    numbers(monkeypatch, angle=1.0)
    images = noise(3, (2, 9, 9))
    turned = ImageBatches(rotate=90).augment(images, torch.arange(3), key=1)
    wanted = np.rot90(images.numpy(), axes=(2, 3))
    assert any(np.array_equal(turned, np.rot90(images.numpy(), k, axes=(2, 3))) for k in (1, 3))
    numbers(monkeypatch, angle=0.0)
    other = ImageBatches(rotate=90).augment(images, torch.arange(3), key=1)
    assert {np.array_equal(turned, wanted), np.array_equal(other, wanted)} == {True, False}


def test_a_turn_keeps_the_shape_of_things_in_an_oblong_image(monkeypatch):
    numbers(monkeypatch, angle=1.0)
    images = torch.zeros(1, 1, 21, 41, dtype=torch.uint8)
    images[:, :, 10, 14:27] = 200  # a line of 13 pixels through the middle
    turned = ImageBatches(rotate=90).augment(images, torch.arange(1), key=1)[0, 0]
    assert turned[4:17, 20].tolist() == [200] * 13
    assert int(turned.sum()) == 200 * 13


def test_scaling_stretches_height_and_width_each_by_its_own_share(monkeypatch):
    """Against torch's own resizing: twice as high, the middle half of the rows is left."""
    numbers(monkeypatch, height=1.0)
    images = noise(2, (1, 16, 10))
    stretched = ImageBatches(scale=0.999999).augment(images, torch.arange(2), key=1).float()
    wanted = F.interpolate(images.float(), (32, 10), mode="bilinear", align_corners=False)[:, :, 8:24]
    torch.testing.assert_close(stretched, wanted, atol=1.0, rtol=0)


def test_without_a_turn_and_a_scale_nothing_moves(monkeypatch):
    numbers(monkeypatch)
    images = noise(2)
    assert torch.equal(ImageBatches(rotate=30, scale=0.3).augment(images, torch.arange(2), key=1), images)


def test_what_a_turn_uncovers_repeats_the_border():
    images = torch.full((20, 3, 12, 8), 77, dtype=torch.uint8)
    assert torch.equal(ImageBatches(rotate=45, scale=0.5).augment(images, torch.arange(20), key=1), images)
