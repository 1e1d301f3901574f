"""What all tasks share: schedules, clipping, precision, accumulation and the watch on the loss."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from marquee.data.dataset import View
from marquee.errors import JobError
from marquee.metrics.evaluator import Evaluator
from marquee.models.base import Model
from marquee.runs.checkpoint import Checkpoint
from marquee.runs.train import fit
from marquee.tasks.base import Task
from marquee.tasks.loop import Loop, Schedule

N = 8


class Numbers(View):
    """A view whose training batches are the rows of a table in order, `batch_size` at a time."""

    def __init__(self, batch_size=2):
        self.batch_size = batch_size

    def steps(self, data):
        return N // self.batch_size

    def train_batches(self, data, seed, epoch):
        return iter(data.inputs.split(self.batch_size))

    def shard(self, batch, rank, world):
        return batch


class Line(Model):
    """A weight for each of two inputs; the first dies where `dropout` says."""

    def __init__(self, view, dropout=0.0):
        super().__init__()
        self.view = view
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, -1.0]]))
        self.dropout = torch.nn.Dropout(dropout)


class Scores(Evaluator):
    """The metric is one of a list, the next at each evaluation."""

    metrics = None

    def update(self, scores, batch):
        self.scores = scores

    def state(self):
        return {"scores": self.scores.detach().float().numpy()}

    def compute(self, states):
        return {"score": next(self.metrics)}, pd.DataFrame({"unit": np.arange(N)})


class Small(Task):
    unit = "unit"
    monitor, mode = "score", "max"
    metrics = ()

    def loss(self, batch):
        return (torch.nn.functional.linear(self.model.dropout(batch), self.model.weight).float() ** 2).mean()

    def evaluation_batches(self, part, rank=0, world=1):
        return iter([self.data.inputs])

    def scores(self, scorer, batch):
        return torch.nn.functional.linear(batch, scorer.weight)

    def evaluator(self):
        return self.collector

    def baselines(self):
        return {}


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1, fused=True)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def train(folder, *, epochs=3, optimizer=adam, scheduler=None, view=None, dropout=0.0, metrics=(), resume=False,
          inputs=None, mode="max", every_n_epochs=1, **settings):  # fmt: skip
    """Fit the small task as a run does; returns the task, its learning rates at each epoch's start and its losses."""
    if inputs is None:
        inputs = torch.linspace(-1, 2, 2 * N).reshape(N, 2)
    data = SimpleNamespace(inputs=inputs, spec=None, validates=True)
    task = Small(Line(view or Numbers(), dropout), data, optimizer, scheduler, seed=3)
    task.collector = Scores()
    task.collector.metrics = iter([*metrics, *[1.0] * 50])
    rates = []

    class Rates(pl.Callback):
        def on_train_epoch_start(self, trainer, task):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    folder.mkdir(exist_ok=True)
    checkpoint = Checkpoint(folder, "validation/score", mode, every_n_epochs=every_n_epochs)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[checkpoint, Rates()],
        default_root_dir=folder, **settings,
    )  # fmt: skip
    fit(trainer, task, checkpoint, resume)
    return task, rates


def same(one, two):
    return torch.equal(one.model.weight, two.model.weight)


# Learning-rate schedules ---------------------------------------------------------------------------------------------


def test_a_schedule_steps_once_an_epoch(tmp_path):
    _, rates = train(tmp_path, scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5))
    assert rates == pytest.approx([0.1, 0.05, 0.025])


def test_a_plateau_steps_by_the_monitored_metric(tmp_path):
    def plateau(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=1)

    _, rates = train(tmp_path, epochs=6, scheduler=plateau, metrics=[0.1, 0.2, 0.2, 0.2, 0.2, 0.2])
    # Epoch 2 is the best; 3 and 4 do not improve on it, which is one more than the patience.
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_a_plateau_counts_validations_and_not_the_epochs_between_them(tmp_path):
    def plateau(optimizer):
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=0)

    _, rates = train(tmp_path, epochs=8, scheduler=plateau, metrics=[0.1, 0.2, 0.3, 0.3], check_val_every_n_epoch=2)
    assert rates == pytest.approx([0.1] * 8)  # the first stall is seen at the end of the last epoch


def test_without_a_schedule_the_rate_stays(tmp_path):
    _, rates = train(tmp_path, scheduler=None)
    assert rates == [0.1, 0.1, 0.1]


