"""A guide of finished runs, and transcripts that it repeats.

guide = open_guide("requests", recommender="latest")
guide.answer("i loved the silent harbour").reply
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.apply.predictor import load
from marquee.data.cache import file_sha256
from marquee.errors import ConfigError, DataError, JobError
from marquee.files import replacing
from marquee.inference.catalogue import Catalogue, read_catalogue
from marquee.inference.conversation import Turn
from marquee.inference.guide import Guide
from marquee.runs.finding import find_run
from marquee.runs.record import read_manifest

FORMAT = 1
IDENTIFIED = ("reader", "recommender", "moderator", "catalogue", "catalogue_sha256")


def open_guide(
    reader: str | Path,
    recommender: str | Path | None = None,
    catalogue: str | Path | None = None,
    moderator: str | Path | None = None,
    output: str | Path | None = None,
) -> tuple[Guide, dict[str, Any]]:
    """A Guide of runs (folders, ids, `latest` below `output`) and of a catalogue file, and what identifies them.

    Without a catalogue file the items of the recommender are what is talked about. Raises ConfigError where there is
    neither, or where a run does not do what it is given for.
    """
    if recommender is None and catalogue is None:
        raise ConfigError(
            "chat needs something to talk about: --recommender RUN (its items), or --catalogue FILE (.csv, .json).\n"
            "  fix: marquee chat RUN --recommender RUN"
        )
    runs = {"reader": reader, "recommender": recommender, "moderator": moderator}
    named = {name: run for name, run in runs.items() if run is not None}
    loaded = {name: load(run, output) for name, run in named.items()}
    ranks = loaded.get("recommender")
    if catalogue is not None:
        path = Path(catalogue)
        items = read_catalogue(path)
        known = {"catalogue": path.name, "catalogue_sha256": file_sha256(path)}
        if ranks is not None and hasattr(ranks, "items"):
            _same_items(items, ranks.items["item_id"].tolist(), path)
    else:
        if not hasattr(ranks, "items"):
            raise ConfigError(f"--recommender: this run {ranks.does}. Name one that recommends items.")
        items, known = Catalogue(ranks.items, str(recommender)), {}
    for name, run in named.items():
        folder = find_run(str(run), Path(output or "outputs"))
        known[name] = read_manifest(folder)["fingerprint"]
    return Guide(loaded["reader"], items, ranks, loaded.get("moderator")), known


def _same_items(items: Catalogue, ids: Sequence[Any], path: Path) -> None:
    if [str(value) for value in items.ids] != [str(value) for value in ids]:
        raise ConfigError(
            f"--catalogue {path}: its rows are not the items of the recommender, one by one ({len(items)} rows, "
            f"{len(ids)} items). Give it a column item_id in the order of the run's items, or leave one of both out."
        )
    items.ids = list(ids)


def write_transcript(path: Path, known: Mapping[str, Any], turns: Sequence[Turn]) -> None:
    """Everything that was said, how it was read, and every claim, in one step. Raises JobError where it cannot be."""
    content = {"format": FORMAT, **known, "turns": [turn.to_json() for turn in turns]}
    try:
        with replacing(path) as file:
            file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise JobError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error


def read_transcript(path: Path) -> dict[str, Any]:
    """What `write_transcript` wrote. Raises DataError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        said = [turn["said"] for turn in content["turns"]]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no transcript of marquee chat ({error}).") from error
    if content.get("format") != FORMAT or not all(isinstance(text, str) for text in said):
        raise DataError(f"{path} is no transcript of marquee chat of format {FORMAT}.")
    return content


def differences(guide: Guide, known: Mapping[str, Any], content: Mapping[str, Any]) -> list[str]:
    """Where a guide answers otherwise than a transcript says, a line each; none where it is identical."""
    names = [*known, *(name for name in IDENTIFIED if name in content and name not in known)]
    found = [
        f"{name}: {content.get(name, 'none')} then, {known.get(name, 'none')} now"
        for name in names
        if content.get(name) != known.get(name)
    ]
    for number, then in enumerate(content["turns"], start=1):
        now = json.loads(json.dumps(guide.answer(then["said"]).to_json()))
        found += [
            f"turn {number}, {key}: {then.get(key)!r} then, {value!r} now"
            for key, value in now.items()
            if then.get(key) != value
        ]
    return found
