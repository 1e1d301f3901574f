"""The configuration to go on with, as a command to paste: chosen on validation, so that its test score stays honest."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marquee.compare.choice import best_on_validation, validation_mean
from marquee.compare.collect import Block, Group, collect
from marquee.compare.recipe import command_of, is_dropped, new_file, recipe_folder, save_recipe
from marquee.config.fingerprint import canonical, identity
from marquee.errors import ConfigError, MarqueeError
from marquee.runs.listing import flat, number
from marquee.runs.record import Run
from marquee.search.space import spelled


def print_best(paths: Sequence[Path], metric: str | None = None, save: str | None = None) -> None:
    """For each block a comment, which a shell ignores, and the command; `save` (experiment/NAME) keeps it as a recipe.

    Raises ConfigError where no run has the validation metric, and where a recipe cannot be saved.
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
            print(_comment(block, group, metric or block.monitor))
            words, remark = command_words(group.runs[-1])
            print(shlex.join(["marquee", "train", *words]) + (f"\n# {remark}" if remark else ""))
            if save:
                file = save_recipe(save, block, group, words, metric or block.monitor)
                print(f"# saved as {file}\n{command_of(save, recipe_folder())}")
    failed = [entry for entry in left_out if entry.status != "repeated"]
    if failed:
        print(f"# not looked at: {', '.join(f'{entry.run} ({entry.status})' for entry in failed[:5])}"
              + (f" and {len(failed) - 5} more" if len(failed) > 5 else ""))  # fmt: skip


def _best(block: Block, metric: str) -> Group | None:
    return best_on_validation(block.groups, metric, block.direction(metric))


def _comment(block: Block, group: Group, metric: str) -> str:
    seeds = ", ".join(str(run.manifest["seed"]) for run in group.runs)
    mean = f"mean of seeds {seeds}" if len(group.runs) > 1 else f"seed {seeds}"
    value = number(validation_mean(group, metric))
    return (
        f"# {block.manifest['data']['name']}, {block.manifest['split']['name']}: {group.label}, best of "
        f"{len(block.groups)} on validation: {metric} {value} ({mean}); test was not looked at"
    )


def command_words(run: Run) -> tuple[list[str], str | None]:
    """The overrides that give a run's configuration today, and a remark where they no longer do.

    Keys whose defaults were changed since the run are added to the words that were typed.
    """
    from marquee.config.compose import compose

    typed = [word for word in run.manifest.get("overrides") or [] if not is_dropped(_key(word))]
    exact = f"exactly as it was: marquee rerun {shlex.quote(str(run.folder))}"
    try:
        changed = _changed(run, compose(typed).config)
        words = typed + [f"{key}={spelled(value)}" for key, value in changed.items()]
        if changed and _changed(run, compose(words).config):
            return typed, f"The defaults have changed since ({', '.join(list(changed)[:5])}); {exact}"
    except MarqueeError as error:
        return typed, f"This no longer composes ({str(error).splitlines()[0]}); {exact}"
    return words, f"Defaults that have changed since are written out: {', '.join(changed)}" if changed else None


def _changed(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Keys that are no longer as in the run, with the run's values."""
    then, today = (flat(identity(content)) for content in (run.manifest["config"], config))
    keys = dict.fromkeys([*then, *today])
    keys.pop("seed", None)
    return {key: then.get(key) for key in keys if canonical(then.get(key)) != canonical(today.get(key))}


def _key(word: str) -> str:
    return re.split(r"[=@]", word.lstrip("+~"), maxsplit=1)[0]
