"""The comparison itself: folders in, records out."""

from collections.abc import Sequence
from pathlib import Path

from marquee.compare.collect import collect
from marquee.compare.groups import Block, Group, one_for_each_model
from marquee.compare.protocol import describe
from marquee.compare.ranks import rank_over_data
from marquee.compare.remarks import remarks
from marquee.compare.results import BlockResult, Comparison
from marquee.compare.scores import compare_pairs, configuration, scores
from marquee.compare.statistics import patterns_of
from marquee.compare.units import read_units
from marquee.config.targets import closest
from marquee.errors import ConfigError
from marquee.metrics.direction import neither


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
    kind = plural((block.manifest.get("task") or {}).get("unit") or "unit")
    configurations = [configuration(group) for group in block.groups]
    results = [scores(block, metric, configurations, reference) for metric in metrics]
    tests = compare_pairs(block, results, units)
    notes = [*remarks(block, metrics, kind), *units.notes]
    for result in results:
        if result.direction is None:
            why = "neither more nor less of it is better" if neither(result.metric) else (
                "its task does not say whether more or less of it is better (Task.directions)"
            )  # fmt: skip
            notes.append(f"{result.metric}: {why}, so there is no best.")
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
        protocol=describe(block.manifest, block.draws, [run.manifest for run in block.runs]),
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


def plural(word: str) -> str:
    """The plural of a unit as English makes it: user, users; query, queries; box, boxes."""
    if word.endswith("y") and not word.endswith(("ay", "ey", "oy", "uy")):
        return f"{word[:-1]}ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


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
