"""A comparison as tables of words: what `--format table`, `md` and `latex` show."""

from dataclasses import dataclass, field

from marquee.compare.results import (
    MEASURED_COSTS,
    BlockResult,
    Comparison,
    Configuration,
    MetricResult,
    PairedTest,
    Score,
)
from marquee.compare.statistics import ALPHA, RESAMPLES
from marquee.runs.listing import number
from marquee.runs.terminal import Coloured

LEGEND = (
    "* significantly better than every other row; = the best, or not told apart from it (corrected p >= 0.05). "
    "n: seeds, or draws of the split where there are several. u: one of them, so the interval is a bootstrap over "
    "{unit}. "
    "P: on the front of quality against training time. Baselines and oracle are not tested."
)


@dataclass
class Sheet:
    """One table: the first column is text, the others are numbers unless `text` says that all are text."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    text: bool = False


@dataclass
class Section:
    """A title, lines before the tables, the tables, lines after them."""

    title: str
    before: list[str] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def sections(comparison: Comparison, wide: bool = False) -> list[Section]:
    """Blocks, then ranks, then the runs left out; `wide`: intervals by both ends instead of their half width."""
    count = len(comparison.blocks)
    found = []
    for place, block in enumerate(comparison.blocks, start=1):
        section = _block(block, wide)
        if count > 1:
            section.title = f"block {place} of {count}: {section.title}"
        if block.like is not None:
            section.before.append(f"Not in one column with block {block.like}: {'; '.join(block.differs)}.")
        found.append(section)
    units = dict.fromkeys(block.unit for block in comparison.blocks)
    found.append(Section("marks", after=[LEGEND.format(unit=" or ".join(units))]))
    if comparison.ranks is not None:
        found.append(_ranks(comparison))
    if comparison.left_out:
        found.append(_left_out(comparison))
    return found


def _block(block: BlockResult, wide: bool) -> Section:
    section = Section(block.title)
    rows = {row.label: row for row in block.configurations}
    for result in block.metrics:
        section.sheets.append(_quality(result, rows, wide))
        for other, tests in _tests(result):
            section.sheets.append(_differences(other, "the best" if other == result.best else "the reference", tests))
        section.after += [verdict(result), *_doubtful(result, block.repetition)]
    tested = f"; {block.n_units:,} {block.unit}" if block.n_units else ""
    seeds = ", ".join(map(str, block.seeds))
    section.after.append(f"protocol: {block.protocol}{tested}; seed{'s' * (len(block.seeds) > 1)} {seeds}")
    if block.tests:
        section.after.append(tests_in_words(block))
    section.after += block.notes
    return section


def tests_in_words(block: BlockResult) -> str:
    """The tests of a block, as the methods section of a paper names them."""
    family = (
        f"p corrected for all {block.tests:,} pairs of rows by their largest studentised difference in each flip "
        "(step-down maxT, Westfall & Young 1993)"
        if block.tests > 1 else "a single pair, so not corrected"
    )  # fmt: skip
    return (
        f"test: paired sign-flip permutation of the differences of {block.unit} ({block.flips:,} flips), each first "
        f"averaged over the runs of a row, {family}. Interval of a difference: 95 %, paired bootstrap ({RESAMPLES:,}). "
        "Effect: mean difference / its standard deviation. win:loss: % of "
        f"{block.unit} with a better and with a worse value."
    )


def verdict(result: MetricResult) -> str:
    """The best configuration by one metric, and which others it is told apart from."""
    if result.best is None:
        return f"{result.metric}: no best."
    tests = [(score.label, score.against_best) for score in result.models if score.against_best is not None]
    if len(result.models) == 1:
        return f"{result.metric}: {result.best} is alone here, so there is nothing to test it against."
    if not tests:
        return f"{result.metric}: {result.best} has the best mean; no difference could be tested."
    apart = [label for label, test in tests if test.significant]
    same = [label for label, test in tests if not test.significant]
    if result.winner:
        return f"{result.metric}: {result.best} is the best, significantly better than every other."
    told = f"significantly better than {len(apart)} of {len(result.models) - 1}"
    doubt = f"; not told apart from {_listed(same)}" if same else ""
    return f"{result.metric}: {result.best} has the best mean, {told}{doubt}."


def _doubtful(result: MetricResult, repetition: str) -> list[str]:
    """Differences between these trained models that may well turn with the next seed or draw of the split."""
    test = "paired t test" if repetition == "draw" else "Welch's t test"
    pairs = {
        f"{score.label} and {test.against} (p {test.p_seeds:.2f})": None
        for score in result.models
        for test in (score.against_best, score.against_reference)
        if test is not None and test.significant and test.p_seeds is not None and test.p_seeds >= ALPHA
        and not (score.label == result.best and test.against == result.reference)
    }  # fmt: skip
    if not pairs:
        return []
    return [
        f"{result.metric}: significant between the trained models, but not beyond the spread of their {repetition}s "
        f"({test}): {_listed(list(pairs))}. More {repetition}s would tell."
    ]


def _quality(result: MetricResult, rows: dict[str, Configuration], wide: bool) -> Sheet:
    interval = "95 % interval" if wide else "± 95 %"
    columns = ["model", "n", result.metric, "", interval, "", "sd", "params", "fit s", "", "epoch"]
    measured = [name for name in MEASURED_COSTS if any(getattr(row, name) is not None for row in rows.values())]
    columns += [_COST_COLUMNS[name] for name in measured]
    cells = []
    for score in result.scores:
        label = Coloured(score.label, "bold green" if score.label == result.winner else None)
        if score.kind != "model":
            label = Coloured(score.label, "dim")
            cells.append([label, "", number(score.mean), *[""] * (8 + len(measured))])
            continue
        row = rows[score.label]
        cells.append([
            label, str(len(score.values)), number(score.mean), _mark(score, result),
            _interval(score, wide), "u" if score.interval_over == "units" else "",
            "-" if score.sd is None else number(score.sd), _count(row.parameters),
            "?" if row.fit_seconds is None else _seconds(row.fit_seconds), "P" if score.pareto else "",
            "?" if row.best_epoch is None else f"{row.best_epoch:.1f}".removesuffix(".0"),
            *("?" if (cost := getattr(row, name)) is None else f"{cost:.3g}" for name in measured),
        ])  # fmt: skip
    return Sheet(result.metric, columns, cells)


_COST_COLUMNS = {
    "latency_ms": "ms", "batch_latency_ms": "ms of many", "peak_memory_mb": "peak MB", "size_mb": "size MB",
    "energy_j": "J",
}  # fmt: skip


def _mark(score: Score, result: MetricResult) -> str:
    if score.label == result.best:
        tested = any(other.against_best is not None for other in result.models)
        return "*" if result.winner else "=" if tested else ""
    return "=" if score.against_best is not None and not score.against_best.significant else ""


def _interval(score: Score, wide: bool) -> str:
    if score.interval is None:
        return "-"
    low, high = score.interval
    return f"[{number(low)}, {number(high)}]" if wide else number((high - low) / 2)


def _tests(result: MetricResult) -> list[tuple[str, list[tuple[str, PairedTest]]]]:
    found = []
    best = [(score.label, score.against_best) for score in result.models if score.against_best is not None]
    named = [(score.label, score.against_reference) for score in result.models if score.against_reference is not None]
    if best:
        found.append((str(result.best), best))
    if named and result.reference != result.best:
        found.append((str(result.reference), named))
    return found


def _differences(other: str, what: str, tests: list[tuple[str, PairedTest]]) -> Sheet:
    rows = []
    for label, test in tests:
        low, high = test.interval
        rows.append([
            label, f"{test.difference:+.4f}", f"[{low:+.4f}, {high:+.4f}]",
            "<0.001" if test.p_corrected < 0.001 else f"{test.p_corrected:.3f}", "*" if test.significant else "",
            "-" if test.effect is None else f"{test.effect:+.2f}",
            f"{100 * test.better:.0f}:{100 * test.worse:.0f}",
        ])  # fmt: skip
    columns = ["minus " + what, "diff.", "95 % interval", "p", "", "effect", "win:loss"]
    return Sheet(f"against {what}, {other}", columns, rows)


def _ranks(comparison: Comparison) -> Section:
    ranks = comparison.ranks
    assert ranks is not None
    rows = [
        [model, f"{average:.2f}", *(f"{of_data[place]:g}" for of_data in ranks.ranks)]
        for place, (model, average) in enumerate(zip(ranks.models, ranks.average, strict=True))
    ]
    numbered = [f"({place})" for place in range(1, len(ranks.data) + 1)]
    said = "the models differ" if ranks.p < 0.05 else "no difference between the models is shown"
    test = f"Friedman chi-square {ranks.statistic:.2f}, p {ranks.p:.3f}" if ranks.statistic is not None else "All tie"
    pairs = _listed([f"{better} before {worse}" for better, worse in ranks.differ], 8)
    after = [
        "data sets: " + "; ".join(f"{place} {name}" for place, name in zip(numbered, ranks.data, strict=True)),
        f"{test} ({len(ranks.data)} data sets, {len(ranks.models)} models): {said}.",
        f"Nemenyi: average ranks more than {ranks.critical_difference:.2f} apart differ at 5 %; "
        + (f"these do: {pairs}." if ranks.differ else "none do."),
        *comparison.rank_notes,
    ]
    if len(ranks.data) < 10:
        after.append("With few data sets both tests see large differences only, and Friedman's p is rough.")
    return Section("ranks over data sets", [], [Sheet("", ["model", "average", *numbered], rows)], after)


def _left_out(comparison: Comparison) -> Section:
    repeated = [entry.run for entry in comparison.left_out if entry.status == "repeated"]
    others = [entry for entry in comparison.left_out if entry.status != "repeated"]
    section = Section("not compared")
    if others:
        rows = [[entry.run, entry.status, entry.message] for entry in others]
        section.sheets.append(Sheet("", ["run", "status", "message"], rows, text=True))
    if repeated:
        section.after.append(
            f"{len(repeated)} repeated (a newer run of the same configuration and seed counts): {_listed(repeated)}"
        )
    return section


def _listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "?"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return str(parameters)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 1000 else f"{seconds:,.0f}"
