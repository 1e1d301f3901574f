"""Text models: shapes, indifference to padding, options, and agreement with a second implementation."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from marquee.data.spec import TextSpec
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError
from marquee.models.cnn.text import TextCnn
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.models.reading import Attention, hide_words, pool_max, pool_mean
from marquee.models.rnn.elman import Elman, SigmoidRnn
from marquee.models.rnn.gru import Gru
from marquee.models.rnn.lstm import Lstm
from marquee.models.transformer.text import TextTransformer, angles, sinusoids, turn

SPEC = TextSpec(vocab_size=50, n_classes=3)
VIEW = TextBatches(max_length=16)
MODELS = {
    "lstm": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6),
    "lstm mean": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6, layers=2, pooling="mean"),
    "lstm last": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6, pooling="last", bidirectional=False),
    "lstm attention": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6, pooling="attention"),
    "gru": lambda: Gru(SPEC, view=VIEW, dim=8, hidden=6, layers=2),
    "elman": lambda: Elman(SPEC, view=VIEW, dim=8, hidden=6, layers=2),
    "elman tanh": lambda: Elman(SPEC, view=VIEW, dim=8, hidden=6, activation="tanh", pooling="last"),
    "cnn": lambda: TextCnn(SPEC, view=VIEW, dim=8, maps=6),
    "cnn one wide": lambda: TextCnn(SPEC, view=VIEW, dim=8, maps=6, widths=[17], max_norm=None),
    "transformer": lambda: TextTransformer(SPEC, view=VIEW, dim=8, heads=2),
    "transformer max": lambda: TextTransformer(SPEC, view=VIEW, dim=8, heads=2, pooling="max", attention_dropout=0.1),
    "transformer first": lambda: TextTransformer(SPEC, view=VIEW, dim=8, heads=2, pooling="first", positions="rope"),
    "transformer attention": lambda: TextTransformer(
        SPEC, view=VIEW, dim=8, heads=2, pooling="attention", positions="sinusoidal"
    ),
    "bag of words": lambda: BagOfWords(SPEC, view=VIEW),
    "bag of bigrams": lambda: BagOfWords(SPEC, view=VIEW, bigrams=True, buckets=100),
}
NEURAL = [name for name in MODELS if not name.startswith("bag")]


def texts(lengths=(16, 9, 1, 5), width=16):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (len(lengths), width), generator=generator)
    lengths = torch.tensor(lengths)
    tokens[torch.arange(width) >= lengths[:, None]] = 0
    return TextBatch(tokens, lengths, torch.tensor([0, 1, 2, 0]), torch.arange(len(lengths)))


def model_of(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    if isinstance(model, BagOfWords):  # begins at zero, where everything is equal
        torch.nn.init.normal_(model.weights.weight)
        torch.nn.init.zeros_(model.weights.weight[0])
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_logits_have_a_row_a_text_and_every_weight_learns(name):
    model = model_of(name).train()
    logits = model(texts())
    assert logits.shape == (4, 3)
    torch.nn.functional.cross_entropy(logits, texts().labels).backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name):
    model = model_of(name)
    batch = texts()
    for row, length in enumerate(batch.lengths.tolist()):
        alone = TextBatch(batch.tokens[row : row + 1, :length], batch.lengths[row : row + 1], None, None)
        torch.testing.assert_close(model(alone)[0], model(batch)[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_lstm_equals_torchs_own_on_packed_sequences(bidirectional):
    torch.manual_seed(0)
    ours = Lstm(SPEC, view=VIEW, dim=8, hidden=6, bidirectional=bidirectional, pooling="last").eval()
    theirs = torch.nn.LSTM(8, 6, batch_first=True, bidirectional=bidirectional)
    weights = {f"{name}": value for name, value in ours.forwards[0].state_dict().items()}
    if bidirectional:
        weights |= {f"{name}_reverse": value for name, value in ours.backwards[0].state_dict().items()}
    theirs.load_state_dict(weights)
    batch = texts()
    packed = pack_padded_sequence(ours.embedding(batch.tokens), batch.lengths, batch_first=True, enforce_sorted=False)
    states, (last, _) = theirs(packed)
    expected = ours.output(torch.cat(list(last), dim=1))
    torch.testing.assert_close(ours(batch), expected, atol=1e-5, rtol=1e-5)
    ours.pooling = "max"
    states, _ = pad_packed_sequence(states, batch_first=True, padding_value=float("-inf"))
    torch.testing.assert_close(ours(batch), ours.output(states.amax(1)), atol=1e-5, rtol=1e-5)


def test_bag_of_words_by_hand():
    model = BagOfWords(SPEC, view=VIEW)
    with torch.no_grad():
        model.weights.weight[2] = torch.tensor([1.0, 0.0, 0.0])
        model.weights.weight[3] = torch.tensor([0.0, 2.0, 0.0])
        model.bias.copy_(torch.tensor([0.0, 0.0, 0.5]))
    batch = TextBatch(torch.tensor([[2, 3, 2, 0]]), torch.tensor([3]), None, None)
    scale = np.sqrt(200) / np.sqrt(2)  # two different words; the repeated one counts once
    assert model(batch)[0].tolist() == pytest.approx([scale, 2 * scale, 0.5], rel=1e-5)


def test_bigrams_tell_word_order_and_words_alone_do_not():
    one = TextBatch(torch.tensor([[2, 3, 4]]), torch.tensor([3]), None, None)
    other = TextBatch(torch.tensor([[3, 2, 4]]), torch.tensor([3]), None, None)
    words, pairs = model_of("bag of words"), model_of("bag of bigrams")
    torch.testing.assert_close(words(one), words(other))
    assert not torch.allclose(pairs(one), pairs(other))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match=r"model\.heads=3 must divide model\.dim=8"):
        TextTransformer(SPEC, view=VIEW, dim=8, heads=3)


@pytest.mark.parametrize(("positions", "dim", "heads"), [("rope", 6, 2), ("sinusoidal", 5, 1)])
def test_positions_that_come_in_pairs_refuse_an_odd_width(positions, dim, heads):
    with pytest.raises(ConfigError, match=f"model.positions={positions} needs an even width"):
        TextTransformer(SPEC, view=VIEW, dim=dim, heads=heads, positions=positions)


@pytest.mark.parametrize("name", NEURAL)
def test_models_learn_in_bfloat16(name):
    model = model_of(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(texts()).float()
    torch.nn.functional.cross_entropy(logits, texts().labels).backward()
    assert bool(logits.isfinite().all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


# Recurrent networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_gru_equals_torchs_own_on_packed_sequences(bidirectional):
    torch.manual_seed(0)
    ours = Gru(SPEC, view=VIEW, dim=8, hidden=6, bidirectional=bidirectional, pooling="last").eval()
    theirs = torch.nn.GRU(8, 6, batch_first=True, bidirectional=bidirectional)
    weights = dict(ours.forwards[0].state_dict())
    if bidirectional:
        weights |= {f"{name}_reverse": value for name, value in ours.backwards[0].state_dict().items()}
    theirs.load_state_dict(weights)
    batch = texts()
    packed = pack_padded_sequence(ours.embedding(batch.tokens), batch.lengths, batch_first=True, enforce_sorted=False)
    _, last = theirs(packed)
    torch.testing.assert_close(ours(batch), ours.output(torch.cat(list(last), dim=1)), atol=1e-5, rtol=1e-5)


def test_the_sigmoid_layer_is_the_formula_word_by_word():
    torch.manual_seed(0)
    layer, x = SigmoidRnn(5, 4, batch_first=True), torch.randn(3, 7, 5, requires_grad=True)
    outputs, last = layer(x)
    state = torch.zeros(3, 4)
    for step in range(7):  # h_t = sigmoid(W [h, x] + b), with W as two blocks and b as two halves
        joined = torch.cat([state, x[:, step]], dim=1)
        weight = torch.cat([layer.weight_hh_l0, layer.weight_ih_l0], dim=1)
        state = torch.sigmoid(joined @ weight.T + layer.bias_ih_l0 + layer.bias_hh_l0)
        torch.testing.assert_close(outputs[:, step], state)
    torch.testing.assert_close(last[0], state)
    inputs = (x, *layer.parameters())
    ours, theirs = torch.autograd.grad(last.sum(), inputs), torch.autograd.grad(state.sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_plain_recurrent_network_has_the_activation_that_was_asked_for():
    kinds = {activation: Elman(SPEC, view=VIEW, activation=activation) for activation in ("sigmoid", "tanh")}
    states = {name: model.forwards[0](torch.randn(2, 9, 100))[0] for name, model in kinds.items()}
    assert bool((states["sigmoid"] > 0).all()) and bool((states["tanh"] < 0).any())


def test_weights_of_the_first_lstm_still_have_their_names():
    """Runs of earlier versions hold these."""
    layer = {f"{part}_l0" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    layers = {f"{way}.0.{name}" for way in ("forwards", "backwards") for name in layer}
    assert set(Lstm(SPEC, view=VIEW).state_dict()) == {"embedding.weight", "output.weight", "output.bias", *layers}


# Convolution ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_text_cnn_equals_a_plain_convolution_with_max_pooling(training):
    """Values and gradients, by torch's own maximum over each text alone; training goes a way of its own."""
    torch.manual_seed(0)
    model = TextCnn(SPEC, view=VIEW, dim=8, maps=6, dropout=0.0).train(training)
    batch = texts()
    plain = []
    for row, length in enumerate(batch.lengths.tolist()):
        vectors = model.embedding(batch.tokens[row, :length]).T[None]
        plain.append(torch.cat([layer(vectors).amax(dim=2)[0] for layer in model.filters]))
    expected = model.output(torch.stack(plain).relu())
    torch.testing.assert_close(model(batch), expected, atol=1e-5, rtol=1e-5)
    theirs = torch.autograd.grad(expected.square().sum(), model.parameters())
    ours = torch.autograd.grad(model(batch).square().sum(), model.parameters())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_weights_of_the_output_stay_within_the_norm_that_was_asked_for():
    model = TextCnn(SPEC, view=VIEW, dim=8, maps=6, max_norm=0.5)
    with torch.no_grad():
        model.output.weight.copy_(torch.arange(54.0).view(3, 18) / 10)
    before = model.output.weight.clone()
    model.eval()
    scored = model(texts())
    assert bool((model.output.weight == before).all())  # prediction leaves the weights alone
    model.train()(texts())
    torch.testing.assert_close(model.output.weight.norm(dim=1), torch.full((3,), 0.5))
    torch.testing.assert_close(model.eval()(texts()), scored)
    free = TextCnn(SPEC, view=VIEW, dim=8, maps=6, max_norm=None)
    free.load_state_dict(model.state_dict() | {"output.weight": before})
    free.train()(texts())
    assert bool((free.output.weight == before).all())


