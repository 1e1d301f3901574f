"""What a list is beyond its hits: whom it shows, how new, how varied, how much like its reader.

For a user's list L of length k, out of the items that may be ranked (the candidates):

auc                 share of the pairs of a relevant and an irrelevant candidate that are ranked rightly, ties by half;
                    over users its mean is GAUC (Rendle et al. 2009, section 3.1; Zhu et al. 2017)
novelty@k           mean of -log2(share of the users who have met the item in training), in bits (Vargas & Castells
                    2011, "Rank and relevance in novelty and diversity metrics"); nobody counts as one user
tail_share@k        share of the list from the long tail: the least popular items, which together have a fifth of the
                    training interactions (Abdollahpouri et al. 2017, average percentage of long tail items)
popularity_lift@k   mean popularity of the list over that of the user's history, less 1 (Abdollahpouri et al. 2019,
                    "The unfairness of popularity bias in recommendation", group average popularity, here by user)
serendipity@k       share of the list that is relevant and not among the k most popular candidates (Ge et al. 2010,
                    "Beyond accuracy", with the popular list as the primitive recommender)
diversity@k         mean of 1 - cosine over the pairs of the list, by a feature of the items (Ziegler et al. 2005,
                    intra-list similarity; an item without that feature is like no other)
miscalibration@k    Kullback-Leibler divergence of the list's distribution over, say, genres from the history's, in nats
                    (Steck 2018, "Calibrated recommendations", eq. 2-6, alpha 0.01); 0 is like the history

and over the lists of all users together, by how often each candidate is shown:

gini@k              0 where all are shown alike, near 1 where few are shown (Gini index; Fleder & Hosanagar 2009)
entropy@k           in bits; the most is log2(candidates) (Shannon; Adomavicius & Kwon 2012)

As in `ranking`, all are expectations over the orders of tied items (gini, entropy and miscalibration: of the expected
shares).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.metrics.groups import popularity_thirds

LISTS = ("novelty", "tail_share", "popularity_lift", "serendipity", "diversity", "miscalibration")
SHOWN = ("gini", "entropy")
BEYOND = ("auc", *LISTS, *SHOWN)
BY_FEATURE = ("diversity", "miscalibration")
THIRDS = ("head", "middle", "tail")
SMOOTHING = 0.01  # Steck's alpha: the list's distribution borrows so much of the history's, so that no log is infinite


class Beyond:
    """The metrics above that `names` asks for, at each of `ks`.

    popularity   training interactions of each item, [n_items]
    n_users      whom training knows
    features     [n_items, values], for diversity and miscalibration: multi-hot, or an embedding for diversity alone
    by_item      the cut-off at which recall is told apart by the popularity of what was to be found; None: not at all
    """

    def __init__(
        self,
        names: Sequence[str],
        ks: Sequence[int],
        popularity: Tensor,
        n_users: int,
        features: Tensor | None = None,
        by_item: int | None = None,
    ):
        self.names, self.ks, self.by_item = tuple(names), sorted(ks), by_item
        self.popularity = popularity.double()
        share = popularity.double().clamp(min=1) / max(n_users, 1)
        order = popularity.argsort(stable=True)
        self.information = -share.log2()
        tail = popularity[order].double().cumsum(0) <= popularity.sum() / 5
        self.tail = torch.zeros(len(popularity), dtype=torch.float64).scatter_(0, order, tail.double())
        self.third = torch.from_numpy(popularity_thirds(popularity.long().numpy()))
        self.features = self.shares = None
        if features is not None:
            features = features.double()
            self.features = features / features.norm(dim=1, keepdim=True).clamp(min=1e-12)
            self.shares = features / features.sum(1, keepdim=True).clamp(min=1e-12)
        self.shown = torch.zeros(len(self.ks), len(popularity), dtype=torch.float64)
        self.candidates = torch.zeros(len(popularity), dtype=torch.bool)

    def columns(self) -> list[str]:
        """The per-user columns, in the order of `rows`."""
        names = ["auc"] * ("auc" in self.names)
        for k in self.ks:
            names += [f"{name}@{k}" for name in LISTS if name in self.names]
            if k == self.by_item:
                names += [f"recall@{k}[item_popularity={third}]" for third in THIRDS]
        return names

    @property
    def looks_at_lists(self) -> bool:
        """Whether anything needs to know what stands in the lists."""
        return bool(self.by_item) or any(name != "auc" for name in self.names)

    def rows(self, scores: Tensor, relevant: Tensor, histories: Any, chances: Sequence[Tensor]) -> list[Tensor]:
        """Per-user values, each float64 [batch].

        scores     [batch, n_items], -inf where an item is no candidate for the user
        relevant   bool, same shape
        histories  of the users
        chances    for each of `ks` the probability that an item is in the list, same shape
        """
        found = [_auc(scores, relevant)] if "auc" in self.names else []
        if not self.looks_at_lists:
            return found
        for name in ("popularity", "information", "tail", "third", "shown", "candidates", "features", "shares"):
            if (held := getattr(self, name)) is not None:
                setattr(self, name, held.to(scores.device))
        self.candidates |= (scores > -torch.inf).any(0)
        expected = self._most_popular(scores) if "serendipity" in self.names else None
        for place, (k, chance) in enumerate(zip(self.ks, chances, strict=True)):
            chance = chance.double()
            self.shown[place] += chance.sum(0)
            length = chance.sum(1).clamp(min=1e-12)
            hits = chance * relevant
            values = {
                "novelty": chance @ self.information / length,
                "tail_share": chance @ self.tail / length,
                "popularity_lift": self._popularity_lift(chance @ self.popularity / length, histories),
            }
            if "serendipity" in self.names:
                values["serendipity"] = (hits.sum(1) - hits.gather(1, expected[:, :k]).sum(1)) / k
            if "diversity" in self.names:
                values["diversity"] = self._diversity(chance, length)
            if "miscalibration" in self.names:
                values["miscalibration"] = self._miscalibration(chance, histories)
            found += [values[name] for name in LISTS if name in self.names]
            if k == self.by_item:
                found += self._recall_by_third(hits, relevant)
        return found

    def _popularity_lift(self, listed: Tensor, histories: Any) -> Tensor:
        known = torch.zeros_like(listed).index_add_(0, histories.rows(), self.popularity[histories.items])
        known /= (histories.offsets[1:] - histories.offsets[:-1]).clamp(min=1)
        return torch.where(known > 0, listed / known.clamp(min=1e-12) - 1, 0.0)  # nothing is known: no lift

    def _most_popular(self, scores: Tensor) -> Tensor:
        """The most popular candidates of each user, int64 [batch, largest k]; of equal ones those of lower number."""
        n = len(self.popularity)
        rank = self.popularity * n + torch.arange(n - 1, -1, -1, device=scores.device)
        return torch.where(scores > -torch.inf, rank, -1.0).topk(min(self.ks[-1], n), dim=1).indices

    def _diversity(self, chance: Tensor, length: Tensor) -> Tensor:
        vectors = self.features
        size = vectors.square().sum(1)  # 1, or 0 where nothing is known
        sure, tied = (chance >= 1).double(), ((chance > 0) & (chance < 1)).double()
        above, among = sure @ vectors, tied @ vectors
        m, s = tied.sum(1), length - sure.sum(1)  # s of m tied items stand in the list
        pair = torch.where(m > 1, s * (s - 1) / (m * (m - 1)).clamp(min=1), 0.0)
        alike = above.square().sum(1) - sure @ size
        alike = alike + 2 * s / m.clamp(min=1) * (above * among).sum(1)
        alike = alike + pair * (among.square().sum(1) - tied @ size)
        pairs = length * (length - 1)
        return torch.where(pairs > 0.5, 1 - alike / pairs.clamp(min=1), 0.0)

    def _miscalibration(self, chance: Tensor, histories: Any) -> Tensor:
        shares = self.shares
        wanted = torch.zeros(len(chance), shares.shape[1], dtype=torch.float64, device=chance.device)
        wanted.index_add_(0, histories.rows(), shares[histories.items])
        given = chance @ shares
        wanted, given = (part / part.sum(1, keepdim=True).clamp(min=1e-12) for part in (wanted, given))
        given = (1 - SMOOTHING) * given + SMOOTHING * wanted
        return torch.where(wanted > 0, wanted * (wanted.clamp(min=1e-300) / given.clamp(min=1e-300)).log(), 0.0).sum(1)

    def _recall_by_third(self, hits: Tensor, relevant: Tensor) -> list[Tensor]:
        """Of each third of the items the share of its targets that is found; NaN for users who have none there."""
        found = []
        for third in range(len(THIRDS)):
            inside = self.third == third
            found.append(hits[:, inside].sum(1) / relevant[:, inside].sum(1))  # 0 / 0 is NaN
        return found

    def summary(self, shown: np.ndarray, candidates: np.ndarray) -> dict[str, float]:
        """gini@k and entropy@k of how often each candidate was shown: `shown` [ks, n_items], `candidates` [n_items]."""
        found = {}
        for k, counts in zip(self.ks, shown[:, candidates], strict=True):
            total, n = counts.sum(), len(counts)
            if total <= 0:
                continue
            if "gini" in self.names:
                found[f"gini@{k}"] = float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(counts)).sum() / (n * total))
            if "entropy" in self.names:
                share = counts[counts > 0] / total
                found[f"entropy@{k}"] = float(-(share * np.log2(share)).sum())
        return found


def _auc(scores: Tensor, relevant: Tensor) -> Tensor:
    """[batch]; 0.5 for a user without an irrelevant candidate. A target that is no candidate is below all others."""
    other = (scores > -torch.inf) & ~relevant
    n_other = other.sum(1)
    rows, columns = relevant.nonzero(as_tuple=True)
    rightly = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
    shown = scores.masked_fill(~other, torch.nan)  # which no comparison holds for
    for part in torch.arange(len(rows), device=scores.device).split(max(1, 4_000_000 // scores.shape[1])):
        row, own = rows[part], scores[rows[part], columns[part]][:, None]
        against = shown[row]
        right = (against < own).sum(1).double() + (against == own).sum(1).double() / 2
        rightly.index_add_(0, row, right)
    pairs = (n_other * relevant.sum(1)).double()
    return torch.where(pairs > 0, rightly / pairs.clamp(min=1), 0.5)
