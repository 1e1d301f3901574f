"""What a person sees when a run has finished: the test metrics beside baselines and oracle, and what to type next."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from marquee.runs.record import Run

# A table of all metrics would not fit a terminal; the manifest has the rest.
COLUMNS = {
    "Recommendation": ("ndcg@{k}", "hit_rate@{k}", "recall@{k}", "coverage@{k}"),
    "Classification": ("accuracy", "f1_macro", "auroc", "log_loss"),
}


def print_summary(run: Run) -> None:
    """The table of a finished run, its folder and two suggestions, on standard output."""
    console = Console()
    manifest = run.manifest
    console.print(metric_table(manifest), "")
    console.print(_protocol(manifest), style="dim", soft_wrap=not console.is_terminal)
    console.print(_cost(manifest), style="dim", soft_wrap=not console.is_terminal)
    console.print(f"run: {run.folder}", soft_wrap=True, highlight=False)
    console.print("next:", *_suggestions(run), sep="\n  ", soft_wrap=True, highlight=False)


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
    """The monitored metric first, then the usual ones at its cut-off that this run has; none where none was tested."""
    if not manifest.get("metrics"):
        return []
    monitor = manifest["monitor"]
    task = manifest["config"]["task"]["_target_"].rsplit(".", 1)[-1]
    k = monitor.rsplit("@", 1)[-1]
    wanted = [monitor, *(name.format(k=k) for name in COLUMNS.get(task, ()))]
    return [name for name in dict.fromkeys(wanted) if f"test/{name}" in manifest["metrics"]]


def _protocol(manifest: dict[str, Any]) -> str:
    split = manifest["split"]
    values = ", ".join(f"{key}={value}" for key, value in split["config"].items() if key != "_target_")
    parts = [f"split {split['name']} ({values})" if values else f"split {split['name']}"]
    if "Recommendation" in manifest["config"]["task"]["_target_"]:
        seen = "masked" if manifest["config"]["task"].get("mask_seen", True) else "not masked"
        parts.append(f"full ranking of {manifest['data']['spec']['n_items']} items, seen items {seen}")
    parts.append(f"seed {manifest['seed']}")
    if manifest.get("best_epoch"):
        parts.append(f"epoch {manifest['best_epoch']} of {manifest['epochs']}, best on validation")
    return "; ".join(parts)


def _cost(manifest: Mapping[str, Any]) -> str:
    cost = manifest["cost"]
    parts = [f"trained in {manifest['durations']['fit']:.1f} s"]
    if cost.get("latency_ms") is not None:
        parts.append(f"a prediction takes {cost['latency_ms']:.2g} ms")
    return "; ".join([*parts, f"{cost['size_mb']:.2g} MB to ship"])


def _suggestions(run: Run) -> list[str]:
    """Commands that work as they stand: one to use the run, one to compare it."""
    manifest = run.manifest
    default = Path("outputs", "runs").resolve() == run.folder.parent.resolve()
    name = "latest" if default else str(run.folder)
    same_data = [
        word for word in manifest["overrides"] if word.split("=")[0].split(".")[0] in ("data", "split", "paths")
    ]
    kind = manifest["data"]["spec"]["kind"]
    if kind == "InteractionSpec":
        ids = json.loads((run.folder / "inference" / "ids.json").read_text(encoding="utf-8"))
        others = " ".join(["marquee train -m", *same_data, "model=mf/bpr,linear/ease seed=1,2"])
        return [f"marquee recommend {name} --user {ids['user_ids'][0]}", others]
    if kind == "TextSpec":
        others = " ".join(["marquee train -m", *same_data, "model=linear/bag_of_words,transformer/text seed=1,2"])
        return [f'marquee predict {name} --text "a slow start, but the last act is wonderful"', others]
    others = " ".join(["marquee train -m", *same_data, "model=cnn/poster,cnn/resnet_small seed=1,2"])
    return [f"marquee predict {name} --image FILE", others]
