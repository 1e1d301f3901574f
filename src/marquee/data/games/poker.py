"""Kuhn and Leduc poker, whose trees OpenSpiel walks once (extra `games`)."""

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.data.dataset import Paths
from marquee.data.games.dataset import Positions, WholeGame, WholeGameData, needs
from marquee.data.games.spec import CardSpec
from marquee.data.games.tree import CHANCE, OVER, Tree, TreeGame, tree_of


class Poker(WholeGameData):
    """A game of OpenSpiel's for two, small enough to be a table. After `setup` also `tree`."""

    spec_type = CardSpec
    tree: Tree

    def setup(self, split: WholeGame, paths: Paths) -> None:
        tables = self.prepared(paths, {}, lambda: enumerate_tree(self.name))
        self.names = bytes(tables.pop("names").tolist()).decode().split("\n")
        self.tables = tables
        self.tree = tree_of(tables)
        self.environment = TreeGame(self.tree)
        n, features = self.tree.seen.shape
        self.spec = CardSpec((features,), self.tree.n_actions, 2, n)
        self.all_states(np.arange(n))
        self.facts = {"states": self.names, "actions": ACTIONS[self.name]}
        self.report = {"nodes": len(self.tree.player), "information sets": n}

    def positions(self, rows: np.ndarray) -> Positions:
        index = torch.from_numpy(rows)
        return Positions(self.environment.infosets(index), None, index)


class KuhnPoker(Poker):
    """Three cards, one bet (Kuhn 1950): 12 information sets; the first player loses 1/18 between perfect players."""

    name = "kuhn_poker"


class LeducPoker(Poker):
    """Six cards, two rounds, one card for all (Southey et al. 2005): 936 information sets."""

    name = "leduc_poker"


CARDS = ("J1", "J2", "Q1", "Q2", "K1", "K2")
ACTIONS = {"kuhn_poker": ["pass", "bet"], "leduc_poker": ["fold", "call", "raise"]}


def enumerate_tree(name: str) -> dict[str, Tensor]:
    """The tables of a game of OpenSpiel's, `names` as bytes. Raises ConfigError where OpenSpiel is not installed."""
    try:
        import pyspiel
    except ImportError:
        raise needs("OpenSpiel", name, "open_spiel") from None
    game = pyspiel.load_game(name)
    n_actions, width = game.num_distinct_actions(), max(game.num_distinct_actions(), game.max_chance_outcomes())
    numbers: dict[str, int] = {}
    nodes: list[dict[str, Any]] = []
    infosets: list[dict[str, Any]] = []
    level = [(game.new_initial_state(), -1, 0)]
    while level:
        below = []
        for state, parent, slot in level:
            number = len(nodes)
            if parent >= 0:
                nodes[parent]["children"][slot] = number
            node = {"children": [-1] * width, "chance": [0.0] * width, "payoffs": [0.0, 0.0], "infoset": -1}
            node["depth"] = nodes[parent]["depth"] + 1 if parent >= 0 else 0
            nodes.append(node)
            if state.is_terminal():
                node |= {"player": OVER, "payoffs": state.returns()}
                continue
            if state.is_chance_node():
                node["player"] = CHANCE
                for slot, (outcome, probability) in enumerate(state.chance_outcomes()):
                    node["chance"][slot] = probability
                    below.append((state.child(outcome), number, slot))
                continue
            node["player"] = state.current_player()
            text = state.information_state_string()
            if text not in numbers:
                numbers[text] = len(infosets)
                legal = state.legal_actions_mask()
                infosets.append({"legal": legal, "owner": node["player"], "seen": state.information_state_tensor()})
            node["infoset"] = numbers[text]
            below += [(state.child(action), number, action) for action in state.legal_actions()]
        level = below
    whole = {"player": torch.int64, "infoset": torch.int64, "children": torch.int64, "depth": torch.int64}
    tables = {key: torch.tensor([node[key] for node in nodes], dtype=kind) for key, kind in whole.items()}
    tables |= {key: torch.tensor([node[key] for node in nodes], dtype=torch.float64) for key in ("chance", "payoffs")}
    tables["legal"] = torch.tensor([found["legal"] for found in infosets]).bool()[:, :n_actions]
    tables["owner"] = torch.tensor([found["owner"] for found in infosets])
    tables["seen"] = torch.tensor([found["seen"] for found in infosets], dtype=torch.float32)
    names = "\n".join(short(name, text) for text in numbers)
    tables["names"] = torch.tensor(list(names.encode()), dtype=torch.uint8)
    return tables


def short(name: str, text: str) -> str:
    """An information set as people would write it: Kuhn `Qpb` (card, passes and bets), Leduc `Q1:cr/K2:c`."""
    if name == "kuhn_poker":
        return "JQK"[int(text[0])] + text[1:]
    card, first, second = (
        re.search(pattern, text) for pattern in (r"Private: (\d)", r"Round1\]?: ([\d ]*)", r"Round2\]?: ([\d ]*)")
    )
    told = f"{CARDS[int(card[1])]}:{_moves(first[1])}"
    public = re.search(r"Public: (\d)", text)
    return f"{told}/{CARDS[int(public[1])]}:{_moves(second[1])}" if public else told


def _moves(numbers: str) -> str:
    return "".join("fcr"[int(number)] for number in numbers.split())
