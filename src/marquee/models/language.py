"""What every language model promises: logits for each place of a window, and to go on token by token."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from marquee.models.base import Model


class LanguageModel(Model):
    """Says how likely each token is to come next.

    To write, `start` makes a memory and `step` takes it further; what the memory is (keys and values, a recurrent
    state, the last tokens) is the model's business. The logits are those that `forward` has for the same tokens.
    """

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, length, vocab_size] for what follows each of the `inputs` (int64 [batch, length])."""

    def log_likelihood(self, batch: Any) -> Tensor:
        """log P(target) of each target of a batch of windows, in nats: float32 [batch, length]."""
        logits = self(batch.inputs).float()
        losses = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        return -losses.view(batch.targets.shape)

    @abstractmethod
    def start(self, batch: int) -> Any:
        """The memory of `batch` texts of which nothing has been read."""

    @abstractmethod
    def step(self, tokens: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Read `tokens` (int64 [batch, n], n >= 1): the logits of what follows, [batch, vocab_size], and the memory."""


@torch.no_grad()
def initialise(module: torch.nn.Module, deviation: float = 0.02) -> None:
    """Normal weights of linear layers and embeddings, biases of 0 (Radford et al. 2019)."""
    for part in module.modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Embedding)):
            torch.nn.init.normal_(part.weight, std=deviation)
            if getattr(part, "bias", None) is not None:
                torch.nn.init.zeros_(part.bias)
