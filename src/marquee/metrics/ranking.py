"""Top-k ranking metrics over the full catalogue, with ties ranked by expectation.

Scores that tie have no order, and whichever order a sort happens to leave would reward or punish a model for the
numbering of its items. Every metric here is therefore the expectation over all orders of tied items: a constant
scorer scores as a random one does. Where nothing ties, the expectation is the ordinary metric.

What is relevant to a user is a set of items: the targets. One that is repeated counts once. Where seen items are left
out of the ranking (`mask_seen`), they are no targets either, because nobody could rank them; a user whose targets have
all been seen is not judged. So a perfect scorer reaches 1 whatever is repeated. Where only some items are candidates,
a target that is none of them stays a target, which nobody can find.

For a user with R relevant items and a list of length k (log is base 2; the first position is 1):

hit_rate@k   1 if any of the k is relevant
recall@k     hits / R
recall_min@k hits / min(R, k), which Liang et al. 2018 (Mult-VAE) call recall
precision@k  hits / k
f1@k         harmonic mean of the two, 2 hits / (k + R)
ndcg@k       sum of 1/log(1 + position) over hits, divided by that sum for min(k, R) hits at the top
             (Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", binary gain)
ndcg_fullk@k the same divided by that sum for k hits, however few items are relevant: never above ndcg
mrr@k        1 / position of the first hit, else 0 (Voorhees 1999, "The TREC-8 question answering track report")
map@k        precision at each hit, summed and divided by min(k, R) (average precision, cut off at k)

and over all users together:

coverage@k         share of the catalogue that is recommended to at least one user
mean_popularity@k  mean number of training interactions of the recommended items
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from marquee.metrics.beyond import THIRDS, Beyond
from marquee.metrics.evaluator import Evaluator
from marquee.metrics.groups import Groups, by_group, with_gap
from marquee.metrics.one_target import refuse_no_order

PER_USER = ("hit_rate", "recall", "recall_min", "precision", "f1", "ndcg", "ndcg_fullk", "mrr", "map")


class _Top(NamedTuple):
    """The first K positions of each ranking. Position i belongs to a group of tied items (most groups have one)."""

    items: Tensor  # int64 [batch, K]
    candidate: Tensor  # bool [batch, K]: False past the last unmasked item
    size: Tensor  # [batch, K] tied items in the group, also beyond K
    relevant: Tensor  # [batch, K] relevant items in the group
    before: Tensor  # int64 [batch, K] positions of the same group before this one


class Ranking(Evaluator):
    """Metrics at each cut-off of `ks`.

    popularity  training interactions of each item, [n_items]
    mask_seen   leave items of the history out
    candidates  the items that are ranked, where not all are (`data.interactions.candidates`); their suffix stands in
                the names of all metrics at a cut-off
    beyond      what else is measured of the lists (`metrics.beyond`)
    groups      by attribute: users whose means of the metric `of` are told apart
    """

    def __init__(
        self,
        ks: Sequence[int],
        popularity: Tensor,
        mask_seen: bool = True,
        candidates: Any = None,
        beyond: Beyond | None = None,
        groups: Mapping[str, Groups] | None = None,
        of: str = "",
    ):
        self.ks = sorted(ks)
        self.popularity = popularity.float()
        self.mask_seen = mask_seen
        self.candidates, self.beyond = candidates, beyond
        self.groups, self.of = groups or {}, of
        self.users: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        n_items = len(popularity)
        # log of the probability that an item reaches nobody's list: expected coverage needs no more.
        self.log_missed = torch.zeros(len(self.ks), n_items, dtype=torch.float64)

    def columns(self) -> list[str]:
        """The per-user columns in the order of the rows."""
        names = [f"{metric}@{k}" for k in self.ks for metric in PER_USER]
        names += [f"mean_popularity@{k}" for k in self.ks]
        if self.beyond is not None:
            names += self.beyond.columns()
        return ["n_relevant", *(named(name, self.suffix) for name in names)]

    @property
    def suffix(self) -> str:
        """What the names of the metrics say of the candidates."""
        return self.candidates.suffix if self.candidates is not None else ""

    def update(self, scores: Tensor, batch) -> None:
        """Rank scores [batch, n_items] against the batch's targets (see `data.interactions.views.RankingBatch`).

        An item scored with -inf is left out. Raises JobError for NaN and for +inf, which would hide an order.
        """
        # A scorer may return a view of what it keeps, or one row for the whole batch; masking needs memory of its own.
        scores = scores.float().clone(memory_format=torch.contiguous_format)
        refuse_no_order(scores)
        n_users, n_items = scores.shape
        relevant = torch.zeros(n_users, n_items, dtype=torch.bool, device=scores.device)
        relevant[batch.targets.rows(), batch.targets.items] = True
        if self.mask_seen:
            seen = batch.histories.rows(), batch.histories.items
            scores[seen] = -torch.inf
            relevant[seen] = False
        users, n_relevant = batch.users, relevant.sum(1)
        if not bool((judged := n_relevant > 0).all()):
            scores, relevant, n_relevant, users = scores[judged], relevant[judged], n_relevant[judged], users[judged]
            if not len(users):
                return
        histories = batch.histories if bool(judged.all()) else batch.histories.take(judged.nonzero()[:, 0])
        if self.candidates is not None:
            scores = self.candidates.limit(scores, users, relevant)

        top, probe = _top(scores, relevant, min(self.ks[-1], n_items))
        columns = [n_relevant.double()]
        gains = _expected_gains(top, n_relevant)
        for k in self.ks:
            columns += gains(k)
        popularity = self.popularity.to(scores.device)
        for row, k in enumerate(self.ks):
            columns.append(self._popularity_and_coverage(row, min(k, n_items), scores, top, probe, popularity))
        if self.beyond is not None:
            look = self.beyond.looks_at_lists
            chances = [_chances(min(k, n_items), scores, top, probe) for k in self.ks] if look else []
            columns += self.beyond.rows(scores, relevant, histories, chances)
        self.users.append(users.cpu().numpy())
        self.rows.append(torch.stack(columns, dim=1).cpu().numpy())

    def _popularity_and_coverage(self, row: int, k: int, scores, top: _Top, probe: Tensor, popularity) -> Tensor:
        """Mean popularity of each user's list [batch]; notes which items the lists reach."""
        items, inside = top.items[:, :k], top.candidate[:, :k]
        length = inside.sum(1).clamp(min=1)
        mean = (popularity[items] * inside).sum(1).double() / length
        cut = _cut(k, top)
        whole = ~cut
        reached = torch.bincount(items[whole][inside[whole]], minlength=scores.shape[1])
        missed = torch.where(reached > 0, -torch.inf, 0.0).double()
        if bool(cut.any()):
            chance = _tied_chances(k, scores, top, probe, cut)
            missed = missed + torch.log1p(-chance.clamp(max=1)).sum(0)
            mean[cut] = (chance @ popularity.double()) / k
        self.log_missed[row] += missed.cpu()
        return mean

    def state(self) -> dict[str, np.ndarray]:
        width = len(self.columns())
        return {
            "users": np.concatenate(self.users) if self.users else np.zeros(0, np.int64),
            "rows": np.concatenate(self.rows) if self.rows else np.zeros((0, width)),
            "log_missed": self.log_missed.numpy(),
        } | ({} if self.beyond is None else {
            "shown": self.beyond.shown.cpu().numpy(), "candidates": self.beyond.candidates.cpu().numpy(),
        })  # fmt: skip

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        users = np.concatenate([state["users"] for state in states])
        table = pd.DataFrame(np.concatenate([state["rows"] for state in states]), columns=self.columns())
        table.insert(0, "user", users)
        table = table.sort_values("user", ignore_index=True)
        # Of a third of the items a user may have no target: the mean is over those who have.
        metrics = (
            {name: float(value) for name, value in table.iloc[:, 2:].mean().dropna().items()} if len(table) else {}
        )
        missed = np.exp(sum(state["log_missed"] for state in states))
        whole = {f"coverage@{k}": float((1 - missed[row]).mean()) for row, k in enumerate(self.ks)}
        if self.beyond is not None:
            shown = sum(state["shown"] for state in states)
            whole |= self.beyond.summary(shown, np.any([state["candidates"] for state in states], axis=0))
        metrics |= {named(name, self.suffix): value for name, value in whole.items()}
        if self.groups and len(table):
            metrics |= by_group(table, self.of, self.groups)
        if self.beyond is not None and self.beyond.by_item:
            recall = named(f"recall@{self.beyond.by_item}", self.suffix)
            thirds = [(third, metrics[name]) for third in THIRDS
                      if (name := f"{recall}[item_popularity={third}]") in metrics]  # fmt: skip
            metrics |= with_gap(recall, "item_popularity", thirds)
        return metrics, table


