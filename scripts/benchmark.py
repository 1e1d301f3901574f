"""Measure what Marquee promises on speed and memory, and print it beside the targets.

    python scripts/benchmark.py [--quick | --once] [--only NAME] [--json FILE] [--markdown FILE]

A time is judged by its ratio to something that is run beside it on the same machine: training by a loop written by
hand over the same arithmetic, reading by the reader that everybody uses, ranking by a bare `topk`. Medians of runs in
turns; memory and sizes are absolute. One thread unless OMP_NUM_THREADS is set. Data is the published one (MARQUEE_DATA,
or ../shared/data beside the checkout); where that is absent, and with --quick, it is generated, which the name then
says. The whole takes about a quarter of an hour, --quick about two minutes; --once takes one step of each row, to see
that all of them run.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

# Before torch is loaded: by default one thread, because ratios of small steps are steadiest without a second.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


def main() -> int:
    from marquee.runs.threads import set_threads

    set_threads({})
    from benchmarks import (
        games,
        growth,
        language,
        linear_text,
        pictures,
        preparation,
        recommenders,
        records,
        service,
        serving,
        sweeping,
        text_loops,
        training,
        updating,
    )
    from benchmarks.measure import machine
    from benchmarks.workspace import Workspace

    groups = (
        training,
        text_loops,
        pictures,
        recommenders,
        linear_text,
        preparation,
        serving,
        service,
        growth,
        sweeping,
        records,
        language,
        games,
        updating,
    )
    benchmarks = [benchmark for group in groups for benchmark in group.BENCHMARKS]
    arguments = _arguments([benchmark.name for benchmark in benchmarks])
    chosen = [benchmark for benchmark in benchmarks if arguments.only in (None, benchmark.name)]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(machine(), "\n")
    print(f"{'benchmark':<28}{'ours':>9}{'beside':>9}{'ratio':>7}  {'target':<14}{'unit':<16}beside it")
    rows = []
    with tempfile.TemporaryDirectory(prefix="marquee-benchmark-") as folder:
        size = "once" if arguments.once else "quick" if arguments.quick else "full"
        space = Workspace(Path(folder), size)
        for benchmark in chosen:
            measured = benchmark.run(space)
            row = benchmark.row(measured, size)
            rows.append(row)
            print(_line(benchmark.name + "~" * measured.synthetic, row, benchmark.met(row)), flush=True)
    print("\n~ on generated data; size: " + size)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(_markdown(rows, machine()), encoding="utf-8")
    return 0


def _markdown(rows: list[dict], measured_on: str) -> str:
    """The rows as a Markdown table."""
    lines = [measured_on, "", "| benchmark | Marquee | beside it | ratio | target |", "|---|---|---|---|---|"]
    for row in rows:
        beside = "" if row["reference"] is None else f"{row['beside']} {row['reference']:.3g}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        missed = "" if row[row["of"]] <= row["target"] else ", missed"
        target = f"{row['of']} ≤ {row['target']:g}{missed}"
        lines.append(f"| {row['name']} | {row['ours']:.3g} {row['unit']} | {beside} | {ratio} | {target} |")
    return "\n".join(lines) + "\n"


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small generated data, a few seconds each")
    size.add_argument("--once", action="store_true", help="one step of each, to see that it runs")
    parser.add_argument("--only", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write them as a table")
    return parser.parse_args()


def _line(name: str, row: dict, met: bool) -> str:
    reference, ratio = (
        "" if row[key] is None else f"{row[key]:.{digits}f}" for key, digits in (("reference", 3), ("ratio", 2))
    )
    target = f"{row['of']} <= {row['target']:g}"
    return (
        f"{name:<28}{row['ours']:>9.3f}{reference:>9}{ratio:>7}  {target:<14}{row['unit']:<16}"
        f"{row['beside'] or '-'}: {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    sys.exit(main())