# Transformer ---------------------------------------------------------------------------------------------------------


def test_rope_scores_depend_on_the_distance_of_two_words_alone():
    torch.manual_seed(0)
    query, key, angle = torch.randn(8), torch.randn(8), angles(20, 8)
    scores = torch.stack([turn(query, angle[i]) @ turn(key, angle[i + 3]) for i in range(17)])
    torch.testing.assert_close(scores, scores[:1].expand(17))
    assert turn(query, angle[0]).equal(query)


def test_sinusoids_by_hand():
    """Vaswani et al. 2017, section 3.5: sin and cos of pos / 10000^(2i/d)."""
    table = sinusoids(3, 4)
    assert table[2].tolist() == pytest.approx([np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], abs=1e-6)


@pytest.mark.parametrize("positions", ["learnt", "sinusoidal", "rope"])
def test_positions_tell_the_order_of_words(positions):
    torch.manual_seed(0)
    model = TextTransformer(SPEC, view=VIEW, dim=8, heads=2, positions=positions).eval()
    one = TextBatch(torch.tensor([[2, 3, 4]]), torch.tensor([3]), None, None)
    other = TextBatch(torch.tensor([[3, 2, 4]]), torch.tensor([3]), None, None)
    assert not torch.allclose(model(one), model(other), atol=1e-6)


