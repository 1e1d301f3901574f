"""The comparison itself: folders in, records out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from marquee.compare.collect import collect
from marquee.compare.groups import Block, Group, one_for_each_model
from marquee.compare.protocol import describe, fold_and_draw
from marquee.compare.ranks import rank_over_data
from marquee.compare.results import BlockResult, Comparison
from marquee.compare.scores import compare_pairs, configuration, scores
from marquee.compare.statistics import patterns_of
from marquee.compare.units import read_units
from marquee.config.targets import closest
from marquee.errors import ConfigError


def compare(
    paths: Sequence[Path], metrics: Sequence[str] = (), by_model: bool = False, reference: str | None = None
) -> Comparison:
    """Compare the finished runs that `paths` mean.

    metrics    test metrics; none: the one that each block's runs were watched by
    by_model   keep the best configuration of each model, chosen on validation
    reference  a label or a model that the others are tested against, besides the best

    Raises ConfigError for paths without finished runs, and for metrics and references that no block has.
    """
    blocks, left_out = collect(paths)
    metrics = list(dict.fromkeys(metric.removeprefix("test/") for metric in metrics))
    _known_metrics(blocks, metrics)
    chosen = [one_for_each_model(block) if by_model else (block, []) for block in blocks]
    references = [_reference(block, reference) for block, _ in chosen]
    if reference is not None and not any(references):
        raise ConfigError(_no_reference(reference, [block for block, _ in chosen]))
    results = []
    for (block, notes), named in zip(chosen, references, strict=True):
        wanted = metrics or [block.monitor]
        result = _block(block, [metric for metric in wanted if metric in block.metrics()], named)
        absent = [metric for metric in wanted if metric not in block.metrics()]
        notes = notes + [f"No run here has {metric}." for metric in absent]
        if reference is not None and named is None:
            notes.append(f"The reference {reference} is not among these.")
        result.notes = notes + result.notes
        results.append(result)
    ranks, rank_notes = rank_over_data(blocks, metrics)
    return Comparison(results, ranks, rank_notes, left_out)


def _block(block: Block, metrics: list[str], reference: Group | None) -> BlockResult:
    units = read_units(block.groups, metrics)
    kind = f"{(block.manifest.get('task') or {}).get('unit') or 'unit'}s"
    configurations = [configuration(group) for group in block.groups]
    results = [scores(block, metric, configurations, reference) for metric in metrics]
    tests = compare_pairs(block, results, units)
    notes = [*remarks(block, metrics, kind), *units.notes]
    for result in results:
        if result.direction is None:
            notes.append(f"{result.metric}: neither more nor less of it is better, so there is no best.")
        measured = {block.groups[index].label for index in units.values.get(result.metric, ())}
        missing = [score.label for score in result.models if score.label not in measured]
        if not measured:
            notes.append(f"{result.metric} is not known for single {kind}, so there is no paired test of it.")
        elif missing:
            notes.append(f"{result.metric}: no paired test of {', '.join(missing)}, without per-unit results.")
    data, split = block.manifest["data"]["name"], block.manifest["split"]["name"]
    return BlockResult(
        title=f"{data}, {split}",
        data=data,
        split=split,
        protocol=describe(block.manifest, block.draws),
        like=block.like,
        differs=block.differs,
        unit=kind,
        n_units=len(units.ids),
        seeds=sorted({seed for row in configurations for seed in row.seeds}),
        draws=block.draws,
        folds=block.manifest["split"].get("folds"),
        configurations=configurations,
        metrics=results,
        tests=tests,
        flips=patterns_of(len(units.ids), tests),
        notes=notes,
    )


# Names that were typed ------------------------------------------------------------------------------------------------


def _known_metrics(blocks: Sequence[Block], metrics: Sequence[str]) -> None:
    known = list(dict.fromkeys(name for block in blocks for name in block.metrics()))
    for metric in metrics:
        if metric not in known:
            near = closest(metric, known)
            hint = f" Did you mean {near}?" if near else ""
            raise ConfigError(f"--metric {metric}: no run has it.{hint}\n  allowed: {', '.join(known)}")


def _reference(block: Block, name: str | None) -> Group | None:
    """The group of that label, or the only one of that model."""
    if name is None:
        return None
    same = [group for group in block.groups if group.label == name]
    same = same or [group for group in block.groups if group.model == name]
    if len(same) > 1:
        listed = "\n".join(f"  {group.label}" for group in same)
        raise ConfigError(f"--reference {name} may be any of these; give one of them, or --by model:\n{listed}")
    return same[0] if same else None


def _no_reference(name: str, blocks: Sequence[Block]) -> str:
    known = list(dict.fromkeys(group.label for block in blocks for group in block.groups))
    near = closest(name, known)
    listed = "\n".join(f"  {label}" for label in known[:20])
    hint = f" Did you mean {near!r}?" if near else ""
    if name.startswith("baseline/") or name in ("majority", "oracle"):
        hint = " Baselines are recorded without per-unit results; train one as a model to test against it: model=NAME"
    return f"--reference {name} is none of the compared configurations.{hint}\n{listed}"


# Remarks --------------------------------------------------------------------------------------------------------------


def remarks(block: Block, metrics: Sequence[str], unit: str) -> list[str]:
    """Sentences on unequal seeds, folds, code, machines and baselines, and on missing values. `unit`: users, ..."""
    return [
        *_seeds(block, unit), *_folds(block), *_code(block), *_machine(block), *_baselines(block, metrics),
        *_gaps(block, metrics),
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
