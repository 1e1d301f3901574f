"""The verbs that look: `ls`, `sweeps`, `show`, `diff`."""

import argparse

from marquee.cli.arguments import Verb, positive, runs_option


def add_verbs(verb: Verb) -> None:
    ls = runs_option(verb(
        "ls", _ls, "marquee ls", "marquee ls --status failed", "marquee ls imdb-3fa9c1d2", "marquee ls --json",
    ))  # fmt: skip
    ls.add_argument("sweep", nargs="?", metavar="SWEEP", help="a sweep's name or folder: its jobs in order")
    ls.add_argument("-n", "--last", type=positive, metavar="N", help="only the last N")
    ls.add_argument("--status", choices=["running", "finished", "failed", "interrupted", "pruned", "unreadable"])
    ls.add_argument("--json", action="store_true", help="machine-readable")

    sweeps = runs_option(verb("sweeps", _sweeps, "marquee sweeps", "marquee sweeps --json"))
    sweeps.add_argument("--json", action="store_true", help="machine-readable")

    show = runs_option(verb("show", _show, "marquee show latest", "marquee show 3fa9c1d2 --json"))
    show.add_argument("run", metavar="RUN")
    show.add_argument("--json", action="store_true", help="the whole manifest")

    diff = runs_option(verb("diff", _diff, "marquee diff 3fa9c1d2 latest"))
    diff.add_argument("first", metavar="A", help="a RUN")
    diff.add_argument("second", metavar="B", help="a RUN")
    diff.add_argument("--json", action="store_true", help="machine-readable")


def _ls(parsed: argparse.Namespace) -> None:
    if parsed.sweep:
        from marquee.sweeps.listing import list_jobs
        from marquee.sweeps.store import find_sweep

        return list_jobs(find_sweep(parsed.sweep, parsed.runs), parsed.json, parsed.status, parsed.last)
    from marquee.runs.listing import list_runs

    list_runs(parsed.runs, parsed.last, parsed.status, parsed.json)


def _sweeps(parsed: argparse.Namespace) -> None:
    from marquee.sweeps.listing import list_sweeps

    list_sweeps(parsed.runs, parsed.json)


def _show(parsed: argparse.Namespace) -> None:
    from marquee.runs.finding import find_run
    from marquee.runs.listing import show_run

    show_run(find_run(parsed.run, parsed.runs), parsed.json)


def _diff(parsed: argparse.Namespace) -> None:
    from marquee.runs.finding import find_run
    from marquee.runs.listing import diff_runs

    diff_runs(find_run(parsed.first, parsed.runs), find_run(parsed.second, parsed.runs), parsed.json)
