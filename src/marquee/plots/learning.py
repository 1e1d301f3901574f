"""A run's learning curves, from its metrics.csv: the losses, and the metric that the run is watched by."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

from marquee.plots.figure import DASHES, GREY, Figure, colours, cycled, legend_of, rounded, specification

MOST_POINTS = 100  # of a curve


def learning_curves(folder: Path, monitor: str, best_epoch: int | None) -> list[Figure]:
    """`learning-loss` and `learning-METRIC`; none of what was recorded for one epoch alone, as of closed forms."""
    curves = read_curves(folder / "metrics.csv")
    of = {column: f"training loss of the {name}" for column in curves
          if (name := column.removeprefix("train/loss_")) != column}  # fmt: skip
    wanted = {"loss": {"train/loss": "training loss", **of, "validation/log_loss": "validation log loss"},
              monitor.replace("@", "-"): {f"validation/{monitor}": f"validation {monitor}"}}  # fmt: skip
    made = []
    for name, columns in wanted.items():
        rows = [
            {"epoch": epoch, "value": rounded(value), "label": label}
            for column, label in columns.items()
            for epoch, value in _thinned(curves.get(column, []))
        ]
        if len({row["epoch"] for row in rows}) > 1:
            shown = list(dict.fromkeys(row["label"] for row in rows))
            title = "Loss" if name == "loss" else monitor.replace("_", " ")
            best = [{"epoch": best_epoch}] if best_epoch else []
            made.append(
                Figure(f"learning-{name}", title, "The dotted line is the epoch that was kept." if best else "",
                       {"all": _chart(title, shown, bool(best))}, {"learning": rows, "learning-best": best})
            )  # fmt: skip
    return made


def read_curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    """(epoch from 1, value) by column."""
    found: dict[str, list[tuple[int, float]]] = {}
    if not file.is_file():
        return found
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for column, value in row.items():
                if column not in ("epoch", "step") and value and row.get("epoch"):
                    found.setdefault(column, []).append((int(float(row["epoch"])) + 1, float(value)))
    return found


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    step = -(-len(points) // MOST_POINTS) or 1
    return [*points[::step], *(points[-1:] if len(points) % step != 1 and step > 1 else [])]


def _chart(title: str, shown: list[str], best: bool) -> Mapping[str, Any]:
    legend = legend_of(shown, symbolType="stroke", symbolSize=500) if len(shown) > 1 else None
    base = alt.Chart(alt.NamedData("learning"))
    epoch = alt.X("epoch:Q", title="Epoch", axis=alt.Axis(format="d", grid=False, tickMinStep=1),
                  scale=alt.Scale(nice=False, zero=False))  # fmt: skip
    value = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(format=".4~g"))
    line = base.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=18)).encode(
        epoch, value, alt.Color("label:N", title=None, scale=colours(shown), legend=legend),
        alt.StrokeDash("label:N", title=None, scale=cycled(shown, DASHES), legend=legend),
    )  # fmt: skip
    kept = alt.Chart(alt.NamedData("learning-best")).mark_rule(color=GREY, strokeDash=[2, 3]).encode(epoch)
    return specification(alt.layer(*([kept, line] if best else [line])))
