"""The mean image of each class with normal noise on each pixel: what looking at pixels one by one can do."""

import numpy as np
import torch
from torch import Tensor

from marquee.data.images.dataset import ImageData
from marquee.data.label_view import AllLabels, LabelBatch
from marquee.data.spec import ImageSpec
from marquee.models.pictures import ImageModel, class_shares, shape_of

ROWS = 1000  # images that are summed at once


class ClassMeans(ImageModel):
    """Draws a class, then each value by the mean and deviation that training shows there, independent of all others.

    Images with several labels are one class. Of binary pixels it is a mixture of Bernoulli variables, one component a
    class, whose likelihood is exact; means are kept half a grey value away from 0 and 1.
    """

    max_epochs = 1

    def __init__(self, spec: ImageSpec, *, view: AllLabels):
        super().__init__()
        self.view, self.noise = view, shape_of(spec)
        n_classes = 1 if spec.multilabel else max(spec.n_classes, 1)
        self.conditional = n_classes > 1
        self.likelihood = "binary" if spec.channels == 1 else None
        self.register_buffer("means", torch.zeros(n_classes, *self.noise))
        self.register_buffer("deviations", torch.zeros(n_classes, *self.noise))
        self.register_buffer("shares", torch.ones(n_classes) / n_classes)

    def prepare(self, data: ImageData) -> None:
        """Means and deviations, of at most ROWS images in memory at once."""
        train = data.parts["train"]
        classes = data.labels[train] if self.conditional else np.zeros(len(train), dtype=np.int64)
        sums, squares = torch.zeros_like(self.means).double(), torch.zeros_like(self.means).double()
        for start in range(0, len(train), ROWS):
            rows = train[start : start + ROWS]
            pixels = torch.from_numpy(np.asarray(data.images[rows])).double()
            chosen = torch.from_numpy(classes[start : start + ROWS])
            sums.index_add_(0, chosen, pixels)
            squares.index_add_(0, chosen, pixels.square())
        counts = torch.from_numpy(np.bincount(classes, minlength=len(sums))).double()
        each = counts.clamp(min=1)[:, None, None, None]
        self.means.copy_(sums / each)
        self.deviations.copy_((squares / each - (sums / each).square()).clamp(min=0).sqrt())
        self.shares.copy_((class_shares(data) if self.conditional else counts) / len(train))

    def fit(self, batch: LabelBatch) -> None:
        """All that there is to learn was in `prepare`."""

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        chosen = torch.zeros(len(noise), dtype=torch.int64, device=noise.device) if classes is None else classes
        values = self.means[chosen] + self.deviations[chosen] * noise
        return values.round().clamp(0, 255).to(torch.uint8)

    def log_weights(self, pixels: Tensor, samples: int) -> Tensor:
        on = (self.means / 255).clamp(0.5 / 255, 1 - 0.5 / 255).flatten(1)
        seen = pixels.flatten(1)
        given = seen @ on.log().T + (1 - seen) @ (-on).log1p().T
        return (given + self.shares.log()).logsumexp(dim=1)[None]
