"""The raw files of recipes, looked at before the first job starts: what is missing, where to get it, what differs."""

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from marquee.errors import ConfigError, DataError

SUMS = Path(__file__).with_name("sums.yaml")


def look(configs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Notes on files that are not those that the recipes were measured on; `configs` are composed, a row's name each.

    What a data set has an address of is downloaded, as a run would. Raises one DataError for all files that are
    missing, with where they come from and their sha256.
    """
    from marquee.config.build import build, paths
    from marquee.config.fingerprint import canonical

    found: dict[Path, None] = {}
    lacking: dict[str, dict[str, None]] = {}  # names of rows by message
    seen: dict[str, str] = {}
    for name, config in configs:
        key = canonical([config["data"], config["split"], config["paths"]])
        if key in seen:
            if seen[key]:
                lacking[seen[key]][name] = None
            continue
        seen[key] = ""
        try:
            data, split, places = build(config["data"]), build(config["split"]), paths(config["paths"])
            sources = data.sources(places) if hasattr(data, "sources") else {}
            if hasattr(split, "sources"):
                sources = split.sources(sources, places)
        except DataError as error:
            seen[key] = str(error)
            lacking.setdefault(seen[key], {})[name] = None
            continue
        except (ConfigError, TypeError, ValueError):  # a mistake in the recipe, which the check of its run explains
            continue
        found.update(dict.fromkeys(sources.values()))
    if lacking:
        parts = [_told(message, names) for message, names in lacking.items()]
        raise DataError("\n\n".join([f"No job was started. {parts[0]}", *parts[1:]]))
    return [note for path in found for note in _other(path)]


def known() -> dict[str, dict[str, Any]]:
    """What sums.yaml says of each file: `sha256`, a list, and maybe `from`."""
    import yaml

    content = yaml.safe_load(SUMS.read_text(encoding="utf-8"))
    return {name: {**entry, "sha256": _listed(entry["sha256"])} for name, entry in content.items()}


def content_sha256(path: Path) -> str:
    """The sha256 of a file's content; one that is packed by gzip is unpacked for it, as packing differs."""
    digest = hashlib.sha256()
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _other(path: Path) -> list[str]:
    """A note where a file is known by its name and has other content; a damaged one is the run's to tell of."""
    name = next((name for name in known() if path.as_posix().removesuffix(".gz").endswith(f"/{name}")), None)
    if name is None:
        return []
    try:
        found = content_sha256(path)
    except (OSError, EOFError) as error:
        return [f"{path} cannot be read: {error}"]
    expected = known()[name]["sha256"]
    if found in expected:
        return []
    return [f"{path} is not what the recipes were measured on: its sha256 is {found}, theirs {' or '.join(expected)}"]


def _told(message: str, names: Iterable[str]) -> str:
    """A data set's own message with what is known of the files that it names."""
    lines = [f"{', '.join(names)}: {message}"]
    for name, entry in known().items():
        if name in message and not any(sha256 in message for sha256 in entry["sha256"]):
            lines.append(f"sha256 of {name}: {' or '.join(entry['sha256'])}")
            lines += [f"  from {entry['from']}"] if "from" in entry else []
    return "\n".join(lines)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
