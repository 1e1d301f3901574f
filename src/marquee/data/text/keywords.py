"""Keywords: the terms that tell the classes of the training part apart, and those that stand out in one text."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from marquee.data.text.characters import UNSPACED
from marquee.data.text.dataset import TextData
from marquee.data.text.ngrams import NGrams, frequent, tokens_of
from marquee.data.text.pieces import START
from marquee.data.text.store import PADDING, UNKNOWN

_BETWEEN = re.compile(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")

KEYWORDS = "keywords.csv"  # in the folder of a run on texts


def class_keywords(data: TextData, n: int = 20) -> pd.DataFrame:
    """The `n` words and word pairs of the training part that most speak for each class, best first.

    Columns: class, rank, term, score, c_tf_idf, count, texts (with the term, in the class). With tf the share of the
    class's words that are the term, f the term's count over all classes and A the mean number of words a class:

        c_tf_idf  sqrt(tf) * log(1 + A / f), class-based TF-IDF (Grootendorst 2022, "BERTopic", eq. 2); the root, the
                  author's option for data with stop words, keeps frequent words from the first places
        score     c_tf_idf less its mean over the other classes, by which the terms are ranked

    Terms of punctuation alone, with punctuation in them, or in a single text, are left out.
    """
    batch = frequent(NGrams(longest=2).batch(data, data.parts["train"]), 2)
    terms, counts, owners = batch.terms.numpy(), batch.counts.numpy(), batch.texts.numpy()
    labels, classes = batch.labels.numpy(), range(data.spec.n_classes)
    held = labels > 0 if data.spec.multilabel else labels[:, None] == np.arange(data.spec.n_classes)
    size = len(batch.keys)
    inside = [held[owners, number] for number in classes]
    of_class = np.stack([np.bincount(terms[own], counts[own], size) for own in inside], axis=1)
    texts = np.stack([np.bincount(terms[own], minlength=size) for own in inside], axis=1)

    words = np.maximum(of_class.sum(axis=0), 1)
    frequency = np.maximum(of_class.sum(axis=1, keepdims=True), 1)
    weight = np.sqrt(of_class / words) * np.log1p(words.mean() / frequency)
    others = (weight.sum(axis=1, keepdims=True) - weight) / max(len(classes) - 1, 1)
    tokens = tokens_of(batch.keys, data.spec.vocab_size).numpy()
    telling = (says_something(data.vocabulary)[tokens] | (tokens == PADDING)).all(axis=1)
    score = np.where(telling[:, None] & (of_class > 0), weight - others, -np.inf)

    tables = []
    for number in classes:
        best = np.argsort(-score[:, number], kind="stable")[:n]
        best = best[np.isfinite(score[best, number])]
        tables.append(
            pd.DataFrame(
                {
                    "class": data.spec.labels[number],
                    "rank": np.arange(1, len(best) + 1),
                    "term": terms_of(batch.keys[best], data.vocabulary),
                    "score": score[best, number],
                    "c_tf_idf": weight[best, number],
                    "count": of_class[best, number].astype(np.int64),
                    "texts": texts[best, number],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def text_keywords(
    tokens: Tensor, frequencies: np.ndarray, texts: int, vocabulary: Sequence[str], n: int
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The `n` words of one text (int64 [length]) with the highest TF-IDF, and the places of each in `tokens`.

    Columns: term, tf_idf, count. With `texts` training texts, of which d hold the word, which the text has k times:
    k * (1 + log((1 + texts) / (1 + d))), as scikit-learn has it before its normalisation. Words that training does not
    know, and punctuation, are left out.
    """
    found, counts = np.unique(tokens.numpy(), return_counts=True)
    kept = (found > UNKNOWN) & says_something([vocabulary[token] for token in found])
    found, counts = found[kept], counts[kept]
    score = counts * (1 + np.log((1 + texts) / (1 + frequencies[found])))
    best = np.argsort(-score, kind="stable")[:n]
    names = [written([vocabulary[token]]) for token in found[best]]
    table = pd.DataFrame({"term": names, "tf_idf": score[best], "count": counts[best]})
    return table, [np.flatnonzero(tokens.numpy() == token) for token in found[best]]


def terms_of(keys: Tensor, vocabulary: Sequence[str]) -> list[str]:
    """N-grams as one reads them, from their keys to the base of the vocabulary's size."""
    rows = tokens_of(keys, len(vocabulary)).tolist()
    return [written([vocabulary[token] for token in row if token != PADDING]) for row in rows]


def written(words: Iterable[str]) -> str:
    """Words behind each other as they are written: no space between Chinese characters, nor inside of a word."""
    words = list(words)
    if any(word.startswith(START) for word in words):  # pieces of words
        return "".join(words).replace(START, " ").strip()
    return _BETWEEN.sub("", " ".join(words))


def says_something(vocabulary: Sequence[str]) -> np.ndarray:
    """Which tokens hold a letter, a digit or a pictograph: bool [vocabulary]."""
    return np.array([any(c.isalnum() or unicodedata.category(c) == "So" for c in word) for word in vocabulary])


def class_weights(
    keys: Tensor, weights: Tensor, vocabulary: Sequence[str], labels: Sequence[str], n: int
) -> pd.DataFrame:
    """The `n` n-grams with the largest weight for each class, less the mean weight for the others.

    keys, weights  as `TermModel.term_weights` gives them. Columns: class, rank, term, score.
    """
    others = (weights.sum(dim=1, keepdim=True) - weights) / max(weights.shape[1] - 1, 1)
    lead, best = (weights - others).topk(min(n, len(keys)), dim=0)
    tables = [
        pd.DataFrame(
            {
                "class": label,
                "rank": range(1, len(best) + 1),
                "term": terms_of(keys[best[:, number]], vocabulary),
                "score": lead[:, number].numpy(),
            }
        )
        for number, label in enumerate(labels)
    ]
    return pd.concat(tables, ignore_index=True)
