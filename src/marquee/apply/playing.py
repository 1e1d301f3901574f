"""A game between a person and a finished run, line by line; and runs against each other."""

from collections.abc import Callable, Sequence
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from marquee.data.games.boards import Board
from marquee.data.games.environment import Environment, States
from marquee.data.games.notation import SIDES, draw_board, result, state_of
from marquee.data.games.playing import play_out
from marquee.data.games.streams import choose, stream, uniforms
from marquee.data.games.tree import CHANCE, OVER, TreeGame
from marquee.errors import ConfigError
from marquee.inference.player import GamePlayer
from marquee.metrics.playing import wilson

QUIT = ("quit", "q", "exit")


class Left(Exception):
    """The person has left the game."""


class Seat:
    """Who sits at the terminal: reads a move, says what is wrong with it.

    ask   gives one line that the person typed, raises EOFError at the end of the input
    tell  prints one line
    """

    def __init__(self, ask: Callable[[str], str], tell: Callable[[str], None]):
        self.ask, self.tell = ask, tell

    def move(self, player: GamePlayer, legal: Sequence[int], words: Sequence[str]) -> int | str:
        """The number of a legal move, or one of `words`. Raises Left where the person quits or the input ends."""
        names = {player.actions[action].lower(): action for action in legal}
        while True:
            try:
                typed = self.ask("your move: ").strip().lower()
            except EOFError:
                raise Left from None
            if typed in QUIT:
                raise Left
            if typed in words:
                return typed
            near = [action for name, action in names.items() if name == typed] or [
                action for name, action in names.items() if typed and name.startswith(typed) and not name.isdigit()
            ]
            if len(near) == 1:
                return near[0]
            self.tell(f"{typed!r} is no move here. Moves: {', '.join(names)}; also: {', '.join([*words, 'quit'])}")


def play(player: GamePlayer, seat: Seat, person_begins: bool, seed: int) -> str:
    """One game; returns how it ended, in words. Raises Left, and ConfigError where nobody plays against anybody."""
    if isinstance(player.environment, Board):
        return _play_board(player, player.environment, seat, person_begins, seed)
    if isinstance(player.environment, TreeGame):
        return _play_cards(player, player.environment, seat, person_begins, seed)
    raise ConfigError(
        f"{player.game} is a game for one, so there is nobody to play against. Ask the run what it would do:\n"
        "  marquee advise RUN --position 0"
    )


def _play_board(player: GamePlayer, board: Board, seat: Seat, person_begins: bool, seed: int) -> str:
    side = SIDES[0 if person_begins else 1]
    what = "a column" if board.drops else "a square"
    seat.tell(f"You are {side}. A move is {what}, 1 to {board.n_actions}; also: undo, hint, quit.")
    played: list[int] = []
    key = stream(seed, "play")
    while True:
        own, everything = board.played(played)
        person = (len(played) % 2 == 0) == person_begins
        if person or result(board, own, everything):
            seat.tell(draw_board(board, own, everything))
        if (ended := result(board, own, everything)) is not None:
            return f"You ({side}): {ended}." if ended == "a draw" else f"{ended} - {_verdict(ended[0] == side)}."
        states = board.see(state_of(own, everything))
        if not person:
            action = _answer(player, states, key, len(played))
            seat.tell(f"{player.game} run plays {player.actions[action]}")
            played.append(action)
            continue
        move = seat.move(player, states.legal[0].nonzero()[:, 0].tolist(), ("undo", "hint"))
        if move == "undo":
            back = 2 if len(played) >= 2 else 0
            seat.tell("There is no move of yours to take back." if not back else "Your last move is taken back.")
            played = played[: len(played) - back]
        elif move == "hint":
            best = player.advise(",".join(str(action + 1) for action in played)).iloc[0]
            seat.tell(f"The run would play {best['move']} (probability {best['probability']:.2f}).")
        else:
            played.append(int(move))


def _verdict(won: bool) -> str:
    return "you win" if won else "you lose"


