"""What a number is beside the published one, and beside the recipe's own. The one definition of both tolerances."""

from collections.abc import Sequence

from replications.recipes import Bound, Figure, Recipe

# Deviations of single jobs, and share of the number that is compared with: the larger of both is the tolerance.
PUBLISHED_SD, OWN_SD, SHARE = 2, 3, 0.01
BEYOND = 0.10  # better than published by a larger share: the protocol is looked at before the number is believed

REACHED, WITHIN, MISSED, CHECK = "reached", "within tolerance", "missed", "beyond: check"
REPRODUCED, DIFFERS = "reproduced", "differs"
WORST_FIRST = (MISSED, CHECK, WITHIN, REACHED)
RULES = {
    REACHED: "at least as good as published",
    WITHIN: f"short of it by no more than the larger of {PUBLISHED_SD} sd over jobs and {SHARE * 100:g} % of it",
    MISSED: "short of it by more",
    CHECK: f"better than published by more than {BEYOND * 100:g} %, so the protocol is to be checked first",
    REPRODUCED: f"off the recipe's number by no more than the larger of {OWN_SD} of its sd and {SHARE * 100:g} % of it",
    DIFFERS: "off it by more",
}


def published_tolerance(figure: Figure, bound: Bound) -> float:
    return max(PUBLISHED_SD * (figure.sd or 0.0), SHARE * abs(bound.value))


def own_tolerance(own: Figure) -> float:
    return max(OWN_SD * (own.sd or 0.0), SHARE * abs(own.mean))


def against_published(figure: Figure, bound: Bound) -> str:
    """REACHED, WITHIN, MISSED or CHECK."""
    # Rounded: in binary .3 - .297 is a little more than .003.
    gain = round((figure.mean - bound.value) * (1 if bound.least else -1), 9)
    if gain > round(BEYOND * abs(bound.value), 9):
        return CHECK
    if gain >= 0:
        return REACHED
    return WITHIN if -gain <= round(published_tolerance(figure, bound), 9) else MISSED


def against_own(figure: Figure, own: Figure) -> str:
    """REPRODUCED or DIFFERS."""
    off = round(abs(figure.mean - own.mean), 9)
    return REPRODUCED if off <= round(own_tolerance(own), 9) else DIFFERS


def worst(verdicts: Sequence[str]) -> str:
    """Of several metrics' verdicts against what is published the one to look at; nothing of none."""
    return min(verdicts, key=WORST_FIRST.index, default="")


def of_recipe(recipe: Recipe) -> str:
    """The worst verdict of a recipe's own numbers."""
    found = [
        against_published(figure, bound)
        for bound in recipe.bounds
        if recipe.ours and (figure := recipe.ours.figure(bound.metric))
    ]
    return worst(found)
