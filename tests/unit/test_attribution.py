"""What a model looked at: shares against exact sums, the right way up, and readable pages and sheets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from marquee.data.images.views import ImageBatch, ImageBatches
from marquee.data.spec import ImageSpec, TextSpec
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.base import Classifier
from marquee.models.cnn.poster import PosterCnn
from marquee.models.rnn.lstm import Lstm
from marquee.plots import attribution
from marquee.plots.sheets import Cell, heat_entry, text_entry, unveiled, write_page, write_sheet

pytestmark = pytest.mark.skipif(not attribution.available(), reason="captum is not installed (extra explain)")


class Mean(Classifier):
    """Averages the vectors of the words: linear, so integrated gradients are exact."""

    def __init__(self, spec, view):
        super().__init__()
        self.view = view
        self.words = nn.Embedding(spec.vocab_size, 2, padding_idx=0)

    def forward(self, batch):
        return self.words(batch.tokens).sum(1) / batch.lengths[:, None]


def test_shares_of_tokens_are_exact_where_the_model_is_a_mean_of_words():
    model = Mean(TextSpec(6, 2), TextBatches())
    tokens = torch.tensor([[2, 3, 0], [4, 5, 2]])
    batch = TextBatch(tokens, torch.tensor([2, 3]), torch.zeros(2), torch.arange(2))
    shares = attribution.of_tokens(model, batch, [0, 1])
    table = model.words.weight.detach().double().numpy()
    assert shares.values[0] == pytest.approx(table[[2, 3], 0] / 2, abs=1e-5)
    assert shares.values[1] == pytest.approx(table[[4, 5, 2], 1] / 3, abs=1e-5)


def test_shares_of_an_lstm_add_up_to_the_rise_of_its_logit():
    torch.manual_seed(0)
    model = Lstm(TextSpec(9, 3), view=TextBatches(), dim=4, hidden=4).eval()
    batch = TextBatch(torch.tensor([[2, 5, 7, 8]]), torch.tensor([4]), torch.zeros(1), torch.arange(1))
    shares = attribution.of_tokens(model, batch, [2])
    with torch.no_grad():
        rise = model(batch)[0, 2] - model(batch._replace(tokens=torch.zeros_like(batch.tokens)))[0, 2]
    assert shares.values[0].sum() == pytest.approx(float(rise), abs=0.02)
    assert shares.values[0].shape == (4,)


class Corner(Classifier):
    """Sees the brightness of the upper left corner, and nothing else."""

    def __init__(self, view):
        super().__init__()
        self.view = view
        self.first, self.last = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.first.weight)
        nn.init.ones_(self.last.weight)

    def forward(self, batch):
        plane = self.last(self.first(batch.images.float()))
        corner = plane[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([corner, -corner], dim=1)


def test_a_heat_map_is_the_right_way_up():
    images = torch.full((1, 1, 16, 8), 10, dtype=torch.uint8)
    images[..., :4, :4] = 250
    batch = ImageBatch(images, torch.zeros(1, dtype=torch.int64), torch.arange(1))
    (heat,) = attribution.of_pixels(Corner(ImageBatches()), batch, [0]).values
    assert heat.shape == (16, 8)
    assert heat[:4, :4].min() > heat[8:].max() and heat[:4, :4].min() > heat[:, 5:].max()


def test_a_network_without_a_plane_is_asked_by_its_pixels():
    torch.manual_seed(0)
    model = PosterCnn(ImageSpec(3, 6, 6, 2), view=ImageBatches(), channels=[2], dense=4).eval()
    batch = ImageBatch(torch.randint(0, 255, (2, 3, 6, 6), dtype=torch.uint8), torch.zeros(2), torch.arange(2))
    shares = attribution.of_pixels(model, batch, [0, 1])
    assert "integrated gradients" in shares.method and shares.values[0].shape == (6, 6)


def test_what_speaks_for_the_class_stays_and_the_rest_is_veiled():
    picture = np.full((2, 2, 3), 250, dtype=np.uint8)
    seen = unveiled(picture, np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert seen[0, 0].tolist() == [250] * 3
    assert seen[1, 1].tolist() == [165] * 3  # .15 * 250 + .85 * 150
    assert unveiled(picture, np.zeros((2, 2)))[0, 0].tolist() == [165] * 3


def test_marked_words_are_escaped_and_told_apart_without_colour():
    entry = heat_entry("true <b>", ["<i>", "good", "the"], np.array([-0.5, 1.0, 0.01]))
    assert "<b>" not in entry and "<i>" not in entry
    assert "<mark class=against style='--share:0.50' title='-0.500'>&lt;i&gt;</mark>" in entry
    assert "<mark class=for style='--share:1.00'" in entry and entry.endswith(" the</p></article>")


def test_a_page_stands_alone(tmp_path):
    write_page(tmp_path / "x.html", "A & B", [text_entry("said c", "x" * 3000)], "why < how")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "A &amp; B" in page and "why &lt; how" in page and "http" not in page
    assert "x" * 1500 + " […]" in page and "x" * 1501 not in page


def test_a_sheet_has_a_place_for_every_picture(tmp_path):
    picture = np.zeros((30, 20, 3), dtype=np.uint8)
    write_sheet(tmp_path / "s.png", "Mistakes", [Cell((picture,), ("true a", "said b 0.9", "x" * 200))] * 5)
    with Image.open(tmp_path / "s.png") as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert sheet.width < 900
    assert (pixels == 0).sum() >= 5 * 180 * 120  # five black pictures, 180 pixels high


@pytest.mark.parametrize("name, options", [
    ("bag_of_words", {}), ("bag_of_words", {"bigrams": True, "buckets": 50}),
    ("fasttext", {"buckets": 50}), ("fasttext", {"longest": 3, "buckets": 50}), ("fasttext", {"longest": 1}),
])  # fmt: skip
@pytest.mark.parametrize("words", [[2, 3, 2, 5, 3], [4], [2, 3]])
def test_the_shares_of_a_model_that_adds_up_are_its_logits(name, options, words):
    from marquee.models.linear.bag_of_words import BagOfWords
    from marquee.models.linear.fasttext import FastText

    torch.manual_seed(1)
    kind = {"bag_of_words": BagOfWords, "fasttext": FastText}[name]
    model = kind(TextSpec(7, 3), view=TextBatches(), **options).eval()
    for weight in model.parameters():
        nn.init.normal_(weight)
    batch = TextBatch(torch.tensor([words]), torch.tensor([len(words)]), torch.zeros(1), torch.arange(1))
    with torch.no_grad():
        bias = model.bias if name == "bag_of_words" else model.output.bias
        logits = model(batch)[0] - bias
    assert model.contributions(batch.tokens[0]).sum(0) == pytest.approx(logits, abs=1e-4)


def test_every_network_that_reads_texts_can_be_asked_what_it_read():
    from marquee.models.cnn.text import TextCnn
    from marquee.models.rnn.elman import Elman
    from marquee.models.rnn.gru import Gru
    from marquee.models.transformer.text import TextTransformer

    batch = TextBatch(torch.tensor([[2, 5, 7, 8], [3, 4, 0, 0]]), torch.tensor([4, 2]), torch.zeros(2), torch.arange(2))
    for kind, options in [(TextCnn, {"dim": 4, "maps": 2}), (Elman, {"dim": 4, "hidden": 3}), (Gru, {"dim": 4}),
                          (TextTransformer, {"dim": 8, "heads": 2}),
                          (TextTransformer, {"dim": 8, "heads": 2, "pooling": "first"}),
                          (TextTransformer, {"dim": 8, "heads": 2, "positions": "rope"})]:  # fmt: skip
        torch.manual_seed(0)
        model = kind(TextSpec(9, 3), view=TextBatches(max_length=9), **options).eval()
        shares = attribution.of_tokens(model, batch, [1, 0])
        assert [len(values) for values in shares.values] == [4, 2], kind
        assert all(np.abs(values).max() > 0 for values in shares.values), kind
