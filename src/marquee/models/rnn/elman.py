"""Elman's network, the plain recurrent one: h_t = sigmoid(W [h_{t-1}, x_t] + b)."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.spec import TextSpec
from marquee.data.text.views import TextBatches
from marquee.models.reading import Pooled
from marquee.models.rnn.reader import Reader


class SigmoidRnn(nn.RNN):
    """h_t = sigmoid(W h_{t-1} + U x_t + b) with h_0 = 0, one layer in one direction; b is the sum of two biases.

    PyTorch's layers know tanh only, but sigmoid(z) = (1 + tanh(z / 2)) / 2. So g = 2 h - 1 is a state of the tanh layer
    that begins at -1, with W / 4, U / 2 and a bias that makes up for the shift: (b + W 1 / 2) / 2.
    """

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`x` [batch, length, width] and `state` [1, batch, hidden] to the outputs and the last state."""
        if state is None:
            state = x.new_zeros(1, len(x), self.hidden_size)
        recurrent = self.weight_hh_l0
        weights = [
            self.weight_ih_l0 / 2,
            recurrent / 4,
            self.bias_ih_l0 / 2,
            (self.bias_hh_l0 + recurrent.sum(dim=1) / 2) / 2,
        ]
        g, last = torch.rnn_tanh(x, 2 * state - 1, weights, True, 1, 0.0, self.training, False, True)
        return (1 + g) / 2, (1 + last) / 2


class Elman(Reader):
    """The simple recurrent network: a hidden layer that also sees what it was one word before. Else as `Reader`.

    Elman 1990, "Finding Structure in Time", Cognitive Science 14(2). The derivative of a sigmoid is a quarter at most,
    so what was read many words ago is soon forgotten; pooling over all states makes up for it.

    activation  sigmoid, as in the paper, or tanh
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        activation: Literal["sigmoid", "tanh"] = "sigmoid",
        dim: Annotated[int, Ge(1)] = 100,
        hidden: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 1,
        bidirectional: bool = True,
        pooling: Pooled = "max",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ):
        self.layer = SigmoidRnn if activation == "sigmoid" else nn.RNN
        super().__init__(
            spec,
            view=view,
            dim=dim,
            hidden=hidden,
            layers=layers,
            bidirectional=bidirectional,
            pooling=pooling,
            dropout=dropout,
            word_dropout=word_dropout,
        )
