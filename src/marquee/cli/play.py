"""The verbs for games: `play` against a finished run, or runs against each other; `advise` on a position."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from marquee.cli.arguments import Verb, positive, runs_option
from marquee.cli.use import check_output, give
from marquee.errors import ConfigError

if TYPE_CHECKING:
    from marquee.inference.player import GamePlayer


def add_verbs(verb: Verb) -> None:
    parser = runs_option(verb(
        "play", _play, "marquee play latest", "marquee play 3fa9c1d2 --second --seed 7",
        "marquee play --league 3fa9c1d2 77aa01bc 0c4e2f19 -n 400 --output league.csv",
        note="In a game, type a move, undo, hint or quit. A league plays every run against every other, each start\n"
             "twice with seats exchanged; intervals are Wilson's, 95 %, draws count as halves.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN", nargs="+", help="one to play against, or with --league several")
    parser.add_argument("--second", action="store_true", help="let the run begin")
    parser.add_argument("--league", action="store_true", help="the runs play against each other")
    parser.add_argument("-n", type=positive, default=None, help="league: games of each pair (default 200)")
    parser.add_argument("--opening", type=_natural, default=None, metavar="N",
                        help="league: moves at random first (default 2 on boards, 0 with cards)")  # fmt: skip
    parser.add_argument("--seed", type=_natural, default=0, help="of cards and of moves that are drawn (default 0)")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="league: write the table of pairs as .csv, .parquet or .json")  # fmt: skip

    parser = runs_option(verb(
        "advise", _advise, "marquee advise latest --position 4453", "marquee advise latest --position Q1:cr",
        'marquee advise 3fa9c1d2 --position "" --output moves.json',
        note="A position is what was played: columns (Connect Four) or squares (tic-tac-toe) from 1; your card and\n"
             "the moves (poker: Kpb, Q1:cr/K2:c); the number of a state (maps).\n"
             "truth: 1 wins, 0 draws, -1 loses, for who moves; it is there where the game is solved.",
    ))  # fmt: skip
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--position", required=True, metavar="MOVES", help='what was played so far; "" for the start')
    parser.add_argument("--output", type=Path, metavar="FILE", help="write .csv, .parquet or .json, print nothing")


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not an integer >= 0")
    return int(text)


def _advise(parsed: argparse.Namespace) -> None:
    check_output(parsed.output)
    player = _player(parsed.run, parsed.runs)
    table = player.advise(parsed.position)
    if parsed.output is None:
        if drawn := player.drawn(parsed.position):
            print(drawn)
        if "truth" not in table:
            print("not solved: the truth of these moves is not known")
    give(table, parsed.output)


def _play(parsed: argparse.Namespace) -> None:
    if parsed.league:
        _league(parsed)
        return
    for name, value in (("-n", parsed.n), ("--opening", parsed.opening), ("--output", parsed.output)):
        if value is not None:
            raise ConfigError(f"{name} is for a league.\n  fix: marquee play --league RUN RUN {name} {value}")
    if len(parsed.run) > 1:
        raise ConfigError(
            f"play takes one run; {len(parsed.run)} were given.\n  fix: marquee play --league {' '.join(parsed.run)}"
        )
    player = _player(parsed.run[0], parsed.runs)
    from marquee.apply.playing import Left, Seat, play

    try:
        print(play(player, Seat(_typed, print), not parsed.second, parsed.seed))
    except Left:
        print("The game was left.")
    except KeyboardInterrupt:
        raise KeyboardInterrupt("\nThe game was left.") from None


def _typed(prompt: str) -> str:
    """A line of the input, shown where it is no terminal, so that a transcript can be read."""
    import sys

    line = input(prompt)
    if not sys.stdin.isatty():
        print(line)
    return line


def _league(parsed: argparse.Namespace) -> None:
    check_output(parsed.output)
    if len(set(parsed.run)) < 2:
        raise ConfigError("A league needs at least two runs.\n  fix: marquee play --league RUN RUN")
    players = {}
    for name in dict.fromkeys(parsed.run):
        player = _player(name, parsed.runs)
        players[player.run] = player
    if len(players) < 2:
        raise ConfigError(f"A league needs two runs or more; {', '.join(parsed.run)} are one: {next(iter(players))}.")
    if parsed.second:
        raise ConfigError("--second is for a game with a person; in a league each run has both seats.")
    from marquee.apply.playing import league

    boards = not next(iter(players.values())).mixes
    opening = parsed.opening if parsed.opening is not None else 2 * boards
    pairs, runs = league(players, parsed.n or 200, parsed.seed, opening)
    give(pairs, parsed.output)
    if parsed.output is None:
        print()
        give(runs, None)


def _player(run: str, runs: Path) -> "GamePlayer":
    """The player of a run. Raises ConfigError where the run does something else."""
    from marquee.runs.finding import find_run
    from marquee.runs.threads import set_threads

    folder = find_run(run, runs)
    set_threads({})
    from marquee.apply.predictor import load
    from marquee.inference.player import GamePlayer

    player = load(folder)
    if not isinstance(player, GamePlayer):
        raise ConfigError(
            f"{folder.name} {player.does}, and this verb is for runs that play games. Use {player.verb}, on the "
            f"command line: marquee {player.verb} {run} {player.example}"
        )
    player.run = folder.name
    return player
