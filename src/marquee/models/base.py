"""What every model promises to its task: recommenders score histories, classifiers turn a batch into logits."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from marquee.data.dataset import DataSet, View
from marquee.data.interactions.histories import Histories

# To be named in messages; docs/models.md has all of them.
READ_HISTORIES = "linear/ease, mf/ials, neighbours/item_knn, rnn/gru4rec, transformer/sasrec, ..."


class Change(NamedTuple):
    """What has come (or gone) since a former model of the same class has learnt.

    users, items   int64 [n_users], [n_items]: where each stood in the former model, -1 for who is new
    former_users   how many the former model had; `former_items` likewise
    removed        scipy CSR [changed users, n_items] of ones: what those whose rows differ had met in training before
    added          likewise, what they have met now; none where a user is forgotten
    batch          the batch of the model's view of all that training knows now
    """

    users: Tensor
    items: Tensor
    former_users: int
    former_items: int
    removed: Any
    added: Any
    batch: Any


class Model(nn.Module):
    """A model with the view of the training data that it learns from.

    Most learn by gradient steps on a loss. One that does not (a closed form, alternating least squares) overrides
    `fit`, and gets no optimiser.

    max_epochs        a closed form has learnt all there is after this many epochs; None leaves it to the trainer
    sparse_gradients  whether the gradients of tables hold only the rows that a batch touches
    remarks           what a user is told of `prepare`, a line each
    updates           how `update` takes up what is new: `exact`, as training on all of it would, or `fold_in`, from
                      what the former model knows of the others. None: it does not; a closed form is then formed anew,
                      another model trained on
    """

    view: View
    sparse_gradients: bool = False
    remarks: Sequence[str] = ()
    max_epochs: ClassVar[int | None] = None
    updates: ClassVar[Literal["exact", "fold_in"] | None] = None

    def prepare(self, data: DataSet) -> None:
        """Take from the prepared data what the model needs beyond its view: a graph, tables of features.

        Called once, before training. Buffers that prediction needs have the shape that the spec gives them in the
        constructor and are filled here; others are registered here with `persistent=False`.
        """

    def save_inference(self, folder: Path) -> None:
        """Write what prediction needs beside the weights and what the data set writes; most models need nothing."""

    def fit(self, batch: Any) -> Tensor | None:
        """Learn from one batch of the view without a gradient step; the loss to log (scalar), or None."""
        raise NotImplementedError

    def update(self, former: "Model", change: Change) -> bool:
        """Learn, in place of `fit`, from a former model of this class and what has changed since; False where it cannot
        for this change or these settings, and has not begun."""
        return False

    @property
    def n_parameters(self) -> int:
        """How many numbers it has learnt by gradient steps."""
        return sum(tensor.numel() for tensor in self.parameters() if tensor.requires_grad)

    @property
    def seconds_before(self) -> float:
        """What went into it before this run, in seconds of training: that of the runs which it is made of."""
        return 0.0

    @property
    def steps_at_once(self) -> int:
        """How many of its steps are worth one call of the Trainer's, whose own cost is half a millisecond."""
        return 1

    @property
    def learns_in_fit(self) -> bool:
        """Whether `fit` is how this model learns."""
        return type(self).fit is not Model.fit


class Recommender(Model):
    """Scores all items for users, known by id or by history.

    scores_unseen_users tells whether `score` reads the history (then users that training never saw can be served)
    or only the user's id. adds_up tells whether the scores of a history are the sums of those of its items alone, each
    counted once: such a model is a matrix.
    """

    scores_unseen_users: ClassVar[bool] = False
    adds_up: bool = False

    def loss(self, batch: Any) -> Tensor:
        """The mean training loss of one batch of the model's view (scalar), where the model does not learn in `fit`."""
        raise NotImplementedError

    @abstractmethod
    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        """Scores [batch, n_items], higher is better, for `users` [batch] with `histories` of the same length."""

    def user_vectors(self, users: Tensor | None, histories: Histories) -> Tensor | None:
        """Vectors [batch, dim] whose products with `item_vectors()` are what `score` says, biases included; None where
        scores are no such products. What searches large catalogues needs them."""
        return None

    def item_vectors(self) -> Tensor | None:
        """Vectors [n_items, dim], the same for every user; None where `user_vectors` has none."""
        return None

    def content_vectors(self, encoded: Mapping[str, np.ndarray]) -> Tensor | None:
        """Vectors [n, dim], as those of `item_vectors()`, of items that training never saw, by their features as
        `Features.encode` gives them; None where the model knows no item so."""
        return None


