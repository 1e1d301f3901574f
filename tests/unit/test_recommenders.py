"""Each recommender against its paper's formula, written again with NumPy or by hand."""

import math

import numpy as np
import pytest
import torch

from marquee.data.interactions.views import Matrix, PairBatch, Pairs, SequenceBatch, Sequences
from marquee.data.spec import InteractionSpec
from marquee.models.baseline.popular import Popular
from marquee.models.baseline.random import Random
from marquee.models.linear import gram
from marquee.models.linear.ease import EASE
from marquee.models.losses import NextItemLoss
from marquee.models.mf.bpr import BPR
from marquee.models.neighbours.item_knn import ItemKNN
from marquee.models.rnn.gru4rec import GRU4Rec
from marquee.models.transformer.sasrec import SASRec

from .small import SmallData, histories

DATA = SmallData([[0, 1, 2], [1, 2], [2, 3], [0, 3]], [[]] * 4, [[]] * 4, n_items=4)
X = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], dtype=float)


def learnt(model):
    (batch,) = Matrix().train_batches(DATA, 0, 0)
    model.fit(batch)
    return model.eval()


def test_co_counts_are_the_product_of_the_matrix_with_itself(monkeypatch):
    (batch,) = Matrix().train_batches(DATA, 0, 0)
    monkeypatch.setattr(gram, "DENSE_GAIN", 0)  # the product of sparse matrices
    monkeypatch.setattr(gram, "PANEL_CELLS", 12)  # three rows at a time, then one
    for repeated in (1, 2):  # a pair that is listed twice counts once
        pairs = torch.cat([batch.users] * repeated), torch.cat([batch.items] * repeated)
        rows, counts = zip(*gram.co_counts(gram.binary_matrix(*pairs, 4)), strict=True)
        assert rows == (slice(0, 3), slice(3, 4))
        np.testing.assert_array_equal(torch.cat(counts).numpy(), X.T @ X)


def test_ease_is_equation_8_of_steck_2019():
    model = learnt(EASE(DATA.spec, view=Matrix(), l2=2.0))
    inverse = np.linalg.inv(X.T @ X + 2.0 * np.eye(4))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    np.testing.assert_allclose(model.weight.numpy(), weight, atol=1e-5)
    scores = model.score(None, histories([0, 1], [3]))
    np.testing.assert_allclose(scores.numpy(), [weight[0] + weight[1], weight[3]], atol=1e-5)


def test_item_knn_sums_the_similarities_of_the_nearest():
    model = learnt(ItemKNN(DATA.spec, view=Matrix(), neighbours=1, shrinkage=0.0))
    # Counts: 2, 2, 3, 2. Cosines: (0,1) 1/2, (0,2) 1/sqrt6, (0,3) 1/2, (1,2) 2/sqrt6, (2,3) 1/sqrt6, (1,3) 0.
    # The one nearest of 1 is 2 and of 2 is 1; history [1] can only speak for item 2.
    scores = model.score(None, histories([1]))
    assert scores[0, 2] == pytest.approx(2 / math.sqrt(6))
    assert scores[0, 3] == 0
    jaccard = learnt(ItemKNN(DATA.spec, view=Matrix(), neighbours=4, similarity="jaccard", shrinkage=1.0))
    # Items 1 and 2 share two of three users: 2 / (3 + 1).
    assert jaccard.score(None, histories([1]))[0, 2] == pytest.approx(2 / 4)


def test_item_knn_asks_whose_neighbour_is_whose():
    """An item is scored by its own nearest, not by those whose nearest it is: neighbourhoods are not symmetric."""
    data = SmallData([[0, 1], [0, 1], [0, 1, 2], [0, 3]], [[]] * 4, [[]] * 4, n_items=4)
    model = ItemKNN(data.spec, view=Matrix(), neighbours=1)
    model.fit(next(iter(Matrix().train_batches(data, 0, 0))))
    # Counts 4, 3, 1, 1; cosines (0,1) 3/sqrt12, (0,2) 1/2, (0,3) 1/2, (1,2) 1/sqrt3. The nearest of 0 is 1, of 1 is 0,
    # of 2 is 1, of 3 is 0. History [0] speaks for 1 and 3, history [1] for 0 and 2, history [2] for nobody.
    scores = model.score(None, histories([0], [1], [2])).tolist()
    a, b = 3 / math.sqrt(12), 1 / math.sqrt(3)
    assert scores == [pytest.approx(row, abs=1e-6) for row in ([0, a, 0, 0.5], [a, 0, b, 0], [0, 0, 0, 0])]


