"""Every network that reads texts: trained, resumed to the bit, and put to use on a few sentences."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import marquee

from .commands import environment
from .conftest import answer, manifest_of

READERS = {
    "rnn/lstm": ["model.hidden=8", "model.pooling=attention", "trainer.precision=bf16-mixed"],
    "rnn/gru": ["model.hidden=8", "model.layers=2", "scheduler=cosine", "scheduler.T_max=2"],
    "rnn/elman": ["model.hidden=8"],
    "cnn/text": ["model.maps=4", "trainer.precision=bf16-mixed"],
    "transformer/text": ["model.heads=2", "model.pooling=first", "model.attention_dropout=0.1"],
}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    draw = np.random.default_rng(0)
    words = np.array(["film", "story", "actor", "scene", "music", "plot", "end"])
    rows = []
    for number in range(150):
        mood = ("good", "bad")[number % 2]
        rows.append((" ".join([*draw.choice(words, draw.integers(0, 12)), mood]), mood))
    file = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    return file


@pytest.fixture
def train(reviews, tmp_path, monkeypatch):
    """`marquee train WORDS` in this process; the run's folder."""
    for key, value in environment(tmp_path / "outputs", reviews.parent / "cache").items():
        monkeypatch.setenv(key, value)

    def run(*words):
        done = answer("train", "tracker=none", *words)
        assert done.code == 0, done.err
        return (tmp_path / "outputs" / "latest").resolve()

    return run


@pytest.mark.parametrize("model", READERS)
def test_a_reader_that_is_resumed_ends_with_the_weights_of_one_that_never_stopped(model, reviews, train):
    words = ["data=texts", f"data.path={reviews}", f"model={model}", "model.dim=8", "model.word_dropout=0.2",
             "model.view.batch_size=16", "optimizer.lr=0.01", *READERS[model]]  # fmt: skip
    whole = train(*words, "trainer.max_epochs=2")
    parts = train(*words, "trainer.max_epochs=1", "name=parts")
    record = manifest_of(parts) | {"status": "interrupted"}  # as a stopped run's: it has not reached its last epoch
    (parts / "manifest.json").write_text(json.dumps(record))
    assert train(f"resume={parts}", "trainer.max_epochs=2") == parts
    weights, resumed = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, parts)
    )
    assert all(weights[name].equal(resumed[name]) and weights[name].isfinite().all() for name in weights)
    table = marquee.load(whole).predict(["a good film", "", "\U0001f600", "plot " * 1000])
    assert np.isfinite(table[["p(bad)", "p(good)"]]).all(axis=None)
    np.testing.assert_allclose(table["p(bad)"] + table["p(good)"], 1, atol=1e-5)
