"""NB-SVM: a support vector machine on n-grams that naive Bayes has weighed, the baseline to beat for sentiment."""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from marquee.data.spec import TextSpec
from marquee.data.text.ngrams import NGramBatch, NGrams
from marquee.models.linear.separating import separate
from marquee.models.linear.terms import TermModel, example_weights, matrix, targets


class NbSvm(TermModel):
    """A linear classifier on the presence of n-grams times their log-count ratio r between a class and the rest.

    Wang & Manning 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", ACL, eq. 1 to 5:
    with p = alpha + the texts of the class that hold each n-gram, q the same of the others, r = log(p / |p|) -
    log(q / |q|); w' = (1 - beta) |w| / n + beta w. Two classes share one classifier, of more (and of labels that go
    together) each has its own against the rest.

    Logits are log-odds, to be used as probabilities: with `logistic` they are what is learnt; with `squared_hinge`
    twice the margin m, since that loss is least where m = 2 P - 1 (Zhang 2004, Annals of Statistics 32), whose log-odds
    log((1 + m) / (1 - m)) have the slope 2 at the border. A small `beta` makes them smaller, and probabilities cautious
    (IMDb, validation: accuracy 0.912 and log loss 0.29 with 0.25, 0.910 and 0.22 with 0.75).

    alpha           smoothing of the counts
    beta            share of the learnt weights, against their mean size, which leaves naive Bayes
    c               weight of the losses against the penalty |w|^2 / 2
    loss            logistic or squared_hinge (the paper's)
    class_weights   balanced: a class counts inversely to its frequency in training
    max_iterations  steps of L-BFGS at most
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        view: NGrams,
        alpha: Annotated[float, Gt(0)] = 1.0,
        beta: Annotated[float, Interval(ge=0, le=1)] = 0.25,
        c: Annotated[float, Gt(0)] = 1.0,
        loss: Literal["logistic", "squared_hinge"] = "logistic",
        class_weights: Literal["none", "balanced"] = "none",
        max_iterations: Annotated[int, Ge(1)] = 200,
    ):
        super().__init__(spec, view)
        self.alpha, self.beta, self.c, self.loss = alpha, beta, c, loss
        self.balanced = class_weights == "balanced"
        self.max_iterations = max_iterations

    def values(self, counts: Tensor, terms: Tensor, texts: Tensor, n: int) -> Tensor:
        return torch.ones_like(counts, dtype=torch.float32)

    def fit(self, batch: NGramBatch) -> Tensor:
        """Returns the mean loss of the classifiers (scalar)."""
        wanted = targets(batch.labels, self.n_classes)
        weights = example_weights(wanted, self.balanced, self.multilabel)
        two = self.n_classes == 2 and not self.multilabel
        columns = [1] if two else list(range(self.n_classes))
        held = matrix(batch, torch.ones_like(batch.counts))
        ratios = self._ratios(held, wanted[:, columns])
        found = []
        for ratio, column in zip(ratios.T, columns, strict=True):
            weighed = held.copy()
            weighed.data = ratio[held.indices]
            one = slice(column, column + 1)
            w, b, loss = separate(weighed, wanted[:, one], weights[:, one], self.loss, self.c, self.max_iterations)
            # The bias is interpolated, too: naive Bayes has the log-odds of the class for its own.
            size, share = np.abs(w).mean(), (wanted[:, column] * weights[:, column]).sum() / weights[:, column].sum()
            w = (1 - self.beta) * size + self.beta * w[:, 0]
            b = (1 - self.beta) * size * np.log(share / (1 - share)) + self.beta * b[0]
            found.append((w * ratio, b, loss))
        w, b, losses = (np.stack(part, axis=-1) for part in zip(*found, strict=True))
        if self.loss == "squared_hinge":
            w, b = 2 * w, 2 * b
        if two:  # half of the log-odds for one class and half against the other
            w, b = np.concatenate([-w, w], axis=1) / 2, np.concatenate([-b, b]) / 2
        self.learnt(batch.keys, w, b)
        return torch.tensor(float(losses.mean()))

    def _ratios(self, held, wanted: np.ndarray) -> np.ndarray:
        """r of each n-gram and column, [n-grams, columns]."""
        p, q = (self.alpha + held.T @ part for part in (wanted, 1 - wanted))
        return np.log(p / p.sum(axis=0)) - np.log(q / q.sum(axis=0))
