"""A guide through a catalogue: reads with one run what is wanted, recommends with another, says why by rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from marquee.errors import ConfigError
from marquee.inference.catalogue import Catalogue, parts
from marquee.inference.classifier import ClassPredictor
from marquee.inference.conversation import Claim, Turn, Wish, decade_in, spaced
from marquee.inference.phrases import CHINESE, ENGLISH
from marquee.inference.recommender import RecommendPredictor
from marquee.inference.tagger import SlotPredictor

INTENTS = (
    "recommend", "like", "reject", "lighter", "heavier", "explain", "details", "greet", "thanks", "abuse", "oos",
)  # fmt: skip
LONGEST = 1000  # characters of a message that are read
FLOOR = 0.5  # below this probability of the likeliest intent a message counts as out of scope


class Guide:
    """A conversation with one visitor: `answer` takes a message and returns the Turn.

    reader       a run with the intents of data=world_requests
    catalogue    what is talked about
    recommender  a run over the same items, which ranks by what was liked; without one, or where nothing was liked yet,
                 what most others have chosen or rated comes first
    moderator    a run on texts; what it gives one of `refused` classes is not taken up

    It asks when nothing is known of the visitor, and otherwise offers one item at a time. Every fact that it states is
    a Claim, read from a row of the catalogue. It draws nothing at random, so the same messages get the same replies.

    Raises ConfigError where a run does not do what it is given for.
    """

    def __init__(
        self,
        reader: SlotPredictor,
        catalogue: Catalogue,
        recommender: RecommendPredictor | None = None,
        moderator: ClassPredictor | None = None,
        refused: Sequence[str] = ("hate", "offensive"),
    ):
        if not isinstance(reader, SlotPredictor) or (missing := set(INTENTS) - set(reader.labels)):
            what = f"lacks {', '.join(sorted(missing))}" if isinstance(reader, SlotPredictor) else "finds no slots"
            raise ConfigError(
                f"chat reads its visitors with a run of data=world_requests, and this run {what}.\n"
                "  fix: marquee train data=world_requests"
            )
        if recommender is not None and not isinstance(recommender, RecommendPredictor):
            raise ConfigError(f"--recommender: this run {recommender.does}. Name one that recommends items.")
        if moderator is not None and not set(refused) & set(getattr(moderator, "labels", ())):
            raise ConfigError(
                f"--moderator: this run has none of the classes {', '.join(refused)}.\n"
                "  fix: marquee train data=hate_speech"
            )
        self.reader, self.catalogue, self.recommender = reader, catalogue, recommender
        self.moderator, self.refused = moderator, tuple(refused)
        self.phrases: Mapping[str, str] = CHINESE if reader.tokenizer.kind == "char" else ENGLISH
        self.between = "" if self.phrases is CHINESE else " "
        self.wish = Wish()
        self.known = _popularity(catalogue, recommender)

    def answer(self, said: str) -> Turn:
        """The reply to a message, and from now on what it told."""
        message = " ".join("".join(c if c.isprintable() else " " for c in said[:LONGEST]).split())
        if not message:
            return Turn(message, "empty", 1.0, (), self.phrases["empty"])
        intent, probability, slots = self.reader.read(spaced(message))
        slots = self._heard(message, intent, slots)
        probability = round(probability, 6)
        if probability < FLOOR or intent not in INTENTS:  # a reader of one's own may know more
            intent = "oos"
        if self.moderator is not None and self.moderator.predict([message])["label"][0] in self.refused:
            intent = "abuse"
        words, claims = getattr(self, f"_{intent}")(slots)
        return Turn(message, intent, probability, tuple(slots), self.between.join(words), tuple(claims))

    def _heard(self, message: str, intent: str, slots: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Slots as the catalogue knows them: a title or a decade that the reader has never seen is one all the same."""
        if intent == "recommend":
            found = [decade_in(value) for name, value in slots if name == "decade"] or [decade_in(message)]
            return [slot for slot in slots if slot[0] != "decade"] + [("decade", own) for own in found if own]
        if intent not in ("like", "reject", "details"):
            return list(slots)
        # A title of one word that sentences are made of, as It or Up, counts where the reader takes it for a title.
        named = [
            (row, words)
            for row, words in self.catalogue.mentioned(message)
            if len(words) > 1 or not self.reader.knows(words[0])
        ]
        there = {word for _, words in named for word in words}
        slots = [slot for slot in slots if slot[0] != "title" or not there & set(parts(slot[1].casefold()))]
        slots += [("title", self.catalogue.titles[row]) for row, _ in named]
        if self.between and not any(name == "title" for name, _ in slots):
            # What nobody knows is a title where one is liked, and elsewhere where it is written as a name.
            strange = [word for place, word in enumerate(parts(message)) if not self.reader.knows(word)
                       and (intent == "like" or (place and word[0].isupper()))]  # fmt: skip
            slots += [("title", " ".join(strange))] if strange else []
        return slots

    # What each intent does: the sentences of the reply, and the facts in them ----------------------------------------

    def _greet(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        words, claims = self._ask()
        return [self.phrases["greet"].format(n=len(self.catalogue)), *words], claims

    def _recommend(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        wish = self.wish
        named = [value for name, value in slots if name == "kind"]
        for kind in named:
            if not self.catalogue.of_kind(kind).any():
                kinds = ", ".join(self.catalogue.common_kinds())
                return [self.phrases["no kind"].format(kind=kind, kinds=kinds or self.catalogue.titles[0])], []
        decade = next((value for name, value in slots if name == "decade"), None)
        if named or decade:  # another wish: what was lighter than something else counts no more
            wish.lighter_than = wish.heavier_than = None
        wish.kinds, wish.decade = named or wish.kinds, decade or wish.decade
        if not (wish.liked or wish.kinds or wish.decade or wish.asked):
            return self._ask()
        return self._offer()

    def _like(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        words, claims = [], []
        for name in [value for slot, value in slots if slot == "title"]:
            row, _ = self.catalogue.find(name)
            if row is None:
                words += self._unknown(name)
                continue
            if row not in self.wish.liked:
                self.wish.liked.append(row)
            self.wish.lighter_than = self.wish.heavier_than = None
            words.append(self.phrases["liked"].format(title=self.catalogue.titles[row]))
            claims.append(self._claim(row, self.catalogue.title_column))
        if not claims:
            return (words, []) if words else self._ask()
        offered, more = self._offer()
        return words + offered, claims + more

    def _reject(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        said = [value for slot, value in slots if slot == "title"]
        rows: list[int | None] = [row for row in (self.catalogue.find(name)[0] for name in said) if row is not None]
        if said and not rows:  # not to be taken for what was offered
            return self._unknown(said[0]), []
        rows, words = rows or [self.wish.offered], []
        for row in rows:
            if row is None:
                return self._recommend(())
            self.wish.rejected.add(row)
            words.append(self.phrases["rejected"].format(title=self.catalogue.titles[row]))
        offered, claims = self._offer()
        return words + offered, claims

    def _lighter(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        return self._by_weight("lighter_than")

    def _heavier(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        return self._by_weight("heavier_than")

    def _by_weight(self, bound: str) -> tuple[list[str], list[Claim]]:
        if self.catalogue.weights is None:
            return [self.phrases["no weight"]], []
        if self.wish.offered is None:
            return self._recommend(())
        self.wish.lighter_than = self.wish.heavier_than = None
        setattr(self.wish, bound, self.wish.offered)
        self.wish.rejected.add(self.wish.offered)
        self.wish.kinds = []  # a kind goes with its weight
        return self._offer()

    def _explain(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        if self.wish.offered is None:
            return [self.phrases["no title yet"]], []
        return self.wish.why  # as it was then: what fits has changed since

    def _details(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        row = self.wish.offered
        for name in [value for slot, value in slots if slot == "title"][:1]:
            row, _ = self.catalogue.find(name)
            if row is None:
                return self._unknown(name), []
        if row is None:
            return [self.phrases["no title yet"]], []
        columns = [name for name in self.catalogue.facts if name not in ("item_id", self.catalogue.title_column)]
        known = [name for name in columns if self.catalogue.fact(row, name) is not None]
        if not known:
            return [self.phrases["no fact"].format(title=self.catalogue.titles[row])], []
        claims = [self._claim(row, self.catalogue.title_column), *(self._claim(row, name) for name in known)]
        facts = [self.phrases["fact"].format(column=claim.column, value=claim.value) for claim in claims[1:]]
        return [self.phrases["facts"].format(title=self.catalogue.titles[row]), *facts], claims

    def _thanks(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        self.wish = Wish(rejected=self.wish.rejected)
        return [self.phrases["thanks"]], []

    def _abuse(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        return [self.phrases["abuse"]], []

    def _oos(self, slots: Sequence[tuple[str, str]]) -> tuple[list[str], list[Claim]]:
        return [self.phrases["oos"]], []

    def _unknown(self, name: str) -> list[str]:
        _, near = self.catalogue.find(name)
        told = [self.phrases["near"].format(titles=", ".join(near))] if near else []
        return [self.phrases["unknown"].format(name=name), *told]

    # Asking, choosing, giving reasons --------------------------------------------------------------------------------

    def _ask(self) -> tuple[list[str], list[Claim]]:
        self.wish.asked = True
        kinds = ", ".join(self.catalogue.common_kinds())
        return [self.phrases["ask"].format(kinds=kinds) if kinds else self.phrases["ask plain"]], []

    def _offer(self) -> tuple[list[str], list[Claim]]:
        """The best item that fits the wish, which from then on is not offered again."""
        wish, catalogue = self.wish, self.catalogue
        fits = catalogue.named.copy()
        fits[[*wish.liked, *wish.rejected]] = False
        if wish.kinds:
            fits &= np.logical_or.reduce([catalogue.of_kind(kind) for kind in wish.kinds])
        if wish.decade:
            fits &= (catalogue.years() // 10) * 10 == int(wish.decade[:4])
        weights = catalogue.weights
        if weights is not None and wish.lighter_than is not None:
            fits &= weights < weights[wish.lighter_than]
        if weights is not None and wish.heavier_than is not None:
            fits &= weights > weights[wish.heavier_than]
        rows = np.flatnonzero(fits)
        if not len(rows):
            what = ", ".join([*wish.kinds, *([wish.decade] if wish.decade else [])])
            wish.kinds, wish.decade, wish.lighter_than, wish.heavier_than = [], None, None, None
            return [self.phrases["none"].format(what=f" ({what})" if what else "")], []
        row = self._best(rows)
        wish.offered = row
        wish.rejected.add(row)
        claims = [self._claim(row, catalogue.title_column)]
        words, more = wish.why = self._reasons(row)
        return [self.phrases["offer"].format(title=catalogue.titles[row]), *words[:1]], claims + more[: len(words[:1])]

    def _best(self, rows: np.ndarray) -> int:
        if self.recommender is not None and self.wish.liked and self.recommender.model.scores_unseen_users:
            ids = [self.catalogue.ids[row] for row in self.wish.liked]
            candidates = [self.catalogue.ids[row] for row in rows]
            table = self.recommender.recommend(histories=[ids], k=1, candidates=candidates)
            if len(table):
                return self.catalogue.ids.index(table["item_id"].iloc[0])
        return int(rows[np.argmax(self.known[rows])])

    def _reasons(self, row: int) -> tuple[list[str], list[Claim]]:
        """Why an item, a sentence and a claim each, the strongest first."""
        wish, catalogue, words, claims = self.wish, self.catalogue, [], []

        def because(phrase: str, column: str, **facts: Any) -> None:
            claim = self._claim(row, column)
            words.append(self.phrases[phrase].format(value=claim.value, **facts))
            claims.append(claim)

        for phrase, other in (("lighter", wish.lighter_than), ("heavier", wish.heavier_than)):
            if other is not None:
                because(phrase, self._weight_column(), title=catalogue.titles[other])
        own = {kind.casefold() for kind in catalogue.kinds(row)}
        if wish.kinds:
            because("kind", catalogue.kind_column or catalogue.title_column)
        if wish.decade:
            because("decade", "year" if "year" in catalogue.facts else catalogue.title_column, decade=wish.decade)
        for liked in wish.liked[::-1]:
            if shared := [kind for kind in catalogue.kinds(liked) if kind.casefold() in own]:
                because("shared", catalogue.kind_column, kinds=", ".join(shared), title=catalogue.titles[liked])
                break
        if self.recommender is not None and wish.liked and self.recommender.model.scores_unseen_users:
            because("scored", catalogue.title_column, titles=", ".join(catalogue.titles[liked] for liked in wish.liked))
        elif self.recommender is not None:
            words.append(self.phrases["watched"].format(value=int(self.known[row])))
            claims.append(Claim(catalogue.ids[row], catalogue.titles[row], "interactions", str(int(self.known[row]))))
        elif self.known[row] > 0:
            because("rated", "评分")
        elif not words:
            because("first", catalogue.title_column)
        return words, claims

    def _weight_column(self) -> str:
        for name in ("weight", "游玩时间"):
            if name in self.catalogue.facts:
                return name
        return self.catalogue.kind_column or self.catalogue.title_column

    def _claim(self, row: int, column: str) -> Claim:
        catalogue = self.catalogue
        return Claim(catalogue.ids[row], catalogue.titles[row], column, catalogue.fact(row, column) or "")


def _popularity(catalogue: Catalogue, recommender: RecommendPredictor | None) -> np.ndarray:
    """What comes first where nothing is known of a visitor: float64 [rows]."""
    if recommender is not None:
        return np.bincount(recommender.known.items, minlength=len(catalogue)).astype(float)
    if "评分" in catalogue.facts:
        return pd.to_numeric(catalogue.facts["评分"], errors="coerce").fillna(0).to_numpy(float)
    return np.zeros(len(catalogue))
