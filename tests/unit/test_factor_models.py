"""Factor and rating models against their formulas, written again as NumPy loops or differentiated by autograd."""

import math

import numpy as np
import pytest
import torch

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix, MatrixBatch, RatingBatch, Ratings
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError, DataError
from marquee.models.baseline.bias import Bias
from marquee.models.baseline.global_mean import GlobalMean
from marquee.models.baseline.item_mean import ItemMean
from marquee.models.baseline.user_mean import UserMean
from marquee.models.mf.biased_mf import BiasedMF
from marquee.models.mf.ials import IALS
from marquee.models.mf.logistic_mf import LogisticMF
from marquee.models.mf.nmf import NMF
from marquee.models.mf.svdpp import SVDpp
from marquee.models.mf.truncated_svd import TruncatedSVD
from marquee.models.neighbours.knn_baseline import KNNBaseline

from .small import SmallData, histories

USERS, ITEMS = 12, 9
SPEC = InteractionSpec(USERS, ITEMS, has_values=True)


def batch(seed=0, share=0.4):
    """Random ratings 1 ... 5; the last user has none, the last item neither."""
    generator = np.random.default_rng(seed)
    met = generator.random((USERS, ITEMS)) < share
    met[:-1, 0] = True
    met[-1] = met[:, -1] = False
    users, items = (torch.from_numpy(column) for column in np.nonzero(met))
    values = torch.from_numpy(generator.integers(1, 6, len(users)).astype(np.float32))
    return MatrixBatch(users, items, values)


def rows(given: MatrixBatch) -> Histories:
    counts = torch.bincount(given.users, minlength=USERS)
    return Histories(given.items, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))


def ials(seed=0, **options):
    torch.manual_seed(seed)
    return IALS(SPEC, view=Matrix(), dim=4, **{"alpha0": 0.2, "l2": 0.3, "init_std": 1.0} | options)


def solved(q, pairs, n, alpha0, l2, nu):
    """For each row, np.linalg.solve of the normal equations of `pairs` (row, column, weight)."""
    x = np.zeros((n, q.shape[1]))
    for row in range(n):
        mine = [(column, weight) for own, column, weight in pairs if own == row]
        a = l2 * (len(mine) + alpha0 * len(q)) ** nu * np.eye(q.shape[1])
        b = np.zeros(q.shape[1])
        for column in range(len(q)):
            a += alpha0 * np.outer(q[column], q[column])
        for column, weight in mine:
            a += weight * np.outer(q[column], q[column])
            b += weight * q[column]
        x[row] = np.linalg.solve(a, b)
    return x


SOLVERS = [
    {"solver": "cholesky"},
    {"solver": "conjugate_gradient", "cg_steps": 12},
    {"solver": "block", "block_size": 4},
]


@pytest.mark.parametrize("confidence", ["none", "linear", "log"])
@pytest.mark.parametrize("options", SOLVERS, ids=lambda options: options["solver"])
def test_a_sweep_of_ials_solves_each_items_and_then_each_users_normal_equations(options, confidence):
    given = batch()
    weight = {"none": lambda r: 1.0, "linear": lambda r: 1 + 0.5 * r, "log": lambda r: 1 + 0.5 * math.log(1 + r / 2)}
    pairs = [(u, i, weight[confidence](r)) for u, i, r in zip(*(c.tolist() for c in given[:3]), strict=True)]
    model = ials(confidence=confidence, alpha=0.5, epsilon=2.0, **options)
    users = model.users.double().numpy().copy()
    loss = float(model.fit(given))
    q = solved(users, [(i, u, w) for u, i, w in pairs], ITEMS, 0.2, 0.3, 0.5)
    p = solved(q, pairs, USERS, 0.2, 0.3, 0.5)
    np.testing.assert_allclose(model.items.numpy(), q, atol=2e-4)
    np.testing.assert_allclose(model.users.numpy(), p, atol=2e-4)
    objective = sum(w * (1 - p[u] @ q[i]) ** 2 for u, i, w in pairs) + 0.2 * ((p @ q.T) ** 2).sum()
    for vectors, own, others in ((p, 0, ITEMS), (q, 1, USERS)):
        for row in range(len(vectors)):
            n = sum(pair[own] == row for pair in pairs)
            objective += 0.3 * (n + 0.2 * others) ** 0.5 * (vectors[row] ** 2).sum()
    assert loss == pytest.approx(objective / len(pairs), rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "cholesky"},
        {"cg_steps": 1},
        {"solver": "block", "block_size": 2},
        {"solver": "block", "block_size": 3},
    ],
)
def test_every_solver_of_ials_lowers_the_objective_to_the_same_minimum(options):
    given = batch(1)
    model = ials(1, **options)
    losses = [float(model.fit(given)) for _ in range(30)]
    assert all(after <= before + 1e-5 for before, after in zip(losses, losses[1:], strict=False))
    exact = ials(1, solver="cholesky")
    for _ in range(30):
        least = float(exact.fit(given))
    assert losses[-1] == pytest.approx(least, rel=2e-2)


