"""Next-item losses against plain formulas, value and gradient."""

import math

import pytest
import torch
import torch.nn.functional as F

from marquee.models import losses


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 8, generator=generator, requires_grad=True)
    weight = torch.randn(23, 8, generator=generator, requires_grad=True)
    targets = torch.randint(0, 23, (37,), generator=generator)
    return hidden, weight, targets


@pytest.mark.parametrize("cells", [23, 100, 10**6])
def test_chunked_cross_entropy_equals_pytorch_in_value_and_gradient(problem, monkeypatch, cells):
    monkeypatch.setattr(losses, "CHUNK_CELLS", cells)
    hidden, weight, targets = problem
    ours = losses.chunked_cross_entropy(hidden, weight, targets)
    our_gradients = torch.autograd.grad(3 * ours, (hidden, weight))
    theirs = F.cross_entropy(hidden @ weight.T, targets)
    their_gradients = torch.autograd.grad(3 * theirs, (hidden, weight))
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_chunked_cross_entropy_under_autocast_stays_close(problem):
    hidden, weight, targets = problem
    with torch.autocast("cpu", torch.bfloat16):
        ours = losses.chunked_cross_entropy(hidden, weight, targets)
    theirs = F.cross_entropy(hidden @ weight.T, targets)
    assert float(ours) == pytest.approx(float(theirs), rel=0.02)
    ours.backward()
    assert hidden.grad.dtype == torch.float32


def test_sampled_softmax_with_all_items_many_times_tends_to_the_full_one(problem):
    hidden, weight, targets = problem
    torch.manual_seed(0)
    # With N uniform negatives the sum is N / n_items times the sum over the other items; correct for that.
    n = 200_000
    sampled = losses.sampled_softmax(hidden.detach(), weight.detach(), targets, n)
    logits = hidden.detach() @ weight.detach().T
    others = logits.scatter(1, targets[:, None], -torch.inf).logsumexp(1) + math.log(n / len(weight))
    positive = logits.gather(1, targets[:, None])[:, 0]
    expected = (torch.logaddexp(others, positive) - positive).mean()
    assert float(sampled) == pytest.approx(float(expected), rel=0.01)


def test_sampled_softmax_leaves_the_target_out_of_its_negatives():
    # One item alone: each negative is the target, so that nothing competes with it and the loss is 0, not log(1 + n).
    loss = losses.sampled_softmax(torch.ones(2, 1), torch.ones(1, 1), torch.tensor([0, 0]), 5)
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_bce_is_the_mean_over_target_and_negatives():
    # Two items, so the negatives are known: three times the other one. Petrov & Macdonald 2023: 1 / (3 + 1) of the sum.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.5], [-2.0]])
    loss = losses.binary_cross_entropy(hidden, weight, torch.tensor([0]), 3)
    logits, wanted = torch.tensor([0.5, -2.0, -2.0, -2.0]), torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert float(loss) == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, wanted)))
    # More negatives than there are other items: the sampling rate is 1, and so is beta, whatever t.
    calibrated = losses.binary_cross_entropy(hidden, weight, torch.tensor([0]), 3, calibration=1.0)
    assert float(calibrated) == pytest.approx(float(loss))


def test_bce_negatives_never_equal_the_target():
    # Two items: the one negative is always the other item, so the loss is known.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.5], [-2.0]])
    loss = losses.binary_cross_entropy(hidden, weight, torch.tensor([0]), 1)
    expected = -(F.logsigmoid(torch.tensor(0.5)) + F.logsigmoid(torch.tensor(2.0))) / 2
    assert float(loss) == pytest.approx(float(expected))


def test_gbce_raises_the_positive_to_beta():
    # gSASRec eq. 13: n_items=3, one negative: alpha=1/2; t=1: beta = 1/2 (1 (1 - 2) + 2) = 1/2.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.5], [-2.0], [-2.0]])
    loss = losses.binary_cross_entropy(hidden, weight, torch.tensor([0]), 1, calibration=1.0)
    expected = -(0.5 * F.logsigmoid(torch.tensor(0.5)) + F.logsigmoid(torch.tensor(2.0))) / 2
    assert float(loss) == pytest.approx(float(expected))


def test_only_gbce_is_calibrated(problem):
    values = {}
    for kind in ("bce", "gbce"):
        torch.manual_seed(0)
        values[kind] = float(losses.NextItemLoss(kind=kind, n_negatives=4, calibration=0.9)(*problem))
    torch.manual_seed(0)
    assert values["bce"] == pytest.approx(float(losses.binary_cross_entropy(*problem, 4)))
    torch.manual_seed(0)
    assert values["gbce"] == pytest.approx(float(losses.binary_cross_entropy(*problem, 4, calibration=0.9)))
    assert values["gbce"] < values["bce"]


@pytest.mark.parametrize("kind", ["cross_entropy", "full_cross_entropy", "sampled_softmax", "bce", "gbce"])
def test_every_kind_can_be_trained_with(problem, kind):
    hidden, weight, targets = problem
    loss = losses.NextItemLoss(kind=kind, n_negatives=4)(hidden, weight, targets)
    loss.backward()
    assert torch.isfinite(loss) and weight.grad.abs().sum() > 0
