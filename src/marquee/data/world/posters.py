"""Posters of the world's films: genre shows in composition and palette, under nuisance variation.

Each film has several posters. Composition and palette are drawn independently given the main genre: the genre's own
with probability OWN_COMPOSITION or OWN_PALETTE, else any of the other genres'. So P(genre | poster) is known from the
two; position, size, brightness, tint, a title block and pixel noise say nothing.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from marquee.data.world.catalogue import GENRES, N_ITEMS, before_watching
from marquee.seeding import numpy_generator

PER_FILM = 8
HEIGHT, WIDTH = 48, 32
OWN_COMPOSITION, OWN_PALETTE = 0.8, 0.7
NOISE = 14.0  # standard deviation of pixels, of 255

# Background and figure of each genre's palette.
_PALETTES = np.array(
    [
        [[250, 220, 90], [220, 60, 50]],
        [[120, 110, 100], [60, 50, 70]],
        [[30, 40, 60], [200, 40, 40]],
        [[20, 20, 60], [80, 220, 230]],
        [[15, 10, 10], [120, 200, 60]],
        [[250, 190, 200], [170, 40, 110]],
        [[230, 160, 90], [110, 60, 30]],
        [[110, 200, 250], [250, 140, 40]],
    ],
    dtype=np.float64,
)


@dataclass(frozen=True)
class DrawnPosters:
    """items int [n]; images uint8 [n, 3, HEIGHT, WIDTH]; genres int [n]."""

    items: np.ndarray
    images: np.ndarray
    genres: np.ndarray


@lru_cache(maxsize=1)
def draw(seed: int, purpose: str = "world/posters") -> DrawnPosters:
    """PER_FILM posters for every film of the world of `seed`; for another purpose others of the same films and law."""
    rng = numpy_generator(seed, purpose)
    items = pictured()
    genres = before_watching(seed).genres[items, 0]
    composition, palette = _styles(rng, genres)
    figure = _figures(rng, composition)
    colours = _PALETTES[palette] * rng.uniform(0.8, 1.15, size=(len(items), 1, 1))
    colours = colours + rng.integers(-15, 16, size=(len(items), 1, 3))
    shade = figure[:, None]
    images = colours[:, 0, :, None, None] * (1 - shade) + colours[:, 1, :, None, None] * shade
    _title_block(rng, images)
    images += NOISE * rng.standard_normal(images.shape)
    return DrawnPosters(items, np.clip(np.rint(images), 0, 255).astype(np.uint8), genres)


def pictured() -> np.ndarray:
    """The film of each poster, int [n]."""
    return np.repeat(np.arange(N_ITEMS), PER_FILM)


def posterior(seed: int) -> np.ndarray:
    """P(genre | poster) of each poster, [n, genres]; nothing has to be drawn for it."""
    films = before_watching(seed).genres[:, 0]
    composition, palette = _styles(numpy_generator(seed, "world/posters"), films[pictured()])
    prior = np.bincount(films, minlength=len(GENRES)) / N_ITEMS
    likelihood = _table(OWN_COMPOSITION)[:, composition].T * _table(OWN_PALETTE)[:, palette].T
    joint = prior * likelihood
    return joint / joint.sum(axis=1, keepdims=True)


def _styles(rng: np.random.Generator, genres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Composition and palette of each poster."""
    return _own_or_other(rng, genres, OWN_COMPOSITION), _own_or_other(rng, genres, OWN_PALETTE)


def _table(own: float) -> np.ndarray:
    """P(style | genre), [genres, styles]."""
    n = len(GENRES)
    return np.full((n, n), (1 - own) / (n - 1)) + np.eye(n) * (own - (1 - own) / (n - 1))


def _own_or_other(rng: np.random.Generator, genres: np.ndarray, own: float) -> np.ndarray:
    other = (genres + rng.integers(1, len(GENRES), size=len(genres))) % len(GENRES)
    return np.where(rng.random(len(genres)) < own, genres, other)


def _figures(rng: np.random.Generator, composition: np.ndarray) -> np.ndarray:
    """Where the figure covers the background, float [n, HEIGHT, WIDTH] of 0 and 1."""
    n = len(composition)
    shift = rng.uniform(-0.12, 0.12, size=(2, n, 1, 1))
    size = rng.uniform(0.8, 1.2, size=(n, 1, 1))
    # Coordinates from -1 to 1, moved and scaled for each poster.
    y = (np.linspace(-1, 1, HEIGHT)[None, :, None] - shift[0]) / size
    x = (np.linspace(-1, 1, WIDTH)[None, None, :] - shift[1]) / size
    radius = np.hypot(x, 1.3 * y)
    shapes = (
        lambda s: radius[s] < 0.65,  # one large face
        lambda s: (y[s] > 0.15) & (x[s] < 9),  # a horizon
        lambda s: np.abs(x[s] - y[s]) < 0.3,  # a slash
        lambda s: np.abs(radius[s] - 0.6) < 0.16,  # a ring
        lambda s: (np.abs(x[s]) < 0.45 * (y[s] + 0.8)) & (y[s] < 0.8),  # a spire
        lambda s: (np.hypot(x[s] - 0.42, 1.3 * y[s]) < 0.38) | (np.hypot(x[s] + 0.42, 1.3 * y[s]) < 0.38),  # a couple
        lambda s: ((radius[s] < 0.6) & (y[s] < 0.1)) | (np.abs(y[s] - 0.45) < 0.14),  # a setting sun
        lambda s: (np.floor(2.2 * x[s]) + np.floor(2.2 * y[s])) % 2 == 0,  # blocks
    )
    figure = np.zeros((n, HEIGHT, WIDTH))
    for style, shape in enumerate(shapes):
        chosen = composition == style
        figure[chosen] = shape(chosen)
    return figure


def _title_block(rng: np.random.Generator, images: np.ndarray) -> None:
    """A light or dark band near the top or the bottom, drawn in place."""
    n = len(images)
    top = np.where(rng.random(n) < 0.5, 2, HEIGHT - 8)
    rows = np.arange(HEIGHT)[None, :] - top[:, None]
    band = ((rows >= 0) & (rows < 4))[:, None, :, None] & (np.arange(WIDTH) >= 4) & (np.arange(WIDTH) < WIDTH - 4)
    tone = np.where(rng.random(n) < 0.5, 235.0, 20.0)[:, None, None, None]
    images[...] = np.where(band, tone, images)
