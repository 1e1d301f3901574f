"""The command line: its verbs, and what a command ends with. Nothing heavy is imported until a verb needs it."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from marquee import __version__
from marquee.cli import chat, compare, generate, keywords, listing, play, serve, train, update, use
from marquee.errors import ConfigError, MarqueeError
from marquee.runs.terminal import printable

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
    "update": "make a child of a finished run that knows what has happened since",
    "forget": "make a child of a finished run that never knew some users",
    "generate": "make new texts, tunes or pictures with a finished run, and verify what was made",
    "keywords": "show the terms that tell a run's classes apart, or that stand out in a text",
    "chat": "be guided through a catalogue: a run reads what you want, another recommends, each fact has its row",
    "reply": "choose the reply that answers best, with a finished run",
    "play": "play a game against a finished run, or let runs play each other",
    "advise": "say what a finished run would do in a position of its game",
    "serve": "answer over HTTP with a finished run, and show a page to try it",
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
        print(printable(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:  # a run that was stopped says how to continue it
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `marquee ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "train":
        return train.train(words[1:])
    if len(words) == 2 and words[0] == "job":
        return train.frozen_job(Path(words[1]))
    if words and words[0] in ("-sc", "--shell-completion"):
        from marquee.cli.completion import complete

        return complete(words, VERBS)
    parser = frame()
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


def frame() -> argparse.ArgumentParser:
    """The frame; each family of verbs fills in the arguments and the acts of its own."""
    parser = argparse.ArgumentParser(prog="marquee", formatter_class=argparse.RawDescriptionHelpFormatter)
    _describe(
        parser, "Config-driven, reproducible experiments for AI in culture and entertainment.",
        ["marquee train", "marquee train data=imdb model=rnn/lstm trainer.max_epochs=2", "marquee ls",
         "marquee recommend latest --user 1"],
        "RUN is a folder, an id or fingerprint prefix, the label that name=... gave, or latest.\n"
        'Tab completion: eval "$(marquee -sc install=bash)"   (or zsh, fish)',
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"marquee {__version__}")
    group = parser.add_subparsers(metavar="VERB", title="verbs")
    parsers = {
        name: group.add_parser(name, help=told, formatter_class=argparse.RawDescriptionHelpFormatter)
        for name, told in VERBS.items()
    }

    def verb(
        name: str, act: Callable[[argparse.Namespace], int | None] | None, *examples: str, note: str = ""
    ) -> argparse.ArgumentParser:
        parsers[name].set_defaults(act=act)
        _describe(parsers[name], f"{VERBS[name][0].upper()}{VERBS[name][1:]}.", examples, note)
        return parsers[name]

    for family in (train, listing, compare, use, update, generate, keywords, chat, play, serve):
        family.add_verbs(verb)
    return parser


def _describe(parser: argparse.ArgumentParser, text: str, examples: Sequence[str], note: str) -> None:
    parser.description = text
    parser.epilog = "\n".join(["examples:", *(f"  {example}" for example in examples), *(["", note] if note else [])])


if __name__ == "__main__":
    sys.exit(main())
