"""Autoencoders, factorization machines and two-part networks against their formulas, written again."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from marquee.data.interactions.views import PairBatch, Pairs, RatingBatch, Ratings, RowBatch, Rows
from marquee.data.spec import Feature, InteractionSpec
from marquee.models.autoencoder.multi_dae import MultiDAE
from marquee.models.autoencoder.multi_vae import MultiVAE
from marquee.models.autoencoder.recvae import RecVAE, log_normal
from marquee.models.autoencoder.rows import Cells, multinomial_loss
from marquee.models.neural.deepfm import DeepFM
from marquee.models.neural.factorization_machine import FactorizationMachine
from marquee.models.neural.neumf import NeuMF
from marquee.models.neural.objective import ranking_loss
from marquee.models.neural.perceptron import PairPerceptron
from marquee.models.neural.two_tower import TwoTower

from .small import SmallData, histories

TRAIN = [[0, 1, 2], [0, 2], [1, 2, 0], [3, 4], [4, 5, 3], [3, 5, 4], []]
DATA = SmallData(TRAIN, [[]] * 7, [[]] * 7, n_items=7)
KINDS = (Feature("group", "categorical", 3), Feature("genres", "multi_hot", 2), Feature("year", "dense", 1))
SPEC = InteractionSpec(7, 7, user_features=KINDS[:1], item_features=KINDS)
GROUPS = np.array([1, 1, 1, 2, 2, 2, 1])  # of users and of items alike; item 6 and user 6 are new, of group 1
TABLE = {"group": GROUPS, "genres": np.eye(3)[GROUPS][:, 1:].astype("f4"), "year": np.zeros((7, 1), "f4")}


def data_with_features():
    data = SmallData(TRAIN, [[]] * 7, [[]] * 7, n_items=7)
    data.spec, data.encoded = SPEC, lambda side: TABLE
    return data


def trained(model, data=DATA, epochs=60, lr=0.02):
    model.prepare(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        for batch in model.view.train_batches(data, 1, epoch):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    return model.eval()


def seeded(kind, spec=DATA.spec, **settings):
    torch.manual_seed(0)
    return kind(spec, **settings)


# Autoencoders --------------------------------------------------------------------------------------------------------

AUTOENCODERS = {
    "dae": lambda: seeded(MultiDAE, view=Rows(batch_size=4), layers=[6]),
    "deep dae": lambda: seeded(MultiDAE, view=Rows(batch_size=4), layers=[8, 6]),
    "vae": lambda: seeded(MultiVAE, view=Rows(batch_size=4), layers=[6]),
    "deep vae": lambda: seeded(MultiVAE, view=Rows(batch_size=4), layers=[8, 6], anneal_steps=50),
    "recvae": lambda: seeded(RecVAE, view=Rows(batch_size=4), hidden=8, latent=6),
}


def test_the_first_layer_is_the_dense_product_of_normalised_rows_with_its_gradient():
    torch.manual_seed(0)
    layer, rows = Cells(7, 5), histories([3, 0], [], [1, 1, 2])  # an item that occurs twice counts once
    x = F.normalize(rows.matrix(7), dim=1)
    torch.testing.assert_close(layer(rows), x @ layer.weight + layer.bias)
    slope = torch.randn(3, 5)
    torch.testing.assert_close(torch.autograd.grad(layer(rows), layer.weight, slope)[0], x.T @ slope)
    dropped = Cells(400, 1)
    torch.nn.init.ones_(dropped.weight)
    assert float(dropped(histories(list(range(400))), 0.5)) == pytest.approx(20, rel=0.15), "scaled by 1 / (1 - p)"


def test_the_multinomial_loss_and_its_gradient_are_those_of_the_dense_formula():
    torch.manual_seed(0)
    logits, rows = torch.randn(3, 7, requires_grad=True), histories([3, 0], [], [1, 1, 2])
    expected = -(rows.matrix(7) * logits.log_softmax(1)).sum(1).mean()
    found = multinomial_loss(logits, rows)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (found, expected)))


def test_multi_vaes_loss_is_the_elbo_with_an_annealed_weight():
    model = seeded(MultiVAE, view=Rows(), layers=[6], dropout=0.0, beta=0.5, anneal_steps=4)
    rows = histories([0, 1], [3])
    mean, log_variance = model.encode(rows)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    for step in range(6):
        torch.manual_seed(step)
        found = model.loss(RowBatch(torch.arange(2), rows))
        torch.manual_seed(step)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        torch.testing.assert_close(
            found, multinomial_loss(model.decoder(z), rows) + 0.5 * min(1, step / 4) * divergence
        )  # fmt: skip
    assert int(model.state_dict()["steps"]) == 6, "a resumed run goes on from here"


def test_recvaes_parts_learn_in_turns_and_its_prior_is_renewed_once_an_epoch():
    model = AUTOENCODERS["recvae"]()
    model.prepare(DATA)  # two steps an epoch
    batch = RowBatch(torch.arange(3), histories([0, 1], [3], [2]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    learnt, renewed = [], []
    for _ in range(8):
        before = copy.deepcopy(model.state_dict())
        optimizer.zero_grad()
        model.loss(batch).backward()
        optimizer.step()
        changed = {name.split(".")[0] for name, tensor in model.state_dict().items() if (tensor != before[name]).any()}
        learnt.append("decoder" if "decoder" in changed else "encoder")
        assert not {"encoder", "decoder"} <= changed
        renewed.append("old" in changed)
    assert learnt == ["encoder"] * 3 + ["decoder"] + ["encoder"] * 3 + ["decoder"]
    assert renewed == [False, False, True, False, True, False, True, False], "at first it is the encoder's copy"


def test_recvaes_encoder_step_is_the_formula():
    model = seeded(RecVAE, view=Rows(), hidden=8, latent=3, dropout=0.0, gamma=0.05)
    rows = histories([0, 1], [3])
    mean, log_variance = model.encoder(rows)
    torch.manual_seed(1)
    z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
    normal, old_mean, old_spread = torch.distributions.Normal, *model.old(rows)
    parts = [
        (3 / 20, normal(0, 1)),
        (3 / 4, normal(old_mean, (old_spread / 2).exp())),
        (1 / 10, normal(0, math.exp(5))),
    ]
    prior = sum(weight * part.log_prob(z).exp() for weight, part in parts).log()
    own = normal(mean, (log_variance / 2).exp()).log_prob(z)
    torch.testing.assert_close(log_normal(z, mean, log_variance), own)
    divergence = torch.tensor([2.0, 1.0]) * (own - prior).sum(1)
    torch.manual_seed(1)
    found = model.loss(RowBatch(torch.arange(2), rows))
    torch.testing.assert_close(found, multinomial_loss(model.decoder(z), rows) + 0.05 * divergence.mean())


@pytest.mark.parametrize("make", AUTOENCODERS.values(), ids=AUTOENCODERS)
def test_autoencoders_learn_a_toy_and_serve_histories_that_nobody_had(make):
    model = trained(make(), epochs=60, lr=0.03)
    rows = histories([0, 1], [5], [], [3, 4, 5])
    scores = model.score(None, rows)
    assert set(scores[0].topk(3).indices.tolist()) == {0, 1, 2} and set(scores[1].topk(3).indices.tolist()) == {3, 4, 5}
    assert scores.isfinite().all() and scores.dtype == torch.float32
    torch.testing.assert_close(torch.cat([model.score(None, rows.take(torch.tensor([n]))) for n in range(4)]), scores)
    again = make()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().score(None, rows), scores)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train().loss(RowBatch(torch.arange(4), rows))
        loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32


# Models of pairs -----------------------------------------------------------------------------------------------------

PAIRS = Pairs(batch_size=8, n_negatives=2)
FREE = {"l2": 0.0, "l2_layers": 0.0}
NEURAL = {
    "neumf": lambda spec: seeded(NeuMF, spec, view=PAIRS, factors=4, dim=4, layers=[8, 4], init_std=0.1, **FREE),
    "perceptron": lambda spec: seeded(NeuMF, spec, view=PAIRS, factors=0, dim=4, layers=[8], init_std=0.1, **FREE),
    "fm": lambda spec: seeded(FactorizationMachine, spec, view=PAIRS, dim=4, l2=0.0),
    "deepfm": lambda spec: seeded(DeepFM, spec, view=PAIRS, dim=4, layers=[8, 4], objective="bce", **FREE),
    "dot": lambda spec: seeded(TwoTower, spec, view=PAIRS, dim=4, layers=[8], l2=0.0),
    "concatenated": lambda spec: seeded(
        TwoTower, spec, view=PAIRS, dim=4, layers=[8], interaction="concatenated", head=[8], objective="bce", **FREE
    ),
}


def test_ranking_losses_by_hand():
    observed, sampled = torch.tensor([1.0]), torch.tensor([[0.0, 3.0]])
    bpr = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    bce = (math.log(1 + math.exp(-1)) + math.log(2) + math.log(1 + math.exp(3))) / 3
    assert float(ranking_loss(observed, sampled, "bpr")) == pytest.approx(bpr)
    assert float(ranking_loss(observed, sampled, "bce")) == pytest.approx(bce)


@pytest.mark.parametrize("n", [2, 30], ids=["rows looked up first", "first layer of the whole table"])
def test_neumfs_loss_and_gradient_are_those_of_its_formula_pair_by_pair(n):
    """He et al. 2017, equation 12, with binary cross-entropy; l2 weighs each vector as often as a pair uses it."""
    model = seeded(
        NeuMF,
        DATA.spec,
        view=PAIRS,
        factors=4,
        dim=3,
        layers=[6, 5],
        l2=0.1,
        l2_layers=0.2,
        objective="bce",
        init_std=0.5,
    )
    batch = PairBatch(torch.randint(7, (n,)), torch.randint(7, (n,)), torch.randint(7, (n, 2)))
    perceptron, total = model.perceptron, 0.0
    for user, *items in torch.cat([batch.users[:, None], batch.items[:, None], batch.negatives], 1).tolist():
        for place, item in enumerate(items):
            p, q = model.users[user], model.items[item]
            state = F.relu(perceptron.of_user(p[4:]) + perceptron.of_item(q[4:]))
            logit = perceptron.last(F.relu(perceptron.rest[0](state)))[0] + (p[:4] * q[:4]) @ model.weights
            total = total - F.logsigmoid(-logit if place else logit) / (3 * n) + 0.05 / n * q @ q
        total = total + 0.05 / n * p @ p
    matrices = perceptron.of_user, perceptron.of_item, *perceptron.rest, perceptron.last
    total = total + 0.1 * sum(layer.weight.square().sum() for layer in matrices)
    found = model.loss(batch)
    torch.testing.assert_close(found, total)
    learnt = list(model.parameters())
    for one, two in zip(torch.autograd.grad(found, learnt), torch.autograd.grad(total, learnt), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("interaction", ["dot", "concatenated"])
def test_penalties_of_towers_are_on_what_they_put_out_and_on_the_head(interaction):
    free = seeded(TwoTower, DATA.spec, view=PAIRS, dim=4, layers=[3], interaction=interaction, head=[2], **FREE)
    held = TwoTower(
        DATA.spec, view=PAIRS, dim=4, layers=[3], interaction=interaction, head=[2], l2=0.1, l2_layers=0.2
    )  # fmt: skip
    held.load_state_dict(free.state_dict())
    batch = PairBatch(torch.tensor([0, 4]), torch.tensor([1, 3]), torch.tensor([[3, 5], [0, 2]]))
    tower = [
        free.towers[0](free.user(batch.users)[:, 0]),
        free.towers[1](free.item(torch.tensor([1, 3, 3, 5, 0, 2]))[:, 0]),
    ]
    expected = 0.1 / 2 / 2 * sum(part.square().sum() for part in tower)
    if interaction == "concatenated":
        layers = free.head.of_user, free.head.of_item, free.head.last
        expected = expected + 0.2 / 2 * sum(layer.weight.square().sum() for layer in layers)
    torch.testing.assert_close(held.loss(batch) - free.loss(batch), expected)


def test_a_pair_perceptron_is_one_over_the_joined_input():
    torch.manual_seed(0)
    model, user, item = PairPerceptron(3, 2, [5, 4]), torch.randn(6, 3), torch.randn(7, 2)
    first = torch.cat([model.of_user.weight, model.of_item.weight], 1)
    for u in range(6):
        for i in range(7):
            state = F.relu(first @ torch.cat([user[u], item[i]]) + model.of_user.bias)
            state = F.relu(model.rest[0](state))
            torch.testing.assert_close(model.all_pairs(user, item)[u, i], model.last(state)[0])


def fm_by_a_double_loop(model, user, item):
    """Rendle 2010, equation 1: every two fields of the pair."""
    fields = [*model.user(torch.tensor([user]))[0], *model.item(torch.tensor([item]))[0]]
    total = model.bias + model.mean + sum(field[-1] for field in fields)
    for f, one in enumerate(fields):
        for two in fields[f + 1 :]:
            total = total + one[:-1] @ two[:-1]
    return float(total)


def test_the_factorization_machine_is_equation_1_of_rendle_2010():
    model = seeded(FactorizationMachine, SPEC, view=PAIRS, dim=4, init_std=0.5)
    model.prepare(data_with_features())
    assert model.user.fields == 2 and model.item.fields == 4
    scores = model.score(torch.arange(7), histories(*[[]] * 7))
    expected = [[fm_by_a_double_loop(model, user, item) for item in range(7)] for user in range(7)]
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    pairs = model.predict(torch.tensor([2, 6]), torch.tensor([5, 1]), histories([], []))
    np.testing.assert_allclose(pairs.detach().numpy(), [expected[2][5], expected[6][1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", [DATA.spec, SPEC], ids=["ids", "features"])
@pytest.mark.parametrize("make", NEURAL.values(), ids=NEURAL)
def test_models_of_pairs_learn_a_toy_and_score_as_they_train(make, spec):
    data = DATA if spec is DATA.spec else data_with_features()
    model = trained(make(spec), data)
    users, rows = torch.arange(6), histories(*[[]] * 6)
    with torch.no_grad():
        scores = model.score(users, rows)
        for user in range(6):
            assert set(scores[user, :6].topk(2).indices.tolist()) < ({0, 1, 2} if user < 3 else {3, 4, 5})
        one_by_one = torch.cat([model.score(users[n : n + 1], histories([])) for n in range(6)])
        torch.testing.assert_close(one_by_one, scores, rtol=1e-4, atol=1e-5)
        # What the loss compares is what is scored.
        batch = PairBatch(torch.tensor([0, 4]), torch.tensor([1, 3]), torch.tensor([[3, 5], [0, 2]]))
        objective = getattr(model, "objective", "bce")
        picked = [scores[batch.users, batch.items], scores[batch.users[:, None], batch.negatives]]
        torch.testing.assert_close(model.loss(batch), ranking_loss(*picked, objective), rtol=1e-4, atol=1e-5)
        again = make(spec)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval().score(users, rows), scores)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train().loss(batch)
    assert loss.isfinite() and loss.dtype == torch.float32


@pytest.mark.parametrize("make", [NEURAL[name] for name in ("fm", "deepfm", "dot", "concatenated")])
def test_what_training_never_met_speaks_by_its_features_alone(make):
    """Item 6 and user 6 are of group 1, which is that of items 0 ... 2 and users 0 ... 2."""
    model = trained(make(SPEC), data_with_features(), epochs=40)
    with torch.no_grad():
        before = model.score(torch.arange(7), histories(*[[]] * 7))
        model.item.ids[6] += 5
        model.user.ids[6] += 5
        assert torch.equal(model.score(torch.arange(7), histories(*[[]] * 7)), before)
    assert before[:3, 6].mean() > before[3:6, 6].mean() and before[6, :3].mean() > before[6, 3:6].mean()


@pytest.mark.parametrize("kind", [FactorizationMachine, DeepFM, TwoTower])
def test_without_ids_items_are_known_by_their_features(kind):
    layers = {} if kind is FactorizationMachine else {"layers": [8]}
    model = trained(seeded(kind, SPEC, view=PAIRS, dim=4, ids=False, **layers), data_with_features(), epochs=40)
    scores = model.score(torch.arange(6), histories(*[[]] * 6))
    torch.testing.assert_close(scores[:, 6], scores[:, 0])
    assert "item.ids" not in model.state_dict()
    with pytest.raises(ValueError, match=r"ids=false leaves items .*data\.item_features"):
        kind(DATA.spec, view=PAIRS, ids=False)


def test_items_start_from_their_features():
    model = seeded(TwoTower, SPEC, view=PAIRS, dim=4, initial="features", init_std=0.2)
    model.prepare(data_with_features())
    assert torch.equal(model.item.ids[0], model.item.ids[1]) and not torch.equal(model.item.ids[0], model.item.ids[3])
    assert float(model.item.ids.detach().std()) == pytest.approx(0.2, rel=1e-4)
    with pytest.raises(ValueError, match=r"initial=features needs item features"):
        TwoTower(DATA.spec, view=PAIRS, initial="features")


@pytest.mark.parametrize("kind", [FactorizationMachine, DeepFM])
def test_values_are_learnt_where_the_view_has_them(kind):
    data = SmallData(TRAIN, [[]] * 7, [[]] * 7, n_items=7)
    train = data.parts["train"]
    values = (1 + (train.users + 2 * train.items) % 5).astype("f4")
    object.__setattr__(train, "values", values)
    free = FREE if kind is DeepFM else {"l2": 0.0}
    model = seeded(kind, view=Ratings(batch_size=8), dim=4, **free)
    assert model.predicts_values and not seeded(kind, view=PAIRS).predicts_values
    model.prepare(data)
    assert float(model.mean) == pytest.approx(values.mean())
    batch = RatingBatch(
        *(torch.from_numpy(column).long() for column in (train.users, train.items)), torch.tensor(values)
    )
    asked = histories(*[[]] * len(values))
    with torch.no_grad():
        error = (model.predict(batch.users, batch.items, asked) - batch.values).square().mean()
        torch.testing.assert_close(model.loss(batch), error)
    trained(model, data, epochs=80, lr=0.05)
    with torch.no_grad():
        predicted = model.predict(batch.users, batch.items, asked)
        assert float((predicted - batch.values).abs().max()) < 0.3
        scores = model.score(torch.arange(7), histories(*[[]] * 7))
        torch.testing.assert_close(scores[batch.users, batch.items], predicted)
