"""What every model promises to its task: recommenders score histories, classifiers turn a batch into logits."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from marquee.data.module import View


class Histories(NamedTuple):
    """The known items of `batch` users, oldest first, as one flat vector with offsets (no padding)."""

    items: Tensor  # int64 [nnz]
    offsets: Tensor  # int64 [batch + 1]

    def padded(self, length: int, padding: int) -> tuple[Tensor, Tensor]:
        """The last `length` items of each user, right-padded: (items [batch, length], lengths [batch])."""
        ends = self.offsets[1:, None]
        lengths = (self.offsets[1:] - self.offsets[:-1]).clamp(max=length)
        width = max(int(lengths.max()) if len(lengths) else 0, 1)
        columns = torch.arange(width, device=self.items.device)
        index = ends - lengths[:, None] + columns
        inside = columns < lengths[:, None]
        flat = torch.cat([self.items, self.items.new_tensor([padding])])
        return flat[torch.where(inside, index, len(self.items))], lengths

    def rows(self) -> Tensor:
        """The position in the batch of every item of `items`: int64 [nnz]."""
        counts = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def matrix(self, n_items: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Multi-hot rows [batch, n_items]."""
        dense = torch.zeros(len(self.offsets) - 1, n_items, dtype=dtype, device=self.items.device)
        dense[self.rows(), self.items] = 1
        return dense


class Model(nn.Module):
    """A model with the view of the training data that it learns from."""

    view: View
    # A closed form has learnt all there is after this many epochs; None leaves it to the trainer.
    max_epochs: ClassVar[int | None] = None
    # True: `loss` learns by itself (a closed form) and returns what to log; the task makes no optimiser step.
    closed_form: ClassVar[bool] = False


class Recommender(Model):
    """Scores all items for users, known by id or by history.

    scores_unseen_users tells whether `score` reads the history (then users that training never saw can be served)
    or only the user's id.
    """

    scores_unseen_users: ClassVar[bool] = False

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The mean training loss of one batch of the model's view (scalar)."""

    @abstractmethod
    def score(self, users: Tensor | None, histories: Histories) -> Tensor:
        """Scores [batch, n_items], higher is better, for `users` [batch] with `histories` of the same length."""


class Classifier(Model):
    """Turns a batch of texts or images into logits [batch, n_classes] (one logit a label when multi-label)."""

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:
        """Logits [batch, n_classes]."""
