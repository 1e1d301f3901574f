"""What the recurrent readers of texts share: LSTM, GRU and Elman's network differ only in the layer that they stack."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.spec import TextSpec
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.base import Classifier
from marquee.models.dropout import Dropout
from marquee.models.reading import Attention, Pooled, hide_words, pool_max, pool_mean, real_words, word_vectors
from marquee.models.rnn.autocast import read


class Reader(Classifier):
    """Word vectors, recurrent layers in one or both directions, pooling over the words, a linear layer to logits.

    Both directions: Graves & Schmidhuber 2005; max pooling over time for text: Collobert et al. 2011.

    dim            width of the word vectors
    hidden         width of the state, per direction
    layers         stacked recurrent layers
    bidirectional  also read from the end
    pooling        max or mean over the words, the state after the last word, or a mean by learnt weights (attention)
    dropout        share of zeroed values in word vectors, between layers and before the output
    word_dropout   share of the words that are unknown to a training step

    layer          the recurrent layer of a sub-class, with the arguments of torch's own
    """

    layer: ClassVar[type[nn.RNNBase]]

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        dim: Annotated[int, Ge(1)] = 100,
        hidden: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 1,
        bidirectional: bool = True,
        pooling: Pooled = "max",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ):
        super().__init__()
        self.view = view
        self.pooling = pooling
        self.word_dropout = word_dropout
        self.embedding = word_vectors(spec.vocab_size, dim)
        self.forwards, self.backwards = directions(self.layer, dim, hidden, layers, bidirectional)
        self.dropout = Dropout(dropout)
        width = (2 if bidirectional else 1) * hidden
        self.output = nn.Linear(width, spec.n_classes)
        if pooling == "attention":
            self.attention = Attention(width)

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        tokens, lengths = batch.tokens, batch.lengths
        if self.training:
            tokens = hide_words(tokens, self.word_dropout)
        inside = real_words(lengths, tokens.shape[1])
        states = both_ways(self.embedding(tokens), lengths, inside, self.forwards, self.backwards, self.dropout)
        return self.output(self.dropout(self._pool(states, inside, lengths)))

    def _pool(self, states: Tensor, inside: Tensor, lengths: Tensor) -> Tensor:
        """[batch, length, width] to [batch, width]."""
        if self.pooling == "max":
            return pool_max(states, inside)
        if self.pooling == "mean":
            return pool_mean(states, inside)
        if self.pooling == "attention":
            return self.attention(states, inside)
        width = self.forwards[0].hidden_size
        last = states[torch.arange(states.shape[0], device=states.device), lengths - 1]
        # The backward direction has read everything when it stands on the first word.
        return torch.cat([last[:, :width], states[:, 0, width:]], dim=-1)


def directions(
    layer: type[nn.RNNBase], dim: int, hidden: int, layers: int, bidirectional: bool
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Stacked recurrent layers that read onwards, and as many that read backwards (or none)."""
    widths = [dim] + [(2 if bidirectional else 1) * hidden] * (layers - 1)
    forwards = nn.ModuleList(layer(width, hidden, batch_first=True) for width in widths)
    return forwards, nn.ModuleList(layer(width, hidden, batch_first=True) for width in widths if bidirectional)


def both_ways(
    states: Tensor,
    lengths: Tensor,
    inside: Tensor,
    forwards: nn.ModuleList,
    backwards: nn.ModuleList,
    dropout: Dropout,
) -> Tensor:
    """The states of the last of the stacked layers, [batch, length, width of all directions], from word vectors
    [batch, length, dim]; `inside` is true where words stand."""
    # Both directions run on plain padded tensors: padding on the right cannot reach the words before it, and the
    # backward layer is given each text reversed within its own length. That is exact. Packed sequences read no
    # padding, and yet a step costs 2.0 s with them where this costs 0.33 s (LSTM, batch 64, 150 to 300 words, both
    # directions, one thread): for them PyTorch leaves the fast kernel.
    position = torch.arange(states.shape[1], device=states.device)
    mirror = torch.where(inside, lengths[:, None] - 1 - position, position)
    for number, onward in enumerate(forwards):
        states = dropout(states)
        onwards = read(onward, states)
        if len(backwards):
            back = read(backwards[number], _reorder(states, mirror))
            onwards = torch.cat([onwards, _reorder(back, mirror)], dim=-1)
        states = onwards
    return states


def _reorder(states: Tensor, position: Tensor) -> Tensor:
    """Take the rows `position` [batch, length] of `states` [batch, length, width]."""
    return states.gather(1, position[..., None].expand(-1, -1, states.shape[-1]))
