"""The best that anyone could do with films that are new: who of the world's people watched them, by the choice rule."""

import numpy as np
import torch
from torch import Tensor

from marquee.data.interactions.histories import Histories
from marquee.data.interactions.store import Interactions
from marquee.data.world.catalogue import SAME_GENRE, SEQUEL, TASTE, World

ROUNDS = 60  # of messages between steps and films; twenty suffice for three digits


class NewFilmOracle:
    """Ranks films that training never saw by the probability that somebody has watched them.

    It knows the tastes, the films, what was watched at each step but the hidden ones, and that what is hidden is new.
    Of a run of hidden steps the films are a chain, in which each choice depends on the one before: forward and backward
    sums (Rabiner 1989) give the probability of each film at each step. That nobody watches a film twice couples all
    hidden steps of a person, which is taken into account by belief propagation: exact where one step is hidden, close
    where there are several.

    world   before watching, with tastes and films
    store   all that was watched, each person's oldest first
    known   bool [rows of the store], what a recommender is shown
    new     bool [n_items], films that may stand at the other rows
    people, films  of the world, by number in the store
    """

    def __init__(
        self,
        world: World,
        store: Interactions,
        known: np.ndarray,
        new: np.ndarray,
        people: np.ndarray,
        films: np.ndarray,
    ):
        self.n_items = store.n_items
        self.new = np.flatnonzero(new)
        hidden = np.flatnonzero(~known)
        chances = _chances(world, store, known, hidden, self.new, people, films)
        self.watched = _matched(chances, store.users[hidden].astype(np.int64), store.n_users)

    def score(self, users: Tensor, histories: Histories) -> Tensor:
        """float64 [batch, n_items]; films that are not new were not hidden."""
        scores = np.full((len(users), self.n_items), -1.0)
        scores[:, self.new] = self.watched[users.numpy()]
        return torch.from_numpy(scores)


