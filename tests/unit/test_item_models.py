"""Neighbourhoods and linear item models against double loops, scikit-learn and what they are special cases of."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import ElasticNet

from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError
from marquee.models.linear import gram, slim
from marquee.models.linear.ease import EASE
from marquee.models.linear.edlae import EDLAE
from marquee.models.linear.rp3beta import RP3Beta
from marquee.models.linear.slim import SLIM
from marquee.models.neighbours.item_knn import ItemKNN
from marquee.models.neighbours.user_knn import UserKNN

from .small import histories

N_USERS, N_ITEMS = 24, 13
SPEC = InteractionSpec(N_USERS, N_ITEMS, has_values=True)
ROWS = [[0, 3, 5], [], [12], list(range(N_ITEMS))]


@pytest.fixture
def ratings():
    """Half of the cells, whole ratings 1 ... 5; NaN where there is none, nobody met the last item."""
    generator = np.random.default_rng(0)
    table = generator.integers(1, 6, (N_USERS, N_ITEMS)).astype(float)
    table[generator.random(table.shape) < 0.5] = np.nan
    table[:, -1] = np.nan
    return table


def batch_of(table, valued=True):
    users, items = np.nonzero(~np.isnan(table))
    values = torch.from_numpy(table[users, items]).float() if valued else None
    return MatrixBatch(torch.from_numpy(users), torch.from_numpy(items), values)


@pytest.mark.parametrize("gain", [0, 10**6], ids=["scattered", "dense columns"])
def test_co_counts_are_the_products_of_columns_either_way(ratings, gain, monkeypatch):
    """Against NumPy's dense product; three panels, the last of them short, and items and users that nobody met."""
    monkeypatch.setattr(gram, "DENSE_GAIN", gain)
    monkeypatch.setattr(gram, "DENSE_CELLS", 16 * N_USERS)
    monkeypatch.setattr(gram, "PANEL_CELLS", 16 * 40)
    table = np.zeros((N_USERS, 40))
    table[1:, 1:N_ITEMS] = np.nan_to_num(ratings)[1:, 1:]
    found = np.full((40, 40), np.nan)
    for rows, products in gram.co_counts(sparse.csr_matrix(table.astype("f4"))):
        found[rows] = products
    np.testing.assert_array_equal(found, table.T @ table)


def matrix_of(kept):
    """weight[i, j]: what item j says for item i."""
    found = np.zeros((kept.n_items, kept.n_items))
    np.put_along_axis(found, kept.items.numpy().astype(int), kept.values.numpy().astype(float), 1)
    return found


def similar(table, i, j, kind, shrinkage):
    """Sarwar et al. 2001, section 3.1, over the users who rated both items; negative ones are no neighbours."""
    both = ~np.isnan(table[:, i]) & ~np.isnan(table[:, j])
    if kind == "cosine":
        one, two = (np.nan_to_num(table[:, item]) for item in (i, j))
        below = np.sqrt((one**2).sum() * (two**2).sum()) + shrinkage
        return (one * two).sum() / below if below else 0.0
    if not both.any():
        return 0.0
    axis = 1 if kind == "adjusted_cosine" else 0
    deviations = table - np.nanmean(table, axis=axis, keepdims=True)
    one, two = deviations[both, i], deviations[both, j]
    below = np.sqrt((one**2).sum() * (two**2).sum()) + shrinkage
    return max((one * two).sum() / below, 0.0) if below > 1e-12 else 0.0


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
@pytest.mark.parametrize("kind", ["cosine", "adjusted_cosine", "pearson"])
def test_item_knn_by_values_is_the_double_loop_of_the_formula(ratings, kind, shrinkage):
    model = ItemKNN(
        SPEC, view=Matrix(), neighbours=N_ITEMS, shrinkage=shrinkage, similarity=kind, weighting="values"
    )  # fmt: skip
    model.fit(batch_of(ratings))
    weight = np.array(
        [[0 if i == j else similar(ratings, i, j, kind, shrinkage) for j in range(N_ITEMS)] for i in range(N_ITEMS)]
    )
    np.testing.assert_allclose(matrix_of(model.nearest), weight, atol=1e-5)
    # r_ui = sum of r_uj * similarity(i, j); the mean stands in for the value of item 12, which user 3 never rated.
    users = torch.tensor([0, 1, 2, 3])
    mean = np.nanmean(ratings)
    asked = [np.where(np.isnan(ratings[user]), mean, ratings[user]) for user in range(4)]
    expected = [sum((asked[user][j] * weight[:, j] for j in row), np.zeros(N_ITEMS)) for user, row in enumerate(ROWS)]
    np.testing.assert_allclose(model.score(users, histories(*ROWS)).numpy(), expected, rtol=1e-4, atol=1e-4)
    unseen = [sum((mean * weight[:, j] for j in row), np.zeros(N_ITEMS)) for row in ROWS]
    np.testing.assert_allclose(model.score(None, histories(*ROWS)).numpy(), unseen, rtol=1e-4, atol=1e-4)


