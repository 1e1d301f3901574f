"""Schedules over the whole run, by hand."""

import math

import pytest
import torch

from marquee.errors import ConfigError
from marquee.runs.schedules import CosineWarmup, planned


def rates(total, steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, found = CosineWarmup(optimizer, total, **options), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine_to_the_floor():
    found = rates(10, 12, warmup=0.2, floor=0.1)
    # Two steps of ten rise, by a third each; the eight from there on are a cosine from 1 to 0.1.
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)]
    assert found == pytest.approx([2 * factor for factor in [1 / 3, 2 / 3, *cosine, 0.1, 0.1]])


def test_without_a_rise_it_is_torchs_cosine():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    other, wanted = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7), []
    for _ in range(7):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        other.step()
    assert rates(7, 7, warmup=0.0) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("trainer", "every", "steps"),
    [
        ({"max_epochs": 3}, "epoch", 3),
        ({"max_epochs": 3}, "step", 30),
        ({"max_epochs": 3, "accumulate_grad_batches": 4}, "step", 9),  # the third step of an epoch is a short one
        ({"max_epochs": 3, "limit_train_batches": 0.5}, "step", 15),
        ({"max_epochs": 3, "limit_train_batches": 4}, "step", 12),
        ({"max_epochs": 3, "limit_train_batches": 40}, "step", 30),
        ({"max_epochs": 3, "max_steps": 8}, "step", 8),
    ],
)
def test_the_steps_of_a_run_are_counted_from_its_settings(trainer, every, steps):
    assert planned(trainer, batches=10, every=every) == steps


@pytest.mark.parametrize("epochs", [None, -1])
def test_a_run_of_unknown_length_is_refused(epochs):
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=(null|-1) does not say how long"):
        planned({"max_epochs": epochs}, batches=10, every="step")
