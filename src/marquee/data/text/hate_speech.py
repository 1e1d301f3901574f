"""Tweets with hate speech, with offensive language, or with neither: content moderation with unbalanced classes.

Davidson et al. 2017, "Automated Hate Speech Detection and the Problem of Offensive Language", ICWSM. The labels have a
known bias: tweets in African American English are labelled offensive more often (Davidson et al. 2019).
"""

from html import unescape

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_records
from marquee.data.sources import RawFile, find
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.errors import DataError

CLASSES = {"0": "hate", "1": "offensive", "2": "neither"}
TABLE = RawFile(
    ("hate-speech-davidson/labeled_data.csv.gz", "hate-speech-davidson/labeled_data.csv", "labeled_data.csv"),
    origin="data/labeled_data.csv at https://github.com/t-davidson/hate-speech-and-offensive-language",
)


class HateSpeech(TextData):
    """24,783 tweets that three people or more have labelled: 1,430 hate, 19,190 offensive, 4,163 neither.

    The attribute `annotators` says whether all of them chose the label (agree) or some chose another (differ).
    """

    licence = "MIT"

    def source(self, paths: Paths) -> TextSource:
        path = find(TABLE, paths, "hate_speech")
        return TextSource("hate_speech", {"table": file_sha256(path)}, lambda: _read(path))


def _read(path) -> Corpus:
    names = ["class", "tweet", "count", "hate_speech", "offensive_language", "neither"]
    classes, tweets, count, *votes = read_records(path, {f"the column {name}": name for name in names})
    if unknown := sorted(set(classes) - set(CLASSES)):
        raise DataError(f"{path}: the class {unknown[0]!r} is not one of {', '.join(CLASSES)}.")
    most = [max(row, key=int) for row in zip(*votes)]
    annotators = ["agree" if int(most_votes) == int(of) else "differ" for most_votes, of in zip(most, count)]
    # Emoji and quotation marks stand there as entities of HTML.
    texts = [unescape(tweet) for tweet in tweets]
    return Corpus(texts, [CLASSES[name] for name in classes], attributes={"annotators": annotators})
