"""What all tasks share: how a question is asked of data. How it is trained and evaluated is in loop.py."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.spec import Spec
from marquee.inference.predictor import Predictor
from marquee.metrics.evaluator import Evaluator
from marquee.tasks.loop import Loop


class Task(Loop):
    """A question asked of data: loss, evaluator, monitored metric, baselines, and the words for all of that.

    model      answers the question
    data       set up
    optimizer  takes parameters and returns a torch optimiser; for a task with `learners` also one for each, by name
    scheduler  takes that optimiser and returns its Schedule, or a scheduler of torch that steps once an epoch; or None
    seed       of the run

    After an evaluation, `results[part]` holds (metrics, per-unit table). A sub-class says:

    spec_types  the data that the question can be asked of
    unit        what is measured one by one (user, example): the name of the per-unit table's first column
    measured    those of its keys that decide what is measured; the others belong to the training
    measures_more   those that only add metrics: runs that differ in them are one configuration
    learners    names of the parts that have an optimiser each and take turns (generator, discriminator); such a task
                trains in `learn`. Empty: one optimiser for all parameters, and `loss`. A task that leaves it to the
                model takes over the `learners` of that
    remarks     what a user is told before training, a line each
    monitor     the metric that early stopping and the best checkpoint go by, `mode` its direction
    passes      how often the Trainer goes through its epochs: once, or once for each window of a stream
    prequential tests itself while it trains; `gather` makes the results, `references` those of baselines and oracle
    directions  `max` or `min`, what is better of metrics that Marquee does not know: {"nats": "min"}
    """

    spec_types: ClassVar[tuple[type[Spec], ...]]
    unit: ClassVar[str]
    measured: ClassVar[tuple[str, ...]] = ()
    measures_more: ClassVar[tuple[str, ...]] = ()
    learners: ClassVar[tuple[str, ...]] = ()
    directions: ClassVar[Mapping[str, Literal["min", "max"]]] = {}
    prequential: ClassVar[bool] = False
    remarks: Sequence[str] = ()
    passes: int = 1
    monitor: str
    mode: Literal["min", "max"]

    def loss(self, batch: Any) -> Tensor:
        """The scalar training loss of a batch, where the model takes gradient steps and there are no `learners`."""
        raise NotImplementedError

    def learn(self, batch: Any) -> Tensor | Mapping[str, Tensor] | None:
        """Train on a batch by `step`, once or more for each of the `learners`; the loss to log, or those by name."""
        raise NotImplementedError

    @abstractmethod
    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[Any]:
        """Yield every unit of `part` that belongs to `rank` exactly once, in a fixed order."""

    @abstractmethod
    def scores(self, scorer: Any, batch: Any) -> Tensor:
        """The scores of `scorer` (the model, a baseline or the oracle) for one evaluation batch."""

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """A fresh evaluator, of the part that `evaluated` names."""

    @abstractmethod
    def baselines(self) -> dict[str, Any]:
        """The scorers that every run is printed beside, by name, already fitted."""

    def oracle(self) -> Any:
        """The best scorer that there can be for this question, where the data knows it, else None."""
        return self.data.oracle()

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        """The metrics that a run with these settings of the task records; empty where that is not known beforehand."""
        return []

    def shown(self) -> list[str]:
        """The metrics that a terminal has room for, beside the monitored one."""
        return []

    def protocol(self) -> str:
        """How is measured, in words that stand below every table; empty where data and split say it all."""
        return ""

    def predictor(self) -> type[Predictor] | None:
        """What answers with a finished run's `inference/` folder, or None where it cannot be used."""
        return None

    def settle(self) -> None:
        """Before the test: choose on validation, by the weights that are kept, what is chosen there (a threshold)."""

    def found(self) -> dict[str, Any]:
        """What the manifest keeps of a test besides its metrics, by name: intervals, a decision."""
        return {}

    def write_tables(self, folder: Path) -> None:
        """Write what else belongs in the folder of a finished run, as tables."""

    def draw(self, folder: Path, best_epoch: int | None) -> None:
        """Write into `plots/` of a run's folder what a person looks at; its curves and per-unit table stand there."""
        from marquee.plots.learning import learning_curves
        from marquee.plots.paper import SCREEN, write_plots

        write_plots(learning_curves(folder, self.monitor, best_epoch), folder / "plots", scale=SCREEN)

    def serves(self) -> dict[str, Any]:
        """What the predictor does where nothing else is asked for, as the run was judged: JSON values by name."""
        return {}

    def requests(self, predictor: Predictor, n: int) -> Sequence[Callable[[], Any]]:
        """The first `n` units of the test part (or fewer) as a user would ask for them, one call each."""
        return []

    def many(self, predictor: Predictor, n: int) -> tuple[Callable[[], Any], int] | None:
        """One call for the first `n` units of the test part (or fewer) together, and how many these are; or None."""
        return None

    def told(self) -> list[str]:
        """Lines that a terminal shows below the metrics."""
        return []

    def suggestions(self) -> tuple[str | None, str | None]:
        """What to type after a run: how to use it (after `marquee`, with {run}), and rivals to train (model=...)."""
        return None, None

    def described(self) -> dict[str, Any]:
        """What the manifest keeps of the task, so that tables can be made without it."""
        return {
            "unit": self.unit, "measured": list(self.measured), "protocol": self.protocol(), "shown": self.shown(),
            "directions": dict(self.directions), "measures_more": list(self.measures_more),
        }  # fmt: skip