def test_the_fold_in_of_ials_is_the_users_own_solution():
    given = batch(2)
    for options in SOLVERS:
        model = ials(**options)
        model.fit(given)
        scores = model.score(None, rows(given))
        np.testing.assert_allclose(scores.numpy(), (model.users @ model.items.T).numpy(), atol=3e-3)
        assert torch.equal(scores, model.score(torch.arange(USERS), rows(given)))
    one = model.score(None, histories([0, 2]))
    np.testing.assert_allclose(one.numpy(), model.score(None, histories([0, 2, 0])).numpy(), atol=1e-5)


def test_with_confidence_known_users_keep_the_vector_of_their_values_and_others_count_by_the_mean():
    given = batch(3)
    model = ials(confidence="linear", solver="cholesky")
    model.fit(given)
    scores = model.score(torch.arange(USERS), rows(given))
    np.testing.assert_allclose(scores.numpy(), (model.users @ model.items.T).numpy(), atol=1e-5)
    of_item = given.items == 0
    assert float(model.mean_confidence[0]) == pytest.approx(1 + float(given.values[of_item].mean()), rel=1e-5)
    expected = solved(
        model.items.double().numpy(), [(0, i, float(model.mean_confidence[i])) for i in (0, 3)], 1, 0.2, 0.3, 0.5
    )
    np.testing.assert_allclose(model.query(None, histories([0, 3])).numpy(), expected, atol=1e-4)


def test_ials_adds_up_the_values_of_a_repeated_pair_and_refuses_confidence_below_zero():
    given = MatrixBatch(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 2.0, 3.0]))
    once = MatrixBatch(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([3.0, 3.0]))
    two = [ials(confidence="linear"), ials(confidence="linear")]
    assert float(two[0].fit(given)) == float(two[1].fit(once))
    assert torch.equal(two[0].users, two[1].users)
    bad = once._replace(values=torch.tensor([-3.0, 1.0]))
    for confidence in ("linear", "log"):
        with pytest.raises(ConfigError, match="negative"):
            ials(confidence=confidence).fit(bad)
    with pytest.raises(ConfigError, match="values"):
        IALS(InteractionSpec(2, 2), view=Matrix(), confidence="log")


def test_pure_svd_projects_histories_on_the_first_singular_vectors():
    given = batch(4)
    x = np.zeros((USERS, ITEMS))
    x[given.users, given.items] = 1
    model = TruncatedSVD(SPEC, view=Matrix(), dim=3)
    model.fit(given)
    _, _, vh = np.linalg.svd(x)
    np.testing.assert_allclose(model.score(None, rows(given)).numpy(), x @ vh[:3].T @ vh[:3], atol=1e-4)
    again = TruncatedSVD(SPEC, view=Matrix(), dim=3)
    again.fit(given)
    assert torch.equal(again.vectors, model.vectors)
    with pytest.raises(ConfigError, match=r"1 \.\.\. 8"):
        TruncatedSVD(SPEC, view=Matrix(), dim=ITEMS)


