"""The verbs that talk: `chat` guides through a catalogue, `reply` chooses among replies."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.cli.use import check_output, give, lines, locate
from marquee.errors import ConfigError, JobError

if TYPE_CHECKING:
    from marquee.inference.conversation import Turn


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "chat", _chat, "marquee chat requests --recommender latest",
        'marquee chat requests --recommender latest --say "i loved Heat (1995)" "not that one" "why"',
        "marquee chat requests --recommender latest --replay talk.json",
        note="RUN reads what is wanted: marquee train data=world_requests (data.language=zh: in Chinese, of sights).\n"
             "Facts in a reply come from the catalogue; --claims shows each with its row. A line with quit ends it.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a run of data=world_requests")
    parser.add_argument("--recommender", metavar="RUN", help="a run that recommends; its items are talked about")
    parser.add_argument("--catalogue", type=Path, metavar="FILE",
                        help="a .csv or .json with a row an item: title, genres, ... (also CrossWOZ's)")  # fmt: skip
    parser.add_argument("--moderator", metavar="RUN", help="a run of data=hate_speech: what it finds is not taken up")
    parser.add_argument("--claims", action="store_true", help="show below each reply where its facts stand")
    parser.add_argument("--transcript", type=Path, metavar="FILE", help="write the whole conversation as JSON")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--say", nargs="+", metavar="TEXT", help="these messages, one after the other, and no prompt")
    how.add_argument("--replay", type=Path, metavar="FILE", help="say whether a transcript comes out identical")

    parser = runs_option(verb(
        "reply", _reply, 'marquee reply latest --to "have you seen it?" --candidates "yes, twice" "on monday"',
        'marquee reply latest --to "what did you think?" --from replies.txt -k 3 --output best.csv',
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--to", nargs="+", metavar="TEXT", required=True, help="what was said, oldest turn first")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--candidates", nargs="+", metavar="TEXT", help="the replies to choose from")
    what.add_argument("--from", dest="file", type=Path, metavar="FILE", help="a text file with a reply a line")
    parser.add_argument("-k", type=positive, default=5, help="how many (default 5)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")


def _chat(parsed: argparse.Namespace) -> int | None:
    if parsed.transcript is not None and not parsed.transcript.parent.is_dir():
        raise ConfigError(f"--transcript {parsed.transcript}: there is no folder {parsed.transcript.parent}.")
    if parsed.transcript is not None and parsed.transcript.is_dir():
        raise ConfigError(f"--transcript {parsed.transcript}: that is a folder; name a file in it.")
    if parsed.replay is not None and (parsed.transcript is not None or parsed.claims):
        raise ConfigError("--replay compares with what is written in its file; leave --transcript and --claims out.")
    locate(parsed)
    from marquee.apply.guide import differences, open_guide, read_transcript, write_transcript

    content = read_transcript(parsed.replay) if parsed.replay else None
    guide, known = open_guide(parsed.run, parsed.recommender, parsed.catalogue, parsed.moderator, parsed.runs)
    if content is not None:
        if found := differences(guide, known, content):
            raise JobError("\n".join([f"{parsed.replay} does not come out again:", *found]))
        print(f"identical: {len(content['turns'])} turns")
        return None
    turns: list[Turn] = []
    try:
        for message in parsed.say or _typed():
            turns.append(guide.answer(message))
            _print(turns[-1], parsed.claims, said=bool(parsed.say))
    finally:  # also of a conversation that was broken off
        if parsed.transcript is not None and turns:
            write_transcript(parsed.transcript, known, turns)
    return None


def _typed():
    """The lines that a person types, or that are piped in, until the end or `quit`."""
    person = sys.stdin.isatty()
    while True:
        if person:
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line or line.strip().casefold() in ("quit", "exit"):
            return
        yield line.rstrip("\n")


def _print(turn: "Turn", claims: bool, said: bool) -> None:
    from marquee.runs.terminal import printable

    if said:
        print(printable(f"> {turn.said}"))
    print(printable(turn.reply))
    for claim in turn.claims if claims else ():
        print(printable(f"  [{claim.row}] {claim.title}: {claim.column} = {claim.value}"))


def _reply(parsed: argparse.Namespace) -> None:
    check_output(parsed.output)
    locate(parsed)
    from marquee.apply.predictor import load
    from marquee.inference.responder import ResponsePredictor

    predictor = load(parsed.folder)
    if not isinstance(predictor, ResponsePredictor):
        raise ConfigError(
            f"This run {predictor.does}; it cannot reply. Use {predictor.verb}, on the command line: "
            f"marquee {predictor.verb} RUN {predictor.example}"
        )
    candidates = parsed.candidates or lines(parsed.file, "--from takes a text file with a reply a line")
    give(predictor.respond(parsed.to, candidates).head(parsed.k), parsed.output)
