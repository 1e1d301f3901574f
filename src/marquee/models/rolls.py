"""What models of piano rolls promise: how likely the next frame is, and frames of their own, one after the other."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from marquee.data.rolls.views import RollBatch
from marquee.models.base import Model


class RollModel(Model):
    """Says how likely each frame is after those before it."""

    @abstractmethod
    def log_likelihood(self, frames: Tensor) -> Tensor:
        """log P of the frames 2 ... T of `frames` [batch, T, keys], each given those before it: [batch, T - 1]."""

    @abstractmethod
    def start(self, batch: int) -> Any:
        """The memory before anything is heard."""

    @abstractmethod
    def step(self, frame: Tensor, memory: Any, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor, Any]:
        """The frame after `frame` [batch, keys], drawn by `uniform` [batch, keys] (0 ... 1), its log-likelihood [batch]
        as the model has it without temperature, and the memory after `frame`. Temperature 0 takes the likelier."""

    def loss(self, batch: RollBatch) -> Tensor:
        """Nats a frame, over all frames of the batch that are predicted."""
        found = self.log_likelihood(batch.frames)
        inside = torch.arange(found.shape[1], device=found.device) < batch.lengths[:, None] - 1
        return -(found * inside).sum() / inside.sum()


class FrameModel(RollModel):
    """Predicts each key of the next frame for itself, given all frames before: a chord is a product of its notes."""

    @abstractmethod
    def forward(self, frames: Tensor) -> Tensor:
        """Logits [batch, T, keys] of the frame after each of `frames` [batch, T, keys]."""

    @abstractmethod
    def next(self, frame: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Logits [batch, keys] of what follows `frame` [batch, keys], and the memory after it."""

    def log_likelihood(self, frames: Tensor) -> Tensor:
        logits = self(frames[:, :-1]).float()
        return -F.binary_cross_entropy_with_logits(logits, frames[:, 1:], reduction="none").sum(dim=2)

    def step(self, frame: Tensor, memory: Any, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor, Any]:
        logits, memory = self.next(frame, memory)
        made = drawn(logits, uniform, temperature)
        return made, -F.binary_cross_entropy_with_logits(logits, made, reduction="none").sum(dim=1), memory


class ChordModel(RollModel):
    """Predicts the notes of the next frame one after the other, each given those below it: chords as wholes."""


def drawn(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """0 or 1 for each logit: 1 where `uniform` lies below its probability at a temperature; at 0 where that is above
    one half."""
    if temperature == 0:
        return (logits > 0).to(logits.dtype)
    return (uniform < (logits / temperature).sigmoid()).to(logits.dtype)