def test_logistic_mf_takes_adagrad_steps_along_the_gradient_of_the_paper(monkeypatch):
    given = batch(5)
    monkeypatch.setattr("marquee.models.mf.logistic_mf.CELLS", 20)  # two users at a time
    torch.manual_seed(0)
    model = LogisticMF(SPEC, view=Matrix(), dim=3, alpha=2.0, l2=0.5, lr=0.1).double()
    met = torch.zeros(USERS, ITEMS, dtype=torch.float64)
    met[given.users, given.items] = 1
    x, y = (part.clone().requires_grad_() for part in (model.users, model.items))
    bu, bi = torch.zeros(USERS, 1).double().requires_grad_(), torch.zeros(ITEMS).double().requires_grad_()
    logits = x @ y.T + bu + bi
    loss = ((1 + 2 * met) * torch.log1p(logits.exp()) - 2 * met * logits).sum()
    gradient, of_bias = torch.autograd.grad(loss + 0.25 * x.square().sum(), (x, bu))
    found = model.fit(given)
    assert float(found) == pytest.approx(float(loss) / (USERS * ITEMS), rel=1e-5)
    torch.testing.assert_close(model.users, (x - 0.1 * gradient.sign()).detach())  # AdaGrad's first step is lr
    torch.testing.assert_close(model.users_bias, -0.1 * of_bias[:, 0].sign())
    losses = [float(model.fit(given)) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_means_and_biases_by_hand():
    given = MatrixBatch(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), torch.tensor([1.0, 3.0, 5.0]))
    spec, none = InteractionSpec(2, 3, has_values=True), histories([], [])
    users, items = torch.tensor([0, 1]), torch.tensor([2, 1])
    for model, expected in (
        (GlobalMean(spec, view=Matrix()), [3, 3]),
        (UserMean(spec, view=Matrix()), [2, 5]),
        (ItemMean(spec, view=Matrix()), [3, 4]),
        (ItemMean(spec, view=Matrix(), shrinkage=2.0), [3, (8 + 6) / 4]),
    ):
        model.fit(given)
        assert model.predict(users, items, none).tolist() == pytest.approx(expected)
        assert model.score(users, none)[torch.arange(2), items].tolist() == pytest.approx(expected)
    bias = Bias(spec, view=Matrix(), l2_users=1.0, l2_items=2.0, sweeps=1)
    bias.fit(given)
    # Mean 3. b_i: -2 / 3, 2 / 4, 0. Then b_u: (-2 + 2/3 + 0 - 1/2) / 3 and (2 - 1/2) / 2.
    assert bias.items.tolist() == pytest.approx([-2 / 3, 0.5, 0])
    assert bias.users.tolist() == pytest.approx([(-4 / 3 - 0.5) / 3, 0.75])
    with pytest.raises(ConfigError, match="values"):
        Bias(spec, view=Matrix()).fit(given._replace(values=None))


def prepared(model, given):
    """What `prepare` takes from the data: the training part, as its columns."""
    data = SmallData([given.items[given.users == u].tolist() for u in range(USERS)], [[]] * USERS, [[]] * USERS, ITEMS)
    object.__setattr__(data.parts["train"], "values", given.values.numpy())
    model.prepare(data)
    return model


def rating_models():
    torch.manual_seed(0)
    yield BiasedMF(SPEC, view=Ratings(), dim=4, l2=0.05, init_std=0.3)
    yield SVDpp(SPEC, view=Ratings(), dim=4, l2=0.05, init_std=0.3)