def named(metric: str, suffix: str) -> str:
    """`ndcg_uniform100@10` for `ndcg@10` among sampled candidates."""
    name, at, k = metric.partition("@")
    return f"{name}{suffix}{at}{k}"


def _cut(k: int, top: _Top) -> Tensor:
    """bool [batch]: a group of ties reaches beyond the cut-off, so each member is in the list with some probability."""
    return top.candidate[:, k - 1] & (top.before[:, k - 1] + 1 < top.size[:, k - 1])


def _tied_chances(k: int, scores: Tensor, top: _Top, probe: Tensor, cut: Tensor) -> Tensor:
    """The probability of each item [rows, n_items] to be in the list, of the rows that `_cut` names: float64."""
    tied, last = scores[cut], probe[cut, k - 1 : k]
    above = k - 1 - top.before[cut, k - 1 : k]
    share = (k - above) / top.size[cut, k - 1 : k]
    return (tied > last).double() + (tied == last) * share


def _chances(k: int, scores: Tensor, top: _Top, probe: Tensor) -> Tensor:
    """The probability of each item [batch, n_items] to be in the list of length k: 0 or 1 where nothing ties."""
    chance = torch.zeros_like(scores, dtype=torch.float64)
    chance.scatter_(1, top.items[:, :k], top.candidate[:, :k].double())
    cut = _cut(k, top)
    if bool(cut.any()):
        chance[cut] = _tied_chances(k, scores, top, probe, cut)
    return chance


