"""What a comparison found, as plain records: `--format json` writes them as they are, tables are drawn from them."""

from dataclasses import dataclass, field
from typing import Any

from marquee.compare.collect import LeftOut
from marquee.compare.ranks import Ranks

MEASURED_COSTS = ("latency_ms", "batch_latency_ms", "peak_memory_mb", "size_mb", "energy_j")  # of manifest["cost"]
COSTS = ("parameters", "fit_seconds", "best_epoch", *MEASURED_COSTS)


@dataclass
class PairedTest:
    """The difference between two configurations over the units of the test set, in the metric's own unit.

    `difference` is the configuration that holds the test minus `against`.
    """

    against: str
    difference: float
    interval: tuple[float, float]  # 95 %, paired bootstrap
    p: float  # sign flips, not corrected
    p_corrected: float  # for all pairs of the block, by the step-down maximum
    significant: bool  # p_corrected < 0.05
    effect: float | None  # mean of the differences / their standard deviation
    better: float  # share of units; where less is better, those with less
    worse: float
    p_seeds: float | None  # t between the seeds' or draws' means, not corrected; None where these say nothing


@dataclass
class Score:
    """One metric of one configuration, of a baseline or of the oracle (these two have one value for all seeds)."""

    label: str
    kind: str  # model, baseline, oracle
    values: list[float]  # a repetition each
    mean: float
    sd: float | None = None
    interval: tuple[float, float] | None = None
    interval_over: str | None = None  # seeds or draws (t), or units (bootstrap) where there is one repetition
    repetitions: list[str] = field(default_factory=list)  # "seed 1", or "draw 0" of several draws of the split
    pareto: bool = False
    against_best: PairedTest | None = None
    against_reference: PairedTest | None = None


@dataclass
class MetricResult:
    """All scores of one metric in one block, models first, the best on top."""

    metric: str
    direction: str | None
    scores: list[Score]
    best: str | None  # the model with the best mean
    winner: str | None  # the same, where it differs significantly from every other
    reference: str | None

    @property
    def models(self) -> list[Score]:
        """Without baselines and oracle."""
        return [score for score in self.scores if score.kind == "model"]


@dataclass
class Configuration:
    """A row of a block: its settings, its runs and what they cost."""

    label: str
    model: str
    differing: dict[str, Any]
    runs: list[str]
    seeds: list[int]
    draws: list[int]  # seeds of the split
    parameters: int | None
    fit_seconds: float | None  # mean over runs that trained in one go
    best_epoch: float | None  # mean
    # Measured after training where a run did so; means over runs, None where none has it.
    latency_ms: float | None = None
    batch_latency_ms: float | None = None
    peak_memory_mb: float | None = None
    size_mb: float | None = None
    energy_j: float | None = None

    def costs(self) -> dict[str, float | None]:
        """Every cost, by the names of the fields."""
        return {name: getattr(self, name) for name in COSTS}


@dataclass
class BlockResult:
    """The configurations of one protocol, whose scores may stand in one column, and everything said about them."""

    title: str
    data: str
    split: str
    protocol: str
    like: int | None
    differs: list[str]
    unit: str  # users or examples
    n_units: int
    seeds: list[int]
    draws: list[int]  # seeds of the split, where it draws
    folds: int | None  # of cross-validation
    configurations: list[Configuration]
    metrics: list[MetricResult]
    tests: int  # the pairs that p is corrected for; 0: nothing is tested
    flips: int
    notes: list[str] = field(default_factory=list)

    @property
    def repetition(self) -> str:
        """What each value of a score is of: a `seed`, or a `draw` of the split where there are several."""
        return "draw" if len(self.draws) > 1 else "seed"

    @property
    def one_run(self) -> str:
        """What one run of a row is: a `seed` where runs differ in nothing else, a `fold`, or else a `run`."""
        if len(self.draws) > 1 or (self.folds and len(self.seeds) > 1):
            return "run"
        return "fold" if self.folds else "seed"


@dataclass
class Comparison:
    """Blocks, ranks over data sets where there are enough, and the runs that are in no table."""

    blocks: list[BlockResult]
    ranks: Ranks | None
    rank_notes: list[str]
    left_out: list[LeftOut]
