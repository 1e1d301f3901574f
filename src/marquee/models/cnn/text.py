"""A convolution over word vectors whose filters look for phrases; each reports the strongest that a text holds."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.spec import TextSpec
from marquee.data.text.store import PADDING
from marquee.data.text.views import TextBatch, TextBatches
from marquee.models.base import Classifier
from marquee.models.dropout import Dropout
from marquee.models.reading import hide_words, real_words, word_vectors


class TextCnn(Classifier):
    """Word vectors, filters of several widths, the maximum of each over time, a linear layer to logits.

    Kim 2014, "Convolutional Neural Networks for Sentence Classification", EMNLP; with vectors from scratch this is its
    CNN-rand. As in Kim's own code a filter reaches over both ends of a text, where it meets zeros.

    dim           width of the word vectors
    widths        words that the filters of each kind see
    maps          filters of each kind
    dropout       share of zeroed values before the output
    word_dropout  share of the words that are unknown to a training step
    max_norm      largest length of the output's weights for a class, to which they are cut after each step; null: none
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: TextBatches,
        dim: Annotated[int, Ge(1)] = 300,
        widths: Annotated[list[Annotated[int, Ge(1)]], MinLen(1)] = [3, 4, 5],  # noqa: B006  (never mutated)
        maps: Annotated[int, Ge(1)] = 100,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        max_norm: Annotated[float, Gt(0)] | None = 3.0,
    ):
        super().__init__()
        self.view = view
        self.word_dropout = word_dropout
        self.max_norm = max_norm
        self.embedding = word_vectors(spec.vocab_size, dim)
        self.filters = nn.ModuleList(nn.Conv1d(dim, maps, width, padding=width - 1) for width in widths)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(len(widths) * maps, spec.n_classes)

    def forward(self, batch: TextBatch) -> Tensor:
        """Logits [batch, n_classes].

        Only the place where a filter is strongest has a gradient. So in training the convolutions run without one, and
        the values there are formed again from the words of those places: the same result and the same gradient, for 0.6
        of the time of a step (batch 64, 400 words, dim 300, one thread).
        """
        if not self.training:
            vectors = self.embedding(batch.tokens).transpose(1, 2)
            values = [self._values(layer, vectors, batch.lengths).amax(dim=-1) for layer in self.filters]
            return F.linear(torch.cat(values, dim=1).relu(), self._weight(), self.output.bias)
        tokens = hide_words(batch.tokens, self.word_dropout)
        with torch.no_grad():
            vectors = self.embedding(tokens).transpose(1, 2)
            words = [self._strongest(layer, tokens, vectors, batch.lengths) for layer in self.filters]
        values = []
        for layer, place in zip(self.filters, words, strict=True):
            found = self.embedding(place).flatten(2)  # [maps, batch, width * dim], one product a filter
            weight = layer.weight.transpose(1, 2).reshape(len(found), -1, 1)
            values.append((found @ weight).squeeze(-1).T + layer.bias)
        return F.linear(self.dropout(torch.cat(values, dim=1).relu()), self._weight(), self.output.bias)

    def _strongest(self, layer: nn.Conv1d, tokens: Tensor, vectors: Tensor, lengths: Tensor) -> Tensor:
        """The words that each filter sees where its value is largest in a text: int64 [maps, batch, width]."""
        width = layer.kernel_size[0]
        places = self._values(layer, vectors, lengths).argmax(dim=-1)
        padded = F.pad(tokens, (width - 1, width - 1), value=PADDING)
        window = places[..., None] + torch.arange(width, device=tokens.device)
        return padded.gather(1, window.flatten(1)).view_as(window).transpose(0, 1)

    @staticmethod
    def _values(layer: nn.Conv1d, vectors: Tensor, lengths: Tensor) -> Tensor:
        """What the filters give where they see a word, else -inf: [batch, maps, length + width - 1]."""
        values = layer(vectors)
        inside = real_words(lengths + layer.kernel_size[0] - 1, values.shape[-1])
        return values.masked_fill_(~inside[:, None], -torch.inf)

    def _weight(self) -> Tensor:
        """The output's weights, none longer than `max_norm`."""
        weight = self.output.weight
        if self.max_norm is None:
            return weight
        if self.training:
            # A projection after the step before, not a part of the gradient. Not where it would change nothing: then
            # an earlier forward pass of the same step can still be differentiated.
            with torch.no_grad():
                if bool((weight.norm(dim=1) > self.max_norm * (1 + 1e-6)).any()):
                    weight.copy_(weight.renorm(2, 0, self.max_norm))
            return weight
        return weight.renorm(2, 0, self.max_norm)