def test_a_schedule_by_the_step_steps_with_the_optimiser_and_not_with_the_batch(tmp_path):
    def halved(optimizer):
        return Schedule(torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5), every="step")

    _, rates = train(tmp_path / "each", epochs=2, scheduler=halved)
    assert rates == pytest.approx([0.1, 0.1 / 2**4])  # four batches an epoch
    _, rates = train(tmp_path / "gathered", epochs=2, scheduler=halved, accumulate_grad_batches=2)
    assert rates == pytest.approx([0.1, 0.1 / 2**2])


SCHEDULES = {
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=6),
    "warm-up": lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=4),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode="max", factor=0.1, patience=1),
}


@pytest.mark.parametrize("scheduler", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_goes_on_after_a_resume_as_if_nothing_had_happened(tmp_path, scheduler):
    metrics = [0.1, 0.2, 0.2, 0.2, 0.2, 0.2]
    options = {"scheduler": scheduler, "dropout": 0.5}
    whole, expected = train(tmp_path / "whole", epochs=6, metrics=metrics, **options)
    _, first = train(tmp_path / "parts", epochs=3, metrics=metrics[:3], **options)
    resumed, then = train(tmp_path / "parts", epochs=6, metrics=metrics[3:], resume=True, **options)
    assert first + then == expected
    assert same(resumed, whole)


# The optimiser's step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_gradients_are_clipped_whatever_the_precision_and_also_with_a_fused_optimiser(tmp_path, precision):
    """Clipped to next to nothing, plain SGD hardly moves; Adam divides by the size of the gradient, so it does."""
    before = Line(Numbers()).weight
    clipped, _ = train(tmp_path / "a", optimizer=sgd, gradient_clip_val=1e-4, precision=precision)
    moved = float((clipped.model.weight - before).detach().norm())
    assert 0 < moved <= 12 * 0.1 * 1.001e-4, "twelve steps of at most rate times limit"
    fused, _ = train(tmp_path / "b", optimizer=adam, gradient_clip_val=1e-4, precision=precision)
    assert fused.model.weight.isfinite().all() and not torch.equal(fused.model.weight, before)


def test_clipping_does_not_touch_what_is_below_the_limit(tmp_path):
    loose, _ = train(tmp_path / "a", gradient_clip_val=1e6)
    free, _ = train(tmp_path / "b")
    assert same(loose, free)


def test_accumulating_batches_equals_one_larger_batch(tmp_path):
    accumulated, _ = train(tmp_path / "a", optimizer=sgd, view=Numbers(2), accumulate_grad_batches=2)
    larger, _ = train(tmp_path / "b", optimizer=sgd, view=Numbers(4))
    assert accumulated.model.weight.detach().numpy() == pytest.approx(larger.model.weight.detach().numpy(), rel=1e-6)


# The watch on the loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validated", [1, 50])
def test_a_loss_that_is_no_number_names_epoch_and_step(tmp_path, validated):
    inputs = torch.ones(N, 2)
    inputs[5] = torch.nan  # the third batch of two
    with pytest.raises(JobError, match=r"nan in epoch 1, step 3 of 4.*optimizer\.lr") as caught:
        train(tmp_path, inputs=inputs, check_val_every_n_epoch=validated)
    assert "gradient_clip_val" in str(caught.value)


def test_a_loss_that_overflows_later_names_the_epoch(tmp_path):
    with pytest.raises(JobError, match=r"(inf|nan) in epoch [2-9], step"):
        train(tmp_path, epochs=9, optimizer=lambda p: torch.optim.SGD(p, lr=300.0))
    # What was good before it is still there.
    weights = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]["model.weight"]
    assert weights.isfinite().all()


def test_the_logged_loss_is_the_mean_over_the_epochs_steps(tmp_path):
    """By hand: with a rate of 0 the weights stay, and the epoch's loss is the mean of the batches' mean squares."""
    inputs = torch.linspace(-1, 2, 2 * N).reshape(N, 2) ** 2  # squared, so that no two batches have the same loss
    task, _ = train(tmp_path, epochs=1, optimizer=lambda p: torch.optim.SGD(p, lr=0.0), inputs=inputs)
    expected = np.mean([float(((batch[:, 0] - batch[:, 1]) ** 2).mean()) for batch in inputs.split(2)])
    assert float(task.trainer.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-6)


