"""A comparison as text: terminal, Markdown, LaTeX, CSV, JSON."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from marquee.compare.escaping import in_csv, in_latex, in_markdown, latex_row, one_line
from marquee.compare.results import MEASURED_COSTS, Comparison, PairedTest
from marquee.compare.statistics import ALPHA, RESAMPLES
from marquee.compare.tables import sections, tests_in_words
from marquee.runs.terminal import folded, table

SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json", ".html": "html", ".htm": "html"}


def show(comparison: Comparison) -> None:
    """Print tables: drawn at a terminal and wrapped to its width, plain elsewhere."""
    for number, section in enumerate(sections(comparison)):
        print(("\n" if number else "") + folded(section.title))
        _print_lines(section.before)
        for sheet in section.sheets:
            print("\n" + folded(sheet.title) if sheet.title else "")
            table(sheet.columns, sheet.rows, numbers=not sheet.text)
        print()
        _print_lines(section.after)


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        print(folded(line))


def written(comparison: Comparison, form: str) -> str:
    """The text of a format: md, latex, csv or json. (The page, html, needs the runs, too: see report/page.py.)"""
    return {"md": markdown, "latex": latex, "csv": comma_separated, "json": as_json}[form](comparison)


def markdown(comparison: Comparison) -> str:
    """Headings, tables with the winner in bold, and paragraphs."""
    parts = []
    for section in sections(comparison, wide=True):
        parts += [f"### {in_markdown(section.title)}", *map(in_markdown, section.before)]
        for sheet in section.sheets:
            parts += [f"**{in_markdown(sheet.title)}**"] if sheet.title else []
            rule = ["---" if sheet.text or index == 0 else "---:" for index in range(len(sheet.columns))]
            rows = [[_bold(cell, "**{}**", in_markdown) for cell in row] for row in sheet.rows]
            lines = [list(map(in_markdown, sheet.columns)), rule, *rows]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts += map(in_markdown, section.after)
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """One `table` for each table (\\usepackage{booktabs}), everything else as comments."""
    parts = []
    for section in sections(comparison, wide=True):
        parts.append("\n".join(f"% {one_line(line)}" for line in [section.title, *section.before, *section.after]))
        for sheet in section.sheets:
            if sheet.text:
                parts.append("\n".join("% " + one_line("  ".join(row)) for row in sheet.rows))
                continue
            head = latex_row(list(map(in_latex, sheet.columns)))
            rows = [latex_row([_bold(cell, r"\textbf{{{}}}", in_latex) for cell in row]) for row in sheet.rows]
            caption = ": ".join(filter(None, [section.title, sheet.title]))
            parts.append("\n".join([
                r"\begin{table}", r"\centering", rf"\caption{{{in_latex(caption)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}", r"\toprule", head, r"\midrule", *rows,
                r"\bottomrule", r"\end{tabular}", r"\end{table}",
            ]))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _bold(cell: str, form: str, escape: Any) -> str:
    bold = (getattr(cell, "colour", None) or "").startswith("bold")
    return form.format(escape(cell)) if bold else escape(cell)


def comma_separated(comparison: Comparison) -> str:
    """A row for each block, metric and configuration, baseline or oracle."""
    rows = []
    for number, block in enumerate(comparison.blocks, start=1):
        configurations = {row.label: row for row in block.configurations}
        for result in block.metrics:
            for score in result.scores:
                row = configurations[score.label] if score.kind == "model" else None
                low, high = score.interval or (None, None)
                rows.append({
                    "block": number, "data": block.data, "split": block.split, "metric": result.metric,
                    "label": score.label, "kind": score.kind, "model": row and row.model,
                    "settings": row and json.dumps(row.differing), "seeds": row and " ".join(map(str, row.seeds)),
                    "split_seeds": row and " ".join(map(str, row.draws)), "n": row and len(score.values),
                    "mean": score.mean, "sd": score.sd, "low": low, "high": high,
                    "interval_over": score.interval_over, "best": score.label == result.best and row is not None,
                    "winner": score.label == result.winner and row is not None,
                    **_test_columns("best", score.against_best),
                    **_test_columns("reference", score.against_reference),
                    "parameters": row and row.parameters, "fit_seconds": row and row.fit_seconds,
                    "best_epoch": row and row.best_epoch,
                    **{name: row and getattr(row, name) for name in MEASURED_COSTS},
                    "pareto": score.pareto, "protocol": block.protocol,
                })  # fmt: skip
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else ["block"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: in_csv(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _test_columns(name: str, test: PairedTest | None) -> dict[str, Any]:
    keys = ("against", "difference", "p", "p_corrected", "significant", "effect", "better", "worse")
    low, high = test.interval if test else (None, None)
    return {
        **{f"{name}_{key}": getattr(test, key) if test else None for key in keys},
        f"{name}_low": low,
        f"{name}_high": high,
    }


def as_json(comparison: Comparison) -> str:
    """The records as they are, with the tests in words."""
    content = asdict(comparison)
    for block, result in zip(content["blocks"], comparison.blocks, strict=True):
        block["tests_in_words"] = tests_in_words(result) if result.tests else None
    return json.dumps({"alpha": ALPHA, "resamples": RESAMPLES, **content}, indent=2, ensure_ascii=False) + "\n"