def _top(scores: Tensor, relevant: Tensor, length: int) -> tuple[_Top, Tensor]:
    """The first `length` positions with their tie groups, and the scores at them [batch, length]."""
    n_items = scores.shape[1]
    values, items = scores.topk(min(length + 1, n_items), dim=1)
    tied_rows = ((values[:, 1:] == values[:, :-1]) & values[:, 1:].isfinite()).any(1)
    values, items = values[:, :length], items[:, :length]
    candidate = values > -torch.inf
    hits = (relevant.gather(1, items) & candidate).double()
    size = torch.ones_like(hits)
    before = torch.zeros_like(items)
    if bool(tied_rows.any()):
        size[tied_rows], hits[tied_rows], before[tied_rows] = _tie_groups(
            scores[tied_rows], relevant[tied_rows], values[tied_rows], hits[tied_rows]
        )
        hits *= candidate
    return _Top(items, candidate, size, hits, before), values


def _tie_groups(scores: Tensor, relevant: Tensor, values: Tensor, hits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Group size, relevant items in the group and positions of the group before, for rows that have ties."""
    length = values.shape[1]
    position = torch.arange(length, device=scores.device).expand_as(values)
    starts = torch.ones_like(values, dtype=torch.bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    first = torch.where(starts, position, 0).cummax(1).values
    group = starts.cumsum(1) - 1
    size = torch.zeros_like(hits).scatter_add_(1, group, torch.ones_like(hits)).gather(1, group)
    inside = torch.zeros_like(hits).scatter_add_(1, group, hits).gather(1, group)
    # Only the last group can reach beyond the list, so only its size and content need a look at all items.
    last = values[:, -1:]
    equal = scores == last
    in_last = group == group[:, -1:]
    size = torch.where(in_last, equal.sum(1, keepdim=True).double(), size)
    inside = torch.where(in_last, (equal & relevant).sum(1, keepdim=True).double(), inside)
    return size, inside, position - first


def _expected_gains(top: _Top, n_relevant: Tensor):
    """A function from k to the per-user metrics of PER_USER, each [batch], as expectations over tied orders."""
    length = top.items.shape[1]
    position = torch.arange(1, length + 1, device=top.items.device, dtype=torch.float64)
    discount = 1 / torch.log2(position + 1)
    p = torch.where(top.candidate, top.relevant / top.size, 0.0)
    hits = p.cumsum(1)
    dcg = (p * discount).cumsum(1)
    # First hit: given no hit so far, the next of a group's remaining items is relevant with r / (m - before).
    remaining = (top.size - top.before).clamp(min=1)
    no_hit = (1 - torch.where(top.candidate, top.relevant / remaining, 0.0).clamp(max=1)).cumprod(1)
    first_hit = torch.cat([torch.ones_like(no_hit[:, :1]), no_hit[:, :-1]], 1) - no_hit
    mrr = (first_hit / position).cumsum(1)
    # E[rel_i rel_j]: independent across groups, r(r-1)/(m(m-1)) within one.
    start = torch.arange(length, device=p.device) - top.before
    hits_before_group = hits.gather(1, start) - p
    both = top.relevant * (top.relevant - 1).clamp(min=0) / (top.size * (top.size - 1)).clamp(min=1)
    average_precision = ((p + p * hits_before_group + top.before * both) / position).cumsum(1)
    ideal = discount.cumsum(0)

    def at(k: int) -> list[Tensor]:
        last = min(k, length) - 1
        n = n_relevant.clamp(min=1)
        best = n.clamp(max=min(k, length))
        found = hits[:, last]
        return [
            1 - no_hit[:, last],
            found / n,
            found / n.clamp(max=k),
            found / k,
            2 * found / (k + n),
            dcg[:, last] / ideal[best - 1],
            dcg[:, last] / ideal[last],
            mrr[:, last],
            average_precision[:, last] / best,
        ]

    return at
