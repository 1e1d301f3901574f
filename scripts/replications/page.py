"""The section of docs/results.md that shows the recipes: a table for each protocol, written from their sweeps."""

import hashlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marquee.errors import ConfigError
from replications.evidence import Evidence
from replications.recipes import Figure, Recipe
from replications.verdicts import CHECK, MISSED, REACHED, RULES, WITHIN, against_published, of_recipe

TITLE = "Replications"
SWITCHES = "protocol"  # what the names of one model under several protocols begin with
NOTHING = "nothing"  # what the note of the one begins with that the others stand beside: nothing is switched
COLUMNS = ("row", "model", "metric", "published", "ours", "n", "verdict", "minutes", "machine")
SWITCH_COLUMNS = ("row", "what is switched", "metric", "ours", "beside the first", "n", "minutes", "machine")
COMMAND = "python scripts/replicate.py NAME"
WHAT = """\
Published numbers, each under its own protocol. A row is a recipe of `conf/experiment/replicate/`; the command makes it
again and compares what it finds, one row or several (`'ml100k_*'`); without a name, it lists them all. What ran on a
card wants `trainer=auto` behind the name where the recipe does not say so itself."""
HOW = """\
Ours is the mean ± standard deviation (sd) over n jobs: seeds, folds, or draws of the split. {rules} Minutes are CPU
minutes of training and validation of all jobs together; on a card, of the clock, which other jobs on it lengthen.
Hyperparameters were chosen on validation; trials measure the test part, too, as every run does, and nothing was chosen
by it but where a note says so."""
_MARK = re.compile(r"<!-- table (\w+) -->")


@dataclass
class Table:
    """Rows of one protocol, which `told` describes: `rows` are lines by the recipe's name, `baselines` stand below."""

    key: str
    heading: str
    told: str
    rows: dict[str, list[str]] = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)


def tables(text: str) -> list[Table]:
    """The tables of a section that was written before."""
    found = []
    for part in re.split(r"^(?=### )", text, flags=re.M)[1:]:
        lines = part.splitlines()
        mark = next((match[1] for line in lines if (match := _MARK.fullmatch(line))), None)
        if mark is None:
            continue
        told = next((line for line in lines[1:] if line and not line.startswith(("<!--", "|", "- "))), "")
        table = Table(mark, lines[0].removeprefix("### "), told)
        for line in lines:
            if name := re.match(r"\| `([^`]+)` \|", line):
                table.rows.setdefault(name[1], []).append(line)
            elif line.startswith("|") and "(baseline)" in line:
                table.baselines.append(line)
        found.append(table)
    return found


def section(recipes: Sequence[Recipe], found: Mapping[str, Evidence], before: str) -> tuple[str, list[str]]:
    """The section, and notes on rows that are not on it.

    found   what the sweeps at hand hold, by the recipe's name
    before  the section as it stands; rows whose sweeps are not at hand keep their place in it

    Raises ConfigError for a recipe that does not say what its sweep does, or is far off its reference without a note.
    """
    kept = tables(before)
    made: dict[str, Table] = {}
    notes = []
    known = {recipe.name: recipe for recipe in recipes}
    for recipe in recipes:
        if recipe.name in found:
            _refuse_stale(recipe, found[recipe.name])
        if recipe.ours and (verdict := of_recipe(recipe)) in (MISSED, CHECK) and not recipe.note:
            raise ConfigError(f"{recipe.file}: a row that is `{verdict}` says why in a `Note`.")
    for of_table in _by_protocol(found):
        table = _table(of_table, kept)
        made[table.key] = table
        for evidence in of_table:
            recipe = evidence.recipe
            table.rows[recipe.name] = lines(recipe, evidence.manifest["model"], whole_of(recipes, recipe.name))
    for recipe in recipes:
        if recipe.name in found or recipe.ours is None:
            continue
        old = next((table for table in kept if recipe.name in table.rows), None)
        if old is None:
            notes.append(f"{recipe.name} is left out: its sweep is not at hand, and it is not on the page so far")
            continue
        table = made.setdefault(old.key, Table(old.key, old.heading, old.told, baselines=old.baselines))
        table.rows[recipe.name] = _kept(recipe, old.rows[recipe.name], whole_of(recipes, recipe.name))
    ordered = sorted(made.values(), key=lambda table: (is_switch(table.key), table.heading, table.key))
    rules = " ".join(f"*{word[0].upper()}{word[1:]}*: {RULES[word]}." for word in (REACHED, WITHIN, MISSED, CHECK))
    how = textwrap.fill(HOW.format(rules=rules), 120, break_on_hyphens=False)
    head = [f"## {TITLE}", "", WHAT, "", "```bash", COMMAND, "```", "", how, ""]
    open_rows = [f"- `{recipe.name}`: {recipe.unmeasured}. {remarks(recipe)}" for recipe in recipes if not recipe.ours]
    rest = ["### without a number", "", *open_rows, ""] if open_rows else []
    return "\n".join([*head, *(_written(table, known) for table in ordered), *rest]), notes


