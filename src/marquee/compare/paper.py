"""What a paper needs from a sweep, in one folder: tables, figures, page, the runs' records, and how to repeat them."""

import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from marquee import __version__
from marquee.compare.analysis import compare
from marquee.compare.collect import located
from marquee.compare.escaping import in_markdown, one_line
from marquee.compare.formats import written
from marquee.compare.report.evidence import Evidence, Recorded, Runless, gather
from marquee.compare.report.figures import figures
from marquee.compare.report.page import page
from marquee.compare.results import Comparison
from marquee.compare.tables import tests_in_words, verdict
from marquee.errors import ConfigError, JobError
from marquee.files import put, umask
from marquee.plots.figure import Figure
from marquee.plots.paper import write_plots
from marquee.sweeps.store import RECORD, Sweep

TABLES = {"latex": "tex", "csv": "csv", "md": "md", "json": "json"}
RECORDS = ("manifest.json", "config.yaml", "metrics.csv", "log.txt")
SUMS = "SHA256SUMS"


def export(
    sweep: str, target: Path, output: Path, metrics: Sequence[str] = (), by_model: bool = False,
    reference: str | None = None,
) -> list[str]:  # fmt: skip
    """Write the package of a sweep (or of any folder of runs) to `target`; returns warnings for its reader.

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
            put(folder, target)
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
        lines.append(shlex.join(["marquee", "train", *map(str, words)]) + f"  # {one_line(run.id)}")
    return "\n".join(lines) + "\n"


def sums(folder: Path) -> str:
    """The sha256 of every file but the list itself, one a line, as `sha256sum -c` reads them."""
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


# What it says ---------------------------------------------------------------------------------------------------------


def environment_text(used: Sequence[Recorded]) -> tuple[str, list[str]]:
    """Interpreter, machine and packages, one a line, and a warning for each that is not the same in all runs."""
    lines, warnings = ["# Made by marquee export-paper from the manifests of the runs."], []
    environments = [(run, run.manifest.get("environment") or {}) for run in used]
    flat = [(run, {key: environment.get(key) for key in ("python", "platform", "cpu", "gpu", "threads")},
             environment.get("packages") or {}) for run, environment in environments]  # fmt: skip
    facts = [(key, [(run, facts.get(key)) for run, facts, _ in flat]) for key in flat[0][1]] if flat else []
    names = sorted({name for _, _, packages in flat for name in packages if one_line(name) == name})
    code = [(run, _code(run.manifest.get("code") or {})) for run in used]
    for key, values in [("code", code), *facts]:
        lines += _line(f"# {key}: ", key, values, warnings)
    for name in names:
        lines += _line(f"{name}==", name, [(run, packages.get(name)) for run, _, packages in flat], warnings)
    return "\n".join(lines) + "\n", warnings


def _line(start: str, name: str, values: list[tuple[Recorded, Any]], warnings: list[str]) -> list[str]:
    by_value: dict[str, list[str]] = {}
    for run, value in values:
        by_value.setdefault(one_line(value) if value is not None else "none", []).append(one_line(run.id))
    common = max(by_value, key=lambda value: len(by_value[value]))
    if len(by_value) == 1:
        return [] if common == "none" else [start + common]
    told = "; ".join(f"{value} ({len(runs)} run{'s' * (len(runs) > 1)})" for value, runs in by_value.items())
    warnings.append(f"{name} differs between the runs: {told}.")
    others = [f"#   {name} {value}: {', '.join(runs)}" for value, runs in by_value.items() if value != common]
    return [f"{start}{common}" if common != "none" else f"# {name}: none in most runs", *others]


def _code(code: dict[str, Any]) -> str:
    commit = f", commit {code['commit'][:12]}" if code.get("commit") else ""
    changed = " with uncommitted changes" if code.get("dirty") else ""
    return f"marquee {code.get('version') or '?'}{commit}{changed}, sha256 {(code.get('sha256') or '?')[:12]}"


def readme(
    sweep: str,
    version: str,
    comparison: Comparison,
    made: Sequence[Figure],
    files: set[str],
    used: Sequence[Recorded],
    runless: Sequence[Runless],
    warnings: Sequence[str],
) -> str:
    """The README.md of the package; `files` are the names of the figures that were written."""
    counted = f"{len(used)} finished run{'s' * (len(used) > 1)}"
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    parts = [
        f"# Results of {_code_span(sweep)}",
        f"Made on {today} by `marquee export-paper` (Marquee {version}) from {counted}.",
        *(f"**Note:** {in_markdown(warning)}" for warning in warnings),
        "## Files",
        "\n".join([
            "| file | what it is |", "|---|---|",
            "| `tables/comparison.tex` | the tables for LaTeX (`\\usepackage{booktabs}`), one a block and metric |",
            "| `tables/comparison.csv` | the same numbers, a row for each block, metric and configuration |",
            "| `tables/comparison.md` | the same as text, with protocol, tests and remarks |",
            "| `tables/comparison.json` | everything, in full precision |",
            "| `figures/` | each figure as SVG, PDF and PNG (384 dots to the inch), a column wide; listed below |",
            "| `report.html` | tables and figures as one page, which needs no network |",
            "| `runs/ID/` | of each run: its record, its whole configuration, its curves, its log |",
            "| `commands.txt` | the commands, as they were typed |",
            "| `environment.txt` | interpreter, machine and packages of the runs |",
            "| `SHA256SUMS` | check with `sha256sum -c SHA256SUMS` |",
        ]),
        "The tables are `marquee compare` of these runs. The records name the machine and the folders that the runs "
        "were made on; look through `runs/` before it is published.",
        "## Protocol and seeds",
    ]  # fmt: skip
    for number, block in enumerate(comparison.blocks, start=1):
        lines = [
            f"**Block {number}: {in_markdown(block.title)}.** {in_markdown(block.protocol)}; "
            f"seeds {', '.join(map(str, block.seeds))}."
        ]
        if block.like:
            lines.append(f"Not in one table with block {block.like}: {'; '.join(block.differs)}.")
        lines += [verdict(result) for result in block.metrics]
        lines += [tests_in_words(block)] if block.tests else []
        parts += [lines[0], "\n".join(f"- {in_markdown(line)}" for line in [*lines[1:], *block.notes])]
    parts += ["## Figures", "\n".join(_figure_lines(made, files))]
    parts += [
        "## How to repeat it",
        "Install Marquee and the packages of `environment.txt`, bring the data sets where `marquee train` finds them "
        "(`MARQUEE_DATA`), and repeat any run from its record. The command says \"identical\", or what differs:",
        f"```bash\nmarquee rerun runs/{used[0].id}\n```",
        "The new run lands where the record says (`paths.output`).",
    ]  # fmt: skip
    others = [entry for entry in comparison.left_out if entry.status != "repeated"]
    if comparison.left_out or runless:
        told = [f"- {_code_span(entry.run)}: {entry.status}. {_code_span(entry.message)}".rstrip() for entry in others]
        told += [f"- {_code_span(entry.run)}: repeated, a newer run of the same configuration and seed counts."
                 for entry in comparison.left_out if entry.status == "repeated"]  # fmt: skip
        told += [f"- {_code_span(job.name)}: {job.status}. {_code_span(job.message)}".rstrip() for job in runless]
        parts += ["## Not used", "\n".join(told)]
    return "\n\n".join(parts) + "\n"


def _figure_lines(made: Sequence[Figure], files: set[str]) -> list[str]:
    lines = []
    for figure in made:
        shown = ", ".join(f"`{name}`" for name in figure.stems().values() if f"{name}.svg" in files)
        lines.append(f"- {shown}: {in_markdown(' '.join([figure.caption, *figure.notes]))}")
    return lines


def _code_span(text: str) -> str:
    """Text of a run as it is, on one line: nothing in it is Markdown."""
    flat = one_line(text).replace("`", "'")
    return f"`{flat}`" if flat else ""
