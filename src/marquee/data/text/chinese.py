"""Chinese reviews with positive or negative sentiment: of hotels, of delivered meals, of goods from ten shelves."""

from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.data.text.tokenizer import Kind
from marquee.errors import DataError

CORPUS = "https://github.com/SophonPlus/ChineseNlpCorpus"
SENTIMENT = {"0": "negative", "1": "positive"}


class ChineseReviews(TextData):
    """A table with the columns label (1 for positive, 0 for negative) and review."""

    name: ClassVar[str]
    table: ClassVar[RawFile]
    columns: ClassVar[tuple[str, ...]] = ("review", "label")

    def source(self, paths: Paths) -> TextSource:
        path = find(self.table, paths, self.name)
        return TextSource(self.name, {"table": file_sha256(path)}, lambda: self.corpus(self._read(path)))

    def corpus(self, columns: Mapping[str, list[str]]) -> Corpus:
        """What the columns, by name, mean."""
        return Corpus(columns["review"], columns["sentiment"])

    def _read(self, path: Path) -> dict[str, list[str]]:
        values = read_records(path, {f"the column {name}": name for name in self.columns})
        columns = dict(zip(self.columns, values, strict=True))
        if unknown := sorted(set(columns["label"]) - set(SENTIMENT)):
            raise DataError(f"{path}: the label {unknown[0]!r} is neither 0 nor 1.")
        # The first review of a file may begin with a second byte-order mark; dots stand there as entities of HTML.
        columns["review"] = [unescape(review.lstrip("\ufeff")) for review in columns["review"]]
        return columns | {"sentiment": [SENTIMENT[label] for label in columns["label"]]}


class ChnSentiCorp(ChineseReviews):
    """7,766 hotel reviews, 5,322 of them positive (Tan & Zhang 2008); one is empty."""

    licence = "none stated; research use"
    name = "chnsenticorp"
    table = RawFile(
        tuple(f"{folder}ChnSentiCorp_htl_all.csv{gz}" for folder in ("chnsenticorp-htl/", "") for gz in (".gz", "")),
        origin=f"datasets/ChnSentiCorp_htl_all/ChnSentiCorp_htl_all.csv at {CORPUS}",
    )


class Waimai(ChineseReviews):
    """11,987 reviews of delivered meals, 4,000 of them positive."""

    licence = "none stated; research use"
    name = "waimai"
    table = RawFile(
        tuple(f"{folder}waimai_10k.csv{gz}" for folder in ("waimai-10k/", "") for gz in (".gz", "")),
        origin=f"datasets/waimai_10k/waimai_10k.csv at {CORPUS}",
    )


class OnlineShopping(ChineseReviews):
    """62,774 reviews of goods and hotels: sentiment, or which of ten categories.

    The attributes `category` and `sentiment` are what the label is not.

    labels  sentiment: positive or negative, 31,728 and 31,046; category: ten, from 10,000 reviews to 575
    """

    licence = "none stated; research use"
    name = "online_shopping"
    table = RawFile(
        tuple(
            f"{folder}online_shopping_10_cats.{ending}"
            for folder in ("online-shopping-10-cats/", "")
            for ending in ("zip", "csv", "csv.gz")
        ),
        origin=f"datasets/online_shopping_10_cats/online_shopping_10_cats.zip at {CORPUS}",
    )
    columns = ("review", "label", "cat")

    def __init__(
        self,
        *,
        labels: Literal["sentiment", "category"] = "sentiment",
        tokenizer: Kind = "word",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
    ):
        super().__init__(
            tokenizer=tokenizer,
            lowercase=lowercase,
            punctuation=punctuation,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
        )
        self.labelled = labels

    def source(self, paths: Paths) -> TextSource:
        source = super().source(paths)
        return TextSource(source.name, {**source.key, "labels": self.labelled}, source.read)

    def corpus(self, columns: Mapping[str, list[str]]) -> Corpus:
        known = {"sentiment": columns["sentiment"], "category": columns["cat"]}
        return Corpus(columns["review"], known[self.labelled], attributes=known)