class RatingModel(Recommender):
    """Predicts the value (rating) that a user would give an item; it also ranks, by what it predicts.

    predicts_values tells whether it does: models that can learn either from values or from what was met say False
    where they are set to the second.
    """

    predicts_values: bool = True

    @abstractmethod
    def predict(self, users: Tensor | None, items: Tensor, histories: Histories) -> Tensor:
        """Values [n] of the pairs (`users`, `items`), both int64 [n], in the scale of the data, not clipped.

        `histories` are those of the n users, one a pair, for models that read them.
        """


class Classifier(Model):
    """Turns a batch of texts or images into logits [batch, n_classes] (one logit a label when multi-label).

    adds_up    whether the logits are a sum over tokens, which `contributions` then takes apart
    predictor  the `ClassPredictor` that answers with it, where that is not the one for all texts or all images
    """

    adds_up: ClassVar[bool] = False
    predictor: ClassVar[type | None] = None

    def contributions(self, tokens: Tensor) -> Tensor:
        """The share of each token in each logit, [length, n_classes], of one text's tokens [length].

        With the logits of a text without words they add up to the text's logits.
        """
        raise NotImplementedError

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:
        """Logits [batch, n_classes]."""


class Tagged(NamedTuple):
    """Of a batch of sentences, what is wanted and which slot each token belongs to."""

    intents: Tensor  # logits [batch, n_classes]
    tags: Tensor  # logits [batch, length, tags]


class Tagger(Classifier):
    """A classifier of sentences that also gives each token a tag."""

    @abstractmethod
    def tag(self, tokens: Tensor, lengths: Tensor) -> Tagged:
        """Logits for token rows [batch, length], padded on the right, of `lengths` [batch]."""

    def forward(self, batch: Any) -> Tensor:
        return self.tag(batch.tokens, batch.lengths).intents


class Responder(Model):
    """Says how well each of several replies answers what was said before."""

    def loss(self, batch: Any) -> Tensor:
        """The mean training loss of one batch of the model's view (scalar), where the model does not learn in `fit`."""
        raise NotImplementedError

    @abstractmethod
    def match(self, contexts: Tensor, replies: Tensor) -> Tensor:
        """Scores [contexts, replies], higher is better, of token rows [contexts, length] and [replies, length], which
        are padded on the right with 0."""


class Questioner(Model):
    """Decides what to ask a customer, and when to stop and recommend an item.

    price  of a question, in the unit of `values`; set by the task
    """

    price: float = 0.0

    def loss(self, batch: Any) -> Tensor:
        """The mean training loss of one batch of the model's view (scalar), where the model does not learn in `fit`."""
        raise NotImplementedError

    @abstractmethod
    def values(self, answers: Tensor) -> Tensor:
        """The expected utility of each item [n, n_items], given `answers` float32 [n, questions]: 1 yes, -1 no, 0 not
        asked."""

    @property
    @abstractmethod
    def likely(self) -> Tensor:
        """How probable a yes to each question is, [questions]."""

    def decide(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """The question to ask next, int64 [n], -1 where none pays, and the best item by now, int64 [n].

        A question is worth what the best item gains by its answer, in expectation, looking one question ahead.
        """
        now, items = self.values(answers).max(dim=1)
        n, questions = answers.shape
        asked = answers[:, None].expand(n, questions, questions)
        each = torch.eye(questions, device=answers.device, dtype=torch.bool)
        yes, no = (
            self.values(torch.where(each, said, asked).flatten(0, 1)).amax(dim=1).view(n, questions)
            for said in (1.0, -1.0)
        )
        gains = self.likely * yes + (1 - self.likely) * no - now[:, None] - self.price
        gains = gains.masked_fill(answers != 0, -torch.inf)
        best, question = gains.max(dim=1)
        return torch.where(best > 0, question, -1), items
