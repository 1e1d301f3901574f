"""Ensembles of finished runs: their arithmetic, their record, their use without the members, and what is refused."""

import random
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import marquee
from marquee.data.spec import TextSpec
from marquee.errors import ConfigError
from marquee.inference.ensemble import EnsembleBatch, Mean

from ..finished_runs import write_run
from .commands import environment
from .conftest import answer, manifest_of

TEXTS = ["data=texts", "data.path=reviews.csv", "tracker=none", "trainer.max_epochs=1", "optimizer.lr=0.01"]
SMALL = {"gru": ["model=rnn/gru", "model.dim=8", "model.hidden=8"], "cnn": ["model=cnn/text", "model.dim=8"]}
IMAGES = ["data=images", "data.path=pictures", "tracker=none", "trainer.max_epochs=1", "model=cnn/poster",
          "model.channels=[4]", "model.dense=8"]  # fmt: skip


def write_reviews(path):
    draw = random.Random(0)
    rows = []
    for number in range(120):
        mood = "good" if number % 2 else "bad"
        words = draw.choices(["film", "story", "actor", "scene", "music", "plot"], k=draw.randint(1, 9))
        rows.append((" ".join([*words, {"good": "lovely", "bad": "dull"}[mood]]), mood))
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)


def write_pictures(folder):
    draw = np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 128, (16, 16, 3), dtype=np.uint8) + (128 if label == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data and two finished runs of texts and two of images: to be looked at, not changed."""
    folder = tmp_path_factory.mktemp("ensemble")
    write_reviews(folder / "reviews.csv")
    write_pictures(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for key, value in environment(folder / "outputs", folder / "cache").items():
            patch.setenv(key, value)
        for name, words in SMALL.items():
            assert answer("train", *TEXTS, *words, f"name={name}").code == 0
        for seed in (1, 2):
            assert answer("train", *IMAGES, f"seed={seed}", f"name=picture{seed}").code == 0
    return folder


@pytest.fixture
def shelf(place, tmp_path, monkeypatch):
    """The same, to be changed, with a command line in it."""
    shutil.copytree(place, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    for key, value in environment(tmp_path / "copy" / "outputs", place / "cache").items():
        monkeypatch.setenv(key, value)
    return tmp_path / "copy"


def member(shelf, name):
    (found,) = (shelf / "outputs" / "runs").glob(f"*-{name}")
    return found


def ensemble(shelf, *words, runs=("gru", "cnn"), data=TEXTS):
    """Train one; its folder."""
    names = ",".join(member(shelf, run).name for run in runs)
    done = answer("train", *data, "model=ensemble/mean", f"model.runs=[{names}]", *words)
    assert done.code == 0, done.err
    return (shelf / "outputs" / "latest").resolve()


def refused(done, *parts):
    assert done.code == 2, done
    assert all(part in done.err for part in parts), done.err


# Arithmetic ----------------------------------------------------------------------------------------------------------


class Says(nn.Module):
    """A member that gives back what it is given."""

    def forward(self, logits):
        return logits


def mean_of(logits, multilabel=False, **settings):
    model = Mean(TextSpec(5, 2, multilabel=multilabel), runs=["a", "b"], **settings)
    model.predictors = tuple(type("Member", (), {"model": Says()}) for _ in logits)
    return model(EnsembleBatch(tuple(torch.tensor([one]) for one in logits), None, None))[0]


def test_the_mean_of_probabilities_and_of_logits_by_hand():
    logits = [[0.0, np.log(3.0)], [0.0, np.log(1 / 9)]]  # probabilities of the second class: 3/4 and 1/10
    assert mean_of(logits).softmax(0).tolist() == pytest.approx([0.575, 0.425], abs=1e-6)
    assert mean_of(logits, votes=[3.0, 1.0]).softmax(0)[1].item() == pytest.approx((3 * 0.75 + 0.1) / 4, abs=1e-6)
    odds = np.sqrt(3 / 9)  # the geometric mean of the odds 3 and 1/9
    assert mean_of(logits, of="logits").softmax(0)[1].item() == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert mean_of(logits, multilabel=True).sigmoid().tolist() == pytest.approx([0.5, 0.425], abs=1e-6)
    far = mean_of([[0.0, 200.0], [0.0, 200.0]], multilabel=True)
    assert far.tolist() == pytest.approx([0.0, 200.0])  # no probability is rounded to one on the way


# A run like any other ------------------------------------------------------------------------------------------------


def test_its_metrics_are_those_of_the_members_mean_and_its_members_are_in_the_record(shelf):
    folder = ensemble(shelf)
    assert "Traceback" not in (folder / "log.txt").read_text()
    manifest, members = manifest_of(folder), [member(shelf, name) for name in SMALL]
    assert manifest["config"]["model"]["runs"] == [
        f"{run.name}@{manifest_of(run)['checkpoint']['weights_sha256'][:12]}" for run in members
    ]
    assert manifest["parameters"] == sum(manifest_of(run)["parameters"] for run in members)
    assert manifest["durations"]["fit"] >= sum(manifest_of(run)["durations"]["fit"] for run in members)
    units = pd.read_parquet(folder / "per_unit.parquet")
    alone = [marquee.load(run) for run in members]
    texts = pd.read_csv(shelf / "reviews.csv")
    rows = texts.iloc[units["example"]]
    expected = sum(one.predict(rows.text.tolist())["p(good)"].to_numpy() for one in alone) / 2
    right = np.where(expected > 0.5, "good", "bad") == rows.label.to_numpy()
    assert manifest["metrics"]["test/accuracy"] == pytest.approx(right.mean())
    compared = answer("compare", "outputs")
    assert compared.code == 0 and all(model in compared.out for model in ("ensemble/mean", "rnn/gru", "cnn/text"))


def test_it_answers_when_the_runs_of_its_members_are_gone(shelf):
    folder = ensemble(shelf)
    alone = [marquee.load(member(shelf, name)).predict(["a lovely film", ""]) for name in SMALL]
    for name in SMALL:
        shutil.rmtree(member(shelf, name))
    table = marquee.load(folder).predict(["a lovely film", ""])
    expected = sum(one["p(good)"] for one in alone) / 2
    assert table["p(good)"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    done = answer("predict", folder.name, "--text", "a lovely film")
    assert done.code == 0 and "p(good)" in done.out
    refused(answer("recommend", folder.name, "--user", "1"), "classifies texts")


def test_images_are_averaged_too_and_an_ensemble_may_be_a_member(shelf):
    pictures = ensemble(shelf, runs=("picture1", "picture2"), data=IMAGES[:4])
    assert "Traceback" not in (pictures / "log.txt").read_text()
    done = answer("predict", pictures.name, "--image", "pictures/dark/0.png")
    assert done.code == 0 and "p(dark)" in done.out
    inner = ensemble(shelf)
    gru = member(shelf, "gru").name
    done = answer("train", *TEXTS, "model=ensemble/mean", f"model.runs=[{inner.name},{gru}]", "model.votes=[2,1]")
    assert done.code == 0, done.err
    outer = marquee.load("latest", shelf / "outputs").predict(["dull plot"])["p(bad)"][0]
    inner, gru = (marquee.load(run, shelf / "outputs").predict(["dull plot"])["p(bad)"][0] for run in (inner, gru))
    assert outer == pytest.approx((2 * inner + gru) / 3, abs=1e-6)


def test_it_is_repeated_from_its_record_and_is_the_same_run_wherever_the_members_lie(shelf, tmp_path):
    folder = ensemble(shelf)
    assert answer("rerun", folder.name).out.rstrip().splitlines()[-1].startswith("identical")
    moved = shelf / "outputs" / "runs" / member(shelf, "cnn").name
    elsewhere = tmp_path / "else@where" / moved.name
    shutil.move(moved, elsewhere)
    done = answer("train", *TEXTS, "model=ensemble/mean", f"model.runs=[{member(shelf, 'gru')},{elsewhere}]")
    assert done.code == 0, done.err
    latest = (shelf / "outputs" / "latest").resolve()
    assert manifest_of(latest)["fingerprint"] == manifest_of(folder)["fingerprint"]


def test_an_ensemble_of_other_weights_is_another_run_and_a_sweep_takes_what_is_finished(shelf):
    folder = ensemble(shelf)
    runs = shelf / "outputs" / "runs"
    names = ",".join(member(shelf, run).name for run in SMALL)
    count = len(list(runs.iterdir()))
    done = answer("train", "-m", *TEXTS, "model=ensemble/mean", f"model.runs=[{names}]", "model.of=probabilities")
    assert done.code == 0, done.err
    assert len(list(runs.iterdir())) == count
    weights = member(shelf, "gru") / "inference" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    assert manifest_of(ensemble(shelf))["fingerprint"] != manifest_of(folder)["fingerprint"]


# What is refused -----------------------------------------------------------------------------------------------------


def test_the_check_wants_two_names_and_needs_no_run():
    refused(answer("check", *TEXTS, "model=ensemble/mean"), "model.runs", "nothing")
    refused(answer("check", *TEXTS, "model=ensemble/mean", "model.runs=[a]"), "at least 2 long")
    assert answer("check", *TEXTS, "model=ensemble/mean", "model.runs=[a,b]").code == 0
    with pytest.raises(ConfigError, match="model.votes has 1 numbers, and model.runs 2 runs"):
        Mean(TextSpec(5, 2), runs=["a", "b"], votes=[1.0])


def test_runs_that_do_not_belong_together_are_named_with_what_to_type(shelf):
    gru, cnn = (member(shelf, name).name for name in SMALL)
    command = ["train", *TEXTS, "model=ensemble/mean"]
    both = f"model.runs=[{gru},{cnn}]"
    refused(answer(*command, f"model.runs=[{gru},none]"), "model.runs: There is no run none")
    refused(answer(*command, f"model.runs=[{gru},{gru}]"), f"names {gru} twice", "model.votes")
    refused(answer(*command, f"model.runs=[{gru},{cnn}@0123]"), f"{cnn} has other weights now")
    refused(answer(*command, both, "data.min_count=1"), f"{gru} has other data", "data.min_count: 2 there, 1 here",
            "fix: marquee train data=texts data.path=reviews.csv", "data.min_count=1")  # fmt: skip
    refused(answer(*command, both, "split.seed=4"), f"{gru} has other parts", "split.seed: 0 there, 4 here")
    picture = member(shelf, "picture1").name
    refused(answer(*command, f"model.runs=[{gru},{picture}]"), f"{picture} has other data", "data=texts")
    recommender = write_run(shelf / "outputs", "mf/bpr", 1, [0.1, 0.2]).folder.name
    refused(answer(*command, f"model.runs=[{gru},{recommender}]"), f"{recommender} was trained for Recommendation")
    unfinished = shelf / "outputs" / "runs" / cnn / "manifest.json"
    unfinished.write_text(unfinished.read_text().replace('"status": "finished"', '"status": "interrupted"'))
    refused(answer(*command, both), f"{cnn} is interrupted", f"marquee train resume={cnn}")


def test_a_damaged_member_is_named(shelf):
    gru, cnn = (member(shelf, name).name for name in SMALL)
    (shelf / "outputs" / "runs" / cnn / "inference" / "text.json").unlink()
    done = answer("train", *TEXTS, "model=ensemble/mean", f"model.runs=[{gru},{cnn}]")
    assert done.code == 3 and cnn in done.err and "damaged" in done.err, done
    (shelf / "outputs" / "runs" / gru / "inference" / "model.safetensors").unlink()
    done = answer("train", *TEXTS, "model=ensemble/mean", f"model.runs=[{gru},{cnn}]")
    assert done.code == 3 and f"marquee rerun {gru}" in done.err, done
