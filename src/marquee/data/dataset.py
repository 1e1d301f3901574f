"""The contract of a data set: locate and prepare it once, split it, describe it. It knows nothing of Lightning."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from marquee.data.spec import Spec

if TYPE_CHECKING:
    import numpy

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Paths:
    """Where raw data is looked for (may be read-only), where prepared data is cached, where runs land."""

    data: Path
    cache: Path
    output: Path = Path("outputs")


class Split:
    """A protocol that cuts a data set into train, validation and test. Sub-classes hold its parameters.

    fold_key  the parameter that numbers the folds of cross-validation, from 0

    A comparison pools runs that differ in their fold alone, or in the parameter `seed` alone, by which a split draws.
    """

    fold_key: ClassVar[str | None] = None

    @property
    def folds(self) -> int:
        """How many runs, one a fold, make the protocol whole."""
        return 1


class DataSet(ABC):
    """A data set. Constructors only store parameters; `setup` does the work and then sets the attributes below.

    spec               what the data is, for models
    fingerprint        sha256 over the raw bytes, the preparation parameters and the preparation code's version
    split_fingerprint  sha256 over the membership of train, validation and test, the protocol, its seed and tie rule
    report             flat dict of counts for the log and the manifest: what was read, dropped (per rule), kept
    validates          there is a validation part; without one a run trains all its epochs and keeps the last
    remarks            what a user is told before training, a line each
    licence            of the data, in words, for the card of what is exported; None where nobody says
    """

    licence: ClassVar[str | None] = None
    spec_type: ClassVar[type[Spec]]
    split_type: ClassVar[type[Split]]

    spec: Spec
    fingerprint: str
    split_fingerprint: str
    report: dict[str, Any]
    validates: bool = True
    remarks: Sequence[str] = ()

    @abstractmethod
    def setup(self, split: Split, paths: Paths) -> None:
        """Locate, verify, prepare (from cache where it stands) and split. Raises DataError. Safe to call twice."""

    def about(self) -> "dict[Literal['item', 'user'], Sequence[str]]":
        """Of labelled examples, the id of the item, and of the user, that each is about; "" where nobody knows.

        So what a finished run makes of them (posters, reviews) can be a feature of these: `data.item_features`.
        """
        return {}

    def oracle(self) -> Any:
        """The Bayes-optimal scorer where the truth is known (the embedded worlds), else None."""
        return None

    @abstractmethod
    def save_inference(self, folder: Path) -> None:
        """Write what a predictor needs of the data (id maps, vocabulary, histories) as JSON and safetensors."""


class View(ABC):
    """How a model wants the training data cut into batches. Every random choice is a function of (seed, epoch).

    Batches are NamedTuples of tensors. In training batches each tensor's first dimension is the batch, so that a
    distributed run can give each process its share of every batch.

    wants_policy  `train_batches` is given a frozen copy of the model as it is when the epoch starts: experience that
                  the model itself collects. Such a run has one process
    """

    wants_policy: ClassVar[bool] = False

    @abstractmethod
    def steps(self, data: DataSet) -> int:
        """The number of batches that one epoch of `train_batches` yields."""

    @abstractmethod
    def train_batches(self, data: DataSet, seed: int, epoch: int) -> Iterator[Any]:
        """Yield the epoch's batches. A view that wants the policy gets it as one argument more, `policy`."""

    def shard(self, batch: Any, rank: int, world: int) -> Any:
        """One process's share of a training batch: every `world`-th row, beginning at `rank`.

        A last batch with fewer rows than processes goes to all of them whole: the mean over no row is not a number.
        """
        if world == 1 or len(batch[0]) < world:
            return batch
        return type(batch)(*(None if tensor is None else tensor[rank::world] for tensor in batch))

    def state_dict(self) -> dict[str, Any]:
        """What the view keeps from one epoch to the next (a replay buffer): tensors and plain values, by name.

        It is written into each checkpoint and given back to `load_state_dict` when the run is resumed.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - most views keep nothing
        """Go on from what `state_dict` returned."""


class ExampleView(View):
    """What views of labelled examples (texts, images) share: a task names rows, the view makes a batch of them."""

    @abstractmethod
    def batch(self, data: DataSet, index: "numpy.ndarray") -> Any:
        """The examples in the rows `index` (int64 [n]) as the model reads them, not augmented, in that order."""

    def lengths(self, data: DataSet, index: "numpy.ndarray") -> "numpy.ndarray | None":
        """The length of each example for the model, int64 [n]: those of like length are evaluated together.

        None where all are alike.
        """
        return None
