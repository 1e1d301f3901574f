"""Whole runs of image models with every means of training: resumed, averaged, begun from a file, put to use."""

import json
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from marquee.config.compose import compose
from marquee.config.fingerprint import fingerprint
from marquee.runs import train as runs
from marquee.runs.signals import stop_after_epoch

from .test_contracts import plain

HERE = "tests.e2e.test_image_training"
MODELS = {
    "cnn/poster": ["model.channels=[4,8]", "model.dense=8", "model.batch_norm=true"],
    "cnn/resnet_small": ["model.width=4", "model.blocks=1"],
    "cnn/convnext": ["model.channels=[4,8]", "model.blocks=[1,1]", "model.stochastic_depth=0.3"],
    "cnn/mobile": ["model.channels=[8,8]", "model.blocks=[1,1]", "model.head=8"],
    "transformer/vit_small": ["model.patch=12", "model.dim=8", "model.heads=2", "model.layers=1"],
}
SHORT = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]
MEANS = [f"model.view.{means}" for means in ("mixup=0.4", "erase=0.5", "rotate=5", "scale=0.1", "crop=2", "flip=true",
                                              "jitter=0.2")]  # fmt: skip
TOGETHER = [*MEANS, "scheduler=cosine_warmup", "callbacks=ema", "callbacks.ema.decay=0.5", "task.label_smoothing=0.1"]


class StopOnce(pl.Callback):
    """Asks for an end after the first epoch, as Ctrl-C does."""

    def on_train_epoch_end(self, trainer, task):
        if trainer.current_epoch == 0:
            stop_after_epoch.set()


class Watch(pl.Callback):
    """Keeps one of the model's weights after each step, and as it is while validation looks at it."""

    steps, validated = [], []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_index):
        self.steps.append(task.model.output.weight.detach().clone())

    def on_validation_batch_start(self, trainer, task, batch, batch_index, dataloader_index=0):
        if batch_index == 0:
            self.validated.append(task.model.output.weight.detach().clone())


@pytest.fixture
def train(shell, monkeypatch):
    """`marquee train` on made-up posters; the folder of the run."""
    monkeypatch.setenv("MARQUEE_PLUGINS", "tests")
    stop_after_epoch.clear()

    def begin(*words, code=0):
        done = shell("train", "data=world_posters", "tracker=none", "trainer.max_epochs=2", *SHORT, *words)
        stop_after_epoch.clear()
        assert done.code == code, done.err
        begin.err = done.err
        return Path("outputs/latest").resolve()

    return begin


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.mark.parametrize("name", MODELS)
def test_a_stopped_run_with_all_means_of_training_goes_on_to_the_same_weights(name, train):
    words = ["data=world_posters", "tracker=none", "trainer.max_epochs=2", *SHORT, f"model={name}", *MODELS[name]]
    config = compose([*words, *TOGETHER]).config
    whole = runs.train(config)
    config["callbacks"]["stop"] = {"_target_": f"{HERE}.StopOnce"}
    with pytest.raises(KeyboardInterrupt):
        runs.train(config)
    stop_after_epoch.clear()
    parted = Path("outputs/latest").resolve()
    assert checkpoint(parted)["epoch"] == 0
    again = runs.train(config, resume=parted)
    one, other = checkpoint(Path("outputs/runs") / whole["id"]), checkpoint(parted)
    for key in ("state_dict", "trained", "optimizer_states", "schedules"):
        assert plain(one[key]) == plain(other[key])
    assert whole["metrics"] == again["metrics"]
    assert whole["checkpoint"]["weights_sha256"] == again["checkpoint"]["weights_sha256"]


def test_all_means_of_training_go_with_bfloat16(train):
    words = ["model=cnn/mobile", *MODELS["cnn/mobile"], *TOGETHER, "trainer.max_epochs=1"]
    folder = train(*words, "trainer.precision=bf16-mixed")
    assert all(bool(tensor.float().isfinite().all()) for tensor in checkpoint(folder)["state_dict"].values())


