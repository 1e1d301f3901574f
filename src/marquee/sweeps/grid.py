"""The jobs of a grid: the product of all swept lists, with lists that advance together (zipped) as one of them."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from marquee.config.complaints import hydra_errors
from marquee.config.folders import options
from marquee.config.targets import closest
from marquee.errors import ConfigError

SIGNS = "+~"


def expand(words: Sequence[str], zipped: Sequence[Any] = (), params: dict[str, Any] | None = None) -> list[list[str]]:
    """The overrides of each job, the last list advancing fastest, as Hydra's own sweeper does.

    `zipped` names swept keys that advance together: [[model.dim, optimizer.lr]], or [model.dim, optimizer.lr] for one
    group of them; the group stands in the product where its first key stands. `params` are swept lists that YAML
    brings (hydra.sweeper.params); a word that is typed wins. Raises ConfigError for what cannot be read, an interval,
    a list without values, and for zipped keys that are not swept or whose lists differ in length.
    """
    values: dict[str, list[str]] = {}
    swept = set()
    for override in parsed([*(f"{key}={value}" for key, value in (params or {}).items()), *words]):
        key = override.get_key_element()
        bare = key.lstrip(SIGNS)
        for older in [name for name in values if name.lstrip(SIGNS) == bare]:
            del values[older]
        swept.discard(bare)
        if override.is_sweep_override():
            swept.add(bare)
            values[key] = [f"{key}={value}" for value in listed(override)]
        elif override.is_delete() and override.value() is None:
            values[key] = [override.input_line or key]
        else:
            values[key] = [f"{key}={override.get_value_element_as_str()}"]
    lists = _joined({key.lstrip(SIGNS): [[word] for word in words] for key, words in values.items()}, swept, zipped)
    return [[word for words in job for word in words] for job in product(*lists)]


def parsed(words: Sequence[str]) -> list[Any]:
    """Hydra's own parse of overrides. Raises ConfigError for what its grammar does not know."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with hydra_errors():
        return OverridesParser.create().parse_overrides(list(words))


def typed_word(override: Any) -> str:
    """An override as it was typed, for messages."""
    return (override.input_line or "").removeprefix("++")


def listed(override: Any) -> list[str]:
    """The values of a swept override as they are typed: a,b  choice(a,b)  range(0,10)  glob(mf/*)."""
    from hydra.core.override_parser.types import Glob

    key = override.key_or_group
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{typed_word(override)}: an interval has no list of values, so a grid cannot go through it.\n"
            f"  fix: {key}=choice(...) or {key}=range(...), or search in it: hydra/sweeper=optuna"
        )
    if isinstance(override._value, Glob):  # Hydra looks at the first level of a group only, and we have families
        found = override._value.filter(options(key))
    else:
        with hydra_errors():
            found = list(override.sweep_string_iterator())
    if not found:
        allowed = f"\n  allowed: {', '.join(options(key))}" if options(key) else ""
        raise ConfigError(f"{typed_word(override)}: this list has no values.{allowed}")
    return found


def _joined(values: dict[str, list[list[str]]], swept: set[str], zipped: Sequence[Any]) -> Iterable[list[list[str]]]:
    """The lists of the product, each zipped group as one list. Every entry of a list is the words that it sets."""
    groups = [list(zipped)] if zipped and all(isinstance(key, str) for key in zipped) else list(zipped)
    seen: set[str] = set()
    for group in groups:
        _check_group(group, values, swept, seen)
        seen.update(group)
        first, *rest = (key for key in values if key in group)
        values[first] = [sum(words, []) for words in zip(*(values[key] for key in (first, *rest)), strict=True)]
        for key in rest:
            del values[key]
    return values.values()


def _check_group(group: Any, values: dict[str, list[list[str]]], swept: set[str], seen: set[str]) -> None:
    if not isinstance(group, (list, tuple)) or len(group) < 2 or not all(isinstance(key, str) for key in group):
        raise ConfigError(
            f"hydra.sweeper.zip: {group} is no group of keys.\n"
            "  allowed: two or more swept keys, e.g. 'hydra.sweeper.zip=[model.dim,optimizer.lr]', or several such "
            "groups: 'hydra.sweeper.zip=[[model.dim,optimizer.lr],[data,split]]'"
        )
    for key in group:
        if group.count(key) > 1 or key in seen:
            raise ConfigError(f"hydra.sweeper.zip names {key} twice; a key advances in one group.")
        if key not in swept:
            near = closest(key, swept)
            found = "it has one value" if key in values else "it is not on the command line"
            raise ConfigError(
                f"hydra.sweeper.zip: {key} is not swept, {found}.\n"
                f"  swept: {', '.join(sorted(swept)) or 'nothing'}"
                + (f"\n  did you mean: {near}" if near else f"\n  fix: {key}=VALUE,VALUE,...")
            )
    lengths = {key: len(values[key]) for key in group}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(f"hydra.sweeper.zip: lists that advance together have one length, but {told} values.")
