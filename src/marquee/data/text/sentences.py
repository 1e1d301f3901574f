"""English sentences in one file a class: the short texts on which text classifiers have been compared since 2004."""

from typing import ClassVar

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.records import read_lines
from marquee.data.sources import RawFile, find
from marquee.data.text.dataset import Corpus, TextData, TextSource

CORNELL = "https://www.cs.cornell.edu/people/pabo/movie-review-data/"


class Sentences(TextData):
    """One sentence a line, one file a class. Papers report ten-fold cross-validation: split=stratified_k_fold."""

    name: ClassVar[str]
    files: ClassVar[dict[str, RawFile]]  # by class
    encodings: ClassVar[dict[str, str]]

    def source(self, paths: Paths) -> TextSource:
        found = {label: find(raw, paths, self.name) for label, raw in self.files.items()}

        def read() -> Corpus:
            texts, labels = [], []
            for label, path in found.items():
                lines = read_lines(path, self.encodings[label])
                texts += lines
                labels += [label] * len(lines)
            return Corpus(texts, labels)

        key = {"files": {label: file_sha256(path) for label, path in found.items()}, "encodings": self.encodings}
        return TextSource(self.name, key, read)


class RtPolarity(Sentences):
    """10,662 sentences of film reviews on Rotten Tomatoes, half of them positive.

    Pang & Lee 2005, "Seeing Stars", ACL (sentence polarity 1.0).
    """

    licence = "none stated; research use"
    name = "rt_polarity"
    files = {
        label: RawFile(
            (f"rt-polarity/rt-polarity.{ending}", f"rt-polaritydata/rt-polarity.{ending}"),
            origin=f"rt-polaritydata.tar.gz, sentence polarity dataset v1.0, at {CORNELL}",
        )
        for label, ending in (("negative", "neg"), ("positive", "pos"))
    }
    encodings = {"negative": "iso-8859-1", "positive": "iso-8859-1"}


class Subj(Sentences):
    """10,000 sentences on films: 5,000 of reviews, taken as subjective, and 5,000 of plots, taken as objective.

    Pang & Lee 2004, "A Sentimental Education", ACL (subjectivity 1.0).
    """

    licence = "none stated; research use"
    name = "subj"
    files = {
        label: RawFile(
            (f"subj/subj.{label}.gz", f"rotten_imdb/{original}", f"subj/{original}"),
            origin=f"rotten_imdb.tar.gz, subjectivity dataset v1.0, at {CORNELL}",
        )
        for label, original in (("objective", "plot.tok.gt9.5000"), ("subjective", "quote.tok.gt9.5000"))
    }
    encodings = {"objective": "utf-8", "subjective": "iso-8859-1"}
