"""Can new images be made that are like those of the data, and not copies of them?"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.images.dataset import ImageData
from marquee.data.label_view import AllLabels
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError, DataError
from marquee.inference.features import Extractor, PixelFeatures, RunFeatures
from marquee.inference.pictures import Pictures
from marquee.metrics.pictures import PictureEvaluator, Real, Scored, nearest
from marquee.models.baseline.class_means import ClassMeans
from marquee.models.baseline.noise import Noise
from marquee.models.pictures import ImageModel, binarised, bound, class_shares, classes_of, noise_of
from marquee.seeding import derive, numpy_generator
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule

log = logging.getLogger("marquee")

AT_ONCE = 100  # samples a step of evaluation; random numbers of likelihoods are drawn by the step
WEIGHTS_AT_ONCE = 10_000  # latent vectors decoded at once
TIMED = 32  # pictures that are asked for at once when a run's costs are measured
FEWEST = 10  # real images that samples may be compared with
COLLAPSED = 0.5  # of the classes, below which a run is said to have collapsed


class PictureBatch(NamedTuple):
    """Real images, and the numbers of the samples that stand beside them."""

    images: Tensor  # uint8 [batch, channels, height, width]
    index: Tensor  # int64 [batch], the image's row number in the data set
    number: Tensor  # int64 [batch], from 0


class Given:
    """Stands in for a model: real images as though somebody had made them."""

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images, self.rows = images, rows

    def of(self, number: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self.images[np.sort(self.rows)[number.numpy() % len(self.rows)]]))


class ImageGeneration(Task):
    """As many samples as there are real images, compared by the features of a fixed extractor.

    Beside the metrics of a run stand those of noise, of class means, and of the training images themselves
    (`train`): the floor, which no model is expected to pass but by copying. `memorisation` tells: the distance of
    samples to the nearest training image over that of new real ones, below 1 where they are copied.

    monitor             what early stopping and the best checkpoint go by; null: nats where the model has a
                        likelihood, else kid
    samples             in the test, and of the real images beside them, where the part has so many
    validation_samples  likewise, after each epoch
    extractor           a finished run that classifies such images, whose features are compared: folder, id, a prefix
                        of it, or latest. null: principal components of the training pixels
    neighbours          k of precision, recall, density and coverage
    importance          z drawn an image for its likelihood in the test, where the model has one (`nats`, Burda et al.
                        2016; an upper bound that falls with k)
    validation_importance  likewise, after each epoch
    extractor_folder    where that run lies, which is no part of what the run is; Marquee fills it in
    """

    spec_types = (ImageSpec,)
    unit = "image"
    measured = ("samples", "extractor", "neighbours", "importance")
    directions = {
        "kid": "min", "fid": "min", "density": "max", "modes": "max", "class_entropy": "max", "nearest": "min",
        "nats": "min", "elbo": "min",
    }  # fmt: skip

    def __init__(
        self,
        model: ImageModel,
        data: ImageData,
        optimizer: MakeOptimizer | Mapping[str, MakeOptimizer] | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        monitor: Literal["kid", "fid", "precision", "recall", "density", "coverage", "nats", "elbo"] | None = None,
        samples: Annotated[int, Ge(10)] = 5000,
        validation_samples: Annotated[int, Ge(10)] = 1000,
        extractor: str | None = None,
        neighbours: Annotated[int, Ge(1)] = 5,
        importance: Annotated[int, Ge(1)] = 500,
        validation_importance: Annotated[int, Ge(1)] = 20,
        extractor_folder: str | None = None,
    ):
        self.learners = model.learners  # before what asks for them
        super().__init__(model, data, optimizer, scheduler, seed)
        self.monitor = monitor or ("nats" if model.likelihood else "kid")
        if self.monitor in ("nats", "elbo") and model.likelihood is None:
            raise ConfigError(
                f"task.monitor={monitor}: {type(model).__name__} has no likelihood.\n  fix: task.monitor=kid"
            )
        for part in ("validation", "test"):
            if len(data.parts[part]) < FEWEST and (part == "test" or data.validates):
                raise DataError(
                    f"The {part} part has {len(data.parts[part])} images, and pictures are compared with {FEWEST} or "
                    f"more. Raise split.{part}, or bring more images."
                )
        self.mode = self.directions.get(self.monitor, "max")
        self.samples = {"validation": validation_samples, "test": samples}
        self.importance = {"validation": validation_importance, "test": importance}
        self.neighbours = neighbours
        self.extractor_run, self.extractor_folder = extractor, extractor_folder
        self._real: dict[str, Real] = {}
        self.register_buffer("shares", class_shares(data), persistent=False)

    # Training --------------------------------------------------------------------------------------------------------

    def loss(self, batch: Any) -> Tensor:
        return self.model.loss(batch)

    def learn(self, batch: Any) -> dict[str, Tensor]:
        return self.model.learn(batch, self.step)

    # Evaluation ------------------------------------------------------------------------------------------------------

    @cached_property
    def extractor(self) -> Extractor:
        if self.extractor_run is None:
            return PixelFeatures(self.data)
        if self.extractor_folder is None:
            raise ConfigError("task.extractor_folder is filled in when the run is trained; leave it out.")
        return RunFeatures(
            Path(self.extractor_folder) / "inference", self.extractor_run, self.data.spec.channels
        )  # fmt: skip

    def rows(self, part: Part) -> np.ndarray:
        """Of the real images of a part, int64 ascending: all, or so many drawn for good, the same in every run."""
        rows, wanted = self.data.parts[part], self.samples[part]
        if len(rows) <= wanted:
            return rows
        return np.sort(numpy_generator(0, f"real images of {part}").choice(rows, wanted, replace=False))

    def real(self, part: Part) -> Real:
        """The real images that samples are held against, looked at once."""
        if part not in self._real:
            rows = self.rows(part)
            features, classes = self._looked_at(rows)
            known = None if classes is None else classes.numpy()
            train, away = None, 0.0
            if part == "test":
                train = self._looked_at(self.data.parts["train"])[0]
                away = float(nearest(features, train).mean())
            self._real[part] = Real(rows, features, known, self.extractor.n_classes, train, away)
        return self._real[part]

    def _looked_at(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        found = [self.extractor(torch.from_numpy(np.asarray(self.data.images[rows[start : start + 1000]])))
                 for start in range(0, len(rows), 1000)]  # fmt: skip
        features = torch.cat([features for features, _ in found])
        return features, torch.cat([classes for _, classes in found]) if self.extractor.n_classes else None

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[PictureBatch]:
        """AT_ONCE real images at a time; a step is one process's whole, so that it draws what it would alone."""
        rows = self.rows(part)
        for start in range(rank * AT_ONCE, len(rows), world * AT_ONCE):
            index = torch.from_numpy(rows[start : start + AT_ONCE])
            images = torch.from_numpy(np.take(self.data.images, index.numpy(), axis=0))
            yield PictureBatch(images, index, torch.arange(start, start + len(index)))

    def scores(self, scorer: Any, batch: PictureBatch) -> Scored:
        """Features and classes of the samples with the batch's numbers, and nats of its images."""
        with torch.autocast(self.device.type, enabled=False):  # half the digits are enough to learn, not to judge
            return self._scored(scorer, batch)

    def _scored(self, scorer: Any, batch: PictureBatch) -> Scored:
        number = batch.number.cpu()
        made = scorer.of(number) if isinstance(scorer, Given) else self._made(scorer, number)
        features, classes = self.extractor(made)
        if isinstance(scorer, Given) or not scorer.likelihood or scorer.likelihood != self.model.likelihood:
            return Scored(features, classes)
        return Scored(features, classes, *self._nats(scorer, batch))

    def _made(self, model: ImageModel, number: Tensor) -> Tensor:
        # Other noise in the test than that by which validation has chosen; for baselines the same in all runs.
        seed = derive(self.seed if model is self.model else 0, f"samples of {self.evaluated}")
        classes = classes_of(self.shares.cpu(), seed, number).to(self.device) if model.conditional else None
        return model.generate(noise_of(model, seed, number).to(self.device), classes)

    def _nats(self, model: ImageModel, batch: PictureBatch) -> tuple[Tensor, Tensor]:
        """The bound of one z an image, and of `importance` of them: the random numbers follow from the step alone."""
        images, samples = batch.images, self.importance[self.evaluated]
        # Drawn once for all runs and seeds, so that all are judged on the same pixels.
        binary = model.likelihood == "binary"
        pixels = binarised(images, batch.index, derive(0, "evaluated pixels")) if binary else images.float()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive(0, f"nats of {self.evaluated}", int(batch.number[0])))
            chunk = max(1, WEIGHTS_AT_ONCE // len(pixels))
            drawn = [model.log_weights(pixels, min(chunk, samples - done)) for done in range(0, samples, chunk)]
        weights = torch.cat(drawn).double()
        # The first is as good as any; the mean of all is the same bound with less noise.
        return -weights.mean(dim=0), bound(weights)

    def evaluator(self) -> PictureEvaluator:
        return PictureEvaluator(self.real(self.evaluated), self.neighbours)

    def baselines(self) -> dict[str, Any]:
        view, spec = AllLabels(), self.data.spec
        means = ClassMeans(spec, view=view)
        means.prepare(self.data)
        train = self.data.parts["train"]
        rows = numpy_generator(0, "training images as samples").permutation(train)[: self.samples["test"]]
        return {
            "baseline/noise": Noise(spec, view=view),
            "baseline/class_means": means,
            "train": Given(self.data.images, rows),
        }

    def oracle(self) -> Given | None:
        """Posters of the same law that nobody has seen, where the data is made up."""
        anew = getattr(self.data, "anew", None)
        if anew is None:
            return None
        images = anew()
        return Given(images, np.random.default_rng(0).permutation(len(images))[: self.samples["test"]])

    def found(self) -> dict[str, Any]:
        metrics = self.results["test"][0]
        covered = metrics.get("modes", 1.0)
        if covered < COLLAPSED:
            told = f"The model has collapsed: its samples cover {covered:.0%} of the classes."
            log.warning(told)
            print(f"note: {told}", file=sys.stderr)
            return {"collapsed": True}
        return {}

    # Words -----------------------------------------------------------------------------------------------------------

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        """Nats where the model has a likelihood, classes where the extractor knows any."""
        always = ["kid", "fid", "precision", "recall", "density", "coverage", "nearest", "memorisation"]
        return [*always, "modes", "class_entropy", "nats", "elbo"]

    def shown(self) -> list[str]:
        return [*(["nats"] if self.model.likelihood else []), "kid", "fid", "coverage", "memorisation"]

    def protocol(self) -> str:
        n = len(self.rows("test"))
        return (
            f"{n:,} samples against {n:,} real images, features: {self.extractor.name}, "
            f"neighbourhoods of {self.neighbours}, nats of pixels drawn once by {self.importance['test']:,} z an image"
        )

    def predictor(self) -> type[Pictures]:
        return Pictures

    def serves(self) -> dict[str, Any]:
        return {"shares": [round(float(share), 6) for share in self.shares / self.shares.sum()]}

    def requests(self, predictor: Pictures, n: int) -> Sequence[Callable[[], Any]]:
        return [lambda seed=seed: predictor.generate(1, seed) for seed in range(n)]

    def many(self, predictor: Pictures, n: int) -> tuple[Callable[[], Any], int]:
        n = min(n, TIMED)
        return lambda: predictor.generate(n, 1), n

    def draw(self, folder: Path, best_epoch: int | None) -> None:
        from marquee.plots.made import write_made

        plots = folder / "plots"
        plots.mkdir(exist_ok=True)
        try:  # sheets need none of the packages that figures need
            write_made(plots, self.data, Pictures(folder / "inference"))
        finally:
            super().draw(folder, best_epoch)

    def suggestions(self) -> tuple[str, str]:
        return "generate {run} -n 64 --output grid.png", "model=gan/dcgan,autoencoder/vae,flow/matching"
