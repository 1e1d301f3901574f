"""The models that read a history in its order: against their papers' formulas, written again the slow way."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from marquee.config.check import problems
from marquee.config.compose import compose
from marquee.data.interactions.histories import Histories, gather_rows
from marquee.data.interactions.known import Known, from_inference
from marquee.data.interactions.views import MaskedSequences, SequenceBatch, Sequences
from marquee.data.spec import Feature, InteractionSpec
from marquee.models.cnn.caser import Caser
from marquee.models.cnn.nextitnet import CausalConv, NextItNet
from marquee.models.dropout import dropout
from marquee.models.losses import NextItemLoss
from marquee.models.rnn.gru4rec import GRU4Rec
from marquee.models.transformer.attention import attend
from marquee.models.transformer.bert4rec import BERT4Rec
from marquee.models.transformer.hstu import HSTU, time_buckets
from marquee.models.transformer.sasrec import SASRec

from .small import SmallData, histories

GENRES = Feature("genres", "multi_hot", 3)
SPEC = InteractionSpec(3, 10, has_timestamps=True, item_features=(GENRES,))
SHIFTED = {
    "gru4rec": (GRU4Rec, {"hidden": 8}),
    "sasrec": (SASRec, {"heads": 2}),
    "hstu": (HSTU, {}),
    "nextitnet": (NextItNet, {}),
    "caser": (Caser, {"window": 3, "horizontal": 2, "vertical": 2}),
}
ALL = {**SHIFTED, "bert4rec": (BERT4Rec, {})}


def made(name, spec=SPEC, max_length=5, seed=0, **keys):
    kind, own = ALL[name]
    view = MaskedSequences(max_length=max_length) if name == "bert4rec" else Sequences(max_length=max_length)
    torch.manual_seed(seed)
    return kind(spec, view=view, loss=NextItemLoss(), dim=8, **own | keys).eval()


def timed(*rows):
    """Histories of lists of (item, time)."""
    flat = histories(*[[item for item, _ in row] for row in rows])
    return Histories(flat.items, flat.offsets, torch.tensor([time for row in rows for _, time in row]))


# What holds for all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_scores_depend_on_the_newest_items_in_their_order_and_on_nobody_else(name):
    model = made(name)
    newest = 3 if name == "caser" else 4 if name == "bert4rec" else 5  # a mask takes one of five places
    scores = model.score(None, histories([1, 2, 3]))
    together = model.score(None, histories([4, 5, 6, 7, 8], [1, 2, 3], []))
    torch.testing.assert_close(together[1], scores[0])
    assert together.shape == (3, 10) and torch.isfinite(together).all()
    long, other = [0, 9, 4, 5, 6, 7, 8], [9, 0, 4, 5, 6, 7, 8]
    torch.testing.assert_close(model.score(None, histories(long)), model.score(None, histories(long[-newest:])))
    torch.testing.assert_close(model.score(None, histories(long)), model.score(None, histories(other)))
    assert not torch.allclose(scores, model.score(None, histories([3, 2, 1])))


@pytest.mark.parametrize("name", ALL)
def test_nobody_to_score_gives_no_rows(name):
    assert made(name).score(None, histories()).shape == (0, 10)


@pytest.mark.parametrize("name", ALL)
def test_a_row_is_scored_alike_whoever_else_is_in_the_batch(name):
    """Histories of no, one and more items than are read, with times that are equal and that run backwards."""
    model = made(name)
    rows = [[], [(3, 7)], [(1, 5), (1, 5), (2, 5)], [(4, 9), (5, 4), (6, 1)], [(n, n**9) for n in range(9)]]
    together = model.score(None, timed(*rows))
    assert together.isfinite().all()
    for row, scores in zip(rows, together, strict=True):
        torch.testing.assert_close(model.score(None, timed(row))[0], scores, atol=1e-6, rtol=1e-5)


KINDS = ["cross_entropy", "full_cross_entropy", "sampled_softmax", "bce", "gbce", "bpr", "bpr_max"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_every_model_learns_with_every_loss_when_there_are_two_items(name, kind):
    """Then most of what is drawn as a negative is the target itself."""
    data = SmallData([[0, 1, 0, 1, 1], [1, 0], [1, 1, 0]], [[]] * 3, [[]] * 3, n_items=2)
    model = made(name, data.spec, max_length=2)
    model.criterion = NextItemLoss(kind=kind, n_negatives=4)
    (batch,) = model.train().view.train_batches(data, 0, 0)
    loss = model.loss(batch)
    loss.backward()
    assert loss.isfinite() and all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("name", ALL)
def test_the_state_alone_gives_the_same_scores_in_a_model_that_never_saw_the_data(name):
    data = SmallData([[0, 1, 2]] * 3, [[]] * 3, [[]] * 3, n_items=10)
    data.encoded = lambda side: {"genres": np.eye(10, 3, dtype=np.float32)}
    data.items = None
    model = made(name, features=True)
    model.prepare(data)
    again = made(name, features=True, seed=1)
    again.load_state_dict(model.state_dict())
    asked = timed([(1, 0), (2, 50)], [(3, 7)])
    assert torch.equal(again.score(None, asked), model.score(None, asked))


@pytest.mark.parametrize("name", [name for name in SHIFTED if name != "sasrec"])
def test_training_loss_of_a_row_is_the_mean_over_its_prefixes(name):
    """One shifted row teaches what a row for each prefix would. (SASRec counts positions back: test_recommenders.)"""
    model = made(name)
    items, times, targets = [1, 2, 3, 4], [0, 10, 400, 90_000], [2, 3, 4, 5]
    row = SequenceBatch(torch.tensor([[*items, 10]]), torch.tensor([[*targets, 10]]), torch.tensor([[*times, 0]]))
    losses = []
    for n in range(1, 5):
        scores = model.score(None, timed(list(zip(items[:n], times[:n], strict=True))))
        losses.append(float(F.cross_entropy(scores, torch.tensor(targets[n - 1 : n]))))
    assert float(model.loss(row)) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_cycle_of_items_is_learnt(name):
    """Item i is followed by i + 1: a popular item would be right one time in ten."""
    rows = [[(start + place) % 10 for place in range(6)] for start in range(10)]
    data = SmallData(rows, [[]] * 10, [[]] * 10, n_items=10)
    model = made(name, data.spec, max_length=6, dropout=0.0).train()
    model.view.newest_share = 1.0  # of MaskedSequences: random masks teach the same, but take thousands of steps
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(60):
        for batch in model.view.train_batches(data, 0, epoch):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    model.eval()
    best = model.score(None, histories(*[row[:5] for row in rows])).argmax(1)
    assert best.tolist() == [row[5] for row in rows]


@pytest.mark.parametrize("name", ALL)
def test_features_are_added_to_the_vectors_that_are_read_and_scored_with(name):
    model = made(name, features=True)
    table = torch.randn(10, 3).gt(0).float()
    data = SimpleNamespace(encoded=lambda side: {"genres": table.numpy()})
    model.prepare(data)
    # By hand: the mean of the vectors of an item's genres, none where it has none.
    side = table @ model.side.spaces[0] / table.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(model.vectors()[:10], model.items.weight[:10] + side)
    torch.testing.assert_close(model.vectors()[10:], model.items.weight[10:])
    torch.testing.assert_close(model.embed(torch.tensor([[3, 10]]))[0, 0], model.items.weight[3] + side[3])
    if model.outputs is None:
        torch.testing.assert_close(model.output()[:, :8], model.vectors()[:10])
    model.train().loss(next(iter(model.view.train_batches(SmallData([[0, 1, 2, 3]], [[]], [[]], 10), 0, 0)))).backward()
    assert model.side.spaces[0].grad.abs().sum() > 0


@pytest.mark.parametrize("name", ALL)
def test_features_that_the_data_does_not_name_are_refused_with_what_to_type(name):
    with pytest.raises(ValueError, match=r"data\.item_features=\{genres: multi_hot\}.*model\.features=false"):
        made(name, InteractionSpec(3, 10), features=True)


@pytest.mark.parametrize("name", list(SHIFTED))
def test_untied_models_score_with_vectors_of_their_own(name):
    model = made(name, tied=False)
    asked = histories([1, 2])
    state = model.query(asked)
    bias = 0 if model.bias is None else model.bias
    torch.testing.assert_close(model.score(None, asked), state @ model.outputs.weight.T + bias)
    assert made(name, tied=True).outputs is None


# BERT4Rec ------------------------------------------------------------------------------------------------------------


def test_bert4rec_reads_both_ways_but_no_padding():
    model = made("bert4rec")
    one = model._encode(torch.tensor([[1, 11, 3, 10, 10]]), torch.tensor([3]))
    two = model._encode(torch.tensor([[1, 11, 4, 10, 10]]), torch.tensor([3]))
    assert not torch.allclose(one[:, 1], two[:, 1]), "what comes later says what was hidden"
    short = model._encode(torch.tensor([[1, 11, 3]]), torch.tensor([3]))
    torch.testing.assert_close(short, one[:, :3])


def test_bert4rec_asks_with_a_mask_behind_the_history():
    model = made("bert4rec")
    with torch.no_grad():
        model.bias.normal_()
    state = model._encode(torch.tensor([[1, 2, 11]]), torch.tensor([3]))[0, 2]
    expected = state @ model.items.weight[:10].T + model.bias  # Sun et al. 2019, eq. 7
    torch.testing.assert_close(model.score(None, histories([1, 2]))[0], expected)


def test_bert4recs_training_row_that_hides_the_newest_asks_what_a_recommendation_asks():
    data = SmallData([[1, 2, 3]], [[]], [[]], n_items=10)
    model = made("bert4rec")
    model.view.newest_share = 1.0
    (batch,) = model.view.train_batches(data, 0, 0)
    assert batch.items.tolist() == [[1, 2, 11]] and batch.targets.tolist() == [[10, 10, 3]]
    scores = model.score(None, histories([1, 2]))
    assert float(model.loss(batch)) == pytest.approx(float(F.cross_entropy(scores, torch.tensor([3]))), rel=1e-5)


def test_bert4rec_without_room_for_a_mask_is_refused_before_any_data_is_read():
    words = ["data=movielens_100k", "model=transformer/bert4rec", "model.view.max_length=1"]
    assert [problem.key for problem in problems(compose(words))] == ["model.view.max_length"]


def test_the_share_of_rows_that_hide_their_newest_item_only():
    data = SmallData([[0, 1, 2, 3]] * 2000, [[]] * 2000, [[]] * 2000, n_items=4)
    view = MaskedSequences(batch_size=2000, max_length=4, masked_share=0.3, newest_share=0.25)
    (batch,) = view.train_batches(data, 0, 0)
    hidden = batch.items == 5
    newest_only = (hidden == torch.tensor([False, False, False, True])).all(1).float().mean()
    # Of the other rows 0.3 * 0.7^3, and a quarter of those in which nothing was hidden (0.7^4), look the same.
    assert float(newest_only) == pytest.approx(0.25 + 0.75 * (0.3 * 0.7**3 + 0.7**4 / 4), abs=0.03)


# HSTU ----------------------------------------------------------------------------------------------------------------


def test_hstu_is_equations_1_to_3_of_its_paper():
    """One head, loops over positions; the time bias and the distance bias differ for every pair."""
    model = made("hstu", layers=1, heads=1)
    block = model.blocks[0]
    with torch.no_grad():
        block.position_bias.normal_()
        block.time_bias.normal_()
    times = [0, 3, 1000, 1001]
    x = model.items.weight[[1, 2, 3, 4]] * 8**0.5
    u, v, q, k = (F.layer_norm(x, (8,)) @ block.project.weight.T).sigmoid().mul(
        F.layer_norm(x, (8,)) @ block.project.weight.T
    ).split(8, 1)  # fmt: skip
    rows = []
    for i in range(4):
        mixed = torch.zeros(8)
        for j in range(i + 1):
            bucket = int(2 * math.log2(max(1, times[i] - times[j])))
            a = q[i] @ k[j] + block.position_bias[i - j] + block.time_bias[bucket]
            mixed = mixed + a * torch.sigmoid(a) / 5 * v[j]
        rows.append(x[i] + block.out(F.layer_norm(mixed, (8,)) * u[i]))
    expected = F.layer_norm(torch.stack(rows), (8,))
    found = model._encode(torch.tensor([[1, 2, 3, 4]]), torch.tensor([4]), torch.tensor([times]))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_hstu_buckets_intervals_by_half_octaves():
    times = torch.tensor([[0, 1, 3, 1000, 1000 + 100 * 365 * 86_400]])
    # By hand: log2 of 3, 2, 1 and 0; of 1000, 999 and 997 (9.97, 9.96, 9.96); a century is beyond the last bucket.
    assert time_buckets(times)[0, 2].tolist() == [3, 2, 0, 0, 0]
    assert time_buckets(times)[0, 3].tolist() == [19, 19, 19, 0, 0]
    assert time_buckets(times)[0, 4].tolist() == [63, 63, 63, 63, 0]


def test_hstu_sees_when_things_were_met_and_does_without():
    model = made("hstu")
    with torch.no_grad():
        for block in model.blocks:
            block.time_bias.normal_()
    slow, fast = timed([(1, 0), (2, 10**6)]), timed([(1, 0), (2, 1)])
    assert not torch.allclose(model.score(None, slow), model.score(None, fast))
    # Without times the bias is left out, as if it were zero.
    untimed = model.score(None, histories([1, 2]))
    with torch.no_grad():
        for block in model.blocks:
            block.time_bias.zero_()
    torch.testing.assert_close(untimed, model.score(None, slow))
    assert made("hstu", InteractionSpec(3, 10)).blocks[0].time_bias is None


# Convolutions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel, dilation", [(2, 1), (3, 2), (3, 5)])
def test_the_causal_convolution_is_conv1d_with_zeros_before_the_row(kernel, dilation):
    torch.manual_seed(0)
    layer, x = CausalConv(4, kernel, dilation), torch.randn(2, 7, 4)
    weight = layer.taps.weight.view(4, kernel, 4).transpose(1, 2)  # [out, in, tap]
    padded = F.pad(x.transpose(1, 2), ((kernel - 1) * dilation, 0))
    expected = F.conv1d(padded, weight, layer.taps.bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)


def test_nextitnet_sees_as_far_back_as_its_dilations_reach():
    # Kernel 3, one block of dilation 1: 3 (3 - 1) 1 = 6 positions further back.
    model = made("nextitnet", max_length=12, dilations=[1])
    rows = torch.zeros(3, 9, dtype=torch.int64)
    rows[1, 2], rows[2, 1] = 5, 5
    states = model._encode(rows, torch.tensor([9] * 3))[:, 8]
    assert not torch.allclose(states[0], states[1]) and torch.allclose(states[0], states[2])


def test_caser_is_its_paper_window_by_window():
    """Every window is cut out and padded with zeros, every filter slid over it in a loop (Tang & Wang 2018)."""
    model = made("caser")
    items = [1, 2, 3, 4]
    states = model._encode(torch.tensor([items]), torch.tensor([4]))[0]
    for position in range(4):
        window = torch.zeros(3, 8)
        known = items[max(0, position - 2) : position + 1]
        window[3 - len(known) :] = model.items.weight[known]
        found = []
        for filters in model.horizontal:
            for weight, bias in zip(filters.weight, filters.bias, strict=True):  # weight [dim, height]
                height = weight.shape[1]
                slid = [(window[at : at + height].T * weight).sum() + bias for at in range(3 - height + 1)]
                found.append(torch.stack(slid).relu().max()[None])
        down = torch.stack([weight[0] @ window for weight in model.vertical.weight])  # [vertical, dim]
        # The state's weights take the vertical part dimension by dimension.
        found.append((down + model.vertical.bias[:, None]).T.reshape(-1))
        torch.testing.assert_close(states[position], model.state(torch.cat(found)).relu(), atol=1e-6, rtol=1e-5)


# What training costs less by -----------------------------------------------------------------------------------------


def test_dropout_drops_the_share_asked_for_and_keeps_the_mean():
    torch.manual_seed(0)
    for p in (0.1, 0.2, 0.5, 0.9):
        found = dropout(torch.ones(1001, 301), p)
        assert float((found == 0).float().mean()) == pytest.approx(p, abs=0.005)
        assert float(found.max()) == pytest.approx(1 / (1 - p))
        assert float(found.mean()) == pytest.approx(1, abs=0.02)
        # Neighbours share a random number of 64 bits, and are independent all the same.
        kept = (found > 0).float().view(-1)
        assert abs(np.corrcoef(kept[1:], kept[:-1])[0, 1]) < 0.01


def test_dropout_passes_the_gradient_of_what_it_kept():
    x = torch.ones(5, 7, requires_grad=True)
    found = dropout(x, 0.4)
    found.sum().backward()
    assert torch.equal(x.grad, found)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_for_training_equals_pytorchs(monkeypatch, heads, padded):
    torch.manual_seed(0)
    monkeypatch.setattr("marquee.models.transformer.attention.dropout", lambda x, p: x)
    parts = [torch.randn(3, heads, 5, 4, requires_grad=True) for _ in range(3)]
    real = (torch.arange(5) < torch.tensor([5, 2, 1])[:, None])[:, None, None] if padded else None
    ours = attend(*parts, 0.5, real)
    theirs = F.scaled_dot_product_attention(*parts, real, is_causal=not padded)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    found, expected = (torch.autograd.grad((mixed * weight).sum(), parts) for mixed in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_of_like_length_share_a_batch_and_every_row_comes_once():
    rows = [[place % 30 for place in range(2 + user % 20)] for user in range(200)]
    data = SmallData(rows, [[]] * 200, [[]] * 200, n_items=30)
    view = Sequences(batch_size=20, max_length=50)
    batches = list(view.train_batches(data, 1, 0))
    assert len(batches) == view.steps(data) == 10
    lengths = [(batch.targets != 30).sum(1) for batch in batches]
    assert sorted(torch.cat(lengths).tolist()) == sorted(len(row) - 1 for row in rows)
    assert sum(float(n.max() - n.min()) for n in lengths) / 10 < 8, "at random it would be about 19"
    again = list(view.train_batches(data, 1, 0))
    assert all(torch.equal(one.items, two.items) for one, two in zip(batches, again, strict=True))
    widths = [[batch.items.shape[1] for batch in view.train_batches(data, 1, epoch)][:8] for epoch in range(3)]
    assert widths[0] != sorted(widths[0]) and widths[0] != widths[1] != widths[2], "the order of batches is random"


# Times ---------------------------------------------------------------------------------------------------------------


def test_times_go_with_their_items():
    items, offsets = np.array([1, 2, 3, 4], dtype=np.int32), np.array([0, 3, 3, 4])
    times = np.array([10, 20, 30, 40])
    found = gather_rows(items, offsets, np.array([2, 0]), times)
    assert found.times.tolist() == [40, 10, 20, 30]
    assert found.padded(2, 9)[0].tolist() == [[4, 9], [2, 3]]
    assert found.padded_times(2).tolist() == [[40, 0], [20, 30]]
    assert found.take(torch.tensor([1])).times.tolist() == [10, 20, 30]
    assert gather_rows(items, offsets, np.array([0])).padded_times(2) is None


def test_training_rows_have_the_times_of_what_is_read():
    data = SmallData([[0, 1, 2], [3]], [[]] * 2, [[]] * 2, n_items=4)
    object.__setattr__(data.parts["train"], "timestamps", np.array([5, 6, 7, 8]))
    view = Sequences(max_length=5)
    (batch,) = view.train_batches(data, 0, 0)
    assert batch.items.tolist() == [[0, 1]] and batch.times.tolist() == [[5, 6]]
    assert view.shard(batch, 0, 1).times is batch.times and view.shard(batch._replace(times=None), 0, 2).times is None


def test_a_runs_folder_keeps_the_times_and_one_without_them_loads(tmp_path):
    ids = np.arange(2)
    for times in (np.array([7, 8, 9]), None):
        Known(np.array([0, 1, 3]), np.array([0, 0, 1], dtype=np.int32), ids, ids, ["a", "b"], times).save(tmp_path)
        found = from_inference(tmp_path).times
        assert found is None if times is None else found.tolist() == [7, 8, 9]


@pytest.mark.parametrize("name", ALL)
def test_every_model_takes_a_step_in_every_precision(name):
    """And its loss is that of float64 to the digits that the precision has."""
    data = SmallData([[0, 1, 2, 3], [1, 2], [2, 3]], [[]] * 3, [[]] * 3, n_items=10)

    def step(dtype, mixed=False):
        model = made(name, dropout=0.0).train().to(torch.float32 if mixed else dtype)
        (batch,) = model.view.train_batches(data, 0, 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = model.loss(batch)
        loss.backward()
        assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
        return float(loss)

    exact = step(torch.float64)
    assert step(torch.float32) == pytest.approx(exact, rel=1e-5)
    assert step(torch.bfloat16) == pytest.approx(exact, rel=0.05)
    assert step(torch.bfloat16, mixed=True) == pytest.approx(exact, rel=0.05)