def lines(recipe: Recipe, model: str, whole: Recipe | None) -> list[str]:
    """A recipe's lines of its table, one a metric, made of its head alone."""
    made = []
    for number, figure in enumerate(recipe.ours.figures):
        cost = (recipe.minutes, recipe.ours.machine) if number == 0 else ("", "")
        if is_switch(recipe.name):
            beside = _beside(figure, whole.ours.figures[number : number + 1] if whole and whole.ours else ())
            switched = recipe.notes[0] if recipe.notes and number == 0 else ""
            cells = (f"`{recipe.name}`", switched, figure.metric, figure, beside, recipe.ours.jobs, *cost)
        else:
            bound = recipe.bound(figure.metric)
            verdict = against_published(figure, bound) if bound else ""
            name = f"`{recipe.name}`", f"`{model}`"
            cells = (*name, figure.metric, bound or "", figure, recipe.ours.jobs, verdict, *cost)
        made.append(_row(cells))
    return made


def is_switch(name: str) -> bool:
    return name.startswith(SWITCHES)


def whole_of(recipes: Sequence[Recipe], name: str) -> Recipe | None:
    """Of one model under several protocols the row in which nothing is switched; None for other rows."""
    prefix = f"{name.partition('_')[0]}_"
    of_group = [recipe for recipe in recipes if is_switch(name) and recipe.name.startswith(prefix)]
    return next((recipe for recipe in of_group if recipe.note.startswith(NOTHING)), None)


def _beside(figure: Figure, whole: Sequence[Figure]) -> str:
    """`+0.4230 (× 3.42)`: the difference to the same line of the row with the whole protocol, and the ratio."""
    if not whole or figure == whole[0]:
        return ""
    ratio = f" (× {figure.mean / whole[0].mean:.2f})" if whole[0].mean else ""
    return f"{figure.mean - whole[0].mean:+.4f}{ratio}"


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _refuse_stale(recipe: Recipe, evidence: Evidence) -> None:
    experiment, _ = evidence.differences
    if experiment:
        raise ConfigError(
            f"{recipe.file} is not what its sweep has run: {'; '.join(experiment)}.\n"
            f"  fix: python scripts/replicate.py {recipe.name}"
        )
    said = recipe.ours and (recipe.ours.figures, recipe.ours.jobs, recipe.ours.machine, recipe.spent)
    measured = evidence.measured
    if said != (measured.figures, measured.jobs, measured.machine, evidence.minutes):
        raise ConfigError(
            f"{recipe.file} says `{recipe.ours or 'none'}` and `{recipe.spent}`, and its sweep `{measured}` and "
            f"`{evidence.minutes}`.\n  fix: python scripts/replicate.py {recipe.name} --write"
        )


def _kept(recipe: Recipe, old: Sequence[str], whole: Recipe | None) -> list[str]:
    """The lines of a row whose sweep is not at hand. Raises ConfigError where the page has another number of it."""
    model = re.match(r"\| `[^`]+` \| `([^`]+)` \|", old[0])
    new = lines(recipe, model[1] if model else "", whole)
    width = len(SWITCH_COLUMNS if is_switch(recipe.name) else COLUMNS)
    measured = [3, 5, 6, 7] if is_switch(recipe.name) else [4, 5, 7, 8]  # ours, n, minutes, machine
    was, now = ([[_cells(line)[place] for place in measured] for line in rows if len(_cells(line)) == width]
                for rows in (old, new))  # fmt: skip
    if was != now:
        raise ConfigError(
            f"{recipe.file} says `Ours: {recipe.ours}`, the page has {' | '.join(filter(None, sum(was, [])))}, and "
            f"there is no sweep to tell which is right.\n  fix: python scripts/replicate.py {recipe.name}"
        )
    return new


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


