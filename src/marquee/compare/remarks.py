"""What a reader must know before believing a block: other code, other machines, other seeds, unequal baselines."""

from collections.abc import Iterable, Sequence
from typing import Any

from marquee.compare.collect import Block


def remarks(block: Block, metrics: Sequence[str], unit: str) -> list[str]:
    """Sentences about a block; none where everything is as it should be. `unit` is "users" or "examples"."""
    return [*_seeds(block, unit), *_code(block), *_machine(block), *_baselines(block, metrics), *_gaps(block, metrics)]


def _seeds(block: Block, unit: str) -> list[str]:
    found = []
    sets = {tuple(run.manifest["seed"] for run in group.runs) for group in block.groups}
    if len(sets) > 1:
        found.append("The rows do not all have the same seeds.")
    if min(map(len, sets)) == 1:
        found.append(f"With one seed no spread over seeds is known: tests and intervals then speak of {unit} alone.")
    return found


def _code(block: Block) -> list[str]:
    """Runs of other code are compared, and the reader is told which they are."""
    labels: dict[str, list[str]] = {}
    for group in block.groups:
        for run in group.runs:
            code = run.manifest.get("code") or {}
            word = (code.get("commit") or "")[:8] + ("+changes " if code.get("dirty") else " ")
            word += f"[{(code.get('sha256') or 'unknown')[:8]}]"
            labels.setdefault(word.strip(), []).append(group.label)
    if len(labels) < 2:
        return []
    parts = [f"{code}: {_list(dict.fromkeys(names))}" for code, names in labels.items()]
    return [f"The code differs between these runs ({len(labels)} versions). " + "; ".join(parts[:6])]


def _machine(block: Block) -> list[str]:
    differing = [
        key
        for key in ("cpu", "gpu", "threads")
        if len({str((run.manifest.get("environment") or {}).get(key)) for run in block.runs}) > 1
    ]
    found = [f"Training times come from machines of different {', '.join(differing)}."] if differing else []
    resumed = [run.folder.name for run in block.runs if run.manifest.get("resumed") and not run.manifest.get("cost")]
    if resumed:
        found.append(f"Resumed, so without a training time: {_list(resumed)}.")
    return found


def _baselines(block: Block, metrics: Sequence[str]) -> list[str]:
    """Baselines and oracle follow from the protocol, so they agree in all runs, unless the code was changed."""
    values: dict[tuple[str, str], list[float]] = {}
    for run in block.runs:
        references = {**(run.manifest.get("baselines") or {}), "oracle": run.manifest.get("oracle") or {}}
        for name, measured in references.items():
            for metric in metrics:
                if (measured or {}).get(metric) is not None:
                    values.setdefault((name, metric), []).append(measured[metric])
    return [
        f"{name} is not the same in all runs: {metric} {min(found):.4f} to {max(found):.4f}; their mean is shown."
        for (name, metric), found in values.items()
        if max(found) - min(found) > 1e-6 * max(map(abs, found))
    ]


def _gaps(block: Block, metrics: Sequence[str]) -> list[str]:
    found = []
    for metric in metrics:
        for group in block.groups:
            known = len(group.values(f"test/{metric}"))
            if known < len(group.runs):
                found.append(f"{group.label} has {metric} for {known} of {len(group.runs)} seeds.")
    return found


def _list(names: Iterable[Any]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
