"""The mean of what finished runs say: a model that learns nothing, its batches, and what answers with it.

It stands here and not among the models, because it opens the `inference/` folders of runs.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Gt, MinLen
from torch import Tensor
from torch.nn import functional as F

from marquee.config.build import build
from marquee.data.cache import file_sha256
from marquee.data.dataset import DataSet, ExampleView
from marquee.data.label_view import LabelBatch
from marquee.data.spec import ImageSpec, TextSpec
from marquee.errors import ConfigError, DataError
from marquee.inference.artefacts import WEIGHTS, read_model
from marquee.inference.classifier import ClassPredictor, decision_of
from marquee.inference.predictor import DAMAGE, predictor_of
from marquee.models.base import Classifier

MEMBERS = "members"  # the folder in an ensemble's inference folder that holds those of its runs


class EnsembleBatch(NamedTuple):
    """The same examples as each member reads them."""

    inputs: tuple[Any, ...]  # a batch a member
    labels: Tensor  # int64 [batch], or float32 [batch, classes] when multi-label
    index: Tensor  # int64 [batch], the example's row number in the data set


class MemberViews(ExampleView):
    """Examples through each member's own view. For training there are labels alone, as nothing is learnt."""

    def __init__(self, views: Sequence[ExampleView]):
        self.views = tuple(views)

    def steps(self, data: DataSet) -> int:
        return 1

    def train_batches(self, data: DataSet, seed: int, epoch: int) -> Iterator[LabelBatch]:
        index = data.parts["train"]
        yield LabelBatch(torch.from_numpy(np.asarray(data.labels[index])), torch.from_numpy(index))

    def batch(self, data: DataSet, index: np.ndarray) -> EnsembleBatch:
        inputs = tuple(view.batch(data, index) for view in self.views)
        return EnsembleBatch(inputs, torch.from_numpy(np.asarray(data.labels[index])), torch.from_numpy(index))

    def lengths(self, data: DataSet, index: np.ndarray) -> np.ndarray | None:
        """Those of the member that reads most, which is the slowest."""
        found = [lengths for view in self.views if (lengths := view.lengths(data, index)) is not None]
        return max(found, key=np.sum) if found else None


