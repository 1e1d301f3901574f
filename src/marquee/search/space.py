"""What is searched: the ranges of each key, from conf/search or the command line, checked before any trial runs."""

import copy
import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marquee.config.compose import Composed
from marquee.config.folders import file_of_option, options
from marquee.config.targets import closest
from marquee.config.values import spelled
from marquee.errors import ConfigError

FIELDS = ("low", "high", "log", "step", "choices")
NONE = "none"  # conf/search/none.yaml: nothing but what is typed


@dataclass(frozen=True)
class Range:
    """The values that a key may take.

    From `low` to `high`, both included; both integers: integers. With `log` evenly in the logarithm, with `step` only
    low, low + step, ... Or one of `choices`. `origin` is the file or the word that says so.
    """

    key: str
    origin: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As YAML writes it, for the record of a study."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}

    def ends(self) -> list[Any]:
        """The values to check: every choice, or both bounds and what lies between them."""
        if self.choices:
            return list(self.choices)
        between = self.low + self.step if self.step and self.low + self.step < self.high else None
        return [self.low, self.high] if between is None else [self.low, between, self.high]

    def all(self) -> list[Any] | None:
        """Every value, or None where there are too many to list (a number without a step)."""
        if self.choices:
            return [stored(choice) for choice in self.choices]
        step = self.step or (1 if self.integer and not self.log else None)
        if step is None:
            return None
        count = int((self.high - self.low) / step + 1e-9) + 1
        return [self.low + index * step for index in range(count)]

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def word(self, value: Any) -> str:
        """A value that Optuna proposed as an override; the same value gives the same word."""
        for choice in self.choices:
            if stored(choice) == value and isinstance(stored(choice), bool) == isinstance(value, bool):
                return f"{self.key}={spelled(choice)}"
        return f"{self.key}={spelled(value if self.integer else self._rounded(value))}"

    def _rounded(self, value: float) -> float:
        """A readable number: 4 significant digits where log, else to a ten-thousandth of the range's width or finer."""
        if self.log and self.high >= 2 * self.low:
            decimals = 3 - math.floor(math.log10(value))
        else:
            decimals = 4 - math.floor(math.log10(self.high - self.low))
        return min(max(round(value, max(decimals, 1)), self.low), self.high)

    def suggest(self, trial: Any) -> Any:
        """This key's value in an Optuna trial: a new one, or the one that the trial has."""
        if self.choices:
            return trial.suggest_categorical(self.key, [stored(choice) for choice in self.choices])
        if self.integer:
            return trial.suggest_int(self.key, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)


def stored(choice: Any) -> Any:
    """A choice as Optuna stores it: what is neither number nor text becomes the text of an override."""
    return choice if isinstance(choice, (int, float, str, type(None))) else spelled(choice)


# From YAML and from the command line ---------------------------------------------------------------------------------


def named_space(name: str) -> dict[str, Range]:
    """The space of conf/search/<name>.yaml, the user's own folders included. Raises ConfigError for a mistake in it."""
    file = file_of_option("search", name)
    if file is None:
        near = closest(name, options("search"))
        raise ConfigError(
            f"There is no search space {name}: conf/search/{name}.yaml does not exist.\n"
            + (f"  did you mean: hydra.sweeper.space={near}\n" if near else "")
            + f"  allowed:      {', '.join(options('search'))}\n"
            f"  or type one:  hydra.sweeper.space={NONE} 'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
        )
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is no YAML: {error}") from error
    where = f"conf/search/{name}.yaml"
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where}: a search space is keys with a range each, such as optimizer.lr: {{low: ..., high: ...}}"
        )
    return {str(key): ranged(str(key), entry, where) for key, entry in content.items()}


