"""Logistic regression on TF-IDF: what scikit-learn's users reach for first."""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from marquee.data.spec import TextSpec
from marquee.data.text.ngrams import NGramBatch, NGrams
from marquee.models.linear.separating import separate
from marquee.models.linear.terms import TermModel, example_weights, matrix, targets


class TfidfLogistic(TermModel):
    """Logistic regression (softmax for three classes and more) on n-gram counts, weighed by how rare n-grams are.

    The value of an n-gram that a text has k times and that stands in d of N training texts is (1 + log k) * (1 +
    log((1 + N) / (1 + d))), divided by the Euclidean norm of the text's values: TfidfVectorizer(sublinear_tf=True) of
    scikit-learn, Salton & Buckley 1988, "Term-Weighting Approaches in Automatic Text Retrieval". Multi-label: one
    classifier a label.

    c               weight of the losses against the penalty |w|^2 / 2
    sublinear       1 + log k where a text has an n-gram k times; false: k
    class_weights   balanced: a class counts inversely to its frequency in training
    max_iterations  steps of L-BFGS at most
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: NGrams,
        c: Annotated[float, Gt(0)] = 10.0,
        sublinear: bool = True,
        class_weights: Literal["none", "balanced"] = "none",
        max_iterations: Annotated[int, Ge(1)] = 200,
    ):
        super().__init__(spec, view)
        self.c, self.sublinear, self.balanced = c, sublinear, class_weights == "balanced"
        self.max_iterations = max_iterations
        self.register_buffer("rarity", torch.zeros(0))  # the inverse document frequency of each n-gram

    def values(self, counts: Tensor, terms: Tensor, texts: Tensor, n: int) -> Tensor:
        often = counts.float()
        raw = (1 + often.log() if self.sublinear else often) * self.rarity[terms]
        squares = torch.zeros(n, device=raw.device).index_add_(0, texts, raw**2)
        return raw / squares.sqrt()[texts]

    def fit(self, batch: NGramBatch) -> Tensor:
        """Returns the mean loss (scalar)."""
        n = len(batch.labels)
        held = torch.bincount(batch.terms, minlength=len(batch.keys))
        self.rarity = 1 + torch.log((1 + n) / (1 + held.float()))
        features = matrix(batch, self.values(batch.counts, batch.terms, batch.texts, n))
        wanted = targets(batch.labels, self.n_classes)
        weights = example_weights(wanted, self.balanced, self.multilabel)
        if self.n_classes == 2 and not self.multilabel:
            w, b, loss = separate(features, wanted[:, 1:], weights[:, 1:], "logistic", self.c, self.max_iterations)
            # Half of the log-odds for one class and half against the other.
            w, b = np.concatenate([-w, w], axis=1) / 2, np.concatenate([-b, b]) / 2
        else:
            kind = "logistic" if self.multilabel else "softmax"
            w, b, loss = separate(features, wanted, weights, kind, self.c, self.max_iterations)
        self.learnt(batch.keys, w, b)
        return torch.tensor(loss)
