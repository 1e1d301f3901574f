"""Runs that make pictures: trained, resumed, put to use, compared; and what they say to whoever asks for nonsense."""

import json
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import marquee
from marquee.config.compose import compose
from marquee.inference.features import PixelFeatures
from marquee.metrics.pictures import kid
from marquee.models.gan.dcgan import DCGAN
from marquee.runs import train as runs

from .commands import environment
from .conftest import answer, manifest_of
from .test_contracts import resumed_as_whole

PICTURES = ["data=world_posters", "task=image_generation", "tracker=none", "trainer.max_epochs=1"]
SHORT = ["trainer.limit_train_batches=2", "task.samples=40", "task.validation_samples=20", "task.importance=5",
         "task.validation_importance=2"]  # fmt: skip
MODELS = {
    "gan/dcgan": ["model.channels=[4,8]", "model.latent=8"],
    "autoencoder/vae": ["model.likelihood=8-bit", "model.channels=[4]", "model.layers=[16]", "model.latent=4"],
    "flow/matching": ["model.channels=[4,8]", "model.steps=2", "model.patch=4"],
}


def words(model="gan/dcgan"):
    return [*PICTURES, f"model={model}", *SHORT, *MODELS[model]]


@pytest.fixture(scope="module")
def made(tmp_path_factory, world_cache):
    """The folders of one finished run of each model, with plots."""
    output, folders = tmp_path_factory.mktemp("pictures") / "outputs", {}
    with mock.patch.dict(os.environ, {**environment(output, world_cache), "MARQUEE_PLOTS": "true"}):
        for model in MODELS:
            further = ["model.conditional=true", "trainer.max_epochs=2"] if model == "gan/dcgan" else []
            done = answer("train", *words(model), *further)
            assert done.code == 0, done.err
            folders[model] = (output / "latest").resolve()
    return folders


@pytest.fixture
def train(shell):
    def begin(*further, model="gan/dcgan", code=0):
        done = shell("train", *words(model), *further)
        assert done.code == code, done.err
        begin.err = done.err
        return Path("outputs/latest").resolve() if code == 0 else None

    return begin


@pytest.mark.parametrize("model", MODELS)
def test_a_run_stands_beside_noise_class_means_the_floor_and_what_the_world_would_draw(model, made):
    manifest = manifest_of(made[model])
    rows = manifest["baselines"]
    assert set(rows) == {"baseline/noise", "baseline/class_means", "train"}
    for row in (*rows.values(), manifest["oracle"]):
        assert {"kid", "fid", "precision", "recall", "density", "coverage", "nearest", "memorisation"} <= set(row)
    assert rows["train"]["memorisation"] == 0 and manifest["oracle"]["memorisation"] > 0.5  # copies, and none
    assert rows["train"]["kid"] < rows["baseline/class_means"]["kid"] < rows["baseline/noise"]["kid"]
    assert manifest["oracle"]["coverage"] > 0.8
    assert ("test/nats" in manifest["metrics"]) == (model == "autoencoder/vae")
    assert manifest["task"]["protocol"].startswith("40 samples against 40 real images, features: 64 principal comp")


def test_a_stopped_run_goes_on_to_the_same_weights_of_both_networks(shell):
    """Weights, their mean, singular vectors and both optimisers, bit by bit."""
    config = compose([*words(), "model.critic_steps=2", "model.conditional=true"]).config
    _, folder = resumed_as_whole(config)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    parts = {name.split(".")[1] for name in content["state_dict"]}
    assert parts == {"generator", "discriminator", "averaged", "steps"} and len(content["optimizer_states"]) == 2


@pytest.mark.parametrize("model", ["autoencoder/vae", "flow/matching"])
def test_a_stopped_run_of_one_loss_goes_on_to_the_same_weights(model, shell):
    resumed_as_whole(compose([*words(model), "trainer.precision=bf16-mixed"]).config)


def test_pictures_are_made_written_and_made_again(made, shell):
    folder = made["gan/dcgan"]
    predictor = marquee.load(folder)
    many = predictor.generate(40, 3)
    assert all(np.array_equal(a.content, b.content) for a, b in zip(predictor.generate(2, 3), many))
    assert not np.array_equal(predictor.generate(1, 4)[0].content, many[0].content)
    assert {one.facts["class"] for one in many} <= set(predictor.labels)
    for file in ("grid.png", "more.npz"):
        assert shell("generate", folder, "-n", 6, "--seed", 3, "--class", "Horror", "--output", file).code == 0
        assert "identical" in shell("generate", folder, "--verify", file).out
    with np.load("more.npz") as arrays:
        assert arrays["images"].shape == (6, 3, 48, 32) and set(arrays["classes"].tolist()) == {"Horror"}
        first = arrays["images"][0]
    sheet = np.asarray(Image.open("grid.png"))
    assert np.array_equal(np.moveaxis(sheet[:48, :32], -1, 0), first)
    told = json.loads(Path("grid.png.provenance.json").read_text())
    assert told["settings"] == {"class": "Horror"} and [row["number"] for row in told["made"]] == list(range(6))
    assert len(shell("generate", folder).out.splitlines()) == 25  # 48 rows, two to a line, and what to type
    damaged = bytearray(Path("more.npz").read_bytes())
    damaged[500] ^= 1
    Path("more.npz").write_bytes(damaged)
    found = shell("generate", folder, "--verify", "more.npz")
    assert found.code == 4 and "not identical" in found.err
    for wrong, told in (
        ("--class=Opera", "is none of this run's classes"),
        ("--prompt=x", "makes pictures and does not"),
    ):
        found = shell("generate", folder, wrong)
        assert found.code == 2 and told in found.err
    assert shell("generate", folder, "-n", 20000).code == 2
    assert "it cannot predict" in shell("predict", folder, "--image", "grid.png").err


