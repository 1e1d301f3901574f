"""Make new things with a finished run, write them with their provenance, and make them again to verify them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from marquee import __version__
from marquee.apply.predictor import load
from marquee.errors import ConfigError, DataError, JobError
from marquee.files import replacing, write_text
from marquee.inference.generation import Generator, Made
from marquee.runs.record import read_manifest

VERSION = 1
ENDING = ".provenance.json"
# What a provenance must have for its file to be made again.
ASKED = {"format": str, "n": int, "seed": int, "settings": dict, "sha256": str, "made": list, "run": dict}


@dataclass(frozen=True)
class Work:
    """What was asked of a run, what it made of that, and the file's bytes."""

    run: Path
    generator: Generator
    format: str
    n: int
    seed: int
    settings: Mapping[str, Any]
    made: list[Made]
    content: bytes

    def provenance(self) -> dict[str, Any]:
        """What it takes to make the same again, and what is known of each sample."""
        manifest = read_manifest(self.run)
        kind = type(self.generator)
        return {
            "version": VERSION,
            "format": self.format,
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "bytes": len(self.content),
            "run": {"id": self.run.name, "fingerprint": manifest["fingerprint"],
                    "weights_sha256": (manifest.get("checkpoint") or {}).get("weights_sha256")},
            "data": manifest["data"]["name"],
            "model": manifest["model"],
            "predictor": f"{kind.__module__}.{kind.__qualname__}",
            "marquee": __version__,
            "n": self.n,
            "seed": self.seed,
            "settings": dict(self.settings),
            "made": [dict(one.facts) for one in self.made],
        }  # fmt: skip


def generate(
    run: Path, n: int, seed: int, settings: Mapping[str, Any], format: str | None, output: Path | None
) -> Work:
    """`n` samples of a run. The format goes by its name, else by the ending of `output`, else it is the run's first.

    Raises ConfigError for a run that makes nothing, and for options and formats that it does not have.
    """
    predictor = load(run)
    if not isinstance(predictor, Generator):
        predictor.generate()  # which says what it does instead
    format = _format(predictor, format, output)
    chosen = predictor.settled(settings)
    made = predictor.generate(n, seed, **chosen)
    return Work(run, predictor, format, n, seed, chosen, made, predictor.render(made, format))


def _format(generator: Generator, format: str | None, output: Path | None) -> str:
    formats = generator.formats
    told = ", ".join(f"{name} ({ending})" for name, ending in formats.items())
    if format is not None and format not in formats:
        raise ConfigError(f"--format {format}: this run {generator.does} and writes {told}.")
    if output is None:
        return format or next(iter(formats))
    fitting = [name for name, ending in formats.items() if ending == output.suffix.lower()]
    if not fitting or (format is not None and format not in fitting):
        raise ConfigError(f"--output {output}: the ending {output.suffix!r} is not that of {format or 'any format'}; "
                          f"this run writes {told}.")  # fmt: skip
    return format or fitting[0]


def write(work: Work, output: Path) -> Path:
    """The file, then its provenance beside it, each in one step; returns the second. Raises JobError."""
    beside = provenance_file(output)
    try:
        with replacing(output) as temporary:
            temporary.write_bytes(work.content)
        write_text(beside, _json(work.provenance()) + "\n")
    except OSError as error:
        raise JobError(f"{output} cannot be written: {error.strerror or error}.") from error
    return beside


def _json(content: Mapping[str, Any]) -> str:
    """Indented, but lists of numbers, of which there may be thousands, on one line."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return re.sub(r"\[[-+.\deE,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text)


def provenance_file(output: Path) -> Path:
    return output.with_name(output.name + ENDING)


def read_provenance(output: Path) -> dict[str, Any]:
    """What was written beside a file. Raises DataError where it is not there, or not as it should be."""
    path = provenance_file(output)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
        for name, kind in ASKED.items():
            if type(content[name]) is not kind:
                raise TypeError(f"{name} is no {kind.__name__}")
        if not all(isinstance(facts, dict) for facts in content["made"]) or not content["run"]["id"]:
            raise TypeError("made and run are not what they should be")
        if version <= VERSION:
            return content
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. It is written beside the file by generate --output {output}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no provenance that this Marquee can read ({error}).") from error
    raise DataError(f"{path} has version {version}; this Marquee reads up to {VERSION}. Upgrade.")


def differences(output: Path, told: Mapping[str, Any], run: Path) -> list[str]:
    """Make a file again from its provenance; in which ways file, provenance and what the run makes now are not one.

    None where all are identical. Raises DataError where the file cannot be read.
    """
    try:
        content = output.read_bytes()
    except OSError as error:
        raise DataError(f"{output} cannot be read: {error.strerror or error}.") from error
    found = []
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        found.append("the file has been changed since: its sha256 is not the one that its provenance tells")
    manifest = read_manifest(run)
    if manifest["fingerprint"] != told["run"].get("fingerprint"):
        found.append(f"the run {run.name} has the fingerprint {manifest['fingerprint'][:16]}, the file is of another")
    again = generate(run, told["n"], told["seed"], told["settings"], told["format"], None)
    if again.content != content:
        found.append(f"made again, it differs {_where(content, again.content)}")
    for index, (old, new) in enumerate(zip_longest(told["made"], again.provenance()["made"], fillvalue={})):
        new = json.loads(json.dumps(new))
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if names:
            found.append(f"made again, what is told of sample {index} differs in {', '.join(sorted(names))}")
    return found


def _where(old: bytes, new: bytes) -> str:
    place = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
    line = old.count(b"\n", 0, place) + 1
    return f"from byte {place:,} on (line {line:,}; {len(old):,} bytes in the file, {len(new):,} now)"
