"""A game with hidden cards as flat tables, one row a node; reach, values and best responses level by level.

No loop runs over nodes or information sets, only over the depths of the tree.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from marquee.data.games.environment import Environment, States, Step
from marquee.data.games.streams import choose

CHANCE, OVER = -1, -2


@dataclass(frozen=True)
class Tree:
    """Nodes are numbered from the root, 0, to the leaves, parents first.

    player    int64 [nodes], who has to move, CHANCE or OVER
    infoset   int64 [nodes], what the mover knows; -1 where nobody moves
    children  int64 [nodes, width], by action or outcome of chance; -1 where there is none
    chance    float64 [nodes, width], the probability of each outcome; 0 at decisions
    payoffs   float64 [nodes, players], 0 where the game goes on
    depth     int64 [nodes]
    legal     bool [infosets, n_actions]
    owner     int64 [infosets], who moves there
    seen      float32 [infosets, features], what a network reads
    """

    player: Tensor
    infoset: Tensor
    children: Tensor
    chance: Tensor
    payoffs: Tensor
    depth: Tensor
    legal: Tensor
    owner: Tensor
    seen: Tensor

    @property
    def n_actions(self) -> int:
        return self.legal.shape[1]

    @cached_property
    def levels(self) -> list[tuple[Tensor, Tensor]]:
        """By depth from the root: the nodes where the game goes on, and their children with 0 for none."""
        inner = self.player != OVER
        found = []
        for depth in range(int(self.depth.max()) + 1):
            nodes = ((self.depth == depth) & inner).nonzero()[:, 0]
            if len(nodes):
                found.append((nodes, self.children[nodes].clamp(min=0)))
        return found

    def odds(self, strategy: Tensor) -> Tensor:
        """The probability of each child, float64 [nodes, width], where all play `strategy` [infosets, n_actions]."""
        found = self.chance.clone()
        deciding = self.player >= 0
        chosen = strategy.double()[self.infoset[deciding]]
        found[deciding] = torch.nn.functional.pad(chosen, (0, found.shape[1] - chosen.shape[1]))
        return found.masked_fill(self.children < 0, 0)

    def reach(self, odds: Tensor) -> Tensor:
        """The part of each player, and of chance behind them, in a node's probability: float64 [nodes, 3]."""
        found = torch.ones(len(self.player), 3, dtype=torch.float64)
        for nodes, children in self.levels:
            whose = torch.nn.functional.one_hot(self.player[nodes] % 3, 3).bool()  # chance (-1) is the third
            parts = torch.where(whose[:, None], odds[nodes][..., None], 1.0) * found[nodes][:, None]
            there = self.children[nodes] >= 0
            found[children[there]] = parts[there]
        return found

    def values(self, odds: Tensor) -> Tensor:
        """What each player can expect in each node, float64 [nodes, players]."""
        found = self.payoffs.clone()
        for nodes, children in reversed(self.levels):
            found[nodes] = (odds[nodes][..., None] * found[children]).sum(1)
        return found

    def arriving(self, strategy: Tensor) -> Tensor:
        """How probable chance and the other make each information set, float64 [infosets]."""
        nodes, _, others = self._deciding(self.reach(self.odds(strategy)))
        found = torch.zeros(len(self.legal), dtype=torch.float64)
        return found.index_add_(0, self.infoset[nodes], others)

    def coming(self, strategy: Tensor) -> Tensor:
        """How probable the mover's own moves make each information set, float64 [infosets]."""
        reach = self.reach(self.odds(strategy))
        nodes, mover, _ = self._deciding(reach)
        found = torch.zeros(len(self.legal), dtype=torch.float64)
        found[self.infoset[nodes]] = reach[nodes].gather(1, mover[:, None])[:, 0]  # one for all nodes: perfect recall
        return found

    def _deciding(self, reach: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nodes where somebody decides, who does, and what chance and the other contribute to getting there."""
        nodes = (self.player >= 0).nonzero()[:, 0]
        mover = self.player[nodes]
        return nodes, mover, reach[nodes].gather(1, 1 - mover[:, None])[:, 0] * reach[nodes, 2]

    def gains(self, strategy: Tensor) -> Tensor:
        """Counterfactual values of each move, float64 [infosets, n_actions]: weighted with chance and the other."""
        odds = self.odds(strategy)
        values = self.values(odds)
        nodes, mover, others = self._deciding(self.reach(odds))
        after = self.children[nodes][:, : self.n_actions].clamp(min=0)
        worth = values[after].gather(2, mover[:, None, None].expand(-1, after.shape[1], 1))[..., 0]
        found = torch.zeros(self.legal.shape, dtype=torch.float64)
        found.index_add_(0, self.infoset[nodes], worth * others[:, None])
        return found.masked_fill(~self.legal, 0)

    def best_response(self, strategy: Tensor, player: int) -> float:
        """What `player` can expect at most against `strategy`, knowing it."""
        odds = self.odds(strategy)
        reach = self.reach(odds)
        others = reach[:, 1 - player] * reach[:, 2]
        found = self.payoffs[:, player].clone()
        for nodes, children in reversed(self.levels):
            values = odds[nodes] * found[children]
            own = self.player[nodes] == player
            mine, after = nodes[own], children[own][:, : self.n_actions]
            # All nodes of an information set have one depth, so that its best move is known here.
            sums = torch.zeros(self.legal.shape, dtype=torch.float64)
            sums.index_add_(0, self.infoset[mine], found[after] * others[mine][:, None])
            best = sums.masked_fill(~self.legal, -float("inf")).argmax(1)
            found[nodes] = values.sum(1)
            found[mine] = found[after].gather(1, best[self.infoset[mine]][:, None])[:, 0]
        return float(found[0])

    def nash_conv(self, strategy: Tensor) -> float:
        """What both players together would gain by best responses (Lanctot et al. 2017): 0 in an equilibrium."""
        worth = self.values(self.odds(strategy))[0]
        return sum(self.best_response(strategy, player) - float(worth[player]) for player in range(2))

    @property
    def uniform(self) -> Tensor:
        """The strategy that knows nothing but the rules."""
        legal = self.legal.double()
        return legal / legal.sum(1, keepdim=True)


class NodeState(NamedTuple):
    """node: int64 [batch]."""

    node: Tensor


class TreeGame(Environment):
    """The rules of a game that stands in a `Tree`."""

    players = 2

    def __init__(self, tree: Tree):
        self.tree = tree
        self.n_actions = tree.n_actions
        deals = (tree.player == CHANCE).long()
        self.longest = int(tree.depth.max())
        self.draws = int(min(3, deals.sum()))

    def start(self, n: int, drawn: Tensor | None = None) -> NodeState:
        return NodeState(self._dealt(torch.zeros(n, dtype=torch.int64), drawn))

    def step(self, state: NodeState, actions: Tensor, drawn: Tensor | None = None) -> Step:
        tree = self.tree
        node = self._dealt(tree.children[state.node, actions], drawn)
        return Step(NodeState(node), tree.payoffs[node].float(), tree.player[node] == OVER)

    def _dealt(self, node: Tensor, drawn: Tensor | None) -> Tensor:
        """After chance has had its turns."""
        for i in range(self.draws):
            chance = self.tree.player[node] == CHANCE
            if not bool(chance.any()):
                break
            outcome = choose(self.tree.chance[node], drawn[:, i])
            node = torch.where(chance, self.tree.children[node, outcome], node)
        return node

    def mover(self, state: NodeState) -> Tensor:
        return self.tree.player[state.node]

    def see(self, state: NodeState) -> States:
        return self.infosets(self.tree.infoset[state.node])._replace(state=state)

    def infosets(self, index: Tensor) -> States:
        """Information sets by number."""
        return States(self.tree.seen[index], self.tree.legal[index], index)


def tree_of(tables: dict[str, Any]) -> Tree:
    """The Tree among the tables of a game."""
    return Tree(**{name: tables[name] for name in Tree.__dataclass_fields__})