def test_dropout_draws_anew_in_each_epoch_and_alike_in_each_run(tmp_path):
    """With a rate of 0 only dropout moves the loss from one epoch to the next."""
    seen = {}
    for name in ("one", "two"):
        seen[name] = []

        def watched(parameters, losses=seen[name]):
            optimizer = torch.optim.SGD(parameters, lr=0.0)
            optimizer.register_step_post_hook(lambda *_: losses.append(parameters_of(optimizer).grad.tolist()))
            return optimizer

        train(tmp_path / name, epochs=2, optimizer=watched, dropout=0.5)
    assert seen["one"] == seen["two"] and seen["one"][:4] != seen["one"][4:]


def parameters_of(optimizer):
    (parameter,) = optimizer.param_groups[0]["params"]
    return parameter


# Checkpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 4)])
def test_the_best_checkpoint_is_the_highest_or_the_lowest_as_the_task_says(tmp_path, mode, best):
    """An error (RMSE, perplexity) is best where it is lowest. Of equal epochs the first is kept, NaN is never best."""
    nan = float("nan")
    train(tmp_path, epochs=7, mode=mode, metrics=[nan, 0.5, 0.9, 0.1, 0.9, 0.1, nan])
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert content["epoch"] + 1 == best
    (state,) = [kept for name, kept in content["callbacks"].items() if "best_epoch" in kept]
    assert state["best_epoch"] == best and state["best"] == pytest.approx(0.9 if mode == "max" else 0.1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] + 1 == 7


def test_a_resumed_run_remembers_which_epoch_was_the_best(tmp_path):
    train(tmp_path, epochs=2, metrics=[0.9, 0.2])
    train(tmp_path, epochs=4, metrics=[0.5, 0.8], resume=True)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] + 1 == 1


def test_a_run_that_had_decided_to_stop_does_not_go_on_when_resumed(tmp_path):
    train(tmp_path, epochs=2)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    (state,) = [kept for kept in content["callbacks"].values() if "stopped" in kept]
    state["stopped"] = True
    torch.save(content, tmp_path / "last.ckpt")
    task, _ = train(tmp_path, epochs=6, resume=True)
    assert task.trainer.current_epoch < 6


def test_the_last_checkpoint_is_written_as_often_as_asked_and_at_the_end(tmp_path, monkeypatch):
    written = []
    save = pl.Trainer.save_checkpoint

    def watched(self, path):
        written.append((path.name.split(".")[1], self.current_epoch + 1))
        save(self, path)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", watched)
    train(tmp_path, epochs=5, every_n_epochs=2, metrics=[0.5, 0.4, 0.3, 0.2, 0.1])
    assert [epoch for name, epoch in written if name == "last"] == [2, 4, 5]
    assert [epoch for name, epoch in written if name == "best"] == [1]


def test_a_disk_that_fills_up_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    train(tmp_path, epochs=2)
    before = (tmp_path / "last.ckpt").read_bytes()

    def half(self, path):
        path.write_bytes(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", half)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, epochs=3, resume=True)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("judge", "maker", "told", "rate"),
    [
        # The judge steps each time, the maker at every second time: its second loss is that of step 4.
        ("111n", "1n", "of the judge became nan in epoch 1, step 4 of 4, after a step of the judge.", "judge"),
        ("1111", "1n", "of the maker became nan in epoch 1, step 4 of 4, after a step of the judge.", "judge"),
        ("11n1", "1n", "of the judge became nan in epoch 1, step 3 of 4, after a step of the maker.", "maker"),
        ("n111", "n1", "of the judge became nan in epoch 1, step 1 of 4.", "judge"),
    ],
)
def test_of_several_losses_the_first_is_named_and_who_stepped_before(judge, maker, told, rate):
    class Told(SimpleNamespace):
        _epoch_losses, _diverged = Loop._epoch_losses, Loop._diverged

    values = {"1": torch.tensor(1.0), "n": torch.tensor(torch.nan)}
    loop = Told(
        _losses={"judge": [values[c] for c in judge], "maker": [values[c] for c in maker]},
        _places={"judge": [0, 1, 2, 3], "maker": [1, 3]}, current_epoch=0, data=None, model=Line(Numbers()),
        make_optimizer={"judge": adam, "maker": adam},
    )  # fmt: skip
    with pytest.raises(JobError) as caught:
        loop._epoch_losses()
    assert told in str(caught.value) and f"(optimizer.{rate}.lr=..." in str(caught.value)
