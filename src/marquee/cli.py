"""The verbs of the command line. Nothing heavy is imported until a verb needs it: no torch for help and listings."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from marquee import __version__
from marquee.compare.arguments import PACKAGE, add_compare, add_export_paper
from marquee.errors import ConfigError, MarqueeError

VERBS = {
    "train": "compose, check, train and record an experiment (also sweeps: -m)",
    "check": "report every mistake of a configuration without running it",
    "ls": "list the runs, or the jobs of a sweep",
    "sweeps": "list the sweeps",
    "show": "show one run: metrics, configuration, code, machine",
    "diff": "show what differs between two runs",
    "compare": "compare runs: seeds together, protocols apart, and which differences are significant",
    "export-paper": "write a paper's package of a sweep: tables, figures, page, records, how to repeat it",
    "best": "print the winning configuration as a command, chosen on validation",
    "rerun": "run again from a run's record and say whether the result is identical",
    "recommend": "recommend items with a finished run",
    "predict": "classify texts or images with a finished run",
    "sync": "upload to W&B what was tracked offline",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0, 2 (configuration), 3 (data), 4 (job), 130 (Ctrl-C), 1 for a bug."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except MarqueeError as error:
        if os.environ.get("MARQUEE_DEBUG") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:  # a run that was stopped says how to continue it
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `marquee ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "train":
        from marquee.runs.launch import train

        return train(words[1:])
    if len(words) == 2 and words[0] == "job":  # a frozen job of a sweep, begun by its launcher or a cluster
        from marquee.sweeps.worker import run

        return run(Path(words[1]))
    if words and words[0] in ("-sc", "--shell-completion"):
        from marquee.completion import complete

        return complete(words, VERBS)
    parser = _parser()
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        from marquee.config.targets import closest

        near = closest(words[0], VERBS)
        raise ConfigError(
            f"{words[0]} is no verb of marquee.{f' Did you mean: marquee {near}' if near else ''}\n"
            f"  allowed: {', '.join(VERBS)}"
        )
    parsed = parser.parse_args(words)
    if not hasattr(parsed, "act"):
        parser.print_help()
        return 0
    return parsed.act(parsed) or 0


# The arguments of each verb -----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _described(
        argparse.ArgumentParser(prog="marquee", formatter_class=argparse.RawDescriptionHelpFormatter),
        "Config-driven, reproducible experiments for AI in culture and entertainment.",
        ["marquee train", "marquee train data=imdb model=rnn/lstm trainer.max_epochs=2", "marquee ls",
         "marquee recommend latest --user 1"],
        "RUN is a folder, an id or fingerprint prefix, or latest.\n"
        'Tab completion: eval "$(marquee -sc install=bash)"   (or zsh, fish)',
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"marquee {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")

    def verb(name: str, act: Callable[[argparse.Namespace], int | None] | None, *examples: str, note: str = "") -> Any:
        made = verbs.add_parser(name, help=VERBS[name], formatter_class=argparse.RawDescriptionHelpFormatter)
        made.set_defaults(act=act)
        return _described(made, VERBS[name][0].upper() + VERBS[name][1:] + ".", list(examples), note)

    verb("train", None)  # never parsed here: its words are Hydra's

    check = verb("check", _check, "marquee check data=movielens_100k model=mf/bpr model.dim=128", "marquee check --all")
    check.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for marquee train")
    check.add_argument("--all", action="store_true",
                       help="every data set with every model that fits, every experiment and search space")  # fmt: skip
    check.add_argument("--config-dir", "-cd", metavar="FOLDER", help="a folder of your own YAML, laid out as conf/")

    ls = _runs_option(verb(
        "ls", _ls, "marquee ls", "marquee ls --status failed", "marquee ls imdb-3fa9c1d2", "marquee ls --json",
    ))  # fmt: skip
    ls.add_argument("sweep", nargs="?", metavar="SWEEP", help="a sweep's name or folder: its jobs in order")
    ls.add_argument("-n", "--last", type=_positive, metavar="N", help="only the last N")
    ls.add_argument("--status", choices=["running", "finished", "failed", "interrupted", "pruned", "unreadable"])
    ls.add_argument("--json", action="store_true", help="machine-readable")

    sweeps = _runs_option(verb("sweeps", _sweeps, "marquee sweeps", "marquee sweeps --json"))
    sweeps.add_argument("--json", action="store_true", help="machine-readable")

    show = _runs_option(verb("show", _show, "marquee show latest", "marquee show 3fa9c1d2 --json"))
    show.add_argument("run", metavar="RUN")
    show.add_argument("--json", action="store_true", help="the whole manifest")

    diff = _runs_option(verb("diff", _diff, "marquee diff 3fa9c1d2 latest"))
    diff.add_argument("first", metavar="A", help="a RUN")
    diff.add_argument("second", metavar="B", help="a RUN")
    diff.add_argument("--json", action="store_true", help="machine-readable")

    compare = verb(
        "compare", _compare, "marquee compare outputs", "marquee compare outputs --metric ndcg@10 recall@20 --by model",
        "marquee compare outputs --reference mf/bpr --output table.tex",
        "marquee compare outputs --output report.html --plots figures",
        note="PATH is a sweep (name or folder), an outputs folder (paths.output of the training) or a run's folder.\n"
             "(*) needs the extra report: pip install 'marquee[report]'",
    )  # fmt: skip
    add_compare(compare)

    export = verb(
        "export-paper", _export_paper, "marquee export-paper my-sweep paper", "marquee export-paper outputs paper",
        note=PACKAGE,
    )  # fmt: skip
    add_export_paper(_runs_option(export))

    best = verb(
        "best", _best, "marquee best outputs", "marquee best outputs --metric ndcg@10",
        "marquee best outputs/sweeps/tune --save experiment/tuned",
        note="Chosen by the mean validation metric over seeds, never by the test part.",
    )  # fmt: skip
    best.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="as for marquee compare")
    best.add_argument("--metric", metavar="NAME", help="default: the metric that the runs were watched by")
    best.add_argument("--config-dir", "-cd", metavar="FOLDER", help="that the runs were composed with, as for check")
    best.add_argument("--save", metavar="experiment/NAME", help="keep it as a recipe in the first folder of "
                      "MARQUEE_CONF, else in ./conf: marquee train experiment=NAME")  # fmt: skip

    rerun = _runs_option(verb("rerun", _rerun, "marquee rerun latest"))
    rerun.add_argument("run", metavar="RUN")

    recommend = _runs_option(verb(
        "recommend", _recommend, "marquee recommend latest --user 1",
        'marquee recommend latest --history "Heat (1995)" "Toy Story (1995)" -k 5',
        "marquee recommend 3fa9c1d2 --like favourites.txt --output recommended.csv",
        note="Items that the user has seen are left out.",
    ))  # fmt: skip
    recommend.add_argument("run", metavar="RUN")
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", nargs="+", metavar="ID", help="one or more users of the training data")
    who.add_argument("--history", nargs="+", metavar="ITEM", help="titles or ids that somebody liked, oldest first")
    who.add_argument("--like", type=Path, metavar="FILE", help="a text file with one title or id a line, oldest first")
    who.add_argument("--all-users", action="store_true", help="every user of the training data")
    recommend.add_argument("-k", type=_positive, default=10, help="how many items for each (default 10)")
    recommend.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")

    predict = _runs_option(verb(
        "predict", _predict, 'marquee predict latest --text "a slow start, but the last act is wonderful"',
        "marquee predict 3fa9c1d2 --image poster.jpg",
        "marquee predict latest --input reviews.csv --output labels.parquet",
    ))  # fmt: skip
    predict.add_argument("run", metavar="RUN")
    what = predict.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", nargs="+", metavar="TEXT", help="one or more texts")
    what.add_argument("--image", nargs="+", type=Path, metavar="FILE", help="one or more image files")
    what.add_argument(
        "--input", type=Path, metavar="FILE", help="a .csv, .tsv, .jsonl or .parquet with a column text or image"
    )
    predict.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")

    sync = _runs_option(verb(
        "sync", _sync, "marquee sync", "marquee sync latest", "marquee sync my-sweep --timeout 600",
        note="Log in first: wandb login. Runs keep their group, so those of a sweep stay together.",
    ))  # fmt: skip
    sync.add_argument("names", nargs="*", metavar="RUN|SWEEP", help="default: every run")
    sync.add_argument("--timeout", type=_positive, default=300, metavar="SECONDS",
                      help="for one run (default 300); the first that takes longer ends the whole")  # fmt: skip
    return parser


def _described(parser: Any, text: str, examples: list[str], note: str = "") -> Any:
    parser.description = text
    parser.epilog = "\n".join(["examples:", *(f"  {example}" for example in examples), *(["", note] if note else [])])
    return parser


def _runs_option(parser: Any) -> Any:
    default = Path(os.environ.get("MARQUEE_OUTPUT", "outputs"))
    parser.add_argument("--runs", type=Path, default=default, metavar="FOLDER",
                        help=f"where runs land, paths.output of the training (default {default})")  # fmt: skip
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer >= 1")
    return int(text)


# The verbs -----------------------------------------------------------------------------------------------------------


def _check(parsed: argparse.Namespace) -> int:
    from marquee.config.check import check, check_all
    from marquee.config.compose import compose
    from marquee.runs.launch import add_config_folder, resumed
    from marquee.runs.threads import set_threads
    from marquee.search.space import check_spaces

    add_config_folder(parsed.config_dir)
    if not parsed.all:
        composed = compose(parsed.overrides)
        if composed.config.get("resume"):
            composed, _ = resumed(composed)
        set_threads(composed.config)
        check(composed)
        chosen = "  ".join(f"{group}={composed.choices[group]}" for group in ("data", "split", "task", "model"))
        print(f"The configuration is sound: {chosen}")
        return 0
    if parsed.overrides:
        raise ConfigError("marquee check --all checks what ships; leave the overrides out, or leave --all out.")
    set_threads({})
    results = check_all() + check_spaces()
    wrong = [(words, problems) for words, problems in results if problems]
    for words, problems in wrong:
        print(f"marquee train {words}\n", file=sys.stderr)
        print("\n\n".join(map(str, problems)) + "\n", file=sys.stderr)
    print(f"{len(results)} configurations checked, {len(wrong)} with problems")
    return ConfigError.exit_code if wrong else 0


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
    from marquee.runs.listing import show_run
    from marquee.runs.manifest import find_run

    show_run(find_run(parsed.run, parsed.runs), parsed.json)


def _diff(parsed: argparse.Namespace) -> None:
    from marquee.runs.listing import diff_runs
    from marquee.runs.manifest import find_run

    diff_runs(find_run(parsed.first, parsed.runs), find_run(parsed.second, parsed.runs), parsed.json)


def _compare(parsed: argparse.Namespace) -> None:
    from marquee.compare.cli import compare

    compare(parsed)


def _export_paper(parsed: argparse.Namespace) -> None:
    from marquee.compare.cli import export_paper

    export_paper(parsed)


def _best(parsed: argparse.Namespace) -> None:
    from marquee.compare.best import print_best
    from marquee.runs.launch import add_config_folder

    add_config_folder(parsed.config_dir)
    print_best(parsed.paths, parsed.metric, parsed.save)


def _rerun(parsed: argparse.Namespace) -> int:
    from marquee.runs.manifest import find_run, read_manifest
    from marquee.runs.threads import set_threads

    folder = find_run(parsed.run, parsed.runs)
    before = read_manifest(folder)
    # As many threads as the run had, which in a sweep were its share: they decide the last digits of a sum.
    if threads := (before.get("environment") or {}).get("threads"):
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    set_threads(before.get("config") or {})
    from marquee.runs.rerun import rerun

    return _code(rerun(folder))


def _recommend(parsed: argparse.Namespace) -> int:
    _locate(parsed)
    from marquee.apply.cli import recommend

    return _code(recommend(parsed))


def _predict(parsed: argparse.Namespace) -> int:
    _locate(parsed)
    from marquee.apply.cli import predict

    return _code(predict(parsed))


def _sync(parsed: argparse.Namespace) -> None:
    from marquee.tracking.sync import sync

    sync(parsed.names, parsed.runs, parsed.timeout)


def _locate(parsed: argparse.Namespace) -> None:
    """Add `folder`, the run's folder, to the arguments, and set the threads before torch is loaded."""
    from marquee.runs.manifest import find_run
    from marquee.runs.threads import set_threads

    parsed.folder = find_run(parsed.run, parsed.runs)
    set_threads({})


def _code(result: Any) -> int:
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


if __name__ == "__main__":
    sys.exit(main())