def test_features_are_those_of_a_finished_classifier_that_the_protocol_names(train, shell, trained):
    folder = train(f"task.extractor={trained['cnn']}")
    manifest = manifest_of(folder)
    said = manifest["config"]["task"]["extractor"]
    sha = manifest_of(trained["cnn"])["checkpoint"]["weights_sha256"]
    assert said == f"{trained['cnn'].name}@{sha[:12]}"
    assert f"PosterCnn of run {said}, 16 values before its last layer" in manifest["task"]["protocol"]
    assert "test/modes" in manifest["metrics"] and manifest["collapsed"] is True  # of eight genres, after two steps
    assert "note: The model has collapsed: its samples cover" in train.err
    assert shell("rerun", folder).code == 0
    assert manifest_of(Path("outputs/latest").resolve())["metrics"] == manifest["metrics"]
    # Another extractor is another protocol, and no column.
    train()
    blocks = json.loads(shell("compare", "outputs", "--format", "json").out)["blocks"]
    assert len(blocks) == 2
    units = pd.read_parquet(folder / "per_unit.parquet")
    assert list(units) == ["image", "coverage", "nearest"] and len(units) == 40


def test_two_models_are_compared_image_by_image(made, shell):
    output = made["gan/dcgan"].parents[1]
    (block,) = json.loads(shell("compare", output, "--format", "json", "--metric", "coverage").out)["blocks"]
    assert len(block["configurations"]) == 3 and "baseline/class_means" in json.dumps(block)


def test_the_values_are_those_of_the_samples_that_the_run_would_make(made, shell):
    """By hand: the features of its samples, made here of the weights that the run has kept."""
    folder = made["gan/dcgan"]
    config = manifest_of(folder)["config"]
    data = runs.prepare_data(config)
    task = runs.prepare_task(config, data)
    model = marquee.load(folder).model
    assert isinstance(model, DCGAN)
    task.evaluated = "test"
    samples = task._made(model, torch.arange(40))
    look = PixelFeatures(data)
    real = look(torch.from_numpy(np.asarray(data.images[task.rows("test")])))[0]
    value = kid(real, look(samples)[0])
    assert manifest_of(folder)["metrics"]["test/kid"] == pytest.approx(value, rel=1e-4)


def test_a_loss_that_is_no_number_says_whose_it_is(train):
    for name in ("discriminator", "generator"):
        train(f"optimizer.{name}.lr=1e30", "trainer.limit_train_batches=6", code=4)
        assert f"optimizer.{name}.lr=" in train.err or "The training loss of the" in train.err


def test_a_run_that_only_shows_that_it_runs_is_measured_on_what_it_made(train):
    manifest = manifest_of(train("trainer=smoke", "task.samples=250"))
    assert manifest["n_units"] == 250 and manifest["metrics"]["test/kid"] > 0
    manifest = manifest_of(train("trainer=smoke", "trainer.limit_test_batches=1", "task.samples=250"))
    assert manifest["n_units"] == 100


@pytest.mark.parametrize(
    ("further", "model", "told"),
    [
        (["task.extractor=nowhere"], "gan/dcgan", "task.extractor: "),
        (["task.extractor=RATINGS"], "gan/dcgan", "pictures are looked at by a run that classifies images"),
        (["model.likelihood=binary"], "autoencoder/vae", "is for grey images, and these have 3 channels"),
        (["task.monitor=nats"], "gan/dcgan", "DCGAN has no likelihood"),
        (["task.samples=1"], "gan/dcgan", "task.samples"),
        (["optimizer.genrator.lr=1"], "gan/dcgan", "genrator"),
        (["model=cnn/poster", "~model.latent"], "gan/dcgan", "cnn/poster"),
        (["trainer.accumulate_grad_batches=2"], "gan/dcgan", "makes its own steps"),
    ],
)
def test_what_cannot_be_is_refused_by_name(further, model, told, train, trained):
    further = [word.replace("RATINGS", str(trained["ease"])) for word in further]
    train(*further, model=model, code=2)
    assert told in train.err


def test_plots_show_samples_real_pictures_and_walks(made):
    plots = made["gan/dcgan"] / "plots"
    sizes = {name: Image.open(plots / f"{name}.png").size for name in ("samples", "real", "walk")}
    assert sizes["samples"] == sizes["real"] and sizes["walk"][0] > sizes["walk"][1]
    assert (plots / "learning-loss.png").exists() and (plots / "learning-kid.png").exists()
