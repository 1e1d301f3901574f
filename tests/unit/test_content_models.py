"""Models that know items by features, against their formulas, written again; and items that nobody has met."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import sparse

from marquee.data.interactions.views import Matrix, PairBatch, Pairs
from marquee.data.spec import Feature, InteractionSpec
from marquee.models.base import Change
from marquee.models.graph.freedom import FREEDOM, drawn, nearest
from marquee.models.mf.ials import IALS
from marquee.models.mf.mapped_ials import MappedIALS
from marquee.models.mf.vbpr import VBPR
from marquee.models.neural.two_tower import TwoTower

from .small import SmallData, histories

# Two groups of users, each with items of its own. Nobody in training met items 6 and 7, which look like the groups'.
TRAIN = [[0, 1, 2], [0, 2], [1, 2, 0], [3, 4], [4, 5, 3], [3, 5, 4]]
GROUPS = np.array([0, 0, 0, 1, 1, 1, 0, 1])
LOOKS = np.eye(2, dtype=np.float32)[GROUPS] * 1.4 - 0.7
TABLE = {"looks": LOOKS, "kind": GROUPS + 1}
COLUMNS = (Feature("looks", "dense", 2), Feature("kind", "categorical", 3))
SPEC = InteractionSpec(6, 8, item_features=COLUMNS)


def data(spec=SPEC, table=TABLE):
    found = SmallData(TRAIN, [[]] * 6, [[]] * 6, n_items=8)
    found.spec, found.encoded = spec, lambda side: table
    found.report["new_items_tested"] = 2
    return found


def seeded(kind, **settings):
    torch.manual_seed(0)
    model = kind(SPEC, **settings)
    model.prepare(data())
    return model


def trained(model, epochs=80, lr=0.02):
    if model.learns_in_fit:
        for _ in range(10):
            model.fit(next(iter(model.view.train_batches(data(), 0, 0))))
        return model.eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        for batch in model.view.train_batches(data(), 1, epoch):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    return model.eval()


MODELS = {
    "vbpr": lambda: seeded(VBPR, view=Pairs(), dim=4, content_dim=4),
    "mapped_ials": lambda: seeded(MappedIALS, view=Matrix(), dim=4, l2=0.01, ridge=0.1),
    "freedom": lambda: seeded(FREEDOM, view=Pairs(), dim=4, neighbours=2, pruned=0.3, l2=0.0),
    "two_tower": lambda: seeded(TwoTower, view=Pairs(), dim=4, layers=[4], ids=False),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_new_item_is_scored_as_those_that_look_like_it(name):
    model = trained(MODELS[name]())
    scores = model.score(torch.arange(6), histories(*TRAIN)).detach()
    assert (scores[:3, 6] > scores[:3, 7]).all() and (scores[3:, 7] > scores[3:, 6]).all()


@pytest.mark.parametrize("name", MODELS)
def test_content_vectors_of_a_met_look_lie_nearest_to_its_own_kind(name):
    model = trained(MODELS[name]())
    with torch.no_grad():
        new = model.content_vectors({"looks": LOOKS[:1], "kind": np.array([1])})
        likeness = F.cosine_similarity(model.item_vectors(), new, dim=1)
    assert new.shape == (1, model.item_vectors().shape[1])
    assert likeness[[0, 1, 2, 6]].min() > likeness[[3, 4, 5, 7]].max()


@pytest.mark.parametrize("name", MODELS)
def test_the_state_alone_scores_the_same_in_a_model_that_never_saw_the_data(name):
    model = trained(MODELS[name](), epochs=3)
    torch.manual_seed(9)
    kinds = {"vbpr": VBPR, "mapped_ials": MappedIALS, "freedom": FREEDOM, "two_tower": TwoTower}
    settings = {
        "vbpr": {"view": Pairs(), "dim": 4, "content_dim": 4}, "mapped_ials": {"view": Matrix(), "dim": 4, "l2": 0.01},
        "freedom": {"view": Pairs(), "dim": 4}, "two_tower": {"view": Pairs(), "dim": 4, "layers": [4], "ids": False},
    }  # fmt: skip
    again = kinds[name](SPEC, **settings[name])
    again.load_state_dict(model.state_dict())
    users = torch.arange(6)
    torch.testing.assert_close(again.eval().score(users, histories(*TRAIN)), model.score(users, histories(*TRAIN)))


def test_vbpr_is_equation_4_of_he_and_mcauley_with_a_part_of_e_for_each_column():
    model = seeded(VBPR, view=Pairs(), dim=3, content_dim=5)
    with torch.no_grad():
        model.bias.copy_(torch.randn(8))
    features = torch.cat([torch.from_numpy(LOOKS), F.one_hot(torch.from_numpy(GROUPS + 1), 3).float()], 1)
    e, c = torch.cat(list(model.content.spaces)).split([5, 1], dim=1)
    user, t = model.users[:, :3], model.users[:, 3:]
    met = torch.tensor([1.0] * 6 + [0.0] * 2)
    expected = model.bias * met + user @ (model.items * met[:, None]).T + t @ (features @ e).T + (features @ c).T
    torch.testing.assert_close(model.score(torch.arange(6), histories(*[[]] * 6)), expected)


def test_vbprs_loss_is_that_of_the_formula():
    model = seeded(VBPR, view=Pairs(), dim=3, content_dim=5, l2=0.2, l2_content=0.3)
    batch = PairBatch(torch.tensor([0, 4]), torch.tensor([1, 5]), torch.tensor([[3, 4], [0, 1]]))
    scores = model.score(torch.arange(6), histories(*[[]] * 6))
    margins = torch.stack([scores[0, 1] - scores[0, [3, 4]], scores[4, 5] - scores[4, [0, 1]]])
    used = model.users[[0, 4]].square().sum() + model.items[[1, 3, 4, 5, 0, 1]].square().sum()
    shared = sum(space.square().sum() for space in model.content.spaces)
    expected = -F.logsigmoid(margins).mean() + 0.2 / 4 * used + 0.3 / 2 * shared
    torch.testing.assert_close(model.loss(batch), expected)


def test_mapped_ials_is_ials_for_met_items_and_ridge_regression_for_the_others():
    """Second implementations: mf/ials itself, and scikit-learn's Ridge."""
    from sklearn.linear_model import Ridge

    batch = next(iter(Matrix().train_batches(data(), 0, 0)))
    mapped = seeded(MappedIALS, view=Matrix(), dim=3, ridge=0.7, solver="cholesky")
    torch.manual_seed(0)
    plain = IALS(SPEC, view=Matrix(), dim=3, solver="cholesky")
    for _ in range(4):
        mapped.fit(batch)
        plain.fit(batch)
    torch.testing.assert_close(mapped.items[:6], plain.items[:6])
    numbers = np.concatenate([LOOKS, np.eye(2)[GROUPS]], 1)
    expected = Ridge(alpha=0.7).fit(numbers[:6], mapped.items[:6].numpy()).predict(numbers[6:])
    np.testing.assert_allclose(mapped.items[6:].numpy(), expected, atol=1e-4)


