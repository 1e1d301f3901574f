"""What a paper needs from a sweep, in one folder: tables, figures, page, the runs' records, and how to repeat them."""

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from marquee import __version__
from marquee.compare.analysis import compare
from marquee.compare.collect import located
from marquee.compare.formats import written
from marquee.compare.paper_text import environment_text, readme
from marquee.compare.plots import write_plots
from marquee.compare.report.evidence import Evidence, Recorded, gather
from marquee.compare.report.figures import figures
from marquee.compare.report.page import page
from marquee.errors import ConfigError, JobError
from marquee.files import umask
from marquee.sweeps.store import RECORD, Sweep

TABLES = {"latex": "tex", "csv": "csv", "md": "md", "json": "json"}
RECORDS = ("manifest.json", "config.yaml", "metrics.csv", "log.txt")
SUMS = "SHA256SUMS"


def export(
    sweep: str, target: Path, output: Path, metrics: Sequence[str] = (), by_model: bool = False,
    reference: str | None = None,
) -> list[str]:  # fmt: skip
    """Write the package of a sweep (or of any folder of runs) to `target`; returns what its reader should be warned of.

    The folder appears whole or not at all. Raises ConfigError where it holds something already or where there is
    nothing to compare, JobError where it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(
            f"{target} is not an empty folder. Give a new one: a package is never mixed with other files."
        )
    source = find(sweep, output)
    comparison = compare([source], metrics, by_model, reference)
    evidence = gather([source])
    used = evidence.compared(comparison)
    environment, warnings = environment_text(used)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            packed = Evidence({run.id: replace(run, folder=_pack(run, folder / "runs" / run.id)) for run in used})
            packed.runs |= {name: replace(run, folder=None) for name, run in evidence.runs.items()
                            if name not in packed.runs}  # fmt: skip
            packed.runless = [replace(job, log=None) for job in evidence.runless]
            made = figures(comparison, packed)
            _text(folder / "tables", {f"comparison.{end}": written(comparison, form) for form, end in TABLES.items()})
            files = {file.name for file in write_plots(made, folder / "figures", ("svg", "png", "pdf"))}
            _text(folder, {
                "report.html": page(comparison, packed, [sweep], folder, made),
                "environment.txt": environment,
                "commands.txt": commands(source, used),
                "README.md": readme(sweep, __version__, comparison, made, files, used, evidence.runless, warnings),
            })  # fmt: skip
            (folder / SUMS).write_text(sums(folder), encoding="utf-8")
            folder.chmod(0o777 & ~umask())
            os.replace(folder, target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise JobError(f"{target} cannot be written: {error.strerror or error}.") from error
    return warnings


def find(sweep: str, output: Path) -> Path:
    """A sweep by its name under `<output>/sweeps`, else the path itself, as `marquee compare` takes it."""
    named = output / "sweeps" / sweep
    return named if named.is_dir() else located(Path(sweep))


def commands(source: Path, used: Iterable[Recorded]) -> str:
    """The sweep's command where it is recorded, and the command of each run as it was typed."""
    lines = []
    if (source / RECORD).is_file():
        lines += ["# the sweep", shlex.join(Sweep.open(source).command), ""]
    lines.append("# its runs" if lines else "# the runs")
    for run in used:
        words = run.manifest.get("overrides") or []
        lines.append(shlex.join(["marquee", "train", *map(str, words)]) + f"  # {run.id}")
    return "\n".join(lines) + "\n"


def sums(folder: Path) -> str:
    """A line a file as `sha256sum -c` reads it, all but the list itself."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / SUMS)
    return "".join(f"{_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)


def _pack(run: Recorded, place: Path) -> Path:
    place.mkdir(parents=True)
    for name in RECORDS:
        if (run.source / name).is_file():
            shutil.copyfile(run.source / name, place / name)
    return place


def _text(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        digest: Any = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