def test_the_averaged_weights_are_validated_kept_tested_and_served(train, monkeypatch):
    """By hand: after t steps the sum of decay^k w(t - k), divided by the sum of decay^k."""
    monkeypatch.setattr(Watch, "steps", [])
    monkeypatch.setattr(Watch, "validated", [])
    folder = train("model=cnn/resnet_small", *MODELS["cnn/resnet_small"], "callbacks=ema", "callbacks.ema.decay=0.5",
                   f"+callbacks.watch._target_={HERE}.Watch")  # fmt: skip
    assert len(Watch.steps) == 6

    def average(steps):
        shares = [0.5 ** (len(steps) - 1 - k) for k in range(len(steps))]
        return sum(share * weights for share, weights in zip(shares, steps, strict=True)) / sum(shares)

    for epoch, seen in enumerate(Watch.validated):
        torch.testing.assert_close(seen, average(Watch.steps[: 3 * (epoch + 1)]))
    last = checkpoint(folder)
    torch.testing.assert_close(last["state_dict"]["model.output.weight"], average(Watch.steps))
    assert torch.equal(last["trained"]["model.output.weight"], Watch.steps[-1])
    best = checkpoint(folder, "best")["state_dict"]
    served = load_file(folder / "inference" / "model.safetensors")
    assert all(torch.equal(tensor, best["model." + name]) for name, tensor in served.items())
    manifest = json.loads((folder / "manifest.json").read_text())
    torch.testing.assert_close(best["model.output.weight"], Watch.validated[manifest["best_epoch"] - 1])
    # The statistics of batch normalisation are averaged, too; the number of batches is counted.
    assert not torch.equal(best["model.first.1.running_mean"], last["trained"]["model.first.1.running_mean"])
    assert int(last["state_dict"]["model.first.1.num_batches_tracked"]) == 6


def test_gathered_gradients_are_one_step_of_the_average(train, monkeypatch):
    monkeypatch.setattr(Watch, "steps", [])
    monkeypatch.setattr(Watch, "validated", [])
    folder = train("model=cnn/resnet_small", *MODELS["cnn/resnet_small"], "callbacks=ema", "callbacks.ema.decay=0.9",
                   "trainer.accumulate_grad_batches=3", f"+callbacks.watch._target_={HERE}.Watch")  # fmt: skip
    one, two = Watch.steps[2], Watch.steps[5]
    torch.testing.assert_close(checkpoint(folder)["state_dict"]["model.output.weight"], (0.9 * one + two) / 1.9)


def test_a_closed_form_has_no_weights_to_average_and_no_run_is_begun(shell, tmp_path):
    place = f"paths.output={tmp_path}"
    done = shell("train", "data=world_ratings", "model=linear/ease", "callbacks=ema", "tracker=none", place)
    assert done.code == 2
    assert not list(tmp_path.glob("runs/*/manifest.json"))
    assert "EASE takes no gradient steps" in done.err and "fix: callbacks=default" in done.err


def test_the_warm_up_and_the_cosine_span_the_run_without_counting_steps(train):
    # Three steps an epoch, two epochs: the last rate of the schedule is that of the sixth step of six.
    folder = train("model=cnn/poster", *MODELS["cnn/poster"], "scheduler=cosine_warmup", "scheduler.floor=0.1")
    (schedule,) = checkpoint(folder)["schedules"].values()
    assert schedule["last_epoch"] == 6
    assert schedule["_last_lr"] == pytest.approx([0.1 * 0.001])


