"""How a benchmark is measured: CPU seconds, alternated runs, medians, one row of the table."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace


class Measured(NamedTuple):
    """What one benchmark gives: medians in its unit; `reference` is None where the target is absolute."""

    ours: float
    reference: float | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A target of the table: `limit` is the largest allowed value of `of`, where ratio is ours / reference."""

    name: str
    of: Literal["ours", "ratio"]
    limit: float
    unit: str
    run: Callable[["Workspace"], Measured]

    def row(self, measured: Measured, quick: bool) -> dict[str, Any]:
        """The JSON record of a measurement; the name says what the figures do not stand for."""
        import torch

        remarks = [word for word, holds in (("quick", quick), ("synthetic", measured.synthetic)) if holds]
        ratio = None if measured.reference is None else measured.ours / measured.reference
        return {
            "name": f"{self.name} ({', '.join(remarks)})" if remarks else self.name,
            "ours": round(measured.ours, 4),
            "reference": None if measured.reference is None else round(measured.reference, 4),
            "ratio": None if ratio is None else round(ratio, 3),
            "target": f"{self.of} <= {self.limit:g}",
            "unit": self.unit,
            "threads": torch.get_num_threads(),
        }

    def met(self, row: dict[str, Any]) -> bool:
        return row[self.of] <= self.limit


def cpu_seconds() -> float:
    """CPU time of all threads of this process: what other jobs on the machine take does not count."""
    return time.process_time()


def median_of(runs: int, action: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    """The median CPU seconds of `action`; `before` is run ahead of each and not counted."""
    seconds = []
    for _ in range(runs):
        before()
        start = cpu_seconds()
        action()
        seconds.append(cpu_seconds() - start)
    return statistics.median(seconds)


def machine() -> str:
    """One line on what the figures were measured with."""
    import pytorch_lightning
    import torch

    from marquee.runs.environment import cores, cpu_model

    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, Lightning {pytorch_lightning.__version__}, "
        f"{cpu_model()}, {cores()} cores, threads: {torch.get_num_threads()}"
    )
