"""Scenes of a screenplay, written by a grammar in a hidden mood, with the exact probability of every next character.

A scene has a heading and speeches; who speaks depends on who spoke before. What is said depends on a mood that nobody
sees and that may change after each speech. Every text can be read in one way only: its characters lead through the
grammar's states without a choice. So the moods alone are uncertain, and the forward algorithm (Rabiner 1989, section
III.A) gives P(next character | all before) exactly: the least bits per character that any model can need.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import Paths
from marquee.data.tokens.coding import BOUNDARY, Kind
from marquee.data.tokens.dataset import Corpus, TokenData, TokenSource
from marquee.data.tokens.views import ScoredWindows
from marquee.seeding import numpy_generator

VERSION = 1
N_SCENES = 700
MOODS = ("calm", "angry", "sad")
STAYS = 0.85  # of a mood from one speech to the next; else each of the others is as likely
ENDS = 0.11  # of a scene after each speech
DIRECTED = 0.22  # speeches with a stage direction

CAST = "MARA BRUNO IDA OTTO LENA".split()
PLACES = "KITCHEN|STATION|GARDEN|OFFICE|HARBOUR|ATTIC|STAGE|RIVERSIDE".split("|")
TIMES = "DAY NIGHT DAWN".split()
# Each with its weight in each mood.
DIRECTIONS = {"smiling": (4, 0, 1), "pause": (2, 1, 3), "shouting": (0, 5, 0), "turning away": (1, 2, 4),
              "at the window": (3, 1, 2), "slowly": (2, 0, 3)}  # fmt: skip
SUBJECTS = {"I": (4, 4, 4), "you": (2, 5, 2), "we": (3, 1, 2), "they": (1, 3, 1), "nobody": (1, 1, 3)}
VERBS = {"like": (5, 0, 1), "know": (4, 2, 2), "found": (3, 1, 1), "remember": (2, 1, 5), "lost": (0, 2, 5),
         "hate": (0, 6, 1), "broke": (0, 5, 1), "sold": (1, 3, 2), "painted": (3, 0, 1), "miss": (0, 0, 5),
         "keep": (3, 1, 2), "stole": (0, 4, 1)}  # fmt: skip
ADJECTIVES = {"old": (3, 2, 4), "blue": (3, 1, 2), "damned": (0, 6, 0), "quiet": (3, 0, 3), "last": (1, 1, 4),
              "golden": (3, 0, 1), "empty": (0, 1, 4), "second": (2, 2, 1)}  # fmt: skip
NOUNS = {"letter": (2, 2, 4), "house": (3, 2, 3), "boat": (4, 1, 1), "key": (2, 3, 1), "song": (4, 0, 3),
         "train": (2, 2, 2), "piano": (3, 0, 2), "lie": (0, 5, 1), "film": (3, 2, 1), "photograph": (2, 1, 4),
         "garden": (3, 0, 2), "knife": (0, 4, 0), "winter": (0, 0, 4), "ticket": (2, 2, 1), "name": (1, 2, 2),
         "bottle": (1, 3, 2)}  # fmt: skip
MARKS = {".": (6, 2, 6), "!": (1, 6, 0), "?": (2, 3, 1), "...": (1, 0, 4)}
ADJECTIVE = (0.4, 0.3, 0.5)  # nouns with one
SECOND = (0.3, 0.2, 0.15)  # sentences that go on with ", and "

END = "\x00"


@dataclass(frozen=True)
class Law:
    """The grammar as states that characters lead between.

    characters  the alphabet, END first
    onwards     int32 [states, characters], the next state, -1 where a character cannot stand
    likely      float64 [states, characters, moods], P(character | state, mood)
    turns       bool [states], on whose entry the mood may change
    speeches    the states in which what is said begins
    """

    characters: str
    onwards: np.ndarray
    likely: np.ndarray
    turns: np.ndarray
    speeches: tuple[int, ...]

    def number(self, text: str) -> np.ndarray:
        """Characters as numbers, -1 for what is not in the alphabet."""
        places = {character: place for place, character in enumerate(self.characters)}
        return np.array([places.get(character, -1) for character in text], dtype=np.int64)


MIXING = np.full((3, 3), (1 - STAYS) / 2) + np.eye(3) * (STAYS - (1 - STAYS) / 2)


class _Builder:
    def __init__(self):
        self.edges: list[dict[str, tuple[int, np.ndarray]]] = []
        self.turns: list[int] = []

    def state(self) -> int:
        self.edges.append({})
        return len(self.edges) - 1

    def slot(self, start: int, options: dict[str, tuple[int, object]]) -> None:
        """From `start` any of `options`, text: (the state behind it, weights); no text may begin with another.

        Texts that begin alike share their way as long as they do.
        """
        for text, (target, weights) in options.items():
            here, weights = start, np.broadcast_to(np.asarray(weights, dtype=np.float64), (len(MOODS),))
            for place, character in enumerate(text):
                last = place == len(text) - 1
                known = self.edges[here].get(character)
                goal = target if last else known[0] if known else self.state()
                self.edges[here][character] = (goal, weights + (known[1] if known else 0))
                here = goal


@lru_cache(maxsize=1)
def law() -> Law:
    build = _Builder()
    start, place, over = build.state(), build.state(), build.state()
    speakers = {name: build.state() for name in ("", *CAST)}  # who speaks, after whom
    build.slot(start, {f"INT. {name} - ": (place, 1 + index % 3) for index, name in enumerate(PLACES)})
    build.slot(place, {f"{name}\n\n": (speakers[""], 1) for name in TIMES})
    speeches = []
    for index, name in enumerate(CAST):
        speech, words = build.state(), build.state()
        speeches += [speech, words]
        _sentence(build, speech, words, speakers[name])
        for before, state in speakers.items():
            if before != name:
                answers = bool(before) and (CAST.index(before) + 1) % len(CAST) == index
                build.slot(state, {f"{name}:\n": (speech, 4 if answers else 1)})
        # After the first, a scene may be over instead; the others' weights add up to 7.
        build.slot(speakers[name], {END: (over, 7 * ENDS / (1 - ENDS))})
        build.turns.append(speakers[name])
    characters = END + "".join(sorted({c for edges in build.edges for c in edges} - {END}))
    n = len(build.edges)
    onwards = np.full((n, len(characters)), -1, dtype=np.int32)
    likely = np.zeros((n, len(characters), len(MOODS)))
    for state, edges in enumerate(build.edges):
        for character, (target, weights) in edges.items():
            column = characters.index(character)
            onwards[state, column], likely[state, column] = target, weights
    total = likely.sum(1, keepdims=True)
    likely = np.divide(likely, total, out=np.zeros_like(likely), where=total > 0)
    turns = np.zeros(n, dtype=bool)
    turns[build.turns] = True
    return Law(characters, onwards, likely, turns, tuple(speeches))


def _sentence(build: _Builder, speech: int, words: int, after: int) -> None:
    """`speech`: a direction or none, then `words`: one clause or two, a mark, and on to `after`."""
    rest = {f"{text} ": weights for text, weights in SUBJECTS.items()}
    first, second = build.state(), build.state()
    # A direction begins with a bracket and a subject with a letter, so that both may stand in one slot.
    share = DIRECTED / (1 - DIRECTED) * np.sum(list(rest.values()), axis=0)
    directions = np.sum(list(DIRECTIONS.values()), axis=0)
    build.slot(speech, {f"[{text}]\n": (words, share * np.array(w) / directions) for text, w in DIRECTIONS.items()})
    for state in (speech, words):
        build.slot(state, {text: (first, weights) for text, weights in rest.items()})
    for state, may_go_on in ((first, True), (second, False)):
        object_, noun = build.state(), build.state()
        build.slot(state, {f"{text} the ": (object_, weights) for text, weights in VERBS.items()})
        adjectives, nouns = (np.sum(list(table.values()), axis=0) for table in (ADJECTIVES, NOUNS))
        odds = np.array(ADJECTIVE) / (1 - np.array(ADJECTIVE))
        build.slot(
            object_, {f"{text} ": (noun, odds * np.array(w) / adjectives * nouns) for text, w in ADJECTIVES.items()}
        )
        for which in (object_, noun):
            _nouns(build, which, may_go_on, second, after)


def _nouns(build: _Builder, start: int, may_go_on: bool, second: int, after: int) -> None:
    """A noun, with what follows it: a mark that ends the speech, or a comma and the second clause's subject."""
    odds = np.array(SECOND) / (1 - np.array(SECOND)) if may_go_on else np.zeros(3)
    marks = np.sum(list(MARKS.values()), axis=0)
    options = {}
    for noun, weights in NOUNS.items():
        for text, w in MARKS.items():
            options[f"{noun}{text}\n\n"] = (after, np.array(weights) * np.array(w) / marks)
        if may_go_on:
            for subject, w in SUBJECTS.items():
                total = np.sum(list(SUBJECTS.values()), axis=0)
                options[f"{noun}, and {subject} "] = (second, np.array(weights) * odds * np.array(w) / total)
    build.slot(start, options)


