"""Run again from a run's record, and say whether the result is identical."""

from pathlib import Path
from typing import Any

from marquee.errors import ConfigError
from marquee.runs.listing import compare
from marquee.runs.opening import came_about
from marquee.runs.record import read_manifest
from marquee.runs.train import train


def rerun(folder: Path) -> int:
    """Train with the recorded configuration into a folder of its own; prints the verdict, returns 0 when identical.

    Identical means: the same weights (sha256) and the same test metrics. Otherwise what differs is listed: code,
    environment, data, metrics. Raises ConfigError where the first run never finished.
    """
    before = read_manifest(folder)
    if before["status"] != "finished":
        raise ConfigError(f"{folder.name} is {before['status']}, so there is no result to repeat.")
    if origin := came_about(before):
        raise ConfigError(f"{folder.name} was not trained by its configuration alone. {origin}")
    after = train(_repeatable(before["config"], folder), [word for word in before["overrides"] if not _prunes(word)])
    same_weights = before["checkpoint"]["weights_sha256"] == after["checkpoint"]["weights_sha256"]
    same_metrics = before["metrics"] == after["metrics"]
    if same_weights and same_metrics:
        print(f"identical: {after['id']} has the weights and the metrics of {before['id']}")
        return 0
    print(f"not identical: {before['id']} and {after['id']}")
    print(f"  weights: {'the same' if same_weights else 'different'}")
    for line in _differences(compare(before, after)):
        print(f"  {line}")
    return 1


def _repeatable(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration as a run of its own: it resumes nothing and reports to no search.

    It lands beside the first one, wherever that lies now; that of a packed copy, which has no checkpoints, where the
    record says.
    """
    callbacks = {name: node for name, node in (config.get("callbacks") or {}).items() if name != "pruning"}
    places = dict(config["paths"])
    if (folder / "checkpoints").is_dir() and folder.parent.name == "runs":
        places["output"] = str(folder.parent.parent)
    return {**config, "resume": None, "callbacks": callbacks, "paths": places}


def _prunes(word: str) -> bool:
    return word.lstrip("+").startswith("callbacks.pruning")


def _differences(found: dict[str, Any]) -> list[str]:
    lines = []
    for section in ("metrics", "config", "data", "split", "code", "environment"):
        lines += [f"{section} {name}: {one} -> {two}" for name, (one, two) in found[section].items() if one != two]
    return lines or ["nothing that is recorded differs: the computation itself is not repeatable on this machine"]
