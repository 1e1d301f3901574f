"""Write docs/results.md: finished sweeps side by side, each with its command, machine, CPU minutes and comparison.

    python scripts/results.py SWEEP [SWEEP ...] [--output docs/results.md]

SWEEP is a folder such as outputs/sweeps/models_100k. Everything on the page is read from the records of the sweeps and
the manifests of their runs; the tables are those of `marquee compare`. Sections of other sweeps that the page has
already are kept, so that a page can grow. What others published stands in references.yaml beside this script.
"""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marquee.sweeps.store import Sweep

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCES = Path(__file__).with_name("references.yaml")
HEAD = """# Results

Made by `scripts/results.py` from finished sweeps; nothing here is typed. Each command makes its table again: what is
finished is not run twice. Baselines stand in every table, the protocol below it. Settings not named are the defaults,
chosen on validation parts; the test part was looked at once a run.
"""


def commands(sweep: "Sweep") -> list[str]:
    """What makes all jobs of a sweep and no others: a command for those that name the same keys and are a grid."""
    groups: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    for job in sweep.jobs:
        words = [word.partition("=") for word in job.overrides]
        words = [word for word in words if not word[0].startswith(("paths.", "tracker", "threads"))]
        keys, values = tuple(key + sign for key, sign, _ in words), tuple(value for *_, value in words)
        groups.setdefault(keys, {})[values] = None
    return [
        shlex.join(["marquee", "train", "-m", *(key + ",".join(own) for key, own in zip(keys, grid, strict=True))])
        for keys, jobs in groups.items()
        for grid in _grids(list(jobs))
    ]


def _grids(jobs: list[tuple[str, ...]]) -> Iterator[list[list[str]]]:
    """The values of each key, in their order; several times where not each goes with each."""
    values = [list(dict.fromkeys(column)) for column in zip(*jobs, strict=True)]
    if math.prod(len(own) for own in values) == len(jobs):
        yield values
        return
    place = next(place for place, own in enumerate(values) if len(own) > 1)
    for value in values[place]:
        yield from _grids([job for job in jobs if job[place] == value])


def section(folder: Path) -> str:
    """A sweep's heading, command, cost and comparison, Markdown."""
    from marquee.compare.analysis import compare
    from marquee.compare.collect import collect
    from marquee.compare.formats import written
    from marquee.sweeps.store import Sweep

    sweep = Sweep.open(folder)
    runs = [run for block in collect([folder])[0] for group in block.groups for run in group.runs]
    spent = [run.manifest["cost"].get("fit_cpu_s") for run in runs]
    machines = sorted({(run.manifest.get("environment") or {}).get("cpu") or "not recorded" for run in runs})
    seeds = sorted({run.manifest["seed"] for run in runs})
    cost = f"{sum(second for second in spent if second) / 60:.0f} CPU minutes of training"
    if None in spent:
        cost += f", without {spent.count(None)} runs that were resumed"
    published = [f"- published: {line}" for line in references().get(sweep.name, [])]
    told = f"{len(runs)} runs, seeds {', '.join(map(str, seeds))}, {cost}, on {' and '.join(machines)}."
    return "\n".join([
        f"## {sweep.name}", "", "```bash", *commands(sweep), f"marquee compare outputs/sweeps/{sweep.name}", "```", "",
        told, "", *published, *([""] if published else []), written(compare([folder]), "md").strip(), "",
    ])  # fmt: skip


def references() -> dict[str, list[str]]:
    """What others have published, by the name of the sweep."""
    import yaml

    return yaml.safe_load(REFERENCES.read_text(encoding="utf-8"))


def sections(page: Path) -> dict[str, str]:
    """The sections that a page has, by their headings."""
    if not page.is_file():
        return {}
    parts = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.M)
    return {part.partition("\n")[0].removeprefix("## "): part for part in parts if part.startswith("## ")}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "results.md", metavar="FILE")
    arguments = parser.parse_args(words)
    from marquee.errors import MarqueeError
    from marquee.files import write_text

    try:
        made = {Path(folder).name: section(folder) for folder in arguments.sweeps}
    except MarqueeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    whole = sections(arguments.output) | made
    write_text(arguments.output, "\n".join([HEAD, *(text.rstrip("\n") + "\n" for text in whole.values())]))
    print(f"wrote {shlex.quote(str(arguments.output))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
