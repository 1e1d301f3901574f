"""Music, talk and guides through the command line: trained, resumed to the bit, written, verified, compared."""

import json
import wave

import mido
import numpy as np
import pytest
import torch
from PIL import Image

import marquee

from .commands import environment
from .conftest import answer, manifest_of

# What is trained by gradient in these rooms, in its smallest form.
SMALL = {
    "rnn/gru_frames": ["data=world_chords", "data.pieces=30", "model.hidden=8", "model.view.length=16",
                       "model.view.transpose=2"],
    "cnn/tcn": ["data=world_chords", "data.pieces=30", "model.channels=6", "model.levels=2"],
    "rnn/nade": ["data=world_chords", "data.pieces=30", "task=chords", "model.hidden=8", "model.units=4",
                 "model.view.length=16"],
    "guide/choices": ["data=world_guide", "data.customers=200"],
    "retrieval/dual_encoder": ["data=conversations", "data.path=talks.jsonl", "task.candidates=5", "model.dim=8",
                               "model.hidden=8", "model.buckets=64", "model.view.batch_size=16"],
    "rnn/tagger": ["data=world_requests", "data.texts=200", "model.dim=8", "model.hidden=8"],
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("music-cache")


@pytest.fixture
def train(cache, tmp_path, monkeypatch):
    """`marquee train WORDS` in this process; the run's folder."""
    monkeypatch.chdir(tmp_path)
    for key, value in environment(tmp_path / "outputs", cache).items():
        monkeypatch.setenv(key, value)
    talks = [{"turns": [f"do you know film {n}", f"yes film {n} is good", "who is in it"]} for n in range(60)]
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)))

    def run(*words):
        done = answer("train", "tracker=none", *words)
        assert done.code == 0, done.err
        return (tmp_path / "outputs" / "latest").resolve()

    return run


@pytest.mark.parametrize("model", SMALL)
def test_a_run_that_is_resumed_ends_with_the_weights_of_one_that_never_stopped(model, train):
    words = [*SMALL[model], f"model={model}", "optimizer.lr=0.01"]
    if "frames" in model or model in ("cnn/tcn", "rnn/nade"):
        words.append("task.sample=0")
    whole = train(*words, "trainer.max_epochs=2")
    parts = train(*words, "trainer.max_epochs=1", "name=parts")
    record = manifest_of(parts) | {"status": "interrupted"}  # as a stopped run's: it has not reached its last epoch
    (parts / "manifest.json").write_text(json.dumps(record))
    assert train(f"resume={parts}", "trainer.max_epochs=2") == parts
    weights, resumed = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, parts)
    )
    assert all(weights[name].equal(resumed[name]) and weights[name].isfinite().all() for name in weights)
    manifest = manifest_of(whole)
    assert manifest["baselines"] and manifest["metrics"]


def test_pieces_are_written_in_every_form_and_come_out_again(train, tmp_path):
    run = train("data=world_chords", "data.pieces=30", "model.hidden=16", "trainer.max_epochs=2", "optimizer.lr=0.01",
                "plots=true")  # fmt: skip
    assert {"written.png", "written.wav"} <= {file.name for file in (run / "plots").iterdir()}
    for name in ("a.mid", "a.wav", "a.png", "a.abc"):
        made = answer("generate", str(run), "-n", "2", "--frames", "24", "--output", str(tmp_path / name))
        assert made.code == 0, made.err
        again = answer("generate", str(run), "--verify", str(tmp_path / name))
        assert again.code == 0 and "identical" in again.out, again.err
    assert sum(message.type == "note_on" for message in mido.MidiFile(tmp_path / "a.mid")) > 20
    with wave.open(str(tmp_path / "a.wav")) as file:
        # Two pieces of 24 quarter notes, two of silence, at 90 a minute, and half a second of echo.
        assert file.getnframes() / file.getframerate() == pytest.approx(50 / 90 * 60 + 0.5, abs=0.7)
    assert np.asarray(Image.open(tmp_path / "a.png")).max() == 240
    told = json.loads((tmp_path / "a.mid.provenance.json").read_text())
    assert len(told["made"]) == 2 and told["made"][0]["parallel_fifths"] >= 0

    one = marquee.load(run).generate(1, 1, frames=24)[0].content
    np.testing.assert_array_equal(one, marquee.load(run).generate(3, 1, frames=24)[0].content)
    (tmp_path / "a.abc").write_text((tmp_path / "a.abc").read_text() + "z")
    assert answer("generate", str(run), "--verify", str(tmp_path / "a.abc")).code == 4
    wrong = answer("generate", str(run), "--prompt", "C")
    assert wrong.code == 2 and "--prompt: this run composes music and does not take it" in wrong.err


def test_chords_as_wholes_stand_in_a_block_of_their_own(train):
    for words in (["task.sample=16"], ["task=chords", "model=rnn/nade", "model.units=4", "task.sample=0"]):
        train("data=world_chords", "data.pieces=30", "model.hidden=8", "trainer.max_epochs=1", *words)
    content = json.loads(answer("compare", "outputs", "--format", "json").out)
    assert len(content["blocks"]) == 2
    printed = answer("compare", "outputs").out
    assert "each key for itself" in printed and "notes one after the other" in printed and "oracle" in printed


def test_a_model_of_wholes_does_not_answer_for_single_keys(train):
    done = answer("check", "data=world_chords", "model=rnn/nade")
    assert done.code == 2 and "is no FrameModel" in done.err