# Tables --------------------------------------------------------------------------------------------------------------


def _by_protocol(found: Mapping[str, Evidence]) -> list[list[Evidence]]:
    groups: dict[str, list[Evidence]] = {}
    for evidence in found.values():
        groups.setdefault(_key(evidence), []).append(evidence)
    return list(groups.values())


def _key(evidence: Evidence) -> str:
    """Equal for rows of one table: what their names begin with, and their protocol; all switches are in one."""
    from marquee.compare.protocol import protocol_key

    prefix = evidence.recipe.name.partition("_")[0]
    if is_switch(evidence.recipe.name):
        return prefix
    return f"{prefix}_{hashlib.sha256(protocol_key(evidence.manifest).encode()).hexdigest()[:8]}"


def _table(of_table: Sequence[Evidence], kept: Sequence[Table]) -> Table:
    """A table without its rows."""
    from marquee.compare.protocol import describe, fold_and_draw

    key = _key(of_table[0])
    if is_switch(of_table[0].recipe.name):
        whole = next((evidence for evidence in of_table if evidence.recipe.note.startswith(NOTHING)), None)
        old = next((table.told for table in kept if table.key == key), "")
        told = f"`{whole.recipe.name}`, `{whole.manifest['model']}`: {describe(whole.manifest)}." if whole else old
        return Table(key, f"{key}: what the switch alone changes", told)
    manifests = [run.manifest for evidence in of_table for run in evidence.runs]
    first = manifests[0]
    draws = sorted({draw for one in manifests if (draw := fold_and_draw(one)[1]) is not None})
    told = f"Protocol: {describe(first, draws, manifests)}."
    node = first["config"]["data"]
    which = next((f" {node[name]}" for name in ("subset", "path") if node.get(name)), "")
    heading = f"{key.partition('_')[0]}: {first['data']['name']}{which}, {first['split']['name']}"
    return Table(key, heading, told, baselines=_baselines(of_table))


def _baselines(of_table: Sequence[Evidence]) -> list[str]:
    """Popularity on the first row's splits; where values are predicted, the best that its task has."""
    first = of_table[0]
    names = list(first.manifest["baselines"])
    metrics = dict.fromkeys(metric for evidence in of_table for metric in evidence.metrics)
    made = []
    for metric in metrics:
        known = [name for name in names if metric in first.manifest["baselines"][name]]
        if not known:
            continue
        mode = first.manifest["mode"] if metric == first.manifest["monitor"] else "max"
        means = {name: first.figure(metric, name) for name in known}
        best = (min if mode == "min" else max)(known, key=lambda name: means[name].mean)
        name = "baseline/popular" if "baseline/popular" in known else best
        word = name.removeprefix("baseline/")
        made.append(_row((f"{word} (baseline)", f"`{name}`", metric, "", means[name], len(first.runs), "", "", "")))
    return made


def _written(table: Table, known: Mapping[str, Recipe]) -> str:
    columns = SWITCH_COLUMNS if is_switch(table.key) else COLUMNS
    whole = whole_of(list(known.values()), next(iter(table.rows)))
    # The row in which nothing is switched first: the others are beside it.
    rows = sorted(table.rows, key=lambda name: (whole is None or name != whole.name, name))
    told = [f"- `{name}`: {remarks(known[name])}" for name in rows]
    body = [line for name in rows for line in table.rows[name]]
    right = {"published", "ours", "n", "minutes", "beside the first"}
    rule = "| " + " | ".join("---:" if column in right else "---" for column in columns) + " |"
    return "\n".join([
        f"### {table.heading}", "", f"<!-- table {table.key} -->", "", table.told, "",
        _row(columns), rule, *body, *table.baselines, "", *told, "",
    ])  # fmt: skip


def remarks(recipe: Recipe) -> str:
    """What stands below the table: whose number it is, how ours was chosen, the note."""
    published = f"Published: {recipe.source}" if recipe.bounds else f"Nothing published: {recipe.source}"
    parts = [published, f"Chosen: {recipe.chosen}", *([f"Note: {recipe.note}"] if recipe.notes else [])]
    return ". ".join(part.rstrip(".") for part in parts) + "."
