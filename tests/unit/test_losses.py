"""Next-item losses against plain formulas, value and gradient."""

import math

import pytest
import torch
import torch.nn.functional as F

from marquee.models import losses

KINDS = ["cross_entropy", "full_cross_entropy", "sampled_softmax", "bce", "gbce", "bpr", "bpr_max"]


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


def test_chunked_cross_entropy_of_large_logits_is_finite(problem):
    """The exponentials are taken below each row's largest logit: 300 apart they would not fit into float32."""
    hidden, weight, targets = problem
    ours, theirs = (f(60 * hidden, weight, targets) for f in (losses.chunked_cross_entropy, losses.full_cross_entropy))
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(*(torch.autograd.grad(loss, (hidden, weight)) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_chunked_cross_entropy_under_autocast_stays_close(problem):
    hidden, weight, targets = problem
    with torch.autocast("cpu", torch.bfloat16):
        ours = losses.chunked_cross_entropy(hidden, weight, targets)
    theirs = F.cross_entropy(hidden @ weight.T, targets)
    assert float(ours) == pytest.approx(float(theirs), rel=0.02)
    ours.backward()
    assert hidden.grad.dtype == torch.float32


def test_the_gradient_of_a_popular_item_is_not_rounded_away_under_autocast(monkeypatch):
    """Of 4,096 positions that want it, each 0.5, a sum in bfloat16 stops at 128 of 2,048."""
    monkeypatch.setattr(losses, "CHUNK_CELLS", 64 * 10)
    hidden = torch.full((4096, 8), 0.5)
    weight = torch.randn(10, 8, generator=torch.Generator().manual_seed(0)).mul_(0.1).requires_grad_()
    targets = torch.zeros(4096, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        (ours,) = torch.autograd.grad(losses.chunked_cross_entropy(hidden, weight, targets), weight)
    (theirs,) = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets), weight)
    torch.testing.assert_close(ours, theirs, rtol=0.01, atol=0.002)


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


def test_bpr_is_the_mean_over_negatives_and_the_target_is_none(monkeypatch):
    # Rendle et al. 2009: -log sigmoid(r_target - r_negative), by hand with scores 1, 2 and 4 of items 0, 1 and 2.
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([1, 2, 0]))
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[1.0], [2.0], [4.0]])
    loss = losses.bpr(hidden, weight, torch.tensor([0]), 3)
    assert float(loss) == pytest.approx((math.log(1 + math.exp(1)) + math.log(1 + math.exp(3)) + 0) / 3)


def test_bpr_max_weighs_negatives_by_their_softmax(monkeypatch):
    # Hidasi & Karatzoglou 2018, by hand: negatives 1 and 2 with scores 0.5 and -1, the target 0 drawn as a third.
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([1, 2, 0]))
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[2.0], [0.5], [-1.0]])
    shares = [math.exp(0.5) / (math.exp(0.5) + math.exp(-1)), math.exp(-1) / (math.exp(0.5) + math.exp(-1))]
    wins = [1 / (1 + math.exp(-(2 - r))) for r in (0.5, -1)]
    expected = -math.log(shares[0] * wins[0] + shares[1] * wins[1])
    assert float(losses.bpr_max(hidden, weight, torch.tensor([0]), 3, 0.0)) == pytest.approx(expected)
    penalty = shares[0] * 0.25 + shares[1] * 1
    assert float(losses.bpr_max(hidden, weight, torch.tensor([0]), 3, 0.7)) == pytest.approx(expected + 0.7 * penalty)


@pytest.mark.parametrize("loss", [losses.bpr, losses.bpr_max])
def test_where_all_negatives_are_the_target_nothing_is_to_learn(loss):
    hidden, weight = torch.ones(2, 1, requires_grad=True), torch.ones(1, 1)
    value = loss(hidden, weight, torch.tensor([0, 0]), 5)
    value.backward()
    assert float(value) == pytest.approx(0, abs=1e-6) and hidden.grad.tolist() == [[0], [0]]


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_trained_with(problem, kind):
    hidden, weight, targets = problem
    loss = losses.NextItemLoss(kind=kind, n_negatives=4)(hidden, weight, targets)
    loss.backward()
    assert torch.isfinite(loss) and weight.grad.abs().sum() > 0
