"""What is said beside the tables of a block: where its runs are not alike, and what is missing."""

from collections.abc import Iterable, Sequence
from typing import Any

from marquee.compare.groups import Block
from marquee.compare.protocol import fold_and_draw


def remarks(block: Block, metrics: Sequence[str], unit: str) -> list[str]:
    """Sentences on unequal seeds, folds, code, machines and baselines, and on missing values. `unit`: users, ..."""
    return [
        *_seeds(block, unit), *_folds(block), *_code(block), *_versions(block), *_machine(block),
        *_baselines(block, metrics), *_gaps(block, metrics),
    ]  # fmt: skip


def _seeds(block: Block, unit: str) -> list[str]:
    found = []
    if len({tuple(group.seeds) for group in block.groups}) > 1:
        found.append("The rows do not all have the same seeds.")
    if len({tuple(group.draws) for group in block.groups}) > 1:
        found.append(
            "The rows do not all have the same draws of the split (split.seed), so their means are of other rows."
        )
    if len(block.draws) > 1:
        found.append(
            f"{len(block.draws)} draws of the split are pooled, each with the mean over its seeds. Pairs are made "
            f"within a draw, and each of the {unit} counts once, with the mean over the draws. The draws train on much "
            "the same rows, so intervals over draws are on the narrow side (Nadeau & Bengio 2003)."
        )
    if any(len(group.seeds) == 1 and len(group.draws) < 2 for group in block.groups):
        found.append(f"With one seed no spread over seeds is known: tests and intervals then speak of {unit} alone.")
    return found


def _folds(block: Block) -> list[str]:
    """Of cross-validation: what was pooled, and which folds are missing."""
    split = block.manifest["split"]
    if not split.get("folds"):
        return []
    found = [
        f"Scores are means over the folds that a row has, of {split['folds']}, each counting with its number of units."
    ]
    for group in block.groups:
        has: dict[str, set[int]] = {}
        for run in group.runs:
            fold, draw = fold_and_draw(run.manifest)
            of_draw = f", draw {draw}" if len(group.draws) > 1 else ""
            has.setdefault(f"seed {run.manifest['seed']}{of_draw}", set()).add(fold)
        for name, own in has.items():
            if missing := [str(fold) for fold in range(split["folds"]) if fold not in own]:
                folds, are = ("folds", "are") if len(missing) > 1 else ("fold", "is")
                found.append(f"{group.label}, {name}: {folds} {', '.join(missing)} of {split['folds']} {are} missing.")
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


def _versions(block: Block) -> list[str]:
    """Of the packages that compute: numbers from other versions may differ by more than their last digits."""
    found = []
    for package in ("torch", "pytorch-lightning", "numpy"):
        labels: dict[str, list[str]] = {}
        for group in block.groups:
            for run in group.runs:
                version = ((run.manifest.get("environment") or {}).get("packages") or {}).get(package)
                if version:
                    labels.setdefault(str(version), []).append(group.label)
        if len(labels) > 1:
            told = ", ".join(f"{version} ({_list(dict.fromkeys(names))})" for version, names in sorted(labels.items()))
            found.append(f"{package} {told}")
    return [f"Versions differ between these runs: {'; '.join(found)}."] if found else []


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
    values: dict[tuple[str, str, Any], list[float]] = {}
    for run in block.runs:
        references = {**(run.manifest.get("baselines") or {}), "oracle": run.manifest.get("oracle") or {}}
        for name, measured in references.items():
            for metric in metrics:
                if (measured or {}).get(metric) is not None:
                    cell = fold_and_draw(run.manifest)  # another fold or draw, other baselines
                    values.setdefault((name, metric, cell), []).append(measured[metric])
    return [
        f"{name} is not the same in all runs: {metric} {min(found):.4f} to {max(found):.4f}; their mean is shown."
        for (name, metric, _), found in values.items()
        if max(found) - min(found) > 1e-6 * max(map(abs, found))
    ]


def _gaps(block: Block, metrics: Sequence[str]) -> list[str]:
    found = []
    for metric in metrics:
        for group in block.groups:
            known = sum(run.manifest["metrics"].get(f"test/{metric}") is not None for run in group.runs)
            if known < len(group.runs):
                found.append(f"{group.label} has {metric} for {known} of {len(group.runs)} runs.")
    return found


def _list(names: Iterable[Any]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
