"""Write docs/results.md: finished sweeps side by side, each with its command, machine, CPU minutes and comparison.

    python scripts/results.py SWEEP [SWEEP ...] [--metric NAME ...] [--output docs/results.md]

SWEEP is a folder such as outputs/sweeps/models_100k. Everything on the page is read from the records of the sweeps and
the manifests of their runs; the tables are those of `marquee compare`. Sections of other sweeps that the page has
already are kept, so that a page can grow, and so is the one that replicate.py writes. What others published stands in
references.yaml beside this script.
"""

import argparse
import math
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marquee.sweeps.store import Sweep

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCES = Path(__file__).with_name("references.yaml")
HEAD = """# Results

Made by `scripts/results.py`, and the replications by `scripts/replicate.py`, from finished sweeps; nothing here is
typed. Each command makes its table again: what is finished is not run twice. Baselines stand in every table, the
protocol below it. Settings not named are the defaults, chosen on validation parts; the test part was looked at once a
run.
"""


def commands(sweep: "Sweep") -> list[str]:
    """What makes the jobs again: a command for those that set the same keys, with the values in their order.

    A set of jobs that is not the whole grid of its values has a command a job.
    """
    where = ("paths.", "tracker", "threads", "plots")
    alike: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for job in sweep.jobs:
        pairs = (word.partition("=")[::2] for word in job.overrides)
        own = {key: value for key, value in pairs if not key.startswith(where)}
        alike.setdefault(tuple(own), []).append(own)
    grids = []
    for keys, jobs in alike.items():
        values = {key: dict.fromkeys(job[key] for job in jobs) for key in keys}
        whole = math.prod(map(len, values.values())) == len(jobs)
        grids += [{key: ",".join(found) for key, found in values.items()}] if whole else jobs
    return [
        shlex.join(["marquee", "train", "-m", *(f"{key}={value}" for key, value in grid.items())]) for grid in grids
    ]


def section(folder: Path, metrics: Sequence[str] = ()) -> str:
    """A sweep's heading, command, cost and comparison by `metrics` (none: the one it was watched by), Markdown."""
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
    shown = " ".join([f"marquee compare outputs/sweeps/{sweep.name}", *(f"--metric {name}" for name in metrics)])
    published = [f"- published: {line}" for line in references().get(sweep.name, [])]
    told = f"{len(runs)} runs, seeds {', '.join(map(str, seeds))}, {cost}, on {' and '.join(machines)}."
    return "\n".join([
        f"## {sweep.name}", "", "```bash", *commands(sweep), shown, "```", "",
        told, "", *published, *([""] if published else []), written(compare([folder], metrics), "md").strip(), "",
    ])  # fmt: skip


def references() -> dict[str, list[str]]:
    """What others have published, by the name of the sweep."""
    import yaml

    return yaml.safe_load(REFERENCES.read_text(encoding="utf-8"))


def sections(page: Path) -> dict[str, str]:
    """The sections that a page has, by their headings. Raises ConfigError where it is no text."""
    from marquee.errors import ConfigError

    if not page.is_file():
        return {}
    try:
        parts = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.M)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{page} is no text in UTF-8 ({error}). Name another with --output FILE.") from error
    return {part.partition("\n")[0].removeprefix("## ").strip(): part for part in parts if part.startswith("## ")}


def put_sections(page: Path, head: str, made: dict[str, str], first: bool = False) -> None:
    """Write a page: its head, and its sections with those in `made` in the places of the ones of their headings.

    first  they stand before all others

    Raises ConfigError where it cannot be written.
    """
    from marquee.errors import ConfigError
    from marquee.files import write_text

    before = sections(page)
    whole = made | before | made if first else before | made
    try:
        write_text(page, "\n".join([head, *(text.rstrip("\n") + "\n" for text in whole.values())]))
    except OSError as error:
        raise ConfigError(f"{page} cannot be written: {error.strerror}. Name another with --output FILE.") from error
    print(f"wrote {shlex.quote(str(page))}")


def write(
    words: list[str] | None, doc: str, page: str, head: str, make: Callable[..., tuple[str, str]], metrics: bool = False
) -> int:
    """The command of a page in docs/ that grows by a section a sweep; `make` gives its heading and its text.

    metrics  whether it may be told of which, and `make` takes their names, too
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path, nargs="+", metavar="SWEEP")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs" / page, metavar="FILE")
    if metrics:
        parser.add_argument("--metric", nargs="+", action="extend", default=[], metavar="NAME",
                            help="a table of each, instead of the metric that the runs were watched by")  # fmt: skip
    arguments = parser.parse_args(words)
    more = [arguments.metric] if metrics else []
    from marquee.errors import MarqueeError

    try:
        made = dict(make(folder, *more) for folder in arguments.sweeps)
        put_sections(arguments.output, head, made)
    except MarqueeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def main(words: list[str] | None = None) -> int:
    return write(words, __doc__, "results.md", HEAD, lambda folder, names: (folder.name, section(folder, names)), True)


if __name__ == "__main__":
    sys.exit(main())
