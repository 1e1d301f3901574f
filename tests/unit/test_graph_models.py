"""Graph recommenders against dense matrices and autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from marquee.data.interactions.views import PairBatch, Pairs
from marquee.models.graph.lightgcn import LightGCN
from marquee.models.graph.xsimgcl import XSimGCL, info_nce
from marquee.models.sparse import Rows, product

from .small import SmallData, histories

# Two groups of users with items of their own, a user who met nothing in training, and an item that nobody met.
DATA = SmallData([[0, 1, 2], [0, 2], [1, 2], [3, 4], [4, 5, 3], [3, 5], []], [[]] * 7, [[]] * 7, n_items=7)
N_USERS, N_ITEMS = 7, 7


def dense_graph():
    """D^-1/2 A D^-1/2 by NumPy; a node without neighbours has a row of zeros."""
    adjacency = np.zeros((N_USERS + N_ITEMS,) * 2)
    train = DATA.parts["train"]
    adjacency[train.users, train.items + N_USERS] = adjacency[train.items + N_USERS, train.users] = 1
    degree = np.maximum(adjacency.sum(1), 1)
    return torch.from_numpy(adjacency / np.sqrt(degree[:, None] * degree)).float()


def made(kind, **settings):
    torch.manual_seed(0)
    model = kind(DATA.spec, view=Pairs(batch_size=8), dim=8, **settings)
    model.prepare(DATA)
    return model


def test_a_sparse_product_and_its_gradient_are_those_of_the_dense_one():
    torch.manual_seed(0)
    rows, columns = torch.tensor([2, 0, 2, 2, 0]), torch.tensor([1, 3, 0, 1, 2])  # one cell twice, row 1 empty
    weights = torch.randn(5)
    full = torch.zeros(3, 4).index_put((rows, columns), weights, accumulate=True)
    dense = torch.randn(4, 6, requires_grad=True)
    found = product(Rows.of(rows, columns, weights, 3), dense, Rows.of(columns, rows, weights, 4))
    torch.testing.assert_close(found, full @ dense)
    slope = torch.randn(3, 6)
    torch.testing.assert_close(torch.autograd.grad(found, dense, slope)[0], full.T @ slope)


def test_lightgcn_is_the_mean_of_the_powers_of_the_normalised_adjacency():
    model, graph = made(LightGCN, layers=2), dense_graph()
    expected = (model.ego + graph @ model.ego + graph @ graph @ model.ego) / 3
    torch.testing.assert_close(model.propagate(), expected)
    scores = model.eval().score(torch.tensor([3, 6]), histories([], []))
    torch.testing.assert_close(scores, (expected[[3, 6]] @ expected[N_USERS:].T).detach())


@pytest.mark.parametrize("k", [1, 3])
def test_lightgcns_loss_and_gradient_are_autograds_of_the_dense_formula(k):
    model, graph = made(LightGCN, layers=3, l2=0.2), dense_graph()
    batch = PairBatch(torch.tensor([0, 3, 0]), torch.tensor([1, 4, 2]), torch.randint(N_ITEMS, (3, k)))
    z, power = model.ego, model.ego
    for _ in range(3):
        power = graph @ power
        z = z + power
    z = z / 4
    items = z[N_USERS:]
    margin = (z[batch.users][:, None] * (items[batch.items][:, None] - items[batch.negatives])).sum(-1)
    used = [model.ego[batch.users], model.ego[N_USERS:][batch.items], model.ego[N_USERS:][batch.negatives]]
    loss = -F.logsigmoid(margin).mean() + 0.2 / (2 * 3) * sum(part.square().sum() for part in used)
    found = model.loss(batch)
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(*(torch.autograd.grad(each, model.ego)[0] for each in (found, loss)))


def test_xsimgcl_is_lightgcn_without_the_first_vectors_when_nothing_is_contrasted():
    model, graph = made(XSimGCL, layers=2, contrast=0.0, noise=0.0), dense_graph()
    mean, contrasted = model._layers(0.0)
    torch.testing.assert_close(mean, (graph @ model.ego + graph @ graph @ model.ego) / 2)
    torch.testing.assert_close(contrasted, graph @ model.ego)


def test_xsimgcls_noise_has_its_length_and_the_signs_of_the_vectors():
    model = made(XSimGCL, layers=1, noise=0.3)
    quiet, (_, loud) = model.propagate(), model._layers(0.3)
    noise = (loud - quiet).detach()
    linked = quiet.abs().sum(1) > 0
    torch.testing.assert_close(noise[linked].norm(dim=1), torch.full((int(linked.sum()),), 0.3))
    assert ((noise * quiet)[linked] >= 0).all()


def test_info_nce_by_a_double_loop():
    torch.manual_seed(0)
    one, two = torch.randn(4, 3), torch.randn(4, 3)
    total = 0.0
    for i in range(4):
        near = [float(F.cosine_similarity(one[i], two[j], dim=0)) / 0.5 for j in range(4)]
        total += -np.log(np.exp(near[i]) / np.exp(near).sum())
    assert float(info_nce(one, two, 0.5)) == pytest.approx(total / 4, rel=1e-5)


def test_a_layer_that_is_not_there_cannot_be_contrasted():
    with pytest.raises(ValueError, match=r"contrast_layer=3 is beyond layers=2; allowed: 1 \.\.\. 2"):
        made(XSimGCL, layers=2, contrast_layer=3)


@pytest.mark.parametrize("kind", [LightGCN, XSimGCL])
def test_graph_models_learn_a_toy_and_a_finished_run_needs_no_graph(kind):
    model = made(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for epoch in range(30):
        for batch in model.view.train_batches(DATA, 1, epoch):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    users, rows = torch.arange(6), histories(*[[]] * 6)
    training = model.score(users, rows)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert set(state) == {"ego", "vectors"}
    scores = model.eval().score(users, rows)
    torch.testing.assert_close(scores, training.detach())
    for user, met in enumerate([{0, 1, 2}] * 3 + [{3, 4, 5}] * 3):
        assert set(scores[user].topk(3).indices.tolist()) == met
    again = kind(DATA.spec, view=Pairs(), dim=8)
    again.load_state_dict(state)
    assert torch.equal(again.eval().score(users, rows), scores)
    one_by_one = torch.cat([again.score(users[n : n + 1], histories([])) for n in range(6)])
    torch.testing.assert_close(one_by_one, scores)


@pytest.mark.parametrize("kind", [LightGCN, XSimGCL])
def test_autocast_changes_nothing(kind):
    model = made(kind)
    batch = PairBatch(torch.tensor([0, 3]), torch.tensor([1, 4]), torch.tensor([[3], [0]]))
    torch.manual_seed(1)
    plain = model.loss(batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.loss(batch), plain)