@lru_cache(maxsize=2)
def write(seed: int, n: int = N_SCENES) -> tuple[str, ...]:
    """`n` different draws of a scene."""
    rules, rng = law(), numpy_generator(seed, "world/scripts")
    state, mood = np.zeros(n, dtype=np.int64), rng.integers(0, len(MOODS), n)
    running, columns = np.ones(n, dtype=bool), []
    heights = rules.likely.cumsum(1)
    while running.any():
        drawn = rng.random(n)
        of_mood = heights[state, :, mood]
        chosen = (of_mood <= drawn[:, None] * of_mood[:, -1:]).sum(1).clip(max=len(rules.characters) - 1)
        columns.append(np.where(running, chosen, 0))
        running &= chosen != 0
        state = np.where(running, rules.onwards[state, chosen], 0)
        turning = running & rules.turns[state]
        mood = np.where(turning, (MIXING[mood].cumsum(1) <= rng.random(n)[:, None]).sum(1).clip(max=2), mood)
    codes = np.stack(columns, axis=1)
    lengths = (codes != 0).sum(1)
    alphabet = np.array(list(rules.characters))
    return tuple("".join(alphabet[row[:length]]) for row, length in zip(codes, lengths))


def log_probabilities(texts: list[str]) -> list[np.ndarray]:
    """log P of each character of each text and of its end, [length + 1], given all before it; -inf against the law."""
    rules = law()
    lengths = np.array([len(text) for text in texts])
    codes = np.zeros((len(texts), int(lengths.max()) + 1), dtype=np.int64)
    for row, text in enumerate(texts):
        codes[row, : len(text)] = rules.number(text)
    state = np.zeros(len(texts), dtype=np.int64)
    belief = np.full((len(texts), len(MOODS)), 1 / len(MOODS))
    found = np.full(codes.shape, -np.inf)
    for place in range(codes.shape[1]):
        code = np.maximum(codes[:, place], 0)
        joint = belief * rules.likely[state, code] * (codes[:, place] >= 0)[:, None]
        p = joint.sum(1)
        with np.errstate(divide="ignore"):
            found[:, place] = np.log(p)
        belief = np.divide(joint, p[:, None], out=np.full_like(joint, 1 / len(MOODS)), where=p[:, None] > 0)
        # Past the end, or against the law, it does not matter where one stands.
        state = np.maximum(rules.onwards[state, code], 0)
        belief = np.where(rules.turns[state][:, None], belief @ MIXING, belief)
        dead = p <= 0
        codes[dead, place + 1 :] = -1
    return [row[: length + 1] for row, length in zip(found, lengths)]


