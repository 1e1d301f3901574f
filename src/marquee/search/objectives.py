"""What a search optimises: validation metrics and costs, each with the direction that its name implies."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from marquee.config.targets import closest, resolve
from marquee.errors import ConfigError, JobError
from marquee.metrics.direction import direction, neither

# Where a finished run's manifest has them; of each, less is better.
COSTS: dict[str, tuple[str, ...]] = {
    "parameters": ("parameters",),
    "epochs": ("epochs",),
    "fit_seconds": ("durations", "fit"),
    "durations.fit": ("durations", "fit"),
    "durations.total": ("durations", "total"),
    "latency_ms": ("cost", "latency_ms"),
    "batch_latency_ms": ("cost", "batch_latency_ms"),
    "peak_memory_mb": ("cost", "peak_memory_mb"),
    "size_mb": ("cost", "size_mb"),
    "energy_j": ("cost", "energy_j"),
}


@dataclass(frozen=True)
class Objective:
    """A number of a run: a validation metric of its best epoch, or a cost. `watched`: runs are watched by it."""

    name: str
    direction: Literal["maximize", "minimize"]
    watched: bool = False

    @property
    def cost(self) -> bool:
        return self.name in COSTS


def objectives_of(names: list[str] | str | None, config: Mapping[str, Any]) -> list[Objective]:
    """The objectives by name; None: the watched metric. Raises ConfigError for a name that no run records."""
    monitor = _monitor(config["task"])
    if names is None:
        return [Objective(monitor, _direction(monitor, config["task"]), watched=True)]
    names = [name.removeprefix("validation/") for name in ([names] if isinstance(names, str) else names)]
    for name in names:
        if name.startswith("test/"):
            raise ConfigError(f"hydra.sweeper.objectives: {name}: a search never looks at the test part.")
        if names.count(name) > 1:
            raise ConfigError(f"hydra.sweeper.objectives names {name} twice.")
        allowed = [*_metrics(config["task"]), *COSTS]
        if len(allowed) > len(COSTS) and name not in allowed and name != monitor:
            near = closest(name, allowed)
            raise ConfigError(
                f"hydra.sweeper.objectives: {name} is not recorded by these runs."
                + (f"\n  did you mean: {near}" if near else "")
                + f"\n  allowed: {', '.join(allowed)}"
            )
    return [Objective(name, _direction(name, config["task"]), name == monitor) for name in names]


def _monitor(task: Mapping[str, Any]) -> str:
    """What runs are watched by: as the configuration or the task's class says; the task decides where it is null."""
    return task.get("monitor") or getattr(resolve(task["_target_"]), "monitor", None) or "accuracy"


def _metrics(task: Mapping[str, Any]) -> list[str]:
    """The names that runs of a task record; none where it does not say."""
    return resolve(task["_target_"]).metrics_of(task)


def _direction(name: str, task: Mapping[str, Any]) -> Literal["maximize", "minimize"]:
    if name in COSTS:
        return "minimize"
    kind = resolve(task["_target_"])
    own = getattr(kind, "monitor", None) == name  # a class that says by what its runs are watched says how
    better = getattr(kind, "mode", None) if own else direction(name, getattr(kind, "directions", None))
    if better is None and neither(name):
        raise ConfigError(f"hydra.sweeper.objectives: of {name} neither more nor less is better.")
    if better is None:
        raise ConfigError(
            f"hydra.sweeper.objectives: nobody says whether more or less of {name} is better.\n"
            f'  fix: directions = {{"{name}": "max"}} (or "min") in {kind.__name__}'
        )
    return "minimize" if better == "min" else "maximize"


def values_of(folder: Path, objectives: Sequence[Objective]) -> list[float]:
    """The objectives of a finished run. Raises JobError where one is missing, not finite, or watched the other way."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    values = []
    for objective in objectives:
        value = _cost(manifest, objective.name) if objective.cost else _metric(folder, manifest, objective)
        if value is None or not math.isfinite(value):
            raise JobError(f"{folder.name} has no {objective.name}: {value}")
        values.append(float(value))
    return values


def _cost(manifest: Mapping[str, Any], name: str) -> float | None:
    node: Any = manifest
    for part in COSTS[name]:
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _metric(folder: Path, manifest: Mapping[str, Any], objective: Objective) -> float | None:
    """At the best epoch. The manifest has the watched metric, the curves have all."""
    name = manifest.get("monitor") if objective.watched else objective.name
    if name == manifest.get("monitor"):
        wanted = {"max": "maximize", "min": "minimize"}[manifest["mode"]]
        if wanted != objective.direction:
            raise JobError(
                f"{folder.name}: the task would {wanted} {name}, and the search would {objective.direction} it."
            )
        return manifest["metrics"].get(f"validation/{name}")
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["epoch"]) + 1 == manifest.get("best_epoch"):
                text = row.get(f"validation/{name}")
                return float(text) if text else None
    return None