def test_a_value_of_zero_counts_as_given():
    model = ItemKNN(InteractionSpec(2, 2, has_values=True), view=Matrix(), weighting="values")
    model.fit(MatrixBatch(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.tensor([0.0, 4.0, 3.0, 4.0])))
    cosine = 12 / (3 * np.sqrt(32))
    found = model.score(torch.tensor([0, 1]), histories([0], [0]))[:, 1]
    np.testing.assert_allclose(found.numpy(), [0, 3 * cosine], rtol=1e-5)


@pytest.mark.parametrize("setting", [{"similarity": "pearson"}, {"weighting": "values"}])
def test_what_needs_values_says_so_where_there_are_none(ratings, setting):
    with pytest.raises(ConfigError, match=r"needs a value for each interaction.*data\.columns\.value"):
        ItemKNN(SPEC, view=Matrix(), **setting).fit(batch_of(ratings, valued=False))


@pytest.mark.parametrize("similarity", ["cosine", "jaccard"])
@pytest.mark.parametrize("weighting", ["binary", "values"])
def test_user_knn_is_the_double_loop_for_known_and_for_unseen_users(ratings, weighting, similarity):
    model = UserKNN(SPEC, view=Matrix(), neighbours=N_USERS, similarity=similarity, weighting=weighting, shrinkage=1.5)
    model.fit(batch_of(ratings))
    sets = [set(np.flatnonzero(~np.isnan(row))) for row in ratings]
    votes = np.nan_to_num(ratings) if weighting == "values" else ~np.isnan(ratings)

    def scores(row, user=None):
        cosine = [len(row & other) / (np.sqrt(len(row) * len(other)) + 1.5) for other in sets]
        jaccard = [len(row & other) / (len(row | other) + 1.5) for other in sets]
        near = np.array(cosine if similarity == "cosine" else jaccard)
        near[[] if user is None else user] = 0
        return near @ votes

    rows = [[0, 3, 5, 6], [1, 2, 7, 9, 11]]
    for users in (None, torch.tensor([2, 4])):
        expected = [scores(set(row), None if users is None else int(users[n])) for n, row in enumerate(rows)]
        np.testing.assert_allclose(model.score(users, histories(*rows)).numpy(), expected, rtol=1e-4)
    assert not model.score(None, histories([])).any()


def test_user_knn_by_hand():
    """Users {0, 1}, {1, 2}, {3}; the history {1} is as near to the first as to the second: 1 / sqrt 2."""
    model = UserKNN(InteractionSpec(3, 4), view=Matrix(), neighbours=2)
    model.fit(MatrixBatch(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 2, 3])))
    near = 2**-0.5
    expected = [[near, 2 * near, near, 0], [0, near, near, 0]]
    np.testing.assert_allclose(model.score(None, histories([1]))[0], expected[0], rtol=1e-6)
    # A known user is no neighbour of her own.
    np.testing.assert_allclose(model.score(torch.tensor([0]), histories([1]))[0], expected[1], rtol=1e-6)


@pytest.mark.parametrize("joining", [2, 48])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("l1, l2", [(2.0, 5.0), (0.3, 1.0)])
def test_slim_is_the_elastic_net_of_scikit_learn(monkeypatch, l1, l2, positive, joining):
    """Column by column. scikit-learn divides the squares by n: alpha = (l1 + l2) / n, l1_ratio = l1 / (l1 + l2)."""
    monkeypatch.setattr(slim, "JOINING", joining)
    monkeypatch.setattr(slim, "PANEL_CELLS", 400)
    generator = np.random.default_rng(1)
    x = (generator.random((120, 30)) < 0.2).astype(float)
    x[:, :10] = np.maximum(x[:, :10], x[:, 10:20] * (generator.random((120, 10)) < 0.6))
    x[:, 5] = 0
    users, items = np.nonzero(x)
    model = SLIM(InteractionSpec(120, 30), view=Matrix(), l1=l1, l2=l2, positive=positive, keep=30)
    model.fit(MatrixBatch(torch.from_numpy(users), torch.from_numpy(items)))
    found = matrix_of(model.kept)
    oracle = ElasticNet(
        alpha=(l1 + l2) / 120,
        l1_ratio=l1 / (l1 + l2),
        positive=positive,
        fit_intercept=False,
        tol=1e-10,
        max_iter=10**5,
    )
    for item in range(30):
        others = x.copy()
        others[:, item] = 0
        np.testing.assert_allclose(found[item], oracle.fit(others, x[:, item]).coef_, atol=5e-5)


