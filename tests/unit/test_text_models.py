"""Text models: shapes, indifference to padding, and agreement with a second implementation."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from marquee.data.spec import TextSpec
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.models.rnn.lstm import Lstm
from marquee.models.transformer.text import TextTransformer

SPEC = TextSpec(vocab_size=50, n_classes=3)
VIEW = TextBatches(max_length=16)
MODELS = {
    "lstm": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6),
    "lstm mean": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6, layers=2, pooling="mean"),
    "lstm last": lambda: Lstm(SPEC, view=VIEW, dim=8, hidden=6, pooling="last", bidirectional=False),
    "transformer": lambda: TextTransformer(SPEC, view=VIEW, dim=8, heads=2),
    "transformer max": lambda: TextTransformer(SPEC, view=VIEW, dim=8, heads=2, pooling="max"),
    "bag of words": lambda: BagOfWords(SPEC, view=VIEW),
    "bag of bigrams": lambda: BagOfWords(SPEC, view=VIEW, bigrams=True, buckets=100),
}


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


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_models_run_in_bfloat16(name):
    with torch.autocast("cpu", torch.bfloat16):
        logits = model_of(name)(texts())
    assert bool(logits.isfinite().all())