def test_popular_counts_and_random_is_a_function_of_user_and_item():
    assert learnt(Popular(DATA.spec, view=Matrix())).score(None, histories([], []))[1].tolist() == [2, 2, 3, 2]
    spec = InteractionSpec(100, 500)
    one = Random(spec, view=Matrix()).score(torch.arange(100), histories(*[[]] * 100))
    two = Random(spec, view=Matrix()).score(torch.arange(100).flip(0), histories(*[[]] * 100)).flip(0)
    assert torch.equal(one, two)
    assert one.min() >= 0 and one.max() < 1
    assert float(one.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(one.var()) == pytest.approx(1 / 12, abs=0.005)
    assert abs(np.corrcoef(one[0].numpy(), one[1].numpy())[0, 1]) < 0.15


def test_bpr_loss_by_hand():
    model = BPR(InteractionSpec(1, 2), view=Pairs(), dim=2, l2=0.1)
    with torch.no_grad():
        model.users.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.items.weight.copy_(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    batch = PairBatch(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]))
    # Margin 1.5 - 1 = 0.5; squares 5, 0.5 and 1.
    expected = math.log(1 + math.exp(-0.5)) + 0.1 / 2 * 6.5
    assert float(model.loss(batch)) == pytest.approx(expected)
    twice = PairBatch(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1, 1]]))
    model.l2 = 0.0
    assert float(model.loss(twice)) == pytest.approx(math.log(1 + math.exp(-0.5)))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_bprs_gradient_is_what_autograd_makes_of_the_loss_as_it_is_written(k, bias, l2, sparse):
    """Users and items occur several times in the batch, an item as positive and negative; the oracle is autograd."""
    torch.manual_seed(0)
    model = BPR(InteractionSpec(3, 5), view=Pairs(), dim=4, l2=l2, item_bias=bias, sparse_gradients=sparse).double()
    batch = PairBatch(torch.randint(3, (9,)), torch.randint(5, (9,)), torch.randint(5, (9, k)))
    p, q, r = model.users.weight[batch.users], model.items.weight[batch.items], model.items.weight[batch.negatives]
    margin = (p[:, None] * (q[:, None] - r)).sum(-1)
    if bias:
        with torch.no_grad():
            model.item_bias.normal_()
        margin = margin + model.item_bias[batch.items][:, None] - model.item_bias[batch.negatives]
    loss = torch.log1p(torch.exp(-margin)).mean()
    loss = loss + l2 / 2 / 9 * (p.square().sum() + q.square().sum() + r.square().sum())
    expected = torch.autograd.grad(loss, list(model.parameters()))
    found = model.loss(batch)
    torch.testing.assert_close(found, loss)
    for ours, theirs in zip(torch.autograd.grad(found, list(model.parameters())), expected, strict=True):
        assert ours.is_sparse == sparse
        torch.testing.assert_close(ours.to_dense(), theirs)


def sequence_models():
    view, spec = Sequences(max_length=5), InteractionSpec(3, 10)
    torch.manual_seed(0)
    yield GRU4Rec(spec, view=view, loss=NextItemLoss(), dim=8, hidden=8)
    yield SASRec(spec, view=view, loss=NextItemLoss(), dim=8, heads=2)
    yield SASRec(spec, view=view, loss=NextItemLoss(), dim=8, norm_first=False)


@pytest.mark.parametrize("model", sequence_models(), ids=["gru4rec", "sasrec", "sasrec-paper"])
def test_sequence_models_look_back_only_and_padding_changes_nothing(model):
    model.eval()
    scores = model.score(None, histories([1, 2, 3]))
    # The score does not depend on what else is in the batch, so padding has no effect.
    together = model.score(None, histories([1, 2, 3], [4, 5, 6, 7, 8]))
    torch.testing.assert_close(scores[0], together[0])
    # Only the newest five items are read.
    torch.testing.assert_close(
        model.score(None, histories([0, 1, 2, 3, 4, 5])), model.score(None, histories([9, 1, 2, 3, 4, 5]))
    )
    # The order matters.
    assert not torch.allclose(scores, model.score(None, histories([3, 2, 1])))
    assert torch.isfinite(model.score(None, histories([]))).all()


@pytest.mark.parametrize("model", sequence_models(), ids=["gru4rec", "sasrec", "sasrec-paper"])
def test_training_loss_of_a_row_is_the_mean_over_its_prefixes(model):
    """One shifted row must teach what a row for each prefix would: checked by scoring each prefix on its own."""
    model.eval()
    batch = SequenceBatch(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 3, 4, 5]]))
    losses = []
    for length in range(1, 5):
        scores = model.score(None, histories([1, 2, 3, 4][:length]))
        losses.append(float(torch.nn.functional.cross_entropy(scores, batch.targets[0, length - 1 : length])))
    if isinstance(model, SASRec):
        # Positions are counted back from the newest item, so only the whole row's last step is scored the same way.
        hidden = model._encode(batch.items, torch.tensor([4]))[:, -1] @ model.items.weight[:10].T
        torch.testing.assert_close(hidden, model.score(None, histories([1, 2, 3, 4])))
    else:
        assert float(model.loss(batch)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_sasrec_counts_positions_back_from_the_newest_item():
    model = SASRec(InteractionSpec(1, 10), view=Sequences(max_length=5), loss=NextItemLoss(), dim=8).eval()
    model.blocks, model.norm = torch.nn.ModuleList(), torch.nn.Identity()
    states = model._encode(torch.tensor([[1, 2, 3], [4, 10, 10]]), torch.tensor([3, 1]))
    places = states - model.items(torch.tensor([[1, 2, 3], [4, 10, 10]])) * 8**0.5
    torch.testing.assert_close(places[0], model.positions.weight[[2, 1, 0]])
    torch.testing.assert_close(places[1, 0], model.positions.weight[0])


@pytest.mark.parametrize("norm_first", [True, False])
def test_sasrec_cannot_see_the_future(norm_first):
    model = SASRec(
        InteractionSpec(1, 10), view=Sequences(max_length=4), loss=NextItemLoss(), dim=8, norm_first=norm_first
    )
    model.eval()
    lengths = torch.tensor([4])
    one = model._encode(torch.tensor([[1, 2, 3, 4]]), lengths)
    two = model._encode(torch.tensor([[1, 2, 7, 8]]), lengths)
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2:], two[:, 2:])


def test_sasrec_names_a_width_that_its_heads_do_not_divide():
    with pytest.raises(ValueError, match="dim=10 must be a multiple of heads=4"):
        SASRec(InteractionSpec(1, 5), view=Sequences(), loss=NextItemLoss(), dim=10, heads=4)
