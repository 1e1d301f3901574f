"""Naive Bayes on n-grams: one pass of counting, and often enough for short texts."""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Gt
from scipy.sparse import csr_array
from torch import Tensor

from marquee.data.spec import TextSpec
from marquee.data.text.ngrams import NGramBatch, NGrams
from marquee.models.linear.terms import TermModel, example_weights, matrix, targets


class NaiveBayes(TermModel):
    """Class probabilities as though the n-grams of a text were independent of each other, given its class.

    McCallum & Nigam 1998, "A Comparison of Event Models for Naive Bayes Text Classification", AAAI workshop;
    complement: Rennie et al. 2003, "Tackling the Poor Assumptions of Naive Bayes Text Classifiers", ICML. Multi-label:
    one classifier a label, against the texts without it.

    event          multinomial: each occurrence of an n-gram counts
                   bernoulli: its presence counts, and so does its absence
                   complement: each occurrence counts against the classes whose other classes have it often; for
                   unbalanced classes. Its logits order the classes, and are no log-odds
    alpha          occurrences (texts, with bernoulli) that each n-gram is given in each class
    class_weights  balanced: every class has the same prior; with `complement`, every class counts the same
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: NGrams,
        event: Literal["multinomial", "bernoulli", "complement"] = "multinomial",
        alpha: Annotated[float, Gt(0)] = 1.0,
        class_weights: Literal["none", "balanced"] = "none",
    ):
        super().__init__(spec, view)
        self.event, self.alpha, self.balanced = event, alpha, class_weights == "balanced"

    def values(self, counts: Tensor, terms: Tensor, texts: Tensor, n: int) -> Tensor:
        return torch.ones_like(counts, dtype=torch.float32) if self.event == "bernoulli" else counts.float()

    def fit(self, batch: NGramBatch) -> None:
        """Count."""
        features = matrix(batch, self.values(batch.counts, batch.terms, batch.texts, 0))
        wanted = targets(batch.labels, self.n_classes)
        weights = example_weights(wanted, self.balanced, self.multilabel)
        if self.multilabel:
            found = [self._log_likelihoods(features, *sides(column, of)) for column, of in zip(wanted.T, weights.T)]
            w, b = (np.stack([part[:, 1] - part[:, 0] for part in side], axis=-1) for side in zip(*found))
            b = b[0]
        else:
            w, b = self._log_likelihoods(features, wanted, weights[:, :1])
            b = b[0]
        self.learnt(batch.keys, w, b)

    def _log_likelihoods(self, features: csr_array, wanted: np.ndarray, weights: np.ndarray):
        """What an occurrence of each n-gram adds to the log-probability of each class [n-grams, classes], and what a
        text without n-grams has [1, classes]."""
        texts = (wanted * weights).sum(axis=0)
        held = features.T @ (wanted * weights)
        with np.errstate(divide="ignore"):  # a class without training texts has no probability at all
            prior = np.maximum(np.log(texts / texts.sum()), -1e4)
        if self.event == "bernoulli":
            # Both from counts: one less a share is nothing where all texts of a class hold an n-gram.
            yes, no = (np.log(part + self.alpha) - np.log(texts + 2 * self.alpha) for part in (held, texts - held))
            return yes - no, (prior + no.sum(axis=0))[None]
        if self.event == "complement":
            held = held.sum(axis=1, keepdims=True) - held
        held = held + self.alpha
        share = np.log(held / held.sum(axis=0))
        return (-share, np.zeros_like(prior)[None]) if self.event == "complement" else (share, prior[None])


def sides(column: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A label as two classes, without and with it: targets [texts, 2] and weights [texts, 1]."""
    return np.stack([1 - column, column], axis=1), weights[:, None]
