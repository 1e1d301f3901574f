"""`marquee best`: the configuration to go on with, as a command to paste and as a recipe of one's own.

It is chosen on validation, so that its test score stays honest.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from marquee.compare.collect import collect
from marquee.compare.groups import Block, Group, best_on_validation, validation_mean
from marquee.compare.protocol import fold_and_draw
from marquee.compare.statistics import bootstrap_intervals, seed_interval
from marquee.compare.units import read_units
from marquee.config.check import check
from marquee.config.compose import compose
from marquee.config.fingerprint import canonical, identity
from marquee.config.folders import conf_folders
from marquee.config.values import spelled
from marquee.errors import ConfigError, JobError, MarqueeError
from marquee.files import write_text
from marquee.runs.listing import flat, number
from marquee.runs.record import Run
from marquee.runs.terminal import command, folded

GROUPS = ("data", "split", "task", "model", "optimizer", "scheduler", "trainer", "callbacks")
# What says where a run lies, who watches and which repetition it is, and not which experiment.
DROPPED = ("seed", "paths", "tracker", "name", "tags", "resume", "hydra", "sweep", "callbacks.pruning")


def print_best(paths: Sequence[Path], metric: str | None = None, save: str | None = None) -> None:
    """Print the command of each block's best configuration, below a comment, which a shell ignores.

    `save` (experiment/NAME) keeps it as a recipe, too. Raises ConfigError where no run has the validation metric, and
    where a recipe cannot be saved.
    """
    if save:
        new_file(save)  # before anything is printed
    blocks, left_out = collect(paths)
    metric = metric.removeprefix("validation/").removeprefix("test/") if metric else None
    chosen = [(block, _best(block, metric or block.monitor)) for block in blocks]
    if not any(group for _, group in chosen):
        known = dict.fromkeys(run.manifest["monitor"] for block in blocks for run in block.runs)
        raise ConfigError(
            f"No run has validation/{metric or blocks[0].monitor}: a run records the validation metric that it was "
            f"watched by (task.monitor). Recorded here: {', '.join(known)}. The test part is never chosen by."
        )
    winners = sum(group is not None for _, group in chosen)
    if save and winners > 1:
        manifests = [block.manifest for block, group in chosen if group is not None]
        names = ", ".join(f"{manifest['data']['name']} ({manifest['split']['name']})" for manifest in manifests)
        raise ConfigError(
            f"--save keeps one winner, and there are {winners}, one a protocol: {names}.\n"
            "  fix: give the folders of the runs, or of a sweep, of one protocol"
        )
    for block, group in chosen:
        if group is not None:
            print(folded(_comment(block, group, metric or block.monitor), "#   "))
            words, remark = command_words(group.runs[0])
            print(command(["marquee", "train", *several(group, words)]))
            if remark:
                print(folded(f"# {remark}", "#   "))
            if save:
                file = save_recipe(save, block, group, words, metric or block.monitor)
                print(f"# saved as {file}\n{command_of(save, recipe_folder(), group)}")
    failed = [entry for entry in left_out if entry.status != "repeated"]
    if failed:
        listed = ", ".join(f"{entry.run} ({entry.status})" for entry in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        print(folded(f"# not looked at: {listed}{more}", "#   "))


def _best(block: Block, metric: str) -> Group | None:
    return best_on_validation(block.groups, metric, block.direction(metric))


def _comment(block: Block, group: Group, metric: str) -> str:
    told = [(group.seeds, "seed"), *_repeated(group).values()]
    mean = " and ".join(f"{word}s {_joined(of)}" if len(of) > 1 else f"{word} {_joined(of)}" for of, word in told)
    mean = f"mean of {mean}" if len(group.runs) > 1 else mean
    value = number(validation_mean(group, metric))
    return (
        f"# {block.manifest['data']['name']}, {block.manifest['split']['name']}: {group.label}, best of "
        f"{len(block.groups)} on validation: {metric} {value} ({mean}); test was not looked at"
    )


def _repeated(group: Group) -> dict[str, tuple[list[int], str]]:
    """What the runs of a group repeat of their split: {"split.fold": ([0, 1, 2], "fold")}; nothing of one draw."""
    folds = sorted({fold for run in group.runs if (fold := fold_and_draw(run.manifest)[0]) is not None})
    found = {f"split.{group.manifest['split']['fold_key']}": (folds, "fold")} if folds else {}
    return found | ({"split.seed": (group.draws, "split seed")} if len(group.draws) > 1 else {})


def several(group: Group, words: Sequence[str]) -> list[str]:
    """The words for all folds and draws of a group, as a sweep where there are several."""
    repeated = _repeated(group)
    if not repeated:
        return list(words)
    kept = [word for word in words if _key(word) not in repeated]
    sweep = ["-m"] if any(len(of) > 1 for of, _ in repeated.values()) else []
    return [*sweep, *kept, *(f"{key}={','.join(map(str, of))}" for key, (of, _) in repeated.items())]


def _joined(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def command_words(run: Run) -> tuple[list[str], str | None]:
    """The overrides that give a run's configuration today, and a remark where they no longer do.

    Keys whose defaults were changed since the run are added to the words that were typed.
    """
    typed = [word for word in run.manifest.get("overrides") or [] if not _below(_key(word), DROPPED)]
    then = run.manifest["config"]
    exact = f"exactly as it was: marquee rerun {shlex.quote(str(run.folder))}"
    try:
        changed = _different(then, compose(typed).config, left_out=("seed",))
        words = typed + [f"{key}={spelled(value)}" for key, value in changed.items()]
        if changed and _different(then, compose(words).config, left_out=("seed",)):
            return typed, f"The defaults have changed since ({', '.join(list(changed)[:5])}); {exact}"
    except MarqueeError as error:
        return typed, f"This no longer composes ({str(error).splitlines()[0]}); {exact}"
    return words, f"Defaults that have changed since are written out: {', '.join(changed)}" if changed else None


def _key(word: str) -> str:
    return re.split(r"[=@]", word.lstrip("+~"), maxsplit=1)[0]


def _different(
    config: Mapping[str, Any],
    other: Mapping[str, Any],
    everything: bool = False,
    left_out: Sequence[str] = DROPPED,
) -> dict[str, Any]:
    """The keys whose values differ, with those of `config`; `everything`: also what is no part of the identity."""
    then, today = (flat(content if everything else identity(content)) for content in (config, other))
    keys = [key for key in dict.fromkeys([*then, *today]) if not _below(key, left_out)]
    return {key: then.get(key) for key in keys if canonical(then.get(key)) != canonical(today.get(key))}


def _below(key: str, names: Sequence[str]) -> bool:
    """Whether a key or group is one of `names`, or lies in one of them."""
    return any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in names)


# As a recipe ----------------------------------------------------------------------------------------------------------


def save_recipe(name: str, block: Block, group: Group, words: Sequence[str], metric: str) -> Path:
    """Write `experiment/NAME` into the user's configuration; `words` are the overrides that give the run today.

    The recipe is composed before it is kept: it has the configuration of the run, or there is no recipe. Raises
    ConfigError for a name that cannot be or that is taken, and where a recipe cannot say what the run was.
    """
    folder, file = recipe_folder(), new_file(name)
    head = _head(name, folder, block, group, metric)
    text = "\n".join([*head, *_body(group.manifest["config"], words)]) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)
    except OSError as error:
        raise JobError(f"{file} cannot be written: {error.strerror or error}.") from error
    try:
        with _searched(folder):
            composed = compose([name.replace("/", "=", 1)])
            check(composed)
            different = _different(group.manifest["config"], composed.config)
    except MarqueeError as error:
        file.unlink()
        raise ConfigError(f"The recipe cannot be composed, so it was not kept: {error}") from error
    if different:
        file.unlink()
        raise ConfigError(
            f"No recipe can say what this run was ({', '.join(list(different)[:5])}), so none was kept.\n"
            f"  exactly as it was: marquee rerun {shlex.quote(str(group.runs[0].folder))}"
        )
    return file


def new_file(name: str) -> Path:
    """The file of a new recipe. Raises ConfigError for a name that is not experiment/NAME, or that is taken."""
    file = recipe_folder() / f"{_checked(name)}.yaml"
    if file.exists():
        raise ConfigError(f"{file} exists and is not overwritten. Choose another: --save experiment/NAME")
    return file


def recipe_folder() -> Path:
    """The folder of one's own recipes: the first of MARQUEE_CONF, else ./conf.

    Raises ConfigError where that is the installed package's own.
    """
    named = [name for name in os.environ.get("MARQUEE_CONF", "").split(os.pathsep) if name]
    folder = Path(named[0]).expanduser().resolve() if named else Path.cwd() / "conf"
    if folder.resolve() == Path(__file__).resolve().parents[1] / "conf":
        raise ConfigError(f"{folder} is the installed package's own. Set MARQUEE_CONF to a folder of yours.")
    return folder


def command_of(name: str, folder: Path, group: Group) -> str:
    """The command that trains a recipe, in all folds and draws; it names the folder where that is not searched anyway.

    A recipe by itself is the first of them.
    """
    known = folder.resolve() in [place.resolve() for place in conf_folders()]
    place = [] if known else ["--config-dir", os.path.relpath(folder)]
    return shlex.join(["marquee", "train", *place, *several(group, [name.replace("/", "=", 1)])])


def _checked(name: str) -> str:
    if not re.fullmatch(r"experiment/[A-Za-z0-9_][\w-]*(/[A-Za-z0-9_][\w-]*)*", name):
        raise ConfigError(f"--save {name}: a recipe is saved as experiment/NAME, of letters, digits, _ and -.")
    return name


# The text -------------------------------------------------------------------------------------------------------------


def _head(name: str, folder: Path, block: Block, group: Group, metric: str) -> list[str]:
    manifest = group.manifest
    test = group.values(f"test/{metric}")
    minutes = [run.manifest["durations"]["total"] / 60 for run in group.runs if "total" in run.manifest["durations"]]
    threads = str((manifest.get("environment") or {}).get("threads") or "?")
    seeds = ", ".join(map(str, group.seeds))
    lines = ["# @package _global_", f"# Command:  {command_of(name, folder, group)}"]
    if minutes:
        lines.append(f"# Minutes:  {max(minutes):.1f} on {threads} core{'s' * (threads != '1')}")
    if test:
        expected, plural = _expected(group, metric, test), "s" * (len(test) > 1)
        lines.append(f"# Expected: test {metric} {expected} ({_protocol(manifest, group)}; seed{plural} {seeds})")
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


def _protocol(manifest: Mapping[str, Any], group: Group) -> str:
    split, repeated = manifest["split"], _repeated(group)
    values = [f"{key} {value}" for key, value in (split.get("config") or {}).items()
              if key != "_target_" and f"split.{key}" not in repeated]  # fmt: skip
    values += [f"{word}s {_joined(of)}" for of, word in repeated.values()]
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
