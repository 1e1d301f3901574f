"""A small streaming service with known truth: films, people, what they watched in which order, how they liked it.

How it comes about (all constants below):

- A film has a main genre, a second genre, a quality, an appeal (its pull on everybody, heavy-tailed) and may be a part
  of a series. Its vector is a mix of its genres.
- A person has a taste for each genre, which drifts from an early to a late taste over their watching life.
- At each step a person picks one unseen film with probability proportional to
  exp(TASTE * <taste at that step, film> + appeal + SEQUEL * [the film follows the one watched last in its series]
  + SAME_GENRE * [the film has the main genre of the one watched last]).
- The latent rating of a watched film is a sum of match, quality and noise; stars are the latent rating, rounded.

So the best possible ranking for the next film is known exactly: see `oracles`.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from marquee.seeding import numpy_generator

VERSION = 1  # raised when the same seed gives another world

GENRES = ("Comedy", "Drama", "Thriller", "Sci-Fi", "Horror", "Romance", "Western", "Animation")
N_USERS, N_ITEMS = 1000, 400
TASTE, SEQUEL, SAME_GENRE, APPEAL = 4.0, 4.5, 1.2, 0.9
LONGEST_SERIES = 5
FIRST_DAY, LAST_DAY = 1_577_836_800, 1_735_689_600  # the years 2020 to 2024, in Unix seconds

_ADJECTIVES = (
    "Silent Crimson Hollow Electric Paper Midnight Golden Broken Distant Velvet Frozen Gentle Savage Burning Hidden "
    "Endless Bitter Wandering Painted Lonely"
).split()
_NOUNS = (
    "Harbour Orchard Lantern Railway Garden Mirror Canyon Cathedral Carousel Comet Letter Winter Parade Kingdom "
    "Telegram Machine Meadow Violin Shadow Voyage"
).split()


@dataclass(frozen=True)
class World:
    """Everything that is known of one world. `n` events, sorted by user and then by step.

    titles, years      of items
    genres             int [n_items, 2], main and second genre
    vectors            [n_items, genres]
    appeal, quality    [n_items]
    follows            int [n_items], the film that this one is the sequel of, or -1
    tastes             [n_users, 2, genres], early and late
    users, items, steps, lengths   int [n]: who, what, the n-th event of how many of that user
    timestamps         int64 [n], Unix seconds
    latent             [n] latent ratings, about 1 ... 5
    """

    titles: tuple[str, ...]
    years: np.ndarray
    genres: np.ndarray
    vectors: np.ndarray
    appeal: np.ndarray
    quality: np.ndarray
    follows: np.ndarray
    tastes: np.ndarray
    users: np.ndarray
    items: np.ndarray
    steps: np.ndarray
    lengths: np.ndarray
    timestamps: np.ndarray
    latent: np.ndarray

    @property
    def stars(self) -> np.ndarray:
        """Ratings 1 ... 5, float32 [n]."""
        return np.clip(np.rint(self.latent), 1, 5).astype(np.float32)

    def utilities(self, users: np.ndarray, progress: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """The exponents of the choice rule above, float64 [len(users), n_items].

        `progress` in [0, 1) is how far the users are in their watching life, `previous` the film watched last or -1.
        """
        share = progress[:, None]
        taste = (1 - share) * self.tastes[users, 0] + share * self.tastes[users, 1]
        utility = TASTE * (taste @ self.vectors.T) + self.appeal
        watched = previous >= 0
        sequel = (self.follows == previous[:, None]) & watched[:, None]
        same = (self.genres[:, 0] == self.genres[previous, 0][:, None]) & watched[:, None]
        # Rounding makes the world the same wherever the last bits of a product differ.
        return np.round(utility + SEQUEL * sequel + SAME_GENRE * same, 6)


@lru_cache(maxsize=2)
def generate(seed: int) -> World:
    """The world of a seed; always the same."""
    world = before_watching(seed)
    return replace(world, **_watch(world, seed))


@lru_cache(maxsize=2)
def before_watching(seed: int) -> World:
    """The films and tastes of a world, and no events: at a hundredth of the cost."""
    none = np.zeros(0, dtype=np.int64)
    events = dict.fromkeys(("users", "items", "steps", "lengths", "timestamps", "latent"), none)
    return World(**_films(seed), tastes=_tastes(seed), **events)


def lives(seed: int) -> np.ndarray:
    """How many films each person watches, int64 [n_users]."""
    return _lives(_choices(seed))


def _films(seed: int) -> dict:
    rng = numpy_generator(seed, "world/films")
    main = rng.integers(len(GENRES), size=N_ITEMS)
    second = (main + rng.integers(1, len(GENRES), size=N_ITEMS)) % len(GENRES)
    names = rng.permutation(len(_ADJECTIVES) * len(_NOUNS))[:N_ITEMS]
    years = rng.integers(1950, 2020, size=N_ITEMS)
    follows = np.full(N_ITEMS, -1)
    titles = [f"The {_ADJECTIVES[name // len(_NOUNS)]} {_NOUNS[name % len(_NOUNS)]}" for name in names]
    item = 0
    while item < N_ITEMS:
        # Half of all films stand alone, the others come in series of the same genres and name.
        parts = 1 if rng.random() < 0.6 else int(rng.integers(2, LONGEST_SERIES + 1))
        for part in range(1, min(parts, N_ITEMS - item)):
            follows[item + part] = item + part - 1
            main[item + part], second[item + part] = main[item], second[item]
            titles[item + part] = f"{titles[item]} {part + 1}"
            years[item + part] = years[item + part - 1] + 2
        item += parts
    vectors = np.zeros((N_ITEMS, len(GENRES)))
    strength = rng.uniform(0.6, 0.9, size=N_ITEMS)
    vectors[np.arange(N_ITEMS), main] = strength
    vectors[np.arange(N_ITEMS), second] += 1 - strength
    return {
        "titles": tuple(f"{title} ({year})" for title, year in zip(titles, years, strict=True)),
        "years": years,
        "genres": np.stack([main, second], axis=1),
        "vectors": np.round(vectors, 6),
        "appeal": np.round(APPEAL * rng.standard_normal(N_ITEMS), 6),
        "quality": np.round(0.5 * rng.standard_normal(N_ITEMS), 6),
        "follows": follows,
    }


def _tastes(seed: int) -> np.ndarray:
    """Each person loves two or three genres; late in life some of that has changed."""
    rng = numpy_generator(seed, "world/tastes")
    early = rng.standard_normal((N_USERS, len(GENRES))) * 0.8
    change = rng.standard_normal((N_USERS, len(GENRES))) * 0.8
    return np.round(np.stack([early, 0.6 * early + 0.6 * change], axis=1), 6)


def _choices(seed: int) -> np.random.Generator:
    return numpy_generator(seed, "world/choices")


def _lives(rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(np.exp(rng.standard_normal(N_USERS) * 0.5 + 3.4)), 12, 120).astype(np.int64)


def _watch(world: World, seed: int) -> dict:
    """Every person's choices, one step of all people at a time."""
    rng = _choices(seed)
    lengths = _lives(rng)
    seen = np.zeros((N_USERS, N_ITEMS), dtype=bool)
    previous = np.full(N_USERS, -1)
    users, items, steps = [], [], []
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        utility = world.utilities(active, step / lengths[active], previous[active])
        # Adding Gumbel noise and taking the largest draws from the softmax.
        gumbel = -np.log(-np.log(rng.random(utility.shape)))
        choice = np.where(seen[active], -np.inf, utility + np.round(gumbel, 6)).argmax(axis=1)
        seen[active, choice] = True
        previous[active] = choice
        users.append(active)
        items.append(choice)
        steps.append(np.full(len(active), step))
    users, items, steps = map(np.concatenate, (users, items, steps))
    order = np.lexsort((steps, users))
    users, items, steps = users[order], items[order], steps[order]
    return {
        "users": users,
        "items": items,
        "steps": steps,
        "lengths": lengths[users],
        "timestamps": _times(rng, users, steps, lengths),
        "latent": _latent(rng, world, users, items, steps / lengths[users]),
    }


def _times(rng: np.random.Generator, users: np.ndarray, steps: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A watching life begins on some day and goes on at its own pace; no two events of a person share a second."""
    begin = rng.integers(FIRST_DAY, (FIRST_DAY + LAST_DAY) // 2, size=len(lengths))
    pace = rng.integers(86_400, (LAST_DAY - FIRST_DAY) // 2 // 120, size=len(lengths))
    return begin[users] + steps * pace[users] + rng.integers(0, 80_000, size=len(users))


def _latent(rng: np.random.Generator, world: World, users, items, progress) -> np.ndarray:
    share = progress[:, None]
    taste = (1 - share) * world.tastes[users, 0] + share * world.tastes[users, 1]
    match = (taste * world.vectors[items]).sum(axis=1)
    return np.round(3.1 + 0.9 * match + world.quality[items] + 0.5 * rng.standard_normal(len(users)), 6)