def _play_cards(player: GamePlayer, game: TreeGame, seat: Seat, person_begins: bool, seed: int) -> str:
    own = 0 if person_begins else 1
    names, tree, key = player.content["states"], game.tree, stream(seed, "play")
    seat.tell(f"You move {'first' if person_begins else 'second'}. Moves: {', '.join(player.actions)}; also: quit.")
    seat.tell(
        "A line shows your card and the moves so far" + (", then the card for all." if "leduc" in player.game else ".")
    )
    state, number, last = game.start(1, uniforms(key, torch.zeros(1, dtype=torch.int64), 0, game.draws)), 0, ["", ""]
    while int(tree.player[state.node]) not in (OVER, CHANCE):
        mover, states = int(tree.player[state.node]), game.see(state)
        last[mover] = names[int(states.index)]
        number += 1
        if mover == own:
            seat.tell(last[mover])
            action = int(seat.move(player, states.legal[0].nonzero()[:, 0].tolist(), ()))
        else:
            action = _answer(player, states, key, number)
            seat.tell(f"{player.game} run: {player.actions[action]}")
        drawn = uniforms(key, torch.ones(1, dtype=torch.int64), number, game.draws)
        state, rewards, _ = game.step(state, torch.tensor([action]), drawn)
    won = float(rewards[0, own])
    shown = f" The run had {last[1 - own].split(':')[0].rstrip('pb')}." if last[1 - own] else ""
    return f"You {'win' if won > 0 else 'lose' if won < 0 else 'get'} {abs(won):g}.{shown}"


def _answer(player: GamePlayer, states: States, key: int, number: int) -> int:
    """The move of a run, with a random number of its own where moves are drawn or tie."""
    drawn = uniforms(key, torch.full((1,), 2, dtype=torch.int64), number, 1)
    return int(choose(player.odds(states), drawn[:, 0]))


# Runs against each other ---------------------------------------------------------------------------------------------


def league(players: dict[str, GamePlayer], n: int, seed: int, opening: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every run against every other: a table of pairs, and one of runs, the best first.

    n        games of a pair, rounded up to an even number: each start is played twice, with seats exchanged
    opening  moves at random that begin a game, the same in both of its turns

    A score is the share of games won, draws as halves, with Wilson's 95 % interval; `mean` is the mean result, which in
    games for stakes is the one that counts. Raises ConfigError for runs of different games.
    """
    kinds = {name: _rules(player) for name, player in players.items()}
    if len(set(kinds.values())) > 1:
        told = "; ".join(f"{name}: {' '.join(map(str, kind))}" for name, kind in kinds.items())
        raise ConfigError(f"A league needs runs of one game, and these are of several: {told}.")
    pairs, totals = [], {name: [0.0, 0, 0.0] for name in players}
    environment = next(iter(players.values())).environment
    if environment.players != 2:
        raise ConfigError(
            f"{kinds[next(iter(kinds))][0]} is a game for one: marquee compare sets such runs side by side."
        )
    for number, (one, other) in enumerate(combinations(players, 2)):
        results = _match(environment, players[one], players[other], -(-n // 2), stream(seed, "league", number), opening)
        won, lost, mean = int((results > 0).sum()), int((results < 0).sum()), float(results.double().mean())
        drawn = len(results) - won - lost
        low, high = wilson(won + drawn / 2, len(results))
        pairs.append(
            {
                "run": one, "against": other, "won": won, "drawn": drawn, "lost": lost,
                "score": (won + drawn / 2) / len(results), "low": low, "high": high, "mean": mean,
            }
        )  # fmt: skip
        for name, points, result_of in ((one, won + drawn / 2, mean), (other, lost + drawn / 2, -mean)):
            totals[name][0] += points
            totals[name][1] += len(results)
            totals[name][2] += result_of * len(results)
    whole = []
    for name, (points, games, earned) in totals.items():
        low, high = wilson(points, games)
        whole.append(
            {"run": name, "games": games, "score": points / games, "low": low, "high": high, "mean": earned / games}
        )
    by = "mean" if next(iter(players.values())).mixes else "score"
    table = pd.DataFrame(whole).sort_values(by, ascending=False, kind="stable").reset_index(drop=True)
    return pd.DataFrame(pairs), table


def _match(environment: Environment, one: GamePlayer, other: GamePlayer, half: int, key: int, opening: int) -> Tensor:
    """The results of the first run, [2 * half]."""
    seats = [(_seat(one), _seat(other)), (_seat(other), _seat(one))]
    mixes = one.mixes
    played = [play_out(environment, pair, half, key, mixes, opening)[:, number] for number, pair in enumerate(seats)]
    return torch.cat(played)


def _seat(player: GamePlayer) -> Callable[[States], Tensor]:
    """A run as a player of others' games: it looks at the position with its own eyes (`data.threats` may differ)."""
    return lambda states: player.logits(player.environment.see(states.state))


def _rules(player: GamePlayer) -> tuple:
    """What two runs must agree in to be playing one game."""
    environment = player.environment
    if isinstance(environment, Board):
        return player.game, environment.width, environment.height, environment.connect
    return player.game, player.spec.n_states
