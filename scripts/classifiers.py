"""Write docs/classifiers.md: what each text and image model reaches, and at what cost, data set by data set.

    python scripts/classifiers.py SWEEP [SWEEP ...] [--output docs/classifiers.md]

Each SWEEP gets a table of its own, a row a model, from the manifests of its finished runs: the mean over seeds or folds
of the watched metric, the 95 % interval over test examples of a single run, what training took and what an answer
takes. Tables of other data sets that the page has already are kept. Papers stand in the first line of a model's YAML.
"""

import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from models import mean, told
from results import write

if TYPE_CHECKING:
    from marquee.runs.record import Run

HEAD = """# The classifiers

Made by `scripts/classifiers.py` from the manifests of finished runs; nothing here is typed. The interval is that of one
run over its test examples; `ms` is the time of a single answer, `ms of many` that of one among up to 256 asked for at
once, both with text or picture as a person gives it; CPU seconds are those of training and validation.
"""
COLUMNS = "model", "paper", "metric", "95 % interval", "parameters", "MB to ship", "ms", "ms of many", "CPU s to train"


def paper(name: str) -> str:
    """What the first line of a model's YAML names: its paper and year."""
    from marquee.config.folders import file_of_option

    said = file_of_option("model", name).read_text(encoding="utf-8").splitlines()[0]
    found = re.match(r"# ([^:(]*\([^)]*\d{4}[^)]*\))", said)
    return found[1].strip() if found else ""


def table(folder: Path) -> tuple[str, str]:
    """The heading of a sweep's section, and its tables: one for each way of measuring, a row a configuration."""
    from marquee.compare.collect import collect

    blocks, _ = collect([folder])
    data = blocks[0].groups[0].runs[0].manifest["data"]["name"]
    lines = [f"## {data}: {folder.name}", ""]
    for block in blocks:
        lines += _rows({group.label: group.runs for group in block.groups})
    return lines[0].removeprefix("## "), "\n".join(lines) + "\n"


def _rows(sweep: "dict[str, list[Run]]") -> list[str]:
    """A table, with the words that say how was measured above it."""
    first = next(iter(sweep.values()))[0].manifest
    metric, baselines = first["monitor"], first["baselines"]
    columns = [metric if column == "metric" else column for column in COLUMNS]
    rows = sorted(((mean(of, f"test/{metric}"), name, of) for name, of in sweep.items()), reverse=True)
    lines = [*told(sweep, metric), "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for score, label, of in rows:
        model = of[0].manifest["model"]
        differing = label.removeprefix(model).strip()
        named = f"`{model}`" + (f" {differing}" if differing else "")
        lines.append("| " + " | ".join([named, paper(model), score, *_costs(of, metric)]) + " |")
    lines += [f"| {name} |  | {values[metric]:.4f} |" + "  |" * (len(columns) - 3)
              for name, values in baselines.items() if metric in values]  # fmt: skip
    return [*lines, "", *_by_class(rows[0][1], rows[0][2])]


def _by_class(label: str, runs: "list[Run]") -> list[str]:
    """The F1 of each class, and the rates of both errors, of the first row; of two classes the table says enough."""
    of = {name: mean(runs, f"test/{name}") for name in
          (key.removeprefix("test/") for key in runs[0].manifest["metrics"] if key.startswith("test/f1["))}  # fmt: skip
    if not of:
        return []
    told = [f"{name.removeprefix('f1[').removesuffix(']')} {value}" for name, value in of.items()]
    rates = [f"{rate.replace('_', ' ')} {value}" for rate in ("false_positive_rate", "false_negative_rate")
             if (value := mean(runs, f"test/{rate}"))]  # fmt: skip
    return [f"F1 of each class, {label}: {', '.join(told)}.{' ' if rates else ''}{', '.join(rates)}".rstrip(), ""]


def _costs(runs: "list[Run]", metric: str) -> list[str]:
    manifest = runs[0].manifest
    ends = (manifest.get("intervals") or {}).get(f"test/{metric}")
    interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends and len(runs) == 1 else ""
    parameters = manifest.get("parameters")
    return [interval, f"{parameters:,}" if parameters else "", _median(runs, "size_mb"), _median(runs, "latency_ms"),
            _median(runs, "batch_latency_ms"), _median(runs, "fit_cpu_s")]  # fmt: skip


def _median(runs: "list[Run]", cost: str) -> str:
    values: list[Any] = [value for run in runs if (value := (run.manifest.get("cost") or {}).get(cost)) is not None]
    return f"{statistics.median(values):.3g}" if values else ""


def main(words: list[str] | None = None) -> int:
    return write(words, __doc__, "classifiers.md", HEAD, table)


if __name__ == "__main__":
    sys.exit(main())