def test_an_update_of_mapped_ials_fits_its_mapping_anew_and_maps_who_nobody_has_met():
    """Second implementation: scikit-learn's Ridge on the vectors of the items that somebody has met."""
    from sklearn.linear_model import Ridge

    batch = next(iter(Matrix().train_batches(data(), 0, 0)))
    former = seeded(MappedIALS, view=Matrix(), dim=3, ridge=0.7)
    for _ in range(4):
        former.fit(batch)
    model = seeded(MappedIALS, view=Matrix(), dim=3, ridge=0.7)
    nothing = sparse.csr_matrix((0, 8))
    assert model.update(former, Change(torch.arange(6), torch.arange(8), 6, 8, nothing, nothing, batch))
    assert torch.equal(model.items[:6], former.items[:6])
    numbers = np.concatenate([LOOKS, np.eye(2)[GROUPS]], 1)
    expected = Ridge(alpha=0.7).fit(numbers[:6], model.items[:6].numpy()).predict(numbers[6:])
    np.testing.assert_allclose(model.items[6:].numpy(), expected, atol=1e-4)
    assert model.weights.any()


def test_freedoms_vectors_are_those_of_both_graphs_dense():
    model = seeded(FREEDOM, view=Pairs(), dim=4, layers=2, item_layers=2, neighbours=2, pruned=0.0)
    adjacency = np.zeros((14, 14))
    train = data().parts["train"]
    adjacency[train.users, train.items + 6] = adjacency[train.items + 6, train.users] = 1
    degree = np.maximum(adjacency.sum(1), 1)
    graph = torch.from_numpy(adjacency / np.sqrt(degree[:, None] * degree)).float()
    alike = torch.zeros(8, 8)
    for column in (LOOKS, np.eye(2)[GROUPS]):
        unit = column / np.linalg.norm(column, axis=1, keepdims=True)
        cosine = torch.from_numpy(unit @ unit.T).float().fill_diagonal_(-1)
        near = cosine.topk(2, 1).indices
        alike += torch.zeros(8, 8).scatter_(1, near, 1.0) / 2 / 2  # every item has two neighbours; two columns
    own = model.ego.detach().clone()
    own[12:] = 0  # nobody has met them
    expected = (own + graph @ own + graph @ graph @ own) / 3
    expected[6:] += alike @ alike @ own[6:]
    torch.testing.assert_close(model.propagate().detach(), expected)


