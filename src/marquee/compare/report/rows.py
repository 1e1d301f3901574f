"""The tables of the page: cells with what is shown and what they are sorted by, and links to where runs lie."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from marquee.compare.protocol import fold_and_draw
from marquee.compare.report.evidence import Evidence
from marquee.compare.report.names import brief_labels, brief_setting, cost_title, setting_title
from marquee.compare.results import COSTS, BlockResult, Configuration, MetricResult, PairedTest, Score
from marquee.runs.listing import number


@dataclass
class Cell:
    """One cell: its text, and `key`, by which its column is sorted (None: always last)."""

    text: str
    key: float | str | None = None
    numeric: bool = True
    note: str = ""  # after the text, smaller: "significant", "not told apart"


@dataclass
class Row:
    """A row of a configuration, or of a baseline or the oracle, which no filter hides."""

    label: str
    family: str
    kind: str
    cells: list[Cell]
    winner: bool


@dataclass
class Table:
    """The table of one metric of one block; `families` are the models that it can be filtered by."""

    metric: str
    columns: list[str]
    rows: list[Row]
    families: list[str]


def table(block: BlockResult, result: MetricResult) -> Table:
    """Every configuration with its score, its tests and its costs."""
    configurations = {row.label: row for row in block.configurations}
    costs = [cost for cost in COSTS if any(getattr(row, cost) is not None for row in block.configurations)]
    against = [("best", result.best, "against_best")]
    if result.reference and result.reference != result.best:
        against.append(("reference", result.reference, "against_reference"))
    tested = [entry for entry in against if any(getattr(score, entry[2]) is not None for score in result.models)]
    brief = brief_labels(list(configurations))
    columns = ["Mean ± sd", "95 % interval", f"{block.repetition.capitalize()}s"]
    for what, other, _ in tested:
        columns += [f"Difference from {'the best' if what == 'best' else brief.get(other, other)}", "p (corrected)"]
    columns += ["Pareto front", *map(cost_title, costs)]
    rows = []
    for score in result.scores:
        row = configurations.get(score.label) if score.kind == "model" else None
        cells = [_mean(score), _interval(score), Cell(str(len(score.values)) if row else "", len(score.values))]
        for _, other, name in tested:
            cells += _tested(getattr(score, name), same=score.label == other)
        cells.append(Cell("front" if score.pareto else "", "a" if score.pareto else None, numeric=False))
        cells += [_cost(row, cost) for cost in costs]
        winner = row is not None and score.label == result.winner
        rows.append(Row(brief.get(score.label, score.label), row.model if row else "", score.kind, cells, winner))
    return Table(result.metric, columns, rows, list(dict.fromkeys(row.model for row in block.configurations)))


def _mean(score: Score) -> Cell:
    spread = f" ± {number(score.sd)}" if score.sd is not None else ""
    return Cell(number(score.mean) + spread, score.mean)


def _interval(score: Score) -> Cell:
    if score.interval is None:
        return Cell("")
    low, high = score.interval
    note = "over units" if score.interval_over == "units" else ""
    return Cell(f"{number(low)} to {number(high)}", low, note=note)


def _tested(test: PairedTest | None, same: bool) -> list[Cell]:
    if test is None:
        return [Cell("itself" if same else "", 0.0 if same else None), Cell("")]
    p = "<0.001" if test.p_corrected < 0.001 else f"{test.p_corrected:.3f}"
    note = "significant" if test.significant else "not told apart"
    return [Cell(f"{test.difference:+.4f}", test.difference), Cell(p, test.p_corrected, note=note)]


def _cost(row: Configuration | None, cost: str) -> Cell:
    value = getattr(row, cost) if row is not None else None
    if value is None:
        return Cell("" if row is None else "?")
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", value)


@dataclass
class Settings:
    """The keys that differ between the configurations of one model."""

    model: str
    keys: list[str]
    rows: list[tuple[str, list[str]]]


def settings(block: BlockResult) -> list[Settings]:
    """A table for each model that has more than one configuration."""
    found, brief = [], brief_labels([row.label for row in block.configurations])
    for model in dict.fromkeys(row.model for row in block.configurations):
        members = [row for row in block.configurations if row.model == model]
        keys = list(dict.fromkeys(key for row in members for key in row.differing))
        if keys:
            rows = [(brief[row.label], [brief_setting(key, row.differing.get(key)) for key in keys]) for row in members]
            found.append(Settings(model, list(map(setting_title, keys)), rows))
    return found


class Link:
    """Addresses of run folders and logs, relative to the folder of the page where both lie on one drive."""

    def __init__(self, page: Path | None):
        self.page = page

    def to(self, target: Path | None) -> str | None:
        """The address of a file or folder; None where it does not exist."""
        if target is None or not target.exists():
            return None
        try:
            relative = os.path.relpath(target.resolve(), (self.page or Path.cwd()).resolve())
        except ValueError:  # another drive
            return target.resolve().as_uri()
        return quote(Path(relative).as_posix() + ("/" if target.is_dir() else ""))


@dataclass
class RunLine:
    """One run of a block, where it lies, and what it scored."""

    id: str
    label: str
    seed: str  # "1", "1, fold 0 of draw 2"
    value: str
    took: str
    started: str
    link: str | None
    log: str | None


def run_lines(block: BlockResult, evidence: Evidence, link: Link) -> list[RunLine]:
    """Every run of a block, configuration by configuration."""
    metric = block.metrics[0].metric if block.metrics else ""
    found, brief = [], brief_labels([row.label for row in block.configurations])
    for row in block.configurations:
        for run in evidence.of(row):
            manifest = run.manifest
            seconds = (manifest.get("durations") or {}).get("total")
            score = (manifest.get("metrics") or {}).get(f"test/{metric}")
            started = str(manifest.get("started") or "")[:16].replace("T", " ")
            found.append(RunLine(
                run.id, brief[row.label], _repetition(block, manifest), number(score),
                "" if seconds is None else f"{seconds:,.1f} s", started,
                link.to(run.folder), link.to(run.folder and run.folder / "log.txt"),
            ))  # fmt: skip
    return found


def _repetition(block: BlockResult, manifest: Mapping[str, Any]) -> str:
    fold, draw = fold_and_draw(manifest)
    of_split = [f"fold {fold}"] if fold is not None else []
    of_split += [f"draw {draw}"] if len(block.draws) > 1 else []
    return ", ".join([str(manifest.get("seed")), *([" of ".join(of_split)] if of_split else [])])
