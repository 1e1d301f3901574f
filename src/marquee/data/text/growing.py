"""Labelled texts that have come later: a data set with more training rows and the vocabulary that it had."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from marquee.data.text.dataset import TextData, content_hash
from marquee.data.text.store import TextStore
from marquee.data.text.tokenizer import encode, encoding_spec, word_numbers


def with_texts(data: TextData, texts: Sequence[str], labels: np.ndarray) -> TextData:
    """The data with texts (and labels as `data.labels` has them) behind its own, for training; `data` stays as it is.

    Words that training did not know stay unknown: a new vocabulary would be another model.
    """
    numbers = word_numbers(encoding_spec(data.vocabulary, data.tokenizer, data.spec.labels, data._merges))
    tokens, lengths = encode(texts, numbers, np.iinfo(np.int32).max, "head")
    flat = tokens[np.arange(tokens.shape[1]) < lengths.numpy()[:, None]].numpy()
    store, grown = data.store, copy(data)
    # The new texts are given as tokens, which stand behind the corpus' words as words of their own.
    grown.store = TextStore(
        np.concatenate([store.tokens, flat + len(store.word_ids)]).astype(np.int32),
        np.concatenate([store.offsets, store.offsets[-1] + np.cumsum(lengths.numpy())]),
        np.concatenate([store.word_ids, np.arange(len(data.vocabulary))]).astype(np.int32),
    )
    encoded = [text.encode("utf-8", "replace") for text in texts]
    grown._texts = np.concatenate([data._texts, np.frombuffer(b"".join(encoded), dtype=np.uint8)])
    grown._ends = np.concatenate([data._ends, data._ends[-1] + np.cumsum([len(text) for text in encoded])])
    grown.labels = np.concatenate([data.labels, labels])
    new = np.arange(len(data.labels), len(grown.labels))
    grown.parts = {**data.parts, "train": np.concatenate([data.parts["train"], new])}
    grown.attributes = {
        name: np.concatenate([own, np.zeros(len(new), own.dtype)]) for name, own in data.attributes.items()
    }
    grown.attributes["length"] = np.diff(grown.store.offsets)
    return grown


def copies(data: TextData, texts: Sequence[str]) -> np.ndarray:
    """Which texts stand in the validation or test part, bool [texts]."""
    rows = np.concatenate([data.parts["validation"], data.parts["test"]])
    held = content_hash([data.text(row).encode() for row in rows.tolist()])
    return np.isin(content_hash([text.encode("utf-8", "replace") for text in texts]), held)