def ranged(key: str, entry: Any, where: str) -> Range:
    """One entry of a space: {low, high, log, step} or {choices: [...]}. Raises ConfigError."""
    if not isinstance(entry, dict):
        raise _wrong(key, where, f"{entry} is no range")
    for field in entry:
        if field not in FIELDS:
            near = closest(str(field), FIELDS)
            raise _wrong(key, where, f"{field} is unknown" + (f"; did you mean {near}?" if near else ""))
    if "choices" in entry:
        if len(entry) > 1 or not isinstance(entry["choices"], list) or not entry["choices"]:
            raise _wrong(key, where, "choices is a list with at least one value, and stands alone")
        return Range(key, where, choices=tuple(entry["choices"]))
    low, high, log, step = (entry.get(name) for name in ("low", "high", "log", "step"))
    for name, value in (("low", low), ("high", high), ("step", step)):
        if value is None and name == "step":
            continue
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value):
            raise _wrong(key, where, f"{name}: {value} is text to YAML; write {value.replace('e', '.0e')}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(key, where, f"{name} is {value}, and must be a number")
    if log not in (None, True, False):
        raise _wrong(key, where, f"log is {log}, and must be true or false")
    if low >= high:
        raise _wrong(key, where, f"low ({low}) must be below high ({high})")
    if log and low <= 0:
        raise _wrong(key, where, f"low is {low}; a logarithmic range begins above 0")
    if log and step is not None:
        raise _wrong(key, where, "log and step exclude each other; give choices instead")
    if step is not None and step <= 0:
        raise _wrong(key, where, f"step is {step}, and must be above 0")
    if isinstance(low, float) or isinstance(high, float) or isinstance(step, float):
        low, high = float(low), float(high)
    return Range(key, where, low, high, bool(log), step)


def _wrong(key: str, where: str, found: str) -> ConfigError:
    return ConfigError(
        f"{where}: {key}: {found}.\n  allowed: {{low: 0.1, high: 1.0, log: true, step: ...}} or {{choices: [...]}}"
    )


def typed_range(override: Any) -> Range:
    """A swept word of the command line, in Hydra's own syntax, as a range."""
    from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

    key, where, sweep = override.key_or_group, f"command line ({override.input_line.lstrip('+')})", override.value()
    log = "log" in getattr(sweep, "tags", ())
    if unknown := set(getattr(sweep, "tags", ())) - {"log"}:
        raise ConfigError(
            f"{where}: the tag {', '.join(sorted(unknown))} means nothing here; allowed: tag(log,interval(...))"
        )
    if isinstance(sweep, IntervalSweep):
        return ranged(key, {"low": sweep.start, "high": sweep.end, "log": log}, where)
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        if len(values) < 2:
            raise ConfigError(f"{where}: this range has {len(values)} values; there is nothing to choose from.")
        step = abs(sweep.step)
        if log:
            raise ConfigError(f"{where}: a range cannot be logarithmic; use tag(log,interval(...)).")
        return ranged(key, {"low": min(values), "high": max(values), "step": step}, where)
    return Range(key, where, choices=tuple(Override._convert_value(value) for value in override.sweep_iterator()))


# Is it right for this model ------------------------------------------------------------------------------------------


def check_space(base: Composed, space: Mapping[str, Range]) -> None:
    """Raise one ConfigError with every value at the ends of the space that the configuration does not take."""
    found = space_problems(base, space)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        chosen = " ".join(f"{group}={base.choices[group]}" for group in ("data", "model") if group in base.choices)
        head = f"No trial was started: {count} in the search space for {chosen}"
        raise ConfigError("\n\n".join([head, *map(str, found)]))


def space_problems(base: Composed, space: Mapping[str, Range]) -> list[Any]:
    """What the check of a configuration says of a space's values, one a key and kind of mistake."""
    from marquee.config.check import problems

    found: dict[str, Any] = {}
    known = {str(problem) for problem in problems(base)}
    for entry in space.values():
        for value in entry.ends():
            for problem in problems(_with(base, entry.key, value)):
                if not problem.missing and str(problem) not in known:
                    named = dataclasses.replace(problem, origin=entry.origin)
                    found.setdefault(f"{problem.key} {problem.allowed}", named)
    return list(found.values())


def check_spaces() -> list[tuple[str, list[Any]]]:
    """Each space of conf/search with the model of its name, on data that this model fits: (words, problems)."""
    from marquee.config.complaints import Problem
    from marquee.config.compose import compose
    from marquee.config.fitting import combinations

    homes = {model: (data, task) for data, task, model in reversed(combinations())}
    results = []
    for name in options("search"):
        words = f"hydra.sweeper.space={name}"
        try:
            space, found = named_space(name), []
            if home := homes.get(name):
                found = space_problems(compose([f"data={home[0]}", f"task={home[1]}", f"model={name}"]), space)
        except ConfigError as error:
            found = [Problem(words, "a search space that cannot be read", str(error), f"conf/search/{name}.yaml")]
        results.append((words, found))
    return results


def _with(base: Composed, key: str, value: Any) -> Composed:
    config = copy.deepcopy(base.config)
    *parents, leaf = key.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {}) if isinstance(node, dict) else {}
        if not isinstance(node, dict):
            raise ConfigError(f"{key} of the search space lies below a plain value ({parent}: {node}).")
    node[leaf] = list(value) if isinstance(value, tuple) else value
    return dataclasses.replace(base, config=config)
