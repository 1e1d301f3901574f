"""What models with a weight for each n-gram share: finding n-grams again, their sum, and each word's part in it."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional as F

from marquee.data.spec import TextSpec
from marquee.data.text.ngrams import NGramBatch, NGrams
from marquee.data.text.views import TextBatch
from marquee.models.base import Classifier


class TermModel(Classifier):
    """Logits are a bias and the weights of a text's n-grams, each times its value in the text. Learnt in one `fit`.

    keys     int64 [n], the n-grams that training holds, ascending
    weights  float32 [n, n_classes]
    bias     float32 [n_classes]

    A sub-class fills these in `fit` and says in `values` what an n-gram is worth. N-grams that training does not hold
    are worth nothing.
    """

    max_epochs = 1
    adds_up = True

    def __init__(self, spec: TextSpec, view: NGrams):
        super().__init__()
        self.view = view
        self.vocab_size, self.n_classes, self.multilabel = spec.vocab_size, spec.n_classes, spec.multilabel
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(0, spec.n_classes))
        self.register_buffer("bias", torch.zeros(spec.n_classes))

    @abstractmethod
    def values(self, counts: Tensor, terms: Tensor, texts: Tensor, n: int) -> Tensor:
        """The values float32 [entries] of known n-grams in their texts.

        counts  int64 [entries], how often
        terms   int64 [entries], which row of `weights`
        texts   int64 [entries], of which of the `n` texts
        """

    def forward(self, batch: TextBatch | NGramBatch) -> Tensor:
        """Logits [batch, n_classes]."""
        counted = self.view.count(batch, self.vocab_size) if isinstance(batch, TextBatch) else batch
        places = self._places(counted.keys)[counted.terms]
        known = places >= 0
        texts, places, counts = counted.texts[known], places[known], counted.counts[known]
        n = len(counted.offsets) - 1
        values = self.values(counts, places, texts, n)
        starts = torch.searchsorted(texts, torch.arange(n, device=texts.device))
        return F.embedding_bag(places, self.weights, starts, mode="sum", per_sample_weights=values) + self.bias

    def term_weights(self) -> tuple[Tensor, Tensor]:
        """The n-grams' keys (int64 [n]; see `tokens_of`) and weights (float32 [n, n_classes]).

        None of them where n-grams are hashed: a bucket does not know whose weight it holds.
        """
        if self.view.buckets is not None:
            return self.keys[:0], self.weights[:0]
        return self.keys, self.weights

    def contributions(self, tokens: Tensor) -> Tensor:
        """As any; the part of an n-gram is spread evenly over its words."""
        text = TextBatch(tokens[None], tokens.new_tensor([len(tokens)]), tokens[:1], tokens[:1])
        counted = self.view.count(text, self.vocab_size)
        places = self._places(counted.keys)[counted.terms]
        known = places >= 0
        values = self.values(counted.counts[known], places[known], counted.texts[known], 1)
        # The value of one occurrence, by place in `weights`: looked up for each occurrence below.
        single = torch.zeros(len(self.keys) + 1, device=tokens.device)
        single[places[known]] = values / counted.counts[known]
        parts = torch.zeros(len(tokens), self.n_classes, device=tokens.device)
        for order, (start, key) in enumerate(self.view.keys(tokens, torch.zeros_like(tokens), self.vocab_size), 1):
            place = self._places(key)
            start, place = start[place >= 0], place[place >= 0]
            part = self.weights[place] * (single[place] / order)[:, None]
            for word in range(order):
                parts.index_add_(0, start + word, part)
        return parts

    def learnt(self, keys: Tensor, weights: np.ndarray, bias: np.ndarray) -> None:
        """Keep what `fit` has found, with weights [n-grams, n_classes]."""
        device = self.bias.device
        self.keys = keys.to(device)
        self.weights = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32)).to(device)
        self.bias = torch.from_numpy(np.ascontiguousarray(bias, dtype=np.float32)).to(device)

    def _places(self, keys: Tensor) -> Tensor:
        """The row of `weights` of each key, -1 for an n-gram that training does not hold."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, place, -1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # How many n-grams there are follows from the training texts, so the buffers take the size of what is loaded.
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape[1:] == buffer.shape[1:]:
                setattr(self, name, buffer.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def spread(parts: Tensor, length: int, longest: int) -> Tensor:
    """The parts of n-grams evenly over their words, [length, n_classes].

    parts  [n-grams, n_classes], those of one word in reading order, then those of two, ... up to `longest`
    """
    shares = parts.new_zeros(length, parts.shape[1])
    begin = 0
    for order in range(1, min(longest, length) + 1):
        own = parts[begin : begin + length - order + 1] / order
        begin += len(own)
        for word in range(order):
            shares[word : word + len(own)] += own
    return shares


def matrix(batch: NGramBatch, values: Tensor) -> csr_array:
    """Texts x n-grams as float64, for SciPy."""
    shape = (len(batch.offsets) - 1, len(batch.keys))
    columns, offsets = (part.cpu().numpy().astype(np.int32) for part in (batch.terms, batch.offsets))
    return csr_array((values.cpu().numpy().astype(np.float64), columns, offsets), shape=shape)


def targets(labels: Tensor, n_classes: int) -> np.ndarray:
    """0 or 1 for each text and class, float64 [batch, n_classes]."""
    if labels.ndim == 2:
        return labels.cpu().numpy().astype(np.float64)
    return F.one_hot(labels, n_classes).cpu().numpy().astype(np.float64)


def example_weights(wanted: np.ndarray, balanced: bool, multilabel: bool) -> np.ndarray:
    """The weight of each text for each class, float64 [batch, n_classes], from 0/1 targets.

    balanced  a class counts as much as any other, whatever its frequency; multi-label: the positives of each label as
              much as its negatives. The mean weight of a class is 1.
    """
    if not balanced:
        return np.ones_like(wanted)
    n, counts = len(wanted), np.maximum(wanted.sum(axis=0), 1)
    if multilabel:
        return np.where(wanted > 0, n / (2 * counts), n / (2 * np.maximum(n - counts, 1)))
    present = max(int((wanted.sum(axis=0) > 0).sum()), 1)
    return np.repeat((wanted @ (n / (present * counts)))[:, None], wanted.shape[1], axis=1)
