"""What the runs of a comparison recorded beyond their scores: settings, curves, and where everything lies."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marquee.compare.collect import find_folders, located
from marquee.compare.results import BlockResult, Comparison, Configuration
from marquee.errors import ConfigError
from marquee.runs.listing import flat
from marquee.runs.record import read_manifest
from marquee.sweeps.store import RECORD, Sweep


@dataclass
class Recorded:
    """One run and its files. `folder` is where a reader finds it, None where it is not at hand."""

    id: str
    manifest: dict[str, Any]
    source: Path  # where its files are read
    folder: Path | None = None

    @property
    def monitor(self) -> str:
        """The metric that the run was watched by."""
        return str(self.manifest.get("monitor"))

    @property
    def validation(self) -> float | None:
        """That metric on validation, at the best epoch."""
        return (self.manifest.get("metrics") or {}).get(f"validation/{self.monitor}")

    def settings(self) -> dict[str, Any]:
        """The whole configuration by dotted keys."""
        return flat(self.manifest.get("config") or {})

    def curve(self, column: str) -> list[tuple[int, float]]:
        """(epoch, value) of a column of metrics.csv, epochs counted from 1; empty where it was not recorded."""
        try:
            with (self.source / "metrics.csv").open(newline="", encoding="utf-8") as file:
                rows = [(row.get("epoch"), row.get(column)) for row in csv.DictReader(file)]
            points = [(int(epoch) + 1, float(value)) for epoch, value in rows if epoch and value]
        except (OSError, ValueError, csv.Error):
            return []
        return [(epoch, value) for epoch, value in points if abs(value) < float("inf")]  # NaN fails this, too


@dataclass
class Runless:
    """A job of a sweep that has no run: it waits, or ended before its run's folder was made."""

    name: str
    status: str
    message: str
    log: Path | None


@dataclass
class Evidence:
    """All runs that the paths mean, by their ids; those that could not be read have no manifest."""

    runs: dict[str, Recorded] = field(default_factory=dict)
    runless: list[Runless] = field(default_factory=list)

    def of(self, configuration: Configuration) -> list[Recorded]:
        """The runs of a configuration, in the order of seeds."""
        return [self.runs[name] for name in configuration.runs if name in self.runs]

    def compared(self, comparison: Comparison) -> list[Recorded]:
        """The runs that stand in a table, each once."""
        rows = (row for block in comparison.blocks for row in block.configurations)
        return list({run.id: run for row in rows for run in self.of(row)}.values())


def gather(paths: Sequence[Path]) -> Evidence:
    """Read every manifest that `marquee compare` would look at."""
    found = Evidence()
    for folder in find_folders(paths):
        try:
            manifest = read_manifest(folder)
        except ConfigError:
            manifest = {}
        found.runs.setdefault(folder.name, Recorded(folder.name, manifest, folder, folder))
    for path in map(located, paths):
        if (path / RECORD).is_file():
            sweep = Sweep.open(path)
            found.runless += [
                Runless(f"{sweep.name} job {job.index}: {' '.join(job.overrides)}", job.status, job.error or "",
                        sweep.folder / f"{job.stem}.log")
                for job in sweep.jobs if job.run is None
            ]  # fmt: skip
    return found


def validation_of(evidence: Evidence, row: Configuration) -> float | None:
    """The mean over seeds of a configuration's validation metric; None where no run has it."""
    known = [value for run in evidence.of(row) if (value := run.validation) is not None]
    return sum(known) / len(known) if known else None


def to_draw(block: BlockResult, evidence: Evidence, most: int) -> list[Configuration]:
    """At most `most` configurations: the best of each model, then the next best, chosen on validation.

    They come in the order of the table, whatever chose them.
    """
    lower = any(run.manifest.get("mode") == "min" for row in block.configurations for run in evidence.of(row))
    scored = []
    for place, row in enumerate(block.configurations):
        value = validation_of(evidence, row)
        scored.append((float("inf") if value is None else value if lower else -value, place, row))
    scored.sort(key=lambda entry: entry[:2])
    first = {entry[2].model: entry for entry in reversed(scored)}.values()
    chosen = sorted(first, key=lambda entry: entry[:2])
    chosen += [entry for entry in scored if not any(entry is other for other in chosen)]
    kept = {entry[2].label for entry in chosen[:most]}
    order = [score.label for score in block.metrics[0].models] if block.metrics else []
    order += [row.label for row in block.configurations if row.label not in order]
    by_label = {row.label: row for row in block.configurations}
    return [by_label[label] for label in order if label in kept]