def _chances(
    world: World,
    store: Interactions,
    known: np.ndarray,
    hidden: np.ndarray,
    new: np.ndarray,
    people: np.ndarray,
    films: np.ndarray,
) -> np.ndarray:
    """P(film | all that is known) at each hidden row, [hidden, new]."""
    users, items, offsets = store.users.astype(np.int64), store.items.astype(np.int64), store.offsets
    step, length = np.arange(len(users)) - offsets[users], np.diff(offsets)[users]
    watched = np.full((store.n_users, store.n_items), len(users))  # at which step, as far as it is known
    watched[users[known], items[known]] = step[known]
    genres, follows = world.genres[films, 0], _places(world.follows[films], films)

    def pull(rows: np.ndarray) -> np.ndarray:
        """exp(taste and appeal) of the films that were not watched before, by what is known; [rows, n_items]."""
        share = (step[rows] / length[rows])[:, None]
        tastes = world.tastes[people[users[rows]]]
        taste = (1 - share) * tastes[:, 0] + share * tastes[:, 1]
        found = np.exp(TASTE * (taste @ world.vectors[films].T) + world.appeal[films])
        return np.where(watched[users[rows]] < step[rows][:, None], 0, found)

    def choices(rows: np.ndarray, previous: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """P(wanted | watched last): [rows, previous, wanted] for `previous` and `wanted` [rows, *], -1 for nobody."""
        pulls = pull(rows)
        of_genre = np.stack([pulls[:, genres == genre].sum(1) for genre in range(world.vectors.shape[1])], axis=1)
        some = previous >= 0
        genre = genres[previous]
        total = pulls.sum(1)[:, None] + some * (np.exp(SAME_GENRE) - 1) * np.take_along_axis(of_genre, genre, 1)
        # The one film that follows the one watched last, which shares its genre.
        sequel = np.full(store.n_items + 1, -1)
        sequel[follows[follows >= 0]] = np.flatnonzero(follows >= 0)
        next_part = np.where(some, sequel[previous], -1)
        boost = np.exp(SAME_GENRE) * (np.exp(SEQUEL) - 1)
        total += (next_part >= 0) * boost * np.take_along_axis(pulls, np.maximum(next_part, 0), 1)
        total -= some * np.exp(SAME_GENRE) * np.take_along_axis(pulls, previous, 1)  # it was watched just now
        same = (genres[wanted][:, None] == genre[:, :, None]) & some[:, :, None]
        part = (follows[wanted][:, None] == previous[:, :, None]) & some[:, :, None]
        weight = np.take_along_axis(pulls, wanted, 1)[:, None] * np.exp(SAME_GENRE * same + SEQUEL * part)
        return weight * (wanted[:, None] != previous[:, :, None]) / total[:, :, None]

    n = len(new)
    all_new = np.broadcast_to(new, (len(hidden), n))
    place_of = np.full(len(users) + 1, -1)
    place_of[hidden] = np.arange(len(hidden))
    starts = step[hidden] == 0
    follows_hidden = ~starts & ~known[hidden - 1]
    previous = np.where(starts, -1, items[np.maximum(hidden - 1, 0)])
    # How deep in its run a hidden step stands; messages go from depth to depth, all runs at once.
    depth = np.zeros(len(hidden), dtype=np.int64)
    for place in np.flatnonzero(follows_hidden):
        depth[place] = depth[place - 1] + 1
    forward = np.zeros((len(hidden), n))
    between = np.zeros((len(hidden), n, n))
    begun = np.flatnonzero(~follows_hidden)
    forward[begun] = choices(hidden[begun], previous[begun, None], all_new[begun])[:, 0]
    for level in range(1, int(depth.max(initial=0)) + 1):
        here = np.flatnonzero(depth == level)
        between[here] = choices(hidden[here], all_new[here], all_new[here])
        forward[here] = np.einsum("rp,rpi->ri", forward[here - 1], between[here])
        forward[here] /= forward[here].sum(1, keepdims=True)
    backward = np.ones((len(hidden), n))
    after = hidden + 1
    ends = step[hidden] + 1 == length[hidden]
    shown = np.flatnonzero(~ends & known[np.minimum(after, len(known) - 1)])
    backward[shown] = choices(after[shown], all_new[shown], items[after[shown], None])[:, :, 0]
    for level in range(int(depth.max(initial=0)), 0, -1):
        here = np.flatnonzero(depth == level)
        backward[here - 1] = np.einsum("rpi,ri->rp", between[here], backward[here])
        backward[here - 1] /= backward[here - 1].sum(1, keepdims=True).clip(1e-300)
    # Who has watched a film does not choose it again: the better it would have suited all that came later, the more
    # its absence there says that it had been watched.
    last = np.where((step > 0) & known[np.arange(len(users)) - 1], items[np.arange(len(users)) - 1], -1)
    rows = np.arange(len(users))
    avoided = np.concatenate(
        [
            -np.log1p(-choices(part, last[part, None], np.broadcast_to(new, (len(part), n)))[:, 0].clip(max=0.99))
            for part in np.array_split(rows, max(1, len(rows) // 2000))
        ]
    )
    later = np.zeros((len(users) + 1, n))
    later[:-1] = avoided[::-1].cumsum(0)[::-1]
    end = offsets[users[hidden] + 1]
    chances = forward * backward * np.exp(later[np.minimum(hidden + 2, end)] - later[end])
    return chances / chances.sum(1, keepdims=True).clip(1e-300)


def _matched(weights: np.ndarray, owners: np.ndarray, n_users: int) -> np.ndarray:
    """P(watched at one of the hidden steps) [n_users, films], where each step has one film and no film two steps.

    weights  [steps, films], relative at each step; `owners` ascending

    Belief propagation for the permanent (Vontobel 2013, "The Bethe permanent of a nonnegative matrix", section IV).
    """
    counts = np.bincount(owners, minlength=n_users)
    place = np.arange(len(owners)) - (counts.cumsum() - counts)[owners]
    w = np.zeros((n_users, int(counts.max(initial=1)), weights.shape[1]))
    w[owners, place] = weights
    free = np.ones_like(w)  # how far a film is free for a step, by what the other steps say
    for _ in range(ROUNDS):
        wanted = w * free
        others = (wanted.sum(2, keepdims=True) - wanted).clip(1e-30)
        claims = w / others
        update = 1 / (1 + claims.sum(1, keepdims=True) - claims)
        free = (free * update) ** 0.5
    found = w * free
    return (found / found.sum(2, keepdims=True).clip(1e-300)).sum(1).clip(max=1)


def _places(numbers: np.ndarray, films: np.ndarray) -> np.ndarray:
    """Films of the world by their number in the store; -1 stays."""
    place = np.full(int(films.max()) + 2, -1)
    place[films] = np.arange(len(films))
    return np.where(numbers >= 0, place[numbers], -1)