def test_attention_dropout_zeroes_weights_in_training_alone():
    torch.manual_seed(0)
    model = TextTransformer(SPEC, view=VIEW, dim=8, heads=2, attention_dropout=0.5, dropout=0.0)
    same = TextTransformer(SPEC, view=VIEW, dim=8, heads=2, dropout=0.0)
    same.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(texts()), same.eval()(texts()))
    assert not torch.allclose(model.train()(texts()), same.train()(texts()), atol=1e-4)


def test_weights_of_the_first_transformer_still_have_their_names():
    names = {name for name in TextTransformer(SPEC, view=VIEW).state_dict() if not name.startswith("blocks.")}
    assert names == {"words.weight", "positions", "norm.weight", "norm.bias", "output.weight", "output.bias"}


# What they share -----------------------------------------------------------------------------------------------------


def test_hidden_words_are_the_share_that_was_asked_for_and_padding_stays():
    torch.manual_seed(0)
    tokens = torch.randint(2, 50, (100, 100))
    tokens[:, 60:] = 0
    hidden = hide_words(tokens, 0.2)
    assert bool((hidden[:, 60:] == 0).all())
    changed = hidden[:, :60] != tokens[:, :60]
    assert bool((hidden[:, :60][changed] == 1).all())
    assert float(changed.float().mean()) == pytest.approx(0.2, abs=0.026)  # 5 standard errors of 6,000 draws are 0.026
    assert hide_words(tokens, 0.0) is tokens


@pytest.mark.parametrize("kind", [Lstm, Gru, Elman, TextCnn, TextTransformer])
def test_words_are_hidden_while_training_and_never_in_prediction(kind):
    torch.manual_seed(0)
    model = kind(SPEC, view=VIEW, dim=8, dropout=0.0, word_dropout=0.5)
    expected = model.eval()(texts())
    assert not torch.allclose(model.train()(texts()), expected, atol=1e-5)
    torch.testing.assert_close(model.eval()(texts()), expected)


def test_pooling_by_hand():
    states = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]]])
    inside = torch.tensor([[True, True, False]])
    assert pool_max(states, inside).tolist() == [[3.0, -5.0]]
    assert pool_mean(states, inside).tolist() == [[2.0, -6.0]]
    attention = Attention(2)
    with torch.no_grad():
        attention.hidden.weight.copy_(torch.eye(2))
        attention.hidden.bias.zero_()
        attention.question.weight.copy_(torch.tensor([[2.0, 0.0]]))
    odds = np.exp(2 * np.tanh(3) - 2 * np.tanh(1))  # of the second word against the first
    share = odds / (1 + odds)
    expected = [(1 - share) * 1 + share * 3, (1 - share) * -5 + share * -7]
    assert attention(states, inside)[0].tolist() == pytest.approx(expected, rel=1e-5)
