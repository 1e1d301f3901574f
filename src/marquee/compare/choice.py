"""Choosing among configurations: on validation, never on test, which is there to be reported."""

from collections.abc import Sequence
from statistics import fmean

from marquee.compare.collect import Block, Group, name_groups


def validation_mean(group: Group, metric: str) -> float | None:
    """The mean over seeds of a group's validation metric; None where it was not recorded."""
    values = group.values(f"validation/{metric}")
    return fmean(values) if values else None


def best_on_validation(groups: Sequence[Group], metric: str, direction: str | None) -> Group | None:
    """The group with the best mean; of equals the first. None where no group has the metric."""
    scored = [(score, group) for group in groups if (score := validation_mean(group, metric)) is not None]
    if not scored:
        return None
    pick = min if direction == "min" else max
    return pick(scored, key=lambda pair: pair[0])[1]


def one_for_each_model(block: Block) -> tuple[Block, list[str]]:
    """The block with the best configuration of each model, and what was chosen from what.

    Where validation results are missing, nothing can be chosen and all of a model's configurations stay.
    """
    chosen, notes = [], []
    for model in dict.fromkeys(group.model for group in block.groups):
        members = [group for group in block.groups if group.model == model]
        best = best_on_validation(members, block.monitor, block.direction(block.monitor))
        if best is None or len(members) == 1:
            chosen += members
        else:
            chosen.append(best)
            settings = best.label.removeprefix(model).strip()
            notes.append(f"{model}: {settings}, best on validation/{block.monitor} of {len(members)} configurations.")
    reduced = Block([Group(group.runs) for group in chosen], block.like, block.differs)
    name_groups(reduced)
    return reduced, notes
