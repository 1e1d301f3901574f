"""What a language model writes when it is tested, measured beside what the test part itself has of the same length."""

from collections.abc import Sequence

from marquee.data.tokens.coding import BOUNDARY, UNKNOWN
from marquee.data.tokens.dataset import TokenData
from marquee.inference.sampling import SETTINGS, in_double, write
from marquee.metrics.written import words, written_metrics
from marquee.models.language import LanguageModel

STREAMS = 4  # samples side by side: one alone may be caught in a loop
SEED = 0  # of all samples that are measured, whatever the run's seed


class TestText:
    """Stands among the baselines for the test part's own text, which has no likelihood."""


class Writing:
    """Makes and measures samples of `characters` characters in all, STREAMS of equal length, at temperature 1.

    Documents follow each other in a sample as in training, and so they do in the stretches of the test part.
    """

    def __init__(self, data: TokenData, characters: int):
        self.data, self.length = data, max(characters // STREAMS, 1)
        train = data.texts("train")
        self._words = {word for text in train for word in words(text)}
        self._passages, self._known = data.passages(), data.known()
        self._per_token = sum(map(len, train)) / max(len(data.streams["train"].tokens), 1)

    def of_model(self, model: LanguageModel) -> list[list[str]]:
        """The documents of each sample."""
        tokens = max(round(1.2 * self.length / self._per_token), 1)
        settings = {name: default for name, (default, *_) in SETTINGS.items()} | {"tokens": tokens}
        never = [UNKNOWN] if self.data.ends else [UNKNOWN, BOUNDARY]
        streams = [(SEED, index) for index in range(STREAMS)]
        return [
            self._documents(sample.tokens) for sample in write(in_double(model), [BOUNDARY], streams, settings, never)
        ]

    def _documents(self, tokens: Sequence[int]) -> list[str]:
        parts: list[list[int]] = [[]]
        for token in tokens:
            if token == BOUNDARY:
                parts.append([])
            else:
                parts[-1].append(token)
        return self.cut([self.data.coding.decode(part) for part in parts])

    def of_test(self) -> list[list[str]]:
        """Stretches of the test part, as long as the samples and spread over it; documents are begun at their head."""
        texts = self.data.texts("test")
        if len(texts) >= STREAMS:
            return [self.cut(texts[len(texts) * index // STREAMS :]) for index in range(STREAMS)]
        joined = "".join(texts)
        step = max(len(joined) // STREAMS, 1)
        return [self.cut([joined[index * step :]]) for index in range(STREAMS)]

    def cut(self, documents: Sequence[str]) -> list[str]:
        """The documents up to the sample's length; the last of them ends wherever that is."""
        found, left = [], self.length
        for document in documents:
            if left <= 0:
                break
            found.append(document[:left])
            left -= len(document)
        return found

    def measure(self, samples: Sequence[Sequence[str]]) -> dict[str, float]:
        """Metrics of `written_metrics` and of the form. Where the form is that of a whole document, only those count
        that have an end."""
        texts = ["\n".join(documents) for documents in samples]
        whole = [document for documents in samples for document in documents[:-1]]
        checked = whole if self.data.form.of_whole_documents else [text for documents in samples for text in documents]
        return written_metrics(
            texts, self._words, lambda text: self._passages.longest(text).length,
            lambda: self.data.check(checked, self._known),
        )  # fmt: skip
