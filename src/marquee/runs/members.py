"""The runs that an ensemble averages: found by their names, and refused where they do not belong together."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from marquee.config.fingerprint import canonical, identity
from marquee.config.folders import choice_of
from marquee.config.targets import resolve
from marquee.errors import ConfigError
from marquee.inference.ensemble import Mean
from marquee.runs.extractor import DIGITS, weights_sha256, with_extractor
from marquee.runs.finding import find_run
from marquee.runs.liveness import status_of
from marquee.runs.record import read_manifest


def with_members(config: dict[str, Any], data: str, split: str) -> dict[str, Any]:
    """The configuration with each name in `model.runs` as ID@DIGITS and `model.run_folders` filled in.

    data, split  fingerprints of this run's own

    The digits are those of the weights' sha256, so that an ensemble of other weights is another run, wherever the runs
    lie. So is the run that `task.extractor` names. Raises ConfigError for a name that fits no finished run, for runs of
    another task, data or split, and for a record whose run has other weights now.
    """
    config = with_extractor(config)
    node = config["model"]
    if not issubclass(resolve(node["_target_"]), Mean):
        return config
    output = Path(config["paths"]["output"]).expanduser()
    known = dict(zip(node["runs"], node.get("run_folders") or (), strict=False))
    names, folders = [], []
    for name in node["runs"]:
        recorded = re.fullmatch(r"(.+)@([0-9a-f]+)", name)
        run, wanted = recorded.groups() if recorded else (name, "")
        folder = _found(run, known.get(name), output)
        _refuse_unfit(folder, read_manifest(folder), config, data, split)
        digits = weights_sha256(folder)
        if not digits.startswith(wanted):
            raise ConfigError(
                f"model.runs: {folder.name} has other weights now (sha256 {digits[:DIGITS]}... instead of {wanted}). "
                f"To take them: model.runs=[{folder.name},...]"
            )
        names.append(f"{folder.name}@{digits[:DIGITS]}")
        folders.append(str(folder))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"model.runs names {twice[0].partition('@')[0]} twice; to let it count twice: model.votes.")
    return {**config, "model": {**node, "runs": names, "run_folders": folders}}


def _found(name: str, before: str | None, output: Path) -> Path:
    """By its name, else where it lay when the name was first found."""
    try:
        return find_run(name, output)
    except ConfigError as error:
        if before is not None and (Path(before) / "manifest.json").is_file():
            return Path(before)
        raise ConfigError(f"model.runs: {error}") from error


def _refuse_unfit(folder: Path, manifest: dict[str, Any], config: dict[str, Any], data: str, split: str) -> None:
    status = status_of(folder, manifest)
    if status != "finished":
        hint = f" To continue it: marquee train resume={folder.name}" if status in ("interrupted", "failed") else ""
        raise ConfigError(f"model.runs: {folder.name} is {status}, and an ensemble is of finished runs.{hint}")
    task, own = (resolve(part["task"]["_target_"]).__name__ for part in (manifest["config"], config))
    if task != own:
        raise ConfigError(f"model.runs: {folder.name} was trained for {task}, and this ensemble is for {own}.")
    for part, fingerprint in (("data", data), ("split", split)):
        if manifest[part]["fingerprint"] != fingerprint:
            raise ConfigError(_other(part, folder, manifest, config))


def _other(part: str, folder: Path, manifest: dict[str, Any], config: dict[str, Any]) -> str:
    """What differs in data or split, and how to train the member again."""
    theirs, own = (dict(_flat(identity(one)[part], part)) for one in (manifest["config"], config))
    keys = [key for key in {**own, **theirs} if canonical(theirs.get(key)) != canonical(own.get(key))]
    told = "".join(f"\n  {key}: {theirs.get(key)} there, {own.get(key)} here" for key in keys)
    told = told or "\n  the files, or the code that prepares them, have changed since"
    words = [word for word in manifest["overrides"] if not word.startswith(("resume=", "sweep="))]
    if f"{part}._target_" in keys:
        words = [word for word in words if not word.startswith((f"{part}=", f"{part}."))]
        again = [f"{part}={choice_of(part, config[part])}"]
    else:
        words = [word for word in words if word.partition("=")[0].lstrip("+~") not in keys]
        again = [f"{key}={'null' if own[key] is None else own[key]}" for key in keys if key in own]
    return (
        f"model.runs: {folder.name} has other {'data' if part == 'data' else 'parts'} than this ensemble, and only "
        f"runs that agree on every example can be averaged.{told}\n  fix: marquee train {shlex.join([*words, *again])}"
    )


def _flat(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        yield path, node
        return
    for key, value in node.items():
        yield from _flat(value, f"{path}.{key}")
