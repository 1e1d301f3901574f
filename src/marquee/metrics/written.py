"""What can be measured of a text that a model has written: variety, invented words, copies, and its form."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

# A Chinese character is a word of its own.
WORDS = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+(?:['\u2019][^\W_]+)?")
METRICS = ("distinct_1", "distinct_2", "distinct_3", "unknown_words", "longest_copy")


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return WORDS.findall(text.lower())


def distinct(tokens: Sequence[str], n: int) -> float | None:
    """distinct-n (Li et al. 2016, NAACL): different n-grams over all n-grams. It falls as a text grows."""
    grams = list(zip(*(tokens[start:] for start in range(n))))
    return len(set(grams)) / len(grams) if grams else None


def written_metrics(
    texts: Sequence[str], known_words: Collection[str], longest_copy: Callable[[str], int],
    check: Callable[[], dict[str, float]],
) -> dict[str, float]:  # fmt: skip
    """Metrics of samples of one length; what cannot be told of them is left out.

    distinct_n     of words, over all samples
    unknown_words  share of the words that training has not
    longest_copy   characters of the longest stretch that stands in training
    and what `check` says of the form
    """
    found: dict[str, Any] = {}
    tokens = [word for text in texts for word in words(text)]
    for n in (1, 2, 3):
        found[f"distinct_{n}"] = distinct(tokens, n)
    if tokens:
        found["unknown_words"] = sum(word not in known_words for word in tokens) / len(tokens)
    found["longest_copy"] = float(max(map(longest_copy, texts), default=0))
    return {name: float(value) for name, value in found.items() if value is not None} | check()