def lawful(speech: str) -> bool:
    """Whether the grammar can write what is said in a speech, without its speaker."""
    rules = law()
    states = set(rules.speeches[:2])
    for code in rules.number(f"{speech}\n\n").tolist():
        states = {int(rules.onwards[state, code]) for state in states if code >= 0} - {-1}
    return any(rules.turns[state] for state in states)


class WorldScript(TokenData):
    """Scenes of the embedded grammar, a scene a document; what their characters cost at least is known."""

    licence = "made by Marquee, Apache-2.0"
    form_name = "script"

    def __init__(
        self,
        *,
        seed: Annotated[int, Ge(0)] = 1,
        scenes: Annotated[int, Ge(30)] = N_SCENES,
        tokenizer: Kind = "char",
        vocabulary_size: Annotated[int, Ge(258)] = 400,
    ):
        super().__init__(tokenizer=tokenizer, vocabulary_size=vocabulary_size)
        self.seed, self.scenes = seed, scenes

    def source(self, paths: Paths) -> TokenSource:
        key = {"seed": self.seed, "scenes": self.scenes, "world": VERSION}

        def read() -> Corpus:
            texts = write(self.seed, self.scenes)
            return Corpus(texts, [f"scene {number}" for number in range(1, len(texts) + 1)])

        return TokenSource("world_script", key, read)

    def known(self) -> dict[str, list[str]]:
        speeches = {speech for text in self.texts("train") for speech in _speeches(text)}
        return {**super().known(), "speeches": sorted(speeches)}

    @property
    def checks(self) -> tuple[str, ...]:
        return (*self.form.checks, "lawful_lines", "new_lawful_lines")

    def check(self, texts: list[str], known: dict[str, list[str]]) -> dict[str, float]:
        """lawful_lines: speeches that the grammar can write; new_lawful_lines: those of them that training has not, as
        a share of all. The last speech of a text, which may be cut, does not count."""
        said, seen = [speech for text in texts for speech in _speeches(text)], set(known["speeches"])
        found = super().check(texts, known)
        if said:
            good = [lawful(speech) for speech in said]
            found["lawful_lines"] = sum(good) / len(said)
            found["new_lawful_lines"] = sum(ok and s not in seen for ok, s in zip(good, said)) / len(said)
        return found

    def oracle(self) -> "LawOracle":
        return LawOracle(self)


def _speeches(text: str) -> list[str]:
    """What is said in each paragraph that has a speaker, the last paragraph left out."""
    paragraphs = [paragraph.partition("\n") for paragraph in text.split("\n\n")[:-1]]
    return [said for head, _, said in paragraphs if head.endswith(":")]


class LawOracle:
    """The exact log-likelihood of each token of the test part, of whatever characters the token consists."""

    def __init__(self, data: WorldScript):
        stream = data.streams["test"]
        exact = np.concatenate(log_probabilities(data.texts("test")))  # a document's characters, then its end
        ends = stream.tokens[1:] == BOUNDARY
        document = np.cumsum(ends) - ends
        begins = stream.places[1:] + document + ends
        self.table = torch.from_numpy(np.concatenate([[0.0], np.add.reduceat(exact, begins)]))

    def log_likelihood(self, batch: ScoredWindows) -> Tensor:
        return self.table[batch.places]