def test_edlae_is_the_ridge_regression_on_rows_with_dropout(ratings):
    """The expected squared error under dropout p, solved for each column with its own item left out, by NumPy.

    With cells kept with chance q = 1 - p, E|x_i - (x * mask) w|^2 = |x_i|^2 - 2 q w.g + q^2 w'Gw + q p w'diag(G)w; with
    B = q w it is Steck's Lambda = p / q diag(G).
    """
    x, p, l2 = (~np.isnan(ratings)).astype(float), 0.4, 2.0
    gram = x.T @ x
    expected = np.zeros((N_ITEMS, N_ITEMS))
    for item in range(N_ITEMS):
        rest = np.delete(np.arange(N_ITEMS), item)
        system = gram[np.ix_(rest, rest)] + np.diag(p / (1 - p) * np.diag(gram)[rest] + l2)
        expected[rest, item] = np.linalg.solve(system, gram[rest, item])
    model = EDLAE(SPEC, view=Matrix(), dropout=p, l2=l2)
    model.fit(batch_of(ratings))
    np.testing.assert_allclose(model.weight.numpy(), expected, atol=1e-5)
    without, ease = EDLAE(SPEC, view=Matrix(), dropout=0.0, l2=l2), EASE(SPEC, view=Matrix(), l2=l2)
    for each in (without, ease):
        each.fit(batch_of(ratings))
    torch.testing.assert_close(without.weight, ease.weight)


def test_rp3beta_is_the_walk_of_three_steps(ratings):
    x, alpha, beta = (~np.isnan(ratings)).astype(float), 0.7, 0.3
    n_users, n_items = x.sum(1), x.sum(0)
    expected = np.zeros((N_ITEMS, N_ITEMS))
    for j in range(N_ITEMS):
        for i in range(N_ITEMS):
            if i != j and n_items[i]:
                walks = [(1 / n_items[j] / n_users[v]) ** alpha for v in range(N_USERS) if x[v, j] and x[v, i]]
                expected[i, j] = sum(walks) / n_items[i] ** beta
    model = RP3Beta(SPEC, view=Matrix(), neighbours=N_ITEMS, alpha=alpha, beta=beta)
    model.fit(batch_of(ratings))
    np.testing.assert_allclose(matrix_of(model.nearest), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.score(None, histories(*ROWS))[0], expected[:, ROWS[0]].sum(1), rtol=1e-4)
    few = RP3Beta(SPEC, view=Matrix(), neighbours=3, alpha=alpha, beta=beta)
    few.fit(batch_of(ratings))
    assert ((matrix_of(few.nearest) != 0).sum(1) <= 3).all()


MODELS = {
    "item_knn": lambda: ItemKNN(SPEC, view=Matrix(), neighbours=4, weighting="values"),
    "user_knn": lambda: UserKNN(SPEC, view=Matrix(), neighbours=4, weighting="values"),
    "user_knn_binary": lambda: UserKNN(SPEC, view=Matrix(), neighbours=4),
    "slim": lambda: SLIM(SPEC, view=Matrix(), l1=0.5, l2=1.0),
    "edlae": lambda: EDLAE(SPEC, view=Matrix(), keep=5),
    "rp3beta": lambda: RP3Beta(SPEC, view=Matrix(), neighbours=4),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_built_anew_from_its_state_scores_the_same_one_by_one_and_users_without_a_number(ratings, make):
    model, other = make(), make()
    model.fit(batch_of(ratings))
    for users in (None, torch.arange(4)):
        before = other.score(users, histories(*ROWS)) if users is None else None
        scores = model.score(users, histories(*ROWS))
        assert scores.shape == (4, N_ITEMS) and scores.isfinite().all() and scores[0].any()
        if before is not None:
            assert not torch.equal(before, scores), "an untrained model knows nothing yet"
        one_by_one = [
            model.score(None if users is None else users[n : n + 1], histories(row)) for n, row in enumerate(ROWS)
        ]
        torch.testing.assert_close(torch.cat(one_by_one), scores)
    again = make()
    again.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert torch.equal(again.score(None, histories(*ROWS)), model.score(None, histories(*ROWS)))
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.score(None, histories(*ROWS)), other.score(None, histories(*ROWS)))
