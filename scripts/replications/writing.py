"""What finished runs found, put where people read it: the heads of the recipes, and the section of the page."""

from collections.abc import Sequence
from pathlib import Path

import results

from marquee.errors import ConfigError
from replications import recipes
from replications.evidence import Evidence, evidence
from replications.page import TITLE, section
from replications.recipes import Recipe, rewrite


def write(rows: Sequence[Recipe], output: Path, strict: bool) -> None:
    """Put what runs found into the recipes. Raises ConfigError for a recipe that has changed since they ran."""
    found = _found(rows, output, strict)
    for of_row in found.values():
        if changed := of_row.differences[0]:
            raise ConfigError(f"{of_row.recipe.file} is not what its sweep has run: {'; '.join(changed)}.\n"
                              f"  fix: python scripts/replicate.py {of_row.recipe.name}")  # fmt: skip
    for of_row in found.values():
        new = rewrite(of_row.recipe, of_row.measured, of_row.minutes)
        print(f"{of_row.recipe.name}: {of_row.measured}" if new else f"{of_row.recipe.name}: as it was")


def page(output: Path, file: Path) -> None:
    """Write the section, the first of the page."""
    rows = [recipes.read(name) for name in recipes.names()]  # read again: --write may have been before
    before = results.sections(file)
    text, notes = section(rows, _found(rows, output, strict=False), before.get(TITLE, ""))
    for note in notes:
        print(f"note: {note}")
    results.put_sections(file, results.HEAD, {TITLE: text}, first=True)


def _found(rows: Sequence[Recipe], output: Path, strict: bool) -> dict[str, Evidence]:
    """What the whole rows below `output` are, by the recipe's name; with `strict`, an error where one is not whole."""
    found = {}
    for recipe in rows:
        try:
            of_row = evidence(recipe, output, recipe.words())
        except ConfigError as error:
            if strict:
                raise
            print(f"note: {error}")
            continue
        if of_row is not None:
            found[recipe.name] = of_row
        elif strict:
            raise ConfigError(f"{output} has no run of {recipe.name}.\n"
                              f"  fix: python scripts/replicate.py {recipe.name}")  # fmt: skip
    return found
