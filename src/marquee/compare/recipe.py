"""`marquee best --save experiment/NAME`: the winner as a recipe of one's own, in the form of those that ship."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from marquee.compare.collect import Block, Group
from marquee.compare.statistics import bootstrap_intervals, seed_interval
from marquee.compare.units import read_units
from marquee.config.check import check
from marquee.config.compose import compose
from marquee.config.fingerprint import canonical, identity
from marquee.config.folders import conf_folders
from marquee.errors import ConfigError, JobError, MarqueeError
from marquee.files import write_text
from marquee.runs.listing import flat
from marquee.search.space import spelled

GROUPS = ("data", "split", "task", "model", "optimizer", "scheduler", "trainer", "callbacks")
# What says where a run lies, who watches and which repetition it is, and not which experiment.
DROPPED = ("seed", "paths", "tracker", "name", "tags", "resume", "hydra", "sweep", "callbacks.pruning")


def is_dropped(key: str) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in DROPPED)


def save_recipe(name: str, block: Block, group: Group, words: Sequence[str], metric: str) -> Path:
    """Write `experiment/NAME` into the user's configuration; `words` are the overrides that give the run today.

    The recipe is composed before it is kept: it has the configuration of the run, or there is no recipe. Raises
    ConfigError for a name that cannot be or that is taken, and where a recipe cannot say what the run was.
    """
    folder, file = recipe_folder(), new_file(name)
    head = _head(name, folder, block, group, metric)
    text = "\n".join([*head, *_body(group.runs[-1].manifest["config"], words)]) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    except OSError as error:
        raise JobError(f"{file} cannot be written: {error.strerror or error}.") from error
    try:
        with _searched(folder):
            composed = compose([name.replace("/", "=", 1)])
            check(composed)
            different = _different(group.runs[-1].manifest["config"], composed.config)
    except MarqueeError as error:
        file.unlink()
        raise ConfigError(f"The recipe cannot be composed, so it was not kept: {error}") from error
    if different:
        file.unlink()
        raise ConfigError(
            f"No recipe can say what this run was ({', '.join(list(different)[:5])}), so none was kept.\n"
            f"  exactly as it was: marquee rerun {shlex.quote(str(group.runs[-1].folder))}"
        )
    return file


def new_file(name: str) -> Path:
    """Where the recipe of this name is to be written. Raises ConfigError for a name that cannot be or is taken."""
    file = recipe_folder() / f"{_checked(name)}.yaml"
    if file.exists():
        raise ConfigError(f"{file} exists and is not overwritten. Choose another: --save experiment/NAME")
    return file


def recipe_folder() -> Path:
    """Where recipes of one's own go: the first folder of MARQUEE_CONF, else ./conf. Never an installed package's."""
    named = [name for name in os.environ.get("MARQUEE_CONF", "").split(os.pathsep) if name]
    folder = Path(named[0]).expanduser().resolve() if named else Path.cwd() / "conf"
    if folder.resolve() == Path(__file__).resolve().parents[1] / "conf":
        raise ConfigError(f"{folder} is the installed package's own. Set MARQUEE_CONF to a folder of yours.")
    return folder


def command_of(name: str, folder: Path) -> str:
    """What trains a recipe; a folder that is not searched by itself is named."""
    known = folder.resolve() in [place.resolve() for place in conf_folders()]
    place = "" if known else f"--config-dir {shlex.quote(os.path.relpath(folder))} "
    return f"marquee train {place}{name.replace('/', '=', 1)}"


def _checked(name: str) -> str:
    if not re.fullmatch(r"experiment/[A-Za-z0-9_][\w-]*(/[A-Za-z0-9_][\w-]*)*", name):
        raise ConfigError(f"--save {name}: a recipe is saved as experiment/NAME, of letters, digits, _ and -.")
    return name


# The text ------------------------------------------------------------------------------------------------------------


def _head(name: str, folder: Path, block: Block, group: Group, metric: str) -> list[str]:
    manifest = group.manifest
    test = group.values(f"test/{metric}")
    minutes = [run.manifest["durations"]["total"] / 60 for run in group.runs if "total" in run.manifest["durations"]]
    threads = str((manifest.get("environment") or {}).get("threads") or "?")
    seeds = ", ".join(str(run.manifest["seed"]) for run in group.runs)
    lines = ["# @package _global_", f"# Command:  {command_of(name, folder)}"]
    if minutes:
        lines.append(f"# Minutes:  {max(minutes):.1f} on {threads} core{'s' * (threads != '1')}")
    if test:
        expected, plural = _expected(group, metric, test), "s" * (len(test) > 1)
        lines.append(f"# Expected: test {metric} {expected} ({_protocol(manifest)}; seed{plural} {seeds})")
    lines.append(f"# Chosen:   on validation, best of {len(block.groups)} configurations; test was not looked at")
    return lines


def _expected(group: Group, metric: str, values: Sequence[float]) -> str:
    """Mean and tolerance: half the 95 % interval over seeds, or over the units of the test part where there is one."""
    mean = float(np.mean(values))
    if len(values) > 1:
        low, high = seed_interval(np.asarray(values))
        return f"{mean:.4f} ± {(high - low) / 2:.4f}"
    column = read_units([group], [metric]).values.get(metric, {}).get(0)
    if column is None:
        return f"{mean:.4f} of one run"
    low, high = bootstrap_intervals(column[:, None], np.random.default_rng(0))[:, 0]
    return f"{mean:.4f} ± {(high - low) / 2:.4f}"


def _protocol(manifest: Mapping[str, Any]) -> str:
    split = manifest["split"]
    values = [f"{key} {value}" for key, value in (split.get("config") or {}).items() if key != "_target_"]
    return f"{manifest['data']['name']}, split {split['name']}" + (f" with {', '.join(values)}" if values else "")


def _body(config: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """Choices as a defaults list, then the values that differ from what these choices bring."""
    chosen = compose(list(words)).choices
    fixed = [f"{group}={chosen[group]}" for group in ("data", "split", "model") if group in chosen]
    usual = compose(fixed).choices
    further = [f"{group}={chosen[group]}" for group in GROUPS if chosen.get(group) != usual.get(group)]
    groups = list(dict.fromkeys([*fixed, *further]))
    typed = [word.lstrip("+").partition("=")[0] for word in words if "." in word.partition("=")[0]]
    different = _different(config, compose(groups).config, everything=True)
    values = {key: value for key, value in different.items() if key in typed}
    # What was typed explains some of the rest (an interpolation of it); what it does not explain is written, too.
    words = [*groups, *(f"{key}={spelled(value)}" for key, value in values.items())]
    values |= _different(config, compose(words).config, everything=True)
    lines = ["defaults:", *(f"  - override /{word.replace('=', ': ')}" for word in groups), "  - _self_"]
    return lines + _yaml(values)


def _different(config: Mapping[str, Any], other: Mapping[str, Any], everything: bool = False) -> dict[str, Any]:
    """The keys whose values differ, with those of `config`; `everything`: also what is no part of the identity."""
    then, today = (flat(content if everything else identity(content)) for content in (config, other))
    keys = [key for key in dict.fromkeys([*then, *today]) if not is_dropped(key)]
    return {key: then.get(key) for key in keys if canonical(then.get(key)) != canonical(today.get(key))}


def _yaml(values: Mapping[str, Any]) -> list[str]:
    import yaml

    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, leaf = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    if not nested:
        return []
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip().splitlines()


@contextmanager
def _searched(folder: Path) -> Iterator[None]:
    """The folder among those that are searched, for as long as the recipe is tried."""
    before = os.environ.get("MARQUEE_CONF")
    if folder.resolve() not in [place.resolve() for place in conf_folders()]:
        os.environ["MARQUEE_CONF"] = os.pathsep.join(filter(None, [str(folder.resolve()), before]))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("MARQUEE_CONF", None)
        else:
            os.environ["MARQUEE_CONF"] = before
