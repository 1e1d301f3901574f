"""From the words of a command to the studies that it asks for, each checked before any trial runs."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import product
from typing import Any

from marquee.config.compose import Composed, compose_all, typed
from marquee.config.fingerprint import canonical, identity
from marquee.config.folders import options
from marquee.errors import ConfigError
from marquee.search.objectives import objectives_of
from marquee.search.space import NONE, Range, check_space, named_space, typed_range
from marquee.search.study import Plan, grid
from marquee.sweeps.grid import SIGNS, listed, parsed, typed_word


def plan_studies(words: Sequence[str], settings: Mapping[str, Any], name: str) -> list[Plan]:
    """A plan for every combination of the swept group choices, in the order of a grid.

    Raises ConfigError for what cannot be composed, a space with values that the configuration does not take, and
    settings that do not go together.
    """
    fixed, choices, seeds, ranges = _sorted(words)
    combinations = [list(combination) for combination in product(*choices.values())]
    composed = compose_all([typed([*fixed, *combination]) for combination in combinations])
    plans = []
    for combination, base in zip(combinations, composed, strict=True):
        space = _space(base, settings["space"], fixed, ranges)
        own = seeds or [base.config["seed"]]
        objectives = objectives_of(settings["objectives"], base.config)
        _check(base, space, settings, len(own), len(objectives))
        others = [word.partition("=")[2] for word in combination if not word.startswith("model=")]
        model = base.choices.get("model", "model")
        config = {key: value for key, value in identity(base.config).items() if key != "seed"}
        plans.append(Plan(
            name="+".join([f"{name}/{model}", *others]),
            words=(*(word for word in fixed if _key(word) != "seed"), *combination),
            choices=(model, *others),
            fingerprint=sha256(canonical(config).encode()).hexdigest(),
            seeds=tuple(own),
            space=space,
            objectives=tuple(objectives),
            max_epochs=base.config["trainer"].get("max_epochs"),
        ))  # fmt: skip
    return plans


def _sorted(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]], list[int], dict[str, Range]]:
    """Fixed words, swept group choices, swept seeds, and searched keys."""
    fixed: list[str] = []
    choices: dict[str, list[str]] = {}
    seeds: list[int] = []
    ranges: dict[str, Range] = {}
    for override in parsed(words):
        key = override.key_or_group
        if key == "resume":
            raise ConfigError("A search resumes its own trials; leave resume out and issue the same command again.")
        if not override.is_sweep_override():
            fixed.append(override.input_line)
        elif key == "seed":
            seeds = _seeds(override)
        elif "." not in key and options(key):
            choices[key] = [f"{override.get_key_element()}={value}" for value in listed(override)]
        else:
            ranges[key] = typed_range(override)
    return fixed, choices, seeds, ranges


def _seeds(override: Any) -> list[int]:
    found = listed(override)
    if not all(value.isdigit() for value in found) or len(set(found)) < len(found):
        raise ConfigError(f"{typed_word(override)}: seeds are different integers >= 0, e.g. seed=1,2,3")
    return [int(value) for value in found]


def _space(base: Composed, chosen: str | None, fixed: Sequence[str], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The named space, or the model's own; a key that is fixed on the command line is not searched, a range wins."""
    model = base.choices.get("model", "")
    name = chosen or (NONE if ranges and model not in options("search") else model)
    settled = {_key(word) for word in fixed}
    space = {key: entry for key, entry in named_space(name).items() if key not in settled}
    space.update(ranges)
    if not space:
        raise ConfigError(
            f"There is nothing to search for model={model}: conf/search/{name}.yaml has no key that is left free.\n"
            "  fix: type a range, e.g. 'optimizer.lr=tag(log,interval(1e-4,1e-1))', or choose hydra.sweeper.space= "
            f"{', '.join(name for name in options('search') if name != NONE)}"
        )
    return space


def _check(
    base: Composed, space: Mapping[str, Range], settings: Mapping[str, Any], seeds: int, objectives: int
) -> None:
    from marquee.config.check import check

    try:
        check(base)
    except ConfigError as error:
        raise ConfigError(f"No trial was started.\n\nin: marquee train {' '.join(base.overrides)}\n{error}") from None
    check_space(base, space)
    if settings["pruner"] != "none" and (seeds > 1 or objectives > 1):
        several = f"{seeds} seeds a trial" if seeds > 1 else f"{objectives} objectives"
        raise ConfigError(
            f"hydra.sweeper.pruner={settings['pruner']} judges a trial by one run and one metric, and this search has "
            f"{several}.\n  fix: hydra.sweeper.pruner=none, or one seed and one objective"
        )
    if settings["sampler"] == "cmaes" and (objectives > 1 or all(entry.choices for entry in space.values())):
        why = f"{objectives} objectives" if objectives > 1 else "a space without numbers"
        raise ConfigError(f"hydra.sweeper.sampler=cmaes cannot search {why}.\n  fix: hydra.sweeper.sampler=tpe")
    if settings["sampler"] == "grid":
        grid(space)


def _key(word: str) -> str:
    return word.lstrip(SIGNS).partition("=")[0]
