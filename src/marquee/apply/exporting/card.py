"""The model card of an export: README.md with front matter, written from the run's manifest and its certificate."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from marquee.compare.statistics import bootstrap_intervals
from marquee.compare.units import COLUMNS, FILE
from marquee.config.targets import resolve
from marquee.errors import MarqueeError
from marquee.seeding import numpy_generator

SPEC_TAGS = {
    "InteractionSpec": "recommendation", "TextSpec": "text-classification", "SlotSpec": "token-classification",
    "ImageSpec": "image-classification", "TokenSpec": "text-generation",
}  # fmt: skip


def card(folder: Path, manifest: Mapping[str, Any], parity: Mapping[str, Any] | None, format: str, example: str) -> str:
    """The whole file.

    folder   of the run
    parity   the certificate, None where the export is the run itself
    example  a command that uses the export
    """
    metrics, data = manifest["metrics"] or {}, manifest["data"] or {}
    licence = licence_of(manifest)
    kind = (data.get("spec") or {}).get("kind", "")
    front = {
        "tags": ["marquee", *([SPEC_TAGS[kind]] if kind in SPEC_TAGS else [])],
        "datasets": [data.get("name")],
        "license": "other",
        "license_name": licence or "not stated",
        "metrics": [name.removeprefix("test/") for name in _shown(manifest)],
        "model": manifest.get("model"),
        "run": manifest["id"],
        "fingerprint": manifest["fingerprint"],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)}---",
        f"# {manifest.get('model')} on {data.get('name')}",
        f"Exported from the run `{manifest['id']}` (fingerprint `{manifest['fingerprint'][:16]}`) as {format}.\n\n"
        f"```\n{example}\n```",
        _data(manifest, licence),
        _metrics(manifest, metrics, {**intervals_of(folder, manifest), **(manifest.get("intervals") or {})}),
        _groups(metrics),
        _parity(parity),
        _cost(manifest),
        _limits(manifest, licence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def licence_of(manifest: Mapping[str, Any]) -> str | None:
    """What the data set says of its licence; None where nobody knows."""
    target = ((manifest["config"] or {}).get("data") or {}).get("_target_")
    try:
        return getattr(resolve(target), "licence", None) if target else None
    except MarqueeError:  # a plug-in that is not installed here
        return None


def _shown(manifest: Mapping[str, Any]) -> list[str]:
    """The monitored metric first, then those that a terminal shows, as the manifest has them."""
    task = manifest["task"] or {}
    names = dict.fromkeys([manifest.get("monitor"), *(task.get("shown") or [])])
    return [f"test/{name}" for name in names if name and f"test/{name}" in (manifest["metrics"] or {})]


def _data(manifest: Mapping[str, Any], licence: str | None) -> str:
    data, split, task = manifest["data"] or {}, manifest["split"] or {}, manifest["task"] or {}
    spec = {name: value for name, value in (data.get("spec") or {}).items() if isinstance(value, (int, str, bool))}
    lines = [
        f"- data: {data.get('name')}, fingerprint `{str(data.get('fingerprint'))[:16]}`",
        "- sizes: " + ", ".join(f"{name} {value}" for name, value in spec.items() if name != "kind"),
        f"- licence of the data: {licence or 'not stated; ask who made it before you pass this on'}",
        f"- split: {split.get('name')}, fingerprint `{str(split.get('fingerprint'))[:16]}`",
        f"- protocol: {task.get('protocol') or 'all of the test part'}; unit: {task.get('unit')}",
        f"- seed: {manifest.get('seed')}; code: {_code(manifest)}",
    ]
    return "## Data and protocol\n\n" + "\n".join(lines)


def _code(manifest: Mapping[str, Any]) -> str:
    code = manifest.get("code") or {}
    changed = ", with changes that were not committed" if code.get("dirty") else ""
    return f"marquee {code.get('version') or '?'}, commit {str(code.get('commit') or 'unknown')[:12]}{changed}"


def intervals_of(folder: Path, manifest: Mapping[str, Any]) -> dict[str, list[float]]:
    """95 % intervals over the test's units of the metrics that are means of them, by the bootstrap; empty without the
    per-unit table."""
    import pandas as pd

    try:
        table = pd.read_parquet(folder / FILE)
    except (OSError, ValueError):
        return {}
    columns = {name: COLUMNS.get(short := name.removeprefix("test/"), short) for name in _shown(manifest)}
    columns = {name: column for name, column in columns.items() if column in table and not table[column].isna().any()}
    if not columns or len(table) < 2:
        return {}
    values = table[list(columns.values())].to_numpy(dtype=float)
    low, high = bootstrap_intervals(values, numpy_generator(manifest.get("seed") or 0, "card"))
    return {name: [float(low[place]), float(high[place])] for place, name in enumerate(columns)}


def _metrics(manifest: Mapping[str, Any], metrics: Mapping[str, Any], intervals: Mapping[str, Any]) -> str:
    baselines, oracle = manifest["baselines"] or {}, manifest["oracle"] or {}
    columns = [*baselines, *(["oracle"] if oracle else [])]
    head = ["metric (test)", "this model", "95 % interval", *columns]
    rows = []
    for name in _shown(manifest):
        short = name.removeprefix("test/")
        ends = intervals.get(name)
        others = [baselines.get(column, oracle).get(short) for column in columns]
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "-"
        rows.append([short, _number(metrics[name]), interval, *map(_number, others)])
    table = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows])
    n = manifest.get("n_units")
    told = f"\n\nOver {n:,} test units, by which the intervals are drawn: not over seeds." if n else ""
    return f"## Metrics\n\n{table}{told}"


def _groups(metrics: Mapping[str, Any]) -> str:
    """What was told apart by group, and how far groups lie apart."""
    gaps = {name: value for name, value in metrics.items() if name.startswith("test/gap_") and value is not None}
    apart = {name: value for name, value in metrics.items() if "=" in name and "[" in name and value is not None}
    if not gaps and not apart:
        return "## Groups\n\nNothing was measured by group (task.groups): who this model serves worse is not known."
    rows = [f"| {name.removeprefix('test/')} | {_number(value)} |" for name, value in {**gaps, **apart}.items()]
    return "## Groups\n\n| metric | value |\n| --- | --- |\n" + "\n".join(rows)


def _parity(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        return "## Parity\n\nThe export is the run itself, byte for byte; SHA256SUMS lists its files."
    p = "" if parity["p"] is None else f", paired p = {parity['p']:.4f}"
    changed = (
        ""
        if parity["changed_units"] is None
        else (f"{parity['changed_units']:,} of {parity['n_units']:,} {parity['unit']}s changed{p}; ")
    )
    verdict = "passed" if parity["passed"] else "NOT passed, and written by --force"
    return (
        f"## Parity\n\nThe run's test was evaluated through this artefact: {parity['metric']} {parity['before']:.6f} "
        f"became {parity['after']:.6f}; {changed}the largest difference of a score is "
        f"{parity['max_score_difference']:.2g}. Tolerance {parity['tolerance']:g}: {verdict}. All of it: parity.json."
    )


def _cost(manifest: Mapping[str, Any]) -> str:
    cost, durations = manifest.get("cost") or {}, manifest["durations"] or {}
    words = {
        "latency_ms": "ms a prediction, one by one", "batch_latency_ms": "ms a prediction among many",
        "size_mb": "MB of the run's inference folder", "peak_memory_mb": "MB of memory at the height of training",
        "energy_j": "J of energy in training", "fit_cpu_s": "CPU seconds of training",
    }  # fmt: skip
    lines = [f"- {_number(cost[name])} {told}" for name, told in words.items() if cost.get(name) is not None]
    if durations.get("fit") is not None:
        lines.append(f"- {durations['fit']:.1f} s of training, {manifest.get('parameters') or 0:,} learnt parameters")
    return "## Cost, as the run measured it\n\n" + "\n".join(lines) if lines else ""


def _limits(manifest: Mapping[str, Any], licence: str | None) -> str:
    lines = [
        "- The metrics hold for data like the test part; under another protocol they would be others.",
        f"- Trained on {(manifest['data'] or {}).get('name')}{_since(manifest)} alone: of what that has no example "
        "of, it knows nothing.",
        "- One run with one seed; how much seeds differ is not in this card.",
    ]
    if licence is None:
        lines.append("- The licence of the data is not known to Marquee.")
    return "## Limits\n\n" + "\n".join(lines)


def _since(manifest: Mapping[str, Any]) -> str:
    """What `update` and `forget` have made of the run's data."""
    if not (update := manifest.get("update")):
        return ""
    without = f", without {len(update['forgotten'])} users who are forgotten" if update.get("forgotten") else ""
    return f", with what was learnt since ({update['label']}; parent {manifest['parent']['id']}){without},"


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:,.4f}" if isinstance(value, float) else str(value)