@pytest.mark.parametrize("model", rating_models(), ids=["biased_mf", "svdpp"])
def test_the_gradient_of_rating_models_is_what_autograd_makes_of_the_loss_as_it_is_written(model):
    given = batch(6)
    model = prepared(model, given).double()
    part = torch.tensor([0, 3, 3, 7, 1])
    ratings = RatingBatch(given.users[part], given.items[part], given.values[part].double())
    with torch.no_grad():
        model.user_bias.normal_()
        model.item_bias.normal_()
    u, i, r = ratings
    vectors, squares = model.users.weight, 0
    if isinstance(model, SVDpp):
        met = torch.zeros(USERS, ITEMS, dtype=torch.float64)
        met[given.users, given.items] = 1
        # 1 / sqrt(|N|) in float32, as the model holds it
        vectors = vectors + (met * met.sum(1, keepdim=True).clamp(min=1).float().rsqrt()) @ model.implicit.weight
        squares = model.implicit.weight[i].square().sum()
    predicted = given.values.double().mean().float() + model.user_bias[u] + model.item_bias[i]
    predicted = predicted + (vectors[u] * model.items.weight[i]).sum(1)
    squares = squares + model.users.weight[u].square().sum() + model.items.weight[i].square().sum()
    squares = squares + model.user_bias[u].square().sum() + model.item_bias[i].square().sum()
    loss = (predicted - r).square().mean() + 0.05 * squares / len(part)
    found = model.loss(ratings)
    torch.testing.assert_close(found, loss, rtol=1e-6, atol=1e-6)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for ours, theirs in zip(torch.autograd.grad(found, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    several = torch.arange(len(given.users))
    of_pairs = rows(given).take(given.users)
    torch.testing.assert_close(
        model.predict(given.users, given.items, of_pairs)[part],
        predicted.detach(),
        rtol=1e-5,
        atol=1e-5,
        check_dtype=False,
    )
    table = model.score(torch.arange(USERS), rows(given))
    torch.testing.assert_close(
        table[given.users, given.items][several], model.predict(given.users, given.items, of_pairs)
    )


def test_svdpp_scores_users_it_never_saw_by_their_history():
    model = SVDpp(SPEC, view=Ratings(), dim=4)
    item = torch.tensor([2])
    expected = model.implicit.weight[[0, 1]].sum(0) / math.sqrt(2) @ model.items.weight[2]
    assert float(model.score(None, histories([0, 1]))[0, 2]) == pytest.approx(float(expected), abs=1e-6)
    assert float(model.predict(None, item, histories([0, 1]))[0]) == pytest.approx(float(expected), abs=1e-6)


def test_nmf_is_the_multiplicative_update_written_as_loops():
    given = batch(7)
    torch.manual_seed(0)
    model = NMF(SPEC, view=Matrix(), dim=3, l2=0.2, sweeps=1)
    p, q = model.users.double().numpy().copy(), model.items.double().numpy().copy()
    pairs = list(zip(*(column.tolist() for column in given[:3]), strict=True))
    model.fit(given)
    for mine, others, own in ((p, q, 0), (q, p, 1)):
        ratio = np.ones_like(mine)
        for row in range(len(mine)):
            met = [(pair[1 - own], pair[2]) for pair in pairs if pair[own] == row]
            for k in range(3) if met else ():
                above = sum(others[other, k] * r for other, r in met)
                below = sum(others[other, k] * (mine[row] @ others[other]) for other, r in met)
                ratio[row, k] = above / (below + 0.2 * len(met) * mine[row, k])
        mine *= ratio
    np.testing.assert_allclose(model.users.numpy(), p, rtol=1e-4)
    np.testing.assert_allclose(model.items.numpy(), q, rtol=1e-4)
    losses = [float(model.fit(given)) for _ in range(50)]
    assert losses[-1] < losses[0]
    assert float(model.users.min()) > 0
    with pytest.raises(DataError, match="-1"):
        model.fit(given._replace(values=-given.values.sign()))


@pytest.mark.parametrize("by", ["item", "user"])
def test_knn_baseline_is_equation_by_equation_what_loops_say(by, monkeypatch):
    monkeypatch.setattr("marquee.models.neighbours.knn_baseline.CELLS", 30)  # some pairs at a time
    given = batch(8, share=0.7)
    model = KNNBaseline(SPEC, view=Matrix(), by=by, neighbours=2, least=2, shrinkage=1.0)
    model.fit(given)
    base = (model.mean + model.users[:, None] + model.items).double().numpy()
    rest = np.full((USERS, ITEMS), np.nan)
    rest[given.users, given.items] = given.values.numpy() - base[given.users, given.items]
    rated = rest if by == "user" else rest.T  # rows are compared

    def similarity(one, other):
        common = ~np.isnan(rated[one]) & ~np.isnan(rated[other])
        a, b, n = rated[one][common], rated[other][common], common.sum()
        return (n - 1) / (n - 1 + 1.0) * (a @ b) / math.sqrt(a @ a * (b @ b)) if n > 1 else 0.0

    users, items = torch.arange(USERS).repeat_interleave(ITEMS), torch.arange(ITEMS).repeat(USERS)
    found = model.predict(users, items, histories()).view(USERS, ITEMS)
    for user in range(USERS):
        for item in range(ITEMS):
            target, owner = (item, user) if by == "item" else (user, item)
            near = [(similarity(target, j), rated[j, owner]) for j in range(len(rated))
                    if not np.isnan(rated[j, owner]) and j != target]  # fmt: skip
            near = sorted((pair for pair in near if pair[0] > 0), reverse=True)[:2]
            expected = base[user, item]
            if len(near) == 2:
                expected += sum(s * r for s, r in near) / sum(s for s, _ in near)
            assert float(found[user, item]) == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(model.score(torch.arange(USERS), histories(*[[]] * USERS)), found)


def every_model():
    given = batch(9)
    yield ials(solver="cholesky")
    yield ials(confidence="log")
    yield LogisticMF(SPEC, view=Matrix(), dim=3)
    yield TruncatedSVD(SPEC, view=Matrix(), dim=3)
    yield NMF(SPEC, view=Matrix(), dim=3)
    yield KNNBaseline(SPEC, view=Matrix())
    yield KNNBaseline(SPEC, view=Matrix(), by="user")
    yield Bias(SPEC, view=Matrix())
    yield prepared(BiasedMF(SPEC, view=Ratings(), dim=3), given)
    yield prepared(SVDpp(SPEC, view=Ratings(), dim=3), given)


@pytest.mark.parametrize("model", every_model(), ids=lambda model: type(model).__name__)
def test_the_state_alone_gives_the_same_scores_and_a_batch_those_of_its_users_alone(model):
    given = batch(9)
    if model.learns_in_fit:
        model.fit(given)
    users, known = torch.arange(USERS), rows(given)
    with torch.no_grad():
        scores = model.score(users, known)
        for user in (0, 5, USERS - 1):
            alone = model.score(users[user : user + 1], known.take(users[user : user + 1]))
            torch.testing.assert_close(alone[0], scores[user], rtol=1e-4, atol=1e-5)
        # A second one of the same options, as it is built from a run's folder: without data.
        torch.manual_seed(5)
        made = {type(other).__name__ + str(getattr(other, "by", getattr(other, "confidence", ""))): other
                for other in every_model()}  # fmt: skip
        again = made[type(model).__name__ + str(getattr(model, "by", getattr(model, "confidence", "")))]
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.score(users, known), scores)


@pytest.mark.parametrize("kind", [IALS, LogisticMF, TruncatedSVD], ids=lambda kind: kind.__name__)
def test_factor_models_learn_who_belongs_together(kind):
    """Two groups of users, each with items of its own: what is missing of one's own group comes first."""
    generator = np.random.default_rng(0)
    met = (generator.random((40, 20)) < 0.6) & (np.arange(40)[:, None] % 2 == np.arange(20) % 2)
    met[:, :2] |= np.arange(40)[:, None] % 2 == np.arange(2)
    users, items = (torch.from_numpy(column) for column in np.nonzero(met))
    torch.manual_seed(0)
    model = kind(InteractionSpec(40, 20), view=Matrix(), dim=4, **({"l2": 0.5} if kind is LogisticMF else {}))
    for _ in range(model.max_epochs or 20):
        model.fit(MatrixBatch(users, items))
    known = Histories(items, torch.from_numpy(np.concatenate([[0], met.sum(1).cumsum()])))
    scores = model.score(torch.arange(40), known).masked_fill(torch.from_numpy(met), -torch.inf)
    unmet = torch.from_numpy(~met & (np.arange(40)[:, None] % 2 == np.arange(20) % 2))
    best = scores.argmax(1)
    some = unmet.any(1)
    assert float(unmet[torch.arange(40), best][some].float().mean()) > 0.95