def test_freedom_keeps_the_stated_share_of_edges_once_an_epoch_and_rare_ones_more_often():
    model = seeded(FREEDOM, view=Pairs(), dim=4, pruned=0.5)
    torch.manual_seed(3)
    counts = torch.zeros(6, 8)
    for _ in range(300):
        stay = model._stay()
        rows = torch.repeat_interleave(stay.offsets.diff())
        users = rows < 6
        assert users.sum() == 8 and len(rows) == 16  # half of 16 edges, each both ways
        counts[rows[users], stay.columns[users] - 6] += 1
    chance = torch.tensor([1 / np.sqrt(2 * 3), 1 / np.sqrt(3 * 3)])  # (u1, 0): degrees 2 and 3; (u0, 0): 3 and 3
    assert counts[1, 0] > counts[0, 0] and counts[counts > 0].numel() == 16 and chance[0] > chance[1]
    batch = next(iter(model.view.train_batches(data(), 0, 0)))
    drawn = [(model.loss(batch), model._sparse)[1] for _ in range(2)]
    assert drawn[0] is drawn[1]  # within an epoch
    model.eval()
    torch.testing.assert_close(model.vectors[:12], model.propagate()[:12].detach())  # judged on all edges
    assert model._sparse is None


def test_a_row_without_features_is_like_no_other_and_nothing_is_its_own_neighbour():
    rows = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [0, 0]])
    near, alike = nearest(rows, rows, 2)
    assert near[:3, 0].tolist() == [1, 0, 1]
    assert alike.tolist() == [
        [True, False],
        [True, True],
        [True, False],
        [False, False],
    ]
    near, _ = nearest(rows[:1], rows, 1)
    assert near.tolist() == [[0]]  # of another table it may be


@pytest.mark.parametrize("kind", [VBPR, MappedIALS, FREEDOM])
def test_models_of_features_say_so_where_none_are_named(kind):
    view = Matrix() if kind is MappedIALS else Pairs()
    with pytest.raises(ValueError, match=r"reads what data\.item_features names, and it names none"):
        kind(InteractionSpec(6, 8), view=view)


def test_edges_are_drawn_as_torch_draws_without_its_limit():
    chance = torch.rand(5000)
    torch.manual_seed(3)
    wanted = torch.multinomial(chance, 1000)
    torch.manual_seed(3)
    assert torch.equal(drawn(chance, 1000), wanted)
