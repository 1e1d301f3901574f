"""Measure what Marquee promises on speed and memory, and print it beside the targets.

    python scripts/benchmark.py [--quick] [--only NAME] [--json FILE]

Training is compared with a plain PyTorch loop over the same arithmetic in the same process: ratio = ours / reference,
medians of alternated runs. Everything else has an absolute target. One thread unless OMP_NUM_THREADS is set. Data is
the published one (MARQUEE_DATA, or ../shared/data beside the checkout); where that is absent, and with --quick, it is
generated, which the name then says. The whole takes about a quarter of an hour, --quick about two minutes.
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
    from benchmarks import preparation, records, serving, sweeping, training
    from benchmarks.measure import machine
    from benchmarks.workspace import Workspace

    groups = (training, preparation, serving, sweeping, records)
    benchmarks = [benchmark for group in groups for benchmark in group.BENCHMARKS]
    arguments = _arguments([benchmark.name for benchmark in benchmarks])
    chosen = [benchmark for benchmark in benchmarks if arguments.only in (None, benchmark.name)]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(machine(), "\n")
    print(f"{'benchmark':<46}{'ours':>9}{'reference':>11}{'ratio':>8}  {'target':<16}{'unit':<20}{'threads':>7}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="marquee-benchmark-") as folder:
        space = Workspace(Path(folder), arguments.quick)
        for benchmark in chosen:
            row = benchmark.row(benchmark.run(space), arguments.quick)
            rows.append(row)
            print(_line(row, benchmark.met(row)), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small generated data, a few seconds each")
    parser.add_argument("--only", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    return parser.parse_args()


def _line(row: dict, met: bool) -> str:
    reference, ratio = (
        "" if row[key] is None else f"{row[key]:.{digits}f}" for key, digits in (("reference", 3), ("ratio", 2))
    )
    return (
        f"{row['name']:<46}{row['ours']:>9.3f}{reference:>11}{ratio:>8}  {row['target']:<16}{row['unit']:<20}"
        f"{row['threads']:>7}  {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    sys.exit(main())