class Mean(Classifier):
    """The mean over finished runs of their probabilities or logits. It learns nothing.

    Means of networks that err differently: Hansen & Salamon 1990, "Neural Network Ensembles", IEEE PAMI 12(10).

    runs         finished runs of this data and split: folder, id, a prefix of it, or latest. The record of a run has
                 their ids and the first digits of their weights' sha256, ID@DIGITS
    of           what is averaged. The mean of probabilities trusts no member more than the others; in the mean of
                 logits, which is the geometric mean of probabilities, a member that is sure counts for more
    votes        how often each run counts; None: once
    run_folders  where the runs lie, which is no part of what the run is; Marquee fills it in
    """

    max_epochs = 1

    def __init__(
        self,
        spec: TextSpec | ImageSpec,
        *,
        runs: Annotated[list[str], MinLen(2)],
        of: Literal["probabilities", "logits"] = "probabilities",
        votes: list[Annotated[float, Gt(0)]] | None = None,
        run_folders: list[str] | None = None,
    ):
        super().__init__()
        if votes is not None and len(votes) != len(runs):
            raise ConfigError(f"model.votes has {len(votes)} numbers, and model.runs {len(runs)} runs; give one a run.")
        self.view = MemberViews(())
        self.multilabel = spec.multilabel
        self.of = of
        self.run_folders = run_folders
        self._seconds = 0.0
        self.predictors: tuple[ClassPredictor, ...] = ()
        votes = votes or [1.0] * len(runs)
        self.votes = [vote / sum(votes) for vote in votes]
        # All that a checkpoint holds: which weights are averaged.
        self.register_buffer("digests", torch.zeros(len(runs), 32, dtype=torch.uint8))

    def prepare(self, data: DataSet) -> None:
        """Load the members. That they are finished and of this data has been seen before (`runs.members`)."""
        runs = [Path(folder) for folder in self.run_folders or ()]
        folders = [run / "inference" for run in runs]
        try:
            self.attach(folders)
        except DAMAGE as error:
            raise DataError(f"model.runs: the inference folder of one of them is damaged: {error}") from error
        manifests = (json.loads((run / "manifest.json").read_text(encoding="utf-8")) for run in runs)
        self._seconds = sum(manifest["durations"]["fit"] for manifest in manifests)
        digests = [bytes.fromhex(file_sha256(folder / WEIGHTS)) for folder in folders]
        self.digests.copy_(torch.from_numpy(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32).copy()))

    def attach(self, folders: Sequence[Path]) -> None:
        """Load the members from their `inference/` folders, in the order of `runs`."""
        predictors = tuple(predictor_of(folder) for folder in folders)
        for predictor, folder in zip(predictors, folders, strict=True):
            if not isinstance(predictor, ClassPredictor):
                raise ConfigError(f"{folder.parent.name} {predictor.does}, and an ensemble is of runs that classify.")
        self.folders, self.predictors = list(folders), predictors
        self.view = MemberViews([predictor.model.view for predictor in predictors])

    @property
    def n_parameters(self) -> int:
        return sum(predictor.model.n_parameters for predictor in self.predictors)

    @property
    def seconds_before(self) -> float:
        return self._seconds

    def fit(self, batch: LabelBatch) -> None:
        """Nothing is learnt."""

    def forward(self, batch: EnsembleBatch) -> Tensor:
        """Logits [batch, n_classes]; with `of` probabilities those whose softmax (or sigmoid) is the mean."""
        members = zip(self.predictors, batch.inputs, strict=True)
        logits = torch.stack([predictor.model(inputs).float() for predictor, inputs in members])
        votes = logits.new_tensor(self.votes)[:, None, None]
        if self.of == "logits":
            return (votes * logits).sum(dim=0)
        if self.multilabel:
            yes, no = (
                (F.logsigmoid(side * logits) + votes.log()).logsumexp(dim=0) for side in (1, -1)
            )  # fmt: skip
            return yes - no
        return (logits.log_softmax(dim=-1) + votes.log()).logsumexp(dim=0)

    def save_inference(self, folder: Path) -> None:
        """Copies of the members' folders: the ensemble answers when their runs are gone."""
        for number, member in enumerate(self.folders):  # a resumed run may have begun to write them
            shutil.copytree(member, folder / MEMBERS / str(number), dirs_exist_ok=True)

    def _apply(self, fn: Any, recurse: bool = True) -> "Mean":
        # Members are no sub-modules: their weights belong to no checkpoint, and they never train. But they move along.
        for predictor in self.predictors:
            predictor.model._apply(fn, recurse)
        return super()._apply(fn, recurse)


class EnsemblePredictor(ClassPredictor):
    """Labels texts or images by all members, each with an encoding of its own."""

    does, takes = "classifies", "input"
    example = "--text TEXT, or --image FILE"

    def __init__(self, folder: Path):
        content = read_model(folder)
        folders = [folder / MEMBERS / str(number) for number in range(len(content["model"]["runs"]))]
        self.spec = predictor_of(folders[0]).spec
        model: Mean = build(content["model"], self.spec)
        model.attach(folders)
        self.model = model.eval()
        first = model.predictors[0]
        self.labels, self.multilabel = first.labels, first.multilabel
        self.decision = decision_of(content, self.labels, self.multilabel)
        self.does, self.takes, self.example = first.does, first.takes, first.example

    def batch(self, inputs: Sequence[Any]) -> EnsembleBatch:
        batches = tuple(predictor.batch(inputs) for predictor in self.model.predictors)
        return EnsembleBatch(batches, batches[0].labels, batches[0].index)

    def golden(self) -> list[dict[str, Any]]:
        return self.model.predictors[0].golden()

    def _noise(self, seed: int) -> Any:
        return self.model.predictors[0]._noise(seed)


Mean.predictor = EnsemblePredictor
