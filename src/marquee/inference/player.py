"""Play games with a finished run, and ask it for advice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from marquee.data.games.board_data import Truth
from marquee.data.games.boards import Board, BoardState
from marquee.data.games.dataset import FACTS, TABLES
from marquee.data.games.environment import Environment, States
from marquee.data.games.grids import PlaceState, Process
from marquee.data.games.notation import draw_board, read_board, read_place, read_state
from marquee.data.games.playing import strategy
from marquee.data.games.solving import TooLarge, keys_of, solve
from marquee.data.games.spec import BoardSpec, CardSpec
from marquee.data.games.tree import TreeGame, tree_of
from marquee.inference.predictor import Predictor

SOLVABLE = 30_000_000  # ways to put stones behind the position that is asked for; a few seconds


class GamePlayer(Predictor):
    """A trained policy with the rules of its game.

    environment  the rules
    actions      the names of the moves
    mixes        whether the game hides something, so that moves are drawn
    run          the name of the run, where whoever loads it has said so
    """

    does, verb, example = "plays games", "advise", "--position 1"

    run: str = ""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.content = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        self.game: str = self.content["game"]
        tables = load_file(folder / TABLES)
        self.mixes = isinstance(self.spec, CardSpec)
        self.environment: Environment
        if isinstance(self.spec, BoardSpec):
            self.environment = self.spec.rules()
            self.actions = [str(move + 1) for move in range(self.spec.n_actions)]
            self._table = Truth(self.environment, tables["keys"], tables["moves"]) if tables else None
        else:
            self.actions = self.content["actions"]
            whole = self.mixes
            self.environment = TreeGame(tree_of(tables)) if whole else Process(tables, self.content["longest"])
            self.example = f"--position {self.content['states'][0] if whole else 0}"

    def golden(self) -> list[dict[str, Any]]:
        """The position that `example` names."""
        return [{"position": self.example.partition(" ")[2]}]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        logits = self.logits(self.read(question["position"]))[0]
        return {"probability": logits.double().softmax(dim=0).tolist()}

    @torch.inference_mode()
    def logits(self, states: States) -> Tensor:
        """What the policy thinks of each move, [batch, n_actions]."""
        return self.model(states)

    def read(self, position: str) -> States:
        """A position as it is typed: moves so far, an information set, or a number. Raises ConfigError."""
        if isinstance(self.environment, Board):
            return self.environment.see(read_board(self.environment, position)[0])
        if isinstance(self.environment, TreeGame):
            return self.environment.infosets(torch.tensor([read_state(self.content["states"], position)]))
        going = self.environment.reached()
        return self.environment.see(PlaceState(torch.tensor([read_place(len(going), going, position)])))

    def advise(self, position: str) -> pd.DataFrame:
        """A row a legal move, the best first.

        move, probability  what it is called, and the policy's confidence in it
        value              what the policy expects of it; NaN, or no column, where it does not know
        truth, best        its exact value, and whether no other has a higher one, where the game is solved

        Raises ConfigError for a position that there is not, or where the game is over.
        """
        states = self.read(position)
        logits = self.logits(states)
        legal = states.legal[0].nonzero()[:, 0]
        table = pd.DataFrame({"move": [self.actions[action] for action in legal.tolist()]})
        table["probability"] = logits.float().softmax(dim=1)[0, legal].double().numpy()
        with torch.inference_mode():
            values = self.model.values(states)
        if values is not None:
            table["value"] = values[0, legal].double().numpy()
        if (truth := self.truth(states)) is not None:
            table["truth"] = truth[legal].double().numpy()
            table["best"] = (truth[legal] >= truth[legal].max() - 1e-6).numpy()
        table["_logit"] = logits[0, legal].double().numpy()
        return table.sort_values("_logit", ascending=False, kind="stable").drop(columns="_logit").reset_index(drop=True)

    def drawn(self, position: str) -> str | None:
        """The position as a picture of plain characters, where the game has a board."""
        if not isinstance(self.environment, Board):
            return None
        (own, everything), _ = read_board(self.environment, position)
        return draw_board(self.environment, int(own), int(everything))

    def truth(self, states: States) -> Tensor | None:
        """The exact value of each move of one position, [n_actions], or None where it is not known.

        Of a board that is not too large from there on, it is worked out; hidden cards have no such value.
        """
        if isinstance(self.environment, Board):
            own, everything = states.state
            table = self._table or self._solved(own, everything)
            return None if table is None else table.values(BoardState(own, everything))[0]
        if isinstance(self.environment, Process):
            if not hasattr(self, "_values"):
                self._values = self.environment.iterated(self.content["discount"])
            return self._values[states.index[0]]
        return None

    def _solved(self, own: Tensor, everything: Tensor) -> Truth | None:
        board: Any = self.environment
        try:
            found = solve(board, keys_of(board, own, everything).numpy(), SOLVABLE)
        except TooLarge:
            return None
        return Truth(board, torch.from_numpy(found["keys"]), torch.from_numpy(found["moves"]))

    def odds(self, states: States) -> Tensor:
        """How probable each move is, [batch, n_actions], as the run was judged."""
        return strategy(self.logits(states), self.mixes)
