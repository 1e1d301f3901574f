"""What a person sees when a run has finished: the test metrics beside baselines and oracle, and what to type next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from marquee.runs.record import Run


def print_summary(run: Run, suggestions: tuple[str | None, str | None] = (None, None)) -> None:
    """The table of a finished run, its folder and what to type next (see `Task.suggestions`), on standard output."""
    console = Console()
    manifest = run.manifest
    console.print(metric_table(manifest), "")
    console.print(_protocol(manifest), style="dim", soft_wrap=not console.is_terminal)
    if words := _intervals(manifest):
        console.print(words, style="dim", soft_wrap=not console.is_terminal)
    console.print(_cost(manifest), style="dim", soft_wrap=not console.is_terminal)
    console.print(f"run: {run.folder}", soft_wrap=True, highlight=False, markup=False)
    if words := _commands(run, *suggestions):
        console.print("next:", *words, sep="\n  ", soft_wrap=True, highlight=False, markup=False)


def metric_table(manifest: Mapping[str, Any]) -> Table:
    """Model, baselines and oracle as rows."""
    columns = shown_metrics(manifest)
    # Narrow gaps: the longest model name and five metrics fit 80 columns.
    table = Table(title=f"test: {manifest['data']['name']}", title_justify="left", box=box.SIMPLE_HEAD,
                  collapse_padding=True, pad_edge=False, show_edge=False)  # fmt: skip
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")

    def row(name: str, metrics: dict[str, float], style: str | None = None) -> None:
        cells = [f"{metrics[column]:.4f}" if column in metrics else "-" for column in columns]
        table.add_row(name, *cells, style=style)

    own = {name.removeprefix("test/"): value for name, value in manifest["metrics"].items()}
    row(manifest["model"], own, "bold")
    for name, metrics in (manifest.get("baselines") or {}).items():
        if name != manifest["model"]:
            row(name, metrics)
    if manifest.get("oracle"):
        row("oracle (ceiling)", manifest["oracle"])
    return table


def shown_metrics(manifest: Mapping[str, Any]) -> list[str]:
    """The monitored metric first, then those that the task shows and this run has; none where none was tested."""
    if not manifest.get("metrics"):
        return []
    wanted = [manifest["monitor"], *((manifest.get("task") or {}).get("shown") or ())]
    return [name for name in dict.fromkeys(wanted) if f"test/{name}" in manifest["metrics"]]


def _protocol(manifest: dict[str, Any]) -> str:
    split = manifest["split"]
    values = ", ".join(f"{key}={value}" for key, value in split["config"].items() if key != "_target_")
    parts = [f"split {split['name']} ({values})" if values else f"split {split['name']}"]
    if words := manifest["task"]["protocol"]:
        parts.append(words)
    parts.append(f"seed {manifest['seed']}")
    if manifest.get("best_epoch"):
        parts.append(f"epoch {manifest['best_epoch']} of {manifest['epochs']}, best on validation")
    else:
        parts.append(f"epoch {manifest['epochs']}, the last, without validation")
    return "; ".join(parts)


def _intervals(manifest: Mapping[str, Any]) -> str:
    """Those of the metrics in the table, in words."""
    found = manifest.get("intervals") or {}
    shown = [(name, found[f"test/{name}"]) for name in shown_metrics(manifest) if f"test/{name}" in found]
    ends = ", ".join(f"{name} {low:.4f} to {high:.4f}" for name, (low, high) in shown)
    return f"95 % intervals over the test's {manifest['task']['unit']}s: {ends}" if ends else ""


def _cost(manifest: Mapping[str, Any]) -> str:
    cost = manifest["cost"]
    parts = [f"trained in {manifest['durations']['fit']:.1f} s"]
    if cost.get("latency_ms") is not None:
        parts.append(f"a prediction takes {cost['latency_ms']:.2g} ms")
    return "; ".join([*parts, f"{cost['size_mb']:.2g} MB to ship"])


def _commands(run: Run, use: str | None, rivals: str | None) -> list[str]:
    """Commands that work as they stand: one to use the run, one to compare it."""
    default = Path("outputs", "runs").resolve() == run.folder.parent.resolve()
    name = "latest" if default else str(run.folder)
    kept = ("data", "split", "task", "paths")
    about = [word for word in run.manifest["overrides"] if word.split("=")[0].split(".")[0] in kept]
    words = [f"marquee {use.replace('{run}', name)}"] if use else []
    if recipe := [word for word in run.manifest["overrides"] if word.startswith("experiment=")]:
        about, rivals = recipe, "" if rivals else None  # its keys are those of its own model, so: more seeds of it
    if rivals is None:
        return words
    swept = {word.partition("=")[0] for word in rivals.split()}  # a key is given once
    about = [word for word in about if word.partition("=")[0] not in swept]
    return [*words, " ".join(["marquee train -m", *map(shlex.quote, about), *([rivals] if rivals else []), "seed=1,2"])]
