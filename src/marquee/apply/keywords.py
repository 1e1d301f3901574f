"""Keywords with a finished run: which terms tell its classes apart, and which stand out in a text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from marquee.data.text.keywords import KEYWORDS, class_weights, text_keywords
from marquee.data.text.views import TextBatch
from marquee.errors import ConfigError, DataError
from marquee.inference.classifier import TextPredictor
from marquee.inference.predictor import Predictor
from marquee.models.linear.terms import TermModel


def keywords_of_classes(folder: Path, predictor: Predictor, n: int) -> pd.DataFrame:
    """The `n` best terms of each class: `by` c_tf_idf over the training texts, and by the weights of a linear model.

    Raises ConfigError where the run is not one on texts or has no table of keywords, DataError for a damaged one.
    """
    predictor = _on_texts(predictor)
    path = folder / KEYWORDS
    try:
        table = pd.read_csv(path, keep_default_na=False)[["class", "rank", "term", "score"]]
    except FileNotFoundError:
        raise ConfigError(
            f"{folder.name} has no {KEYWORDS}: it was made before Marquee wrote one.\n"
            f"  fix: marquee rerun {folder.name}"
        ) from None
    except (ValueError, KeyError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}). To make it again: marquee rerun {folder.name}") from error
    tables = [table[table["rank"] <= n].assign(by="c_tf_idf")]
    if isinstance(predictor.model, TermModel) and len(predictor.model.term_weights()[0]):
        weights = class_weights(*predictor.model.term_weights(), predictor.content["vocabulary"], predictor.labels, n)
        tables.append(weights.assign(by="weights"))
    return pd.concat(tables, ignore_index=True)[["class", "by", "rank", "term", "score"]]


@torch.inference_mode()
def keywords_of_texts(predictor: Predictor, texts: Sequence[str], n: int) -> pd.DataFrame:
    """The `n` words of each text with the highest TF-IDF, a row a word: text (its number), term, tf_idf, count.

    A linear model adds `label`, which it gives the text, and `contribution`: what the word, with its part in n-grams,
    adds to the logit of that label, less the mean over the other labels. Raises ConfigError where the run is not one
    on texts, or does not know how many texts hold a word.
    """
    predictor = _on_texts(predictor)
    facts = predictor.content
    if "texts_with" not in facts:
        raise ConfigError(
            "This run was made before Marquee kept what keywords need, the number of texts that hold a word.\n"
            "  fix: marquee rerun RUN"
        )
    frequencies = np.asarray(facts["texts_with"])
    batch = predictor.batch(texts)
    tables = []
    for number, (row, length) in enumerate(zip(batch.tokens, batch.lengths.tolist(), strict=True), 1):
        tokens = row[:length]
        table, places = text_keywords(tokens, frequencies, facts["texts"], predictor.content["vocabulary"], n)
        if predictor.model.adds_up:
            alone = TextBatch(tokens[None], batch.lengths[number - 1 : number], tokens[:1], tokens[:1])
            label = int(predictor.model(alone)[0].argmax())
            parts = predictor.model.contributions(tokens)
            lead = parts[:, label] - (parts.sum(dim=1) - parts[:, label]) / max(parts.shape[1] - 1, 1)
            table["label"] = predictor.labels[label]
            table["contribution"] = [float(lead[place].sum()) for place in places]
        table.insert(0, "text", number)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _on_texts(predictor: Predictor) -> TextPredictor:
    if not isinstance(predictor, TextPredictor):
        raise ConfigError(f"This run {predictor.does}; keywords are for runs on texts, such as data=imdb.")
    return predictor