def test_a_run_begins_with_the_weights_of_another_and_needs_them_for_training_alone(train, shell, tmp_path):
    words = ["model=cnn/resnet_small", *MODELS["cnn/resnet_small"]]
    first = train(*words)
    file = tmp_path / "w.safetensors"
    file.write_bytes((first / "inference" / "model.safetensors").read_bytes())
    second = train(*words, f"model.weights={file}", "optimizer.lr=0.0")
    assert "note: " in train.err and "left at their initial value: none" in train.err
    assert "left at their initial value: none" in (second / "log.txt").read_text()
    found = json.loads((second / "manifest.json").read_text())["pretrained"]
    assert found["taken"] == found["tensors"] and found["fresh"] == []
    assert found["sha256"] == json.loads((first / "manifest.json").read_text())["checkpoint"]["weights_sha256"]
    one, other = (load_file(folder / "inference" / "model.safetensors") for folder in (first, second))
    assert torch.equal(one["output.weight"], other["output.weight"])

    stop = f"+callbacks.stop._target_={HERE}.StopOnce"
    parted = train(*words, f"model.weights={file}", "optimizer.lr=0.0", stop, code=130)
    assert shell("train", f"resume={parted.name}").code == 0
    assert plain(checkpoint(parted)["state_dict"]) == plain(checkpoint(second)["state_dict"])
    file.unlink()
    (tmp_path / "grey.pgm").write_bytes(b"P5 4 4 255\n" + bytes(16))
    assert shell("predict", parted.name, "--image", str(tmp_path / "grey.pgm")).code == 0
    train(*words, f"model.weights={file}", code=2)
    assert f"model.weights={file} does not exist" in train.err and "fix: model.weights=null" in train.err


def test_the_bytes_of_the_weights_are_part_of_a_runs_identity(tmp_path):
    file, identities = tmp_path / "w.pt", []
    for content in (b"one", b"one", b"two", None):
        file.write_bytes(content or b"")
        target = "marquee.models.cnn.mobile.Mobile"
        config = {"model": {"_target_": target, "weights": str(file) if content else None}}
        identities.append(fingerprint(config, "data", "split", {"sha256": "code"}))
    assert identities[0] == identities[1]
    assert len(set(identities)) == 3


# Images of one's own --------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """Thirty pictures of two classes whose names no file could have; the second has three."""
    folder, lines = tmp_path / "my pictures", ["file,label,year"]
    folder.mkdir()
    for i in range(30):
        (folder / f"{i}.pgm").write_bytes(b"P5 8 8 255\n" + bytes([5 * i] * 64))
        lines.append(f'{i}.pgm,"{"x/y, z" if i > 26 else "a b"}",{1990 + i % 4}')
    (folder / "labels.csv").write_text("\n".join(lines))
    own = [f"data.path='{folder}'", "data=images", "data.labels=labels.csv", "data.attributes=[year]"]
    small = ["data.height=16", "data.width=16", "model=cnn/poster", "model.channels=[2]", "model.dense=2"]
    return [*own, *small, "trainer.max_epochs=1"]


def test_odd_names_of_classes_reach_tables_and_predictions_and_the_next_command_can_be_typed(pictures, shell):
    done = shell("train", *pictures, "tracker=tensorboard", "split.test=0.4")
    assert done.code == 0, done.err
    assert "'data.attributes=[year]'" in done.out
    units = pd.read_parquet("outputs/latest/per_unit.parquet")
    assert set(units["target"]) == {"a b", "x/y, z"}
    assert {"p(a b)", "p(x/y, z)"} <= set(units.columns)
    told = shell("predict", "latest", "--image", "my pictures/29.pgm")
    assert told.code == 0 and "p(x/y, z)" in told.out


def test_a_validation_part_without_one_of_the_classes_is_measured_by_what_is_defined(pictures, shell):
    few = ["split.validation=0.05", "split.test=0.4", "split.stratified=false", "tracker=none", *pictures]
    assert shell("train", *few).code == 0
    refused = shell("train", *few, "task.monitor=auroc")
    assert refused.code == 3
    assert "task.monitor=auroc is not defined for the" in refused.err and "Raise split.validation" in refused.err
