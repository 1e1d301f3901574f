"""Every family in every precision, on this processor and on one that oneDNN takes for an older one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from marquee.data.images.views import ImageBatch, ImageBatches
from marquee.data.interactions.views import Matrix, Sequences
from marquee.data.spec import ImageSpec, InteractionSpec, TextSpec
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError
from marquee.models.cnn.poster import PosterCnn
from marquee.models.cnn.resnet_small import ResNetSmall
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.models.linear.ease import EASE
from marquee.models.losses import NextItemLoss
from marquee.models.rnn import autocast
from marquee.models.rnn.gru4rec import GRU4Rec
from marquee.models.rnn.lstm import Lstm
from marquee.models.transformer.sasrec import SASRec
from marquee.models.transformer.text import TextTransformer
from marquee.runs import precision
from marquee.runs.precision import refuse_unfit_precision, remarks

from .small import SmallData

TEXT, IMAGE = TextSpec(20, 2), ImageSpec(3, 8, 8, 2)
ITEMS, SEQUENCES = InteractionSpec(3, 10), Sequences(max_length=5)
READ = TextBatches(max_length=4)
FAMILIES = {
    "rnn/lstm": lambda: Lstm(TEXT, view=READ, dim=4, hidden=4, layers=2),
    "transformer/text": lambda: TextTransformer(TEXT, view=READ, dim=8),
    "linear/bag_of_words": lambda: BagOfWords(TEXT, view=READ),
    "cnn/poster": lambda: PosterCnn(IMAGE, view=ImageBatches(), channels=[4], dense=4),
    "cnn/resnet_small": lambda: ResNetSmall(IMAGE, view=ImageBatches(), width=8, blocks=1),
    "rnn/gru4rec": lambda: GRU4Rec(ITEMS, view=SEQUENCES, loss=NextItemLoss(), dim=4, hidden=4),
    "transformer/sasrec": lambda: SASRec(ITEMS, view=SEQUENCES, loss=NextItemLoss(), dim=4, heads=2),
}


def one_step(family: str, name: str) -> torch.Tensor:
    """The loss of a training step as Lightning makes it in that precision."""
    torch.manual_seed(0)
    model, (width, kind) = FAMILIES[family](), name.split("-")
    dtype = {"bf16": torch.bfloat16, "64": torch.float64, "32": torch.float32}[width]
    if kind == "true":
        model = model.to(dtype)
    with torch.autocast("cpu", dtype if kind == "mixed" else torch.bfloat16, enabled=kind == "mixed"):
        if hasattr(model, "loss"):
            data = SmallData([[0, 1, 2, 3], [1, 2], [2, 3]], [[]] * 3, [[]] * 3, n_items=10)
            loss = model.loss(next(iter(SEQUENCES.train_batches(data, 0, 0))))
        else:
            texts = TextBatch(torch.tensor([[2, 3, 4], [5, 6, 0]]), torch.tensor([3, 2]), None, None)
            images = ImageBatch(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), None, None)
            logits = model(images if family.startswith("cnn") else texts)
            loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    return loss.detach()


@pytest.mark.parametrize("name", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_a_step_in_every_precision(family, name):
    """And its loss is that of float64 to the digits that the precision has."""
    close = {"32-true": 1e-5, "64-true": 0}.get(name, 0.05)
    assert float(one_step(family, name)) == pytest.approx(float(one_step(family, "64-true")), rel=close)


OLDER = """
import torch
from torch import nn
from marquee.models.rnn import autocast
from marquee.runs.precision import bfloat16_costs, remarks
from tests.unit.test_precision import FAMILIES, one_step
try:
    with torch.autocast("cpu", torch.bfloat16):
        nn.LSTM(2, 2)(torch.zeros(1, 1, 2))
    print("oneDNN has a bfloat16 LSTM even so")
