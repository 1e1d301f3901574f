"""Letters of words: counted as scikit-learn does, and read of words that training never saw."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from marquee.data.spec import TextSpec
from marquee.data.text.letters import Letters
from marquee.data.text.tokenizer import Tokenizer
from marquee.errors import ConfigError
from marquee.models.linear.tfidf_letters import TfidfLetters

TEXTS = ["the cat sat on the mat", "cats are sitting", "a dog", "the the the", ""]


def counted(texts, **options):
    n = len(texts)
    return Letters(**options).of_texts(texts, Tokenizer(), torch.zeros(n, dtype=torch.int64), torch.arange(n))


def table(batch):
    """Texts x runs, the columns sorted by their content: what does not depend on the hash."""
    matrix = torch.zeros(len(batch.offsets) - 1, len(batch.keys), dtype=torch.int64)
    matrix[batch.texts, batch.terms] = batch.counts
    return sorted(map(tuple, matrix.T.tolist()))


def test_runs_of_letters_are_those_of_scikit_learn():
    """All words here are long enough for a run of each length, which is where the two differ."""
    wanted = CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)).fit_transform(TEXTS).toarray()
    assert table(counted(TEXTS, words=0, shortest=2, longest=3)) == sorted(map(tuple, wanted.T.tolist()))


def test_runs_of_words_are_those_of_scikit_learn():
    wanted = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2)).fit_transform(TEXTS).toarray()
    assert table(counted(TEXTS, words=2, shortest=9, longest=8)) == sorted(map(tuple, wanted.T.tolist()))


def test_a_text_is_counted_alike_whatever_stands_beside_it():
    both, alone = counted(TEXTS), counted(TEXTS[1:2])
    place = slice(int(both.offsets[1]), int(both.offsets[2]))
    assert both.keys[both.terms[place]].tolist() == alone.keys[alone.terms].tolist()
    assert both.counts[place].tolist() == alone.counts.tolist()


def test_a_word_that_training_never_saw_is_known_by_its_letters():
    texts = ["cancel my flight", "cancel the booking", "order pizza", "order noodles"] * 3
    labels = torch.tensor([0, 0, 1, 1] * 3)
    model = TfidfLetters(TextSpec(2, 2, ("cancel", "order")), view=Letters())
    model.fit(counted(texts)._replace(labels=labels))
    logits = model(counted(["cancelling", "reordered"]))
    assert logits.argmax(dim=1).tolist() == [0, 1]
    assert len(model.term_weights()[0]) == 0 and not model.adds_up
    again = TfidfLetters(TextSpec(2, 2), view=Letters())
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again(counted(["cancelling"])).numpy(), logits[:1].numpy())


def test_runs_of_letters_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="model.view.shortest=6 is above model.view.longest=3"):
        Letters(words=0, shortest=6, longest=3)
