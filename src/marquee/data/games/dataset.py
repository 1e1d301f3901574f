"""Games as data sets: the rules, and what is known for certain about every state."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from marquee.data.cache import cached
from marquee.data.dataset import DataSet, Part, Paths, Split
from marquee.data.games.environment import Environment, States
from marquee.data.games.spec import GameSpec
from marquee.errors import ConfigError

FACTS, TABLES = "game.json", "game.safetensors"
VERSION = 1  # raised when the code below prepares the same game differently


class Positions(NamedTuple):
    """States to be judged.

    states  what a policy sees
    truth   float32 [batch, n_actions], the value of each move for who makes it; -inf where illegal. None where the
            value of a move depends on what the others do
    rows    int64 [batch], their numbers
    """

    states: States
    truth: Tensor | None
    rows: Tensor


class Choices(NamedTuple):
    """Positions to learn from: observations [batch, ...]; values of moves [batch, n_actions], -inf where illegal."""

    observations: Tensor
    truth: Tensor


class WholeGame(Split):
    """Nothing is held out: what is learnt is one game, and every state of it is judged."""


class GameData(DataSet):
    """Base of the games. After `setup`:

    environment  the rules, over batches of games
    parts        row numbers of the states of train, validation and test
    facts        what a predictor needs besides `tables`, as JSON values
    tables       likewise, tensors by name
    """

    spec_type = GameSpec
    split_type = Split

    name: str
    environment: Environment
    parts: dict[Part, np.ndarray]
    facts: dict[str, Any]
    tables: dict[str, Tensor]

    @abstractmethod
    def positions(self, rows: np.ndarray) -> Positions:
        """The states with these numbers."""

    def prepared(self, paths: Paths, key: dict[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` returns, from the cache where it stands there."""
        key = {"game": self.name, "version": VERSION, **key}
        folder = cached(paths, self.name, key, lambda folder: save_file(make(), folder / TABLES))
        self.fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return load_file(folder / TABLES)

    def save_inference(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / FACTS).write_text(json.dumps({"game": self.name, **self.facts}, indent=1), encoding="utf-8")
        save_file({name: table.contiguous() for name, table in self.tables.items()}, folder / TABLES)


class WholeGameData(GameData):
    """A game whose states are all trained on and all judged."""

    split_type = WholeGame

    def all_states(self, rows: np.ndarray) -> None:
        """Set the parts: `rows`, three times."""
        self.parts = {"train": rows, "validation": rows, "test": rows}
        content = json.dumps({"protocol": "whole_game", "states": rows.tolist()})
        self.split_fingerprint = hashlib.sha256(content.encode()).hexdigest()


def needs(package: str, data: str, install: str) -> ConfigError:
    """What to say where a game's library is missing."""
    return ConfigError(
        f"data={data} takes the game from {package}, which is not installed. Install it with: pip install {install}\n"
        "  (or all libraries of games: pip install 'marquee[games]')"
    )


def as_truth(moves: np.ndarray, illegal: float) -> Tensor:
    """Values of moves as float32, -inf where they are marked as illegal."""
    values = torch.from_numpy(moves.astype(np.float32))
    return values.masked_fill_(values == illegal, -float("inf"))
