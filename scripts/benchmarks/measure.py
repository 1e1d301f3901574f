"""How a benchmark is measured: CPU seconds, ours and a reference in turns, medians, one row of the table."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace


class Measured(NamedTuple):
    """What one benchmark gives: medians in its unit; `reference` is None for memory and sizes."""

    ours: float
    reference: float | None = None
    synthetic: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A target of the table: `limit` is the largest allowed value of `of`, where ratio is ours / reference.

    A time is judged by its ratio to something that is run beside it: a slow machine is slow for both.
    """

    name: str
    of: Literal["ours", "ratio"]
    limit: float
    unit: str
    beside: str
    run: Callable[["Workspace"], Measured]

    def row(self, measured: Measured, size: str) -> dict[str, Any]:
        """The JSON record of a measurement; the name says what the figures do not stand for."""
        import torch

        remarks = [word for word, holds in ((size, size != "full"), ("synthetic", measured.synthetic)) if holds]
        ratio = None if measured.reference is None else measured.ours / max(measured.reference, 1e-9)
        return {
            "name": f"{self.name} ({', '.join(remarks)})" if remarks else self.name,
            "ours": round(measured.ours, 4),
            "reference": None if measured.reference is None else round(measured.reference, 4),
            "ratio": None if ratio is None else round(ratio, 3),
            "of": self.of,
            "target": self.limit,
            "unit": self.unit,
            "beside": self.beside,
            "threads": torch.get_num_threads(),
        }

    def met(self, row: dict[str, Any]) -> bool:
        return row[self.of] <= self.limit


def cpu_seconds() -> float:
    """CPU time of all threads of this process: what other jobs on the machine take does not count."""
    return time.process_time()


def in_turns(
    runs: int,
    ours: Callable[[], Any],
    reference: Callable[[], Any],
    before: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = cpu_seconds,
) -> tuple[float, float]:
    """The median times of both; each has its turn `runs` times, `before` is run ahead of each and not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for action, spent in zip((ours, reference), times, strict=True):
            before()
            start = clock()
            action()
            spent.append(clock() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def machine() -> str:
    """One line on what the figures were measured with."""
    import pytorch_lightning
    import torch

    from marquee.runs.environment import cores, cpu_model

    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, Lightning {pytorch_lightning.__version__}, "
        f"{cpu_model()}, {cores()} cores, threads: {torch.get_num_threads()}"
    )
