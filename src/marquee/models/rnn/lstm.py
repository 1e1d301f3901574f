"""An LSTM that reads a text in one or both directions and pools its states over the real words."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.spec import TextSpec
from marquee.data.text.store import PADDING
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.base import Classifier
from marquee.models.rnn.autocast import read


class Lstm(Classifier):
    """Word vectors, LSTM layers in one or both directions, pooling over the words, a linear layer to logits.

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8); both directions: Graves &
    Schmidhuber 2005; max pooling over time for text: Collobert et al. 2011.

    dim            width of the word vectors
    hidden         width of the state, per direction
    layers         stacked LSTMs
    bidirectional  also read from the end
    pooling        max or mean over the words, or the state after the last word
    dropout        share of zeroed values in word vectors, between layers and before the output
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        dim: Annotated[int, Ge(1)] = 100,
        hidden: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 1,
        bidirectional: bool = True,
        pooling: Literal["max", "mean", "last"] = "max",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
    ):
        super().__init__()
        self.view = view
        self.pooling = pooling
        self.embedding = nn.Embedding(spec.vocab_size, dim, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[PADDING] = 0
        directions = 2 if bidirectional else 1
        widths = [dim] + [directions * hidden] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)
        self.backwards = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths if bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(directions * hidden, spec.n_classes)

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        tokens, lengths = batch.tokens, batch.lengths
        position = torch.arange(tokens.shape[1], device=tokens.device)
        inside = position < lengths[:, None]
        # Both directions run on plain padded tensors: padding on the right cannot reach the words before it, and the
        # backward LSTM is given each text reversed within its own length. That is exact; packed sequences cost
        # 12 s a step on one CPU core where this costs 0.5 s (batch 64, 300 words, both directions).
        mirror = torch.where(inside, lengths[:, None] - 1 - position, position)
        states = self.embedding(tokens)
        for layer, forwards in enumerate(self.forwards):
            states = self.dropout(states)
            onwards = read(forwards, states)
            if len(self.backwards):
                backwards = read(self.backwards[layer], _reorder(states, mirror))
                onwards = torch.cat([onwards, _reorder(backwards, mirror)], dim=-1)
            states = onwards
        return self.output(self.dropout(self._pool(states, inside, lengths)))

    def _pool(self, states: Tensor, inside: Tensor, lengths: Tensor) -> Tensor:
        """[batch, length, width] to [batch, width]."""
        if self.pooling == "max":
            return states.masked_fill(~inside[..., None], torch.finfo(states.dtype).min).amax(dim=1)
        if self.pooling == "mean":
            return (states * inside[..., None]).sum(dim=1) / lengths[:, None]
        width = self.forwards[0].hidden_size
        last = states[torch.arange(len(states), device=states.device), lengths - 1]
        # The backward direction has read everything when it stands on the first word.
        return torch.cat([last[:, :width], states[:, 0, width:]], dim=-1)


def _reorder(states: Tensor, position: Tensor) -> Tensor:
    """Take the rows `position` [batch, length] of `states` [batch, length, width]."""
    return states.gather(1, position[..., None].expand(-1, -1, states.shape[-1]))