except RuntimeError:
    assert not autocast.runs(nn.LSTM, "cpu", torch.bfloat16)
    (told, *_) = remarks({"accelerator": "cpu", "precision": "bf16-mixed"}, FAMILIES["rnn/lstm"]())
    assert "LSTM layers in bfloat16: they are computed in float32" in told
assert bfloat16_costs() > 0
for family in FAMILIES:
    for name in ("bf16-mixed", "bf16-true"):
        assert abs(float(one_step(family, name)) / float(one_step(family, "32-true")) - 1) < 0.05, (family, name)
print("all families took their steps")
"""


def test_every_family_takes_its_steps_where_onednn_has_avx2_only():
    """A new interpreter, because oneDNN reads its limit once, when torch is loaded."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", OLDER], env=environment, cwd=root, capture_output=True, text=True,
                          timeout=600)  # fmt: skip
    assert done.returncode == 0 and "all families" in done.stdout, done.stderr


# What can be seen without such a processor ---------------------------------------------------------------------------


class Old(nn.LSTM):
    """An LSTM on a processor that cannot run it in bfloat16, as oneDNN says it."""

    def forward(self, *arguments):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive.")
        return super().forward(*arguments)


def test_a_recurrent_layer_that_cannot_run_under_autocast_is_computed_in_its_own_type():
    layer, states = Old(2, 3, batch_first=True), torch.randn(2, 4, 2)
    expected, _ = layer(states)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        found = autocast.read(layer, states)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    assert not autocast.runs(Old, "cpu", torch.bfloat16)
    assert autocast.runs(nn.GRU, "cpu", torch.bfloat16), "torch computes it from products, which every processor has"


def test_trying_a_layer_takes_no_random_numbers():
    """Or a run that was resumed, which tries again, would draw another dropout than one that never stopped."""
    autocast.runs.cache_clear()
    before = torch.get_rng_state()
    with torch.inference_mode():
        autocast.runs(nn.LSTM, "cpu", torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name, told", [
    ("16-true", "float16"), ("transformer-engine", "CUDA cards only"), ("transformer-engine-float16", "CUDA cards"),
])  # fmt: skip
def test_a_precision_that_no_processor_trains_in_is_refused_with_what_to_type(name, told):
    with pytest.raises(ConfigError, match=rf"trainer\.precision={name}: .*{told}[^\n]*\n  fix: trainer\.precision=32"):
        refuse_unfit_precision({"accelerator": "cpu", "precision": name})


def test_a_precision_that_lacks_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(precision, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install transformer_engine"):
        refuse_unfit_precision({"accelerator": "gpu", "precision": "transformer-engine"})


@pytest.mark.parametrize("name", [32, "32", None, "32-true", "bf16-mixed", "bf16-true", "bf16", 16, "64-true", 64])
def test_other_precisions_are_not_refused(name):
    refuse_unfit_precision({"accelerator": "cpu", "precision": name})


def test_who_asks_for_bfloat16_where_it_is_slow_is_told_so(monkeypatch):
    """The verdict is given here; on this machine it may be either."""
    model, settings = FAMILIES["cnn/poster"](), {"accelerator": "cpu", "precision": "bf16-mixed"}
    monkeypatch.setattr(precision, "bfloat16_costs", lambda: 21.8)
    (told,) = remarks(settings, model)
    assert "take 22 times as long as in float32; trainer.precision=32 is faster" in told
    assert not remarks(settings | {"precision": 32}, model) and not remarks(settings | {"accelerator": "gpu"}, model)
    monkeypatch.setattr(precision, "bfloat16_costs", lambda: 0.6)
    assert not remarks(settings, model)
    assert "is bf16-mixed on processors" in remarks(settings | {"precision": 16}, model)[0]


def test_a_closed_form_is_computed_in_float32_and_says_so():
    (told,) = remarks({"accelerator": "cpu", "precision": "64-true"}, EASE(ITEMS, view=Matrix()))
    assert "EASE is computed in float32" in told
