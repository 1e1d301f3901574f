"""The page: one file with tables, figures and the libraries that draw them; it never asks a network for anything."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import vl_convert

from marquee import __version__
from marquee.compare.report.evidence import Evidence
from marquee.compare.report.figures import figures
from marquee.compare.report.names import metric_title
from marquee.compare.report.rows import Link, run_lines, settings, table
from marquee.compare.results import BlockResult, Comparison
from marquee.compare.tables import tests_in_words, verdict
from marquee.plots.figure import Figure
from marquee.runs.listing import local

HERE = Path(__file__).parent


def page(
    comparison: Comparison,
    evidence: Evidence,
    names: Sequence[str],
    folder: Path | None = None,
    made: Sequence[Figure] | None = None,
) -> str:
    """The page as HTML.

    names   what was compared, as it was typed
    folder  where the page will lie, for its links
    made    its figures, where they were made before

    Names and messages of runs are foreign text: Jinja escapes them, and the data cannot leave its script element.
    """
    made = figures(comparison, evidence) if made is None else made
    link = Link(folder)
    scripts = [_library(), (HERE / "page.js").read_text(encoding="utf-8")]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.globals.update(metric_title=metric_title, verdict=verdict)
    runs = evidence.compared(comparison)
    newest = max((str(run.manifest.get("started") or "") for run in runs), default="")
    return environment.get_template("page.html.j2").render(
        names=list(names),
        runs=len(runs),
        seeds=sorted({run.manifest["seed"] for run in runs if run.manifest.get("seed") is not None}),
        newest=local(newest)[:16],
        version=__version__,
        blocks=[_block(number, block, evidence, link, made) for number, block in enumerate(comparison.blocks, start=1)],
        ranks=comparison.ranks,
        rank_notes=comparison.rank_notes,
        ranks_figure=next(((place, figure) for place, figure in enumerate(made) if figure.block is None), None),
        left_out=_left_out(comparison, evidence, link),
        repeated=[entry.run for entry in comparison.left_out if entry.status == "repeated"],
        data=_embedded(made),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
    )


def _block(number: int, block: BlockResult, evidence: Evidence, link: Link, made: Sequence[Figure]) -> dict[str, Any]:
    return {
        "number": number,
        "result": block,
        "tables": [(result, table(block, result)) for result in block.metrics],
        "tests": tests_in_words(block) if block.tests else None,
        "figures": [(place, figure) for place, figure in enumerate(made) if figure.block == number],
        "settings": settings(block),
        "runs": run_lines(block, evidence, link),
    }


def _left_out(comparison: Comparison, evidence: Evidence, link: Link) -> list[dict[str, Any]]:
    """Failed, interrupted and unreadable runs with their whole message."""
    found = []
    for entry in comparison.left_out:
        if entry.status == "repeated":
            continue
        run = evidence.runs.get(entry.run)
        error = run.manifest.get("error") if run else None
        message = error.get("message") if isinstance(error, dict) else error
        folder = run.folder if run else None
        found.append({"run": entry.run, "status": entry.status, "message": str(message or entry.message),
                      "link": link.to(folder), "log": link.to(folder and folder / "log.txt")})  # fmt: skip
    found += [{"run": job.name, "status": job.status, "message": job.message, "link": None, "log": link.to(job.log)}
              for job in evidence.runless]  # fmt: skip
    return found


def _embedded(made: Sequence[Figure]) -> str:
    """Specifications and data, each once, as JSON that neither ends its script element nor opens another."""
    content = {
        "figures": [list(figure.variants.values()) for figure in made],
        "data": {name: rows for figure in made for name, rows in figure.rows.items()},
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 is escaped, too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed; in a function, for its short names would be everyone's."""
    bundle = vl_convert.javascript_bundle()
    return "(function () {" + bundle.replace("</script", "<\\/script") + "\n})();"


def _hash(script: str) -> str:
    """What the page's content security policy calls a script, so that no other is ever run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
