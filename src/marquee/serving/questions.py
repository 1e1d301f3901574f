"""What may be asked: the bodies of requests, by which they are checked and documented."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from marquee.serving.refusals import Refusal
from marquee.serving.settings import Settings

EXPLAINED = 8  # users or texts of a request: each costs the model as much as fifty without a reason
MOST_ITEMS = 50_000  # in an answer

Name = Annotated[int | str, Field(description="an id, or a title")]
Value = str | int | float | bool | None | list[str | int | float]


class Question(BaseModel):
    """Unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Recommend(Question):
    """One of user, users, history, histories, or features (with a history, where there is one)."""

    user: Name | None = Field(None, description="a known user")
    users: list[Name] | None = Field(None, description="known users")
    history: list[Name] | None = Field(None, description="items that somebody liked, oldest first")
    histories: list[list[Name]] | None = Field(None, description="of several people")
    features: dict[str, Value] | None = Field(None, description="what is known of somebody new, by column")
    k: int = Field(10, ge=1, description="how many items for each")
    candidates: list[Name] | None = Field(None, description="nothing else is recommended")
    exclude: list[Name] = Field([], description="these are not recommended")
    filter_seen: bool | None = Field(None, description="leave the history out; null: as the run was judged")
    explain: bool = Field(False, description="say which titles of the history speak for each item")

    def asked(self, settings: Settings) -> list[dict[str, Any]]:
        """Who is asked for, one by one. Raises Refusal for none, for several ways at once, and for too many."""
        named = {name: getattr(self, name) for name in ("user", "users", "history", "histories")}
        ways = {name: value for name, value in named.items() if value is not None}
        if self.features is not None:
            if set(ways) - {"history"}:
                raise Refusal(400, "invalid", f"features are of somebody new: leave {', '.join(ways)} out.")
            who = [{"features": self.features, "history": self.history or []}]
        elif len(ways) != 1:
            told = f"{' and '.join(ways)} were given" if ways else "none was given"
            raise Refusal(400, "invalid", f"Give one of user, users, history, histories, features; {told}.")
        else:
            ((way, value),) = ways.items()
            many = value if way in ("users", "histories") else [value]
            who = [{way.replace("users", "user").replace("histories", "history"): one} for one in many]
        _at_most("users or histories", len(who), settings.max_rows)
        _at_most("k", self.k, settings.max_k)
        _at_most("items of all answers", self.k * len(who), MOST_ITEMS)
        if self.explain:
            _at_most("users or histories that are explained", len(who), EXPLAINED)
        lists = [*(self.histories or []), self.history or [], self.candidates or [], self.exclude]
        _at_most("items of a list", max(map(len, lists)), settings.max_list)
        return who

    def how(self) -> dict[str, Any]:
        return {
            "k": self.k, "candidates": self.candidates, "exclude": self.exclude, "filter_seen": self.filter_seen,
        }  # fmt: skip


class Predict(Question):
    """Texts, or images as base64; an image alone may be the whole body, of the type image/..."""

    texts: list[str] | None = Field(None, description="for a run that labels texts")
    images: list[str] | None = Field(None, description="for a run that labels images: base64, or data URLs")
    explain: bool = Field(
        False, description="say which words of a text spoke for or against its label; null where the model does not "
        "add up words and the extra `explain` is not installed",
    )  # fmt: skip

    def inputs(self, takes: str, settings: Settings) -> list[str]:
        """Raises Refusal where it is not what the run labels, or too much of it."""
        wanted, other = (self.texts, self.images) if takes == "text" else (self.images, self.texts)
        if wanted is None or other is not None:
            raise Refusal(400, "invalid", f"This run classifies {takes}s: give {takes}s, a list, and nothing else.")
        _at_most(f"{takes}s", len(wanted), settings.max_rows)
        if takes == "text":
            _at_most("characters of a text", max(map(len, wanted), default=0), settings.max_text)
            if self.explain:
                _at_most("texts that are explained", len(wanted), EXPLAINED)
        return wanted


class Generate(Question):
    """What is written, composed or drawn; settings are those that the run takes (see /v1/run)."""

    n: int = Field(1, ge=1, le=64, description="how many")
    seed: int = Field(1, ge=0, lt=2**63, description="of the random streams")
    format: str | None = Field(None, description="one of the run's; null: the first")
    settings: dict[str, str | int | float | bool | list[str]] = Field({}, description="prompt, temperature, ...")

    def refuse_long(self, takes: Mapping[str, Any], settings: Settings) -> None:
        """Raise Refusal for more than a service writes at once; `takes` are the run's settings with their defaults."""
        for name in ("tokens", "frames"):
            value = self.settings.get(name, takes.get(name, 0))
            if isinstance(value, (int, float)):
                _at_most(f"{name} of all samples", value * self.n, settings.max_tokens)
        _at_most("characters of the prompt", len(str(self.settings.get("prompt", ""))), settings.max_text)


class Reply(Question):
    """What was said, oldest turn first, and the replies to choose from."""

    to: list[str] = Field(min_length=1, max_length=100)
    candidates: list[str] = Field(min_length=1, max_length=1000)
    k: int = Field(5, ge=1, le=1000)


class Advise(Question):
    """A position of the run's game, as `marquee advise` takes it."""

    position: str = Field(max_length=1000)


class Chat(Question):
    """All messages of a visitor so far, oldest first: the service remembers nobody."""

    messages: list[str] = Field(min_length=1, max_length=50)


class Reload(Question):
    """Take over the newest run that the name means."""

    force: bool = Field(False, description="also one of another protocol, or that is significantly worse")


def _at_most(what: str, found: float, most: int) -> None:
    if found > most:
        raise Refusal(400, "too_many", f"{what}: {found:g}, and this service takes up to {most:,}.")
