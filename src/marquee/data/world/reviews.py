"""Reviews of watched films, written by a small grammar, with the exact probability that a review is favourable.

A review is favourable if the latent rating is at least FAVOURABLE. Its clauses each carry a sentiment that agrees with
the label only with some reliability: low for what stands before a "but", high for what follows it. A sentiment is
said directly ("wonderful") or by negating its opposite ("never dull"). Every clause can be read without doubt, so the
posterior of the label given the text is the prior times the clauses' likelihood ratios: what `posterior` holds.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from marquee.data.world.catalogue import GENRES, World, generate
from marquee.seeding import numpy_generator

N_REVIEWS = 6000
FAVOURABLE = 3.7
PLAIN, BEFORE_BUT, AFTER_BUT = 0.72, 0.56, 0.88  # the share of clauses that agree with the label
NEGATED = 0.35

_GOOD = "wonderful moving brilliant funny gripping beautiful clever charming superb tender fresh memorable".split()
_BAD = "dull clumsy boring flat tedious shallow awkward predictable messy lifeless stale forgettable".split()
_ASPECTS = (
    "plot|acting|music|dialogue|camera work|first half|last act|ending|pacing|cast|script|editing|main character|story"
).split("|")
_NEGATIONS = ("not {} at all", "never {}", "hardly {}", "anything but {}")
_FRAMES = ("the {a} is {p}", "the {a} was {p}", "i found the {a} {p}", "to me the {a} seemed {p}")
_FILLERS = (
    "i watched it on a {d}",
    "my sister chose this one",
    "it runs for about two hours",
    "this is a {g} film",
    "we saw it with friends on a {d}",
)
_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()


@dataclass(frozen=True)
class Reviews:
    """users, items int [n]; texts; favourable bool [n]; posterior [n], P(favourable | text)."""

    users: np.ndarray
    items: np.ndarray
    texts: list[str]
    favourable: np.ndarray
    posterior: np.ndarray


@lru_cache(maxsize=2)
def write(seed: int) -> Reviews:
    """N_REVIEWS reviews of different events of the world of `seed`."""
    world: World = generate(seed)
    rng = numpy_generator(seed, "world/reviews")
    events = np.sort(rng.permutation(len(world.users))[:N_REVIEWS])
    favourable = world.latent[events] >= FAVOURABLE
    prior = float((world.latent >= FAVOURABLE).mean())
    texts, evidence = [], []
    for event, label in zip(events, favourable, strict=True):
        text, log_odds = _review(rng, bool(label), int(world.genres[world.items[event], 0]))
        texts.append(text)
        evidence.append(log_odds)
    log_odds = np.log(prior / (1 - prior)) + np.asarray(evidence)
    return Reviews(world.users[events], world.items[events], texts, favourable, 1 / (1 + np.exp(-log_odds)))


def _review(rng: np.random.Generator, label: bool, genre: int) -> tuple[str, float]:
    """One review and the log of its likelihood ratio, favourable to unfavourable."""
    sentences, log_odds = [], 0.0
    for _ in range(int(rng.integers(1, 4))):
        clause, odds = _clause(rng, label, PLAIN)
        sentences.append(clause)
        log_odds += odds
    if rng.random() < 0.6:
        first, odds_first = _clause(rng, label, BEFORE_BUT)
        second, odds_second = _clause(rng, label, AFTER_BUT)
        sentences.append(f"{first} , but {second}")
        log_odds += odds_first + odds_second
    for _ in range(int(rng.integers(0, 3))):
        filler = _FILLERS[rng.integers(len(_FILLERS))]
        sentences.append(filler.format(d=_DAYS[rng.integers(len(_DAYS))], g=GENRES[genre].lower()))
    order = rng.permutation(len(sentences))
    return " . ".join(sentences[i] for i in order) + " .", log_odds


def _clause(rng: np.random.Generator, label: bool, reliability: float) -> tuple[str, float]:
    sentiment = label if rng.random() < reliability else not label
    negated = rng.random() < NEGATED
    words = _GOOD if sentiment != negated else _BAD
    phrase = words[rng.integers(len(words))]
    if negated:
        phrase = _NEGATIONS[rng.integers(len(_NEGATIONS))].format(phrase)
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    odds = float(np.log(reliability / (1 - reliability)))
    return frame.format(a=_ASPECTS[rng.integers(len(_ASPECTS))], p=phrase), odds if sentiment else -odds
