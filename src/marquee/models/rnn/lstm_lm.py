"""An LSTM that reads a text token by token and says what comes next."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.spec import TokenSpec
from marquee.data.tokens.views import TokenWindows
from marquee.models.dropout import Dropout
from marquee.models.language import LanguageModel
from marquee.models.rnn.autocast import read

State = list[tuple[Tensor, Tensor]]


class LstmLanguageModel(LanguageModel):
    """Token vectors, stacked LSTM layers, a linear layer to logits.

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8); dropout between layers: Zaremba
    et al. 2014, "Recurrent Neural Network Regularization"; tied weights: Press & Wolf 2017, EACL.

    dim      width of the token vectors
    hidden   width of the state
    layers   stacked layers
    dropout  share of zeroed values in token vectors, between layers and before the output
    tie      the output has the token vectors for its weights; a linear layer joins `hidden` to `dim` where they differ

    Each window is read from an empty state. In writing the state goes on without end.
    """

    def __init__(
        self,
        spec: TokenSpec,
        *,
        view: TokenWindows,
        dim: Annotated[int, Ge(1)] = 64,
        hidden: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        tie: bool = False,
    ):
        super().__init__()
        self.view, self.hidden = view, hidden
        self.embedding = nn.Embedding(spec.vocab_size, dim)
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        widths = [dim] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)
        for layer in self.layers:  # what is read is kept at first: a forget gate of sigmoid(1) (Jozefowicz et al. 2015)
            nn.init.ones_(layer.bias_ih_l0.data[hidden : 2 * hidden])
            nn.init.zeros_(layer.bias_hh_l0.data[hidden : 2 * hidden])
        self.dropout = Dropout(dropout)
        self.join = nn.Linear(hidden, dim, bias=False) if tie and hidden != dim else nn.Identity()
        # Tied weights are one tensor with one name: safetensors, rightly, refuses the same memory twice.
        self.output = None if tie else nn.Linear(hidden, spec.vocab_size)
        self.bias = nn.Parameter(torch.zeros(spec.vocab_size)) if tie else None

    def forward(self, inputs: Tensor) -> Tensor:
        states = self.embedding(inputs)
        for layer in self.layers:
            states = read(layer, self.dropout(states))
        return self._logits(self.dropout(states))

    def start(self, batch: int) -> State:
        empty = self.embedding.weight.new_zeros(1, batch, self.hidden)
        return [(empty, empty) for _ in self.layers]

    def step(self, tokens: Tensor, memory: State) -> tuple[Tensor, State]:
        states, after = self.embedding(tokens), []
        for layer, before in zip(self.layers, memory):
            states, state = layer(states, before)
            after.append(state)
        return self._logits(states[:, -1]), after

    def _logits(self, states: Tensor) -> Tensor:
        if self.output is not None:
            return self.output(states)
        return F.linear(self.join(states), self.embedding.weight, self.bias)
