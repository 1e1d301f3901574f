"""Slots: stretches of tags as conlleval counts them, files of one's own, and the tagger that finds them."""

import numpy as np
import pandas as pd
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.spec import SlotSpec
from marquee.data.text.slots import Atis, SlotFiles
from marquee.data.text.views import TextBatches
from marquee.errors import DataError
from marquee.metrics.spans import matched, span_scores, spans
from marquee.models.base import Tagged
from marquee.models.rnn.tagger import BiLstmTagger
from marquee.tasks.slots import MostFrequent, Slots

NAMES = ("O", "B-city", "I-city", "B-day", "I-day")


def stretches(*sentences):
    tags = np.concatenate([[NAMES.index(name) for name in sentence.split()] for sentence in sentences])
    sentence = np.repeat(np.arange(len(sentences)), [len(sentence.split()) for sentence in sentences])
    return spans(tags, sentence, NAMES)


def test_stretches_begin_and_end_as_conlleval_has_it():
    """By hand from its rules: a B begins anew, an I goes on only from its own slot, a sentence ends everything."""
    found = stretches("B-city I-city O B-city B-city", "I-city I-day I-day O", "B-day I-city")
    assert found[:, :2].tolist() == [[0, 1], [3, 3], [4, 4], [5, 5], [6, 7], [9, 9], [10, 10]]
    assert found[:, 2].tolist() == [1, 1, 1, 1, 2, 2, 1]
    assert len(stretches("O O")) == 0


def test_a_stretch_is_right_with_both_ends_and_its_name():
    wanted, found = stretches("B-city I-city O B-day"), stretches("B-city O O B-day")
    assert matched(wanted, found).tolist() == [False, True]
    assert matched(wanted, stretches("B-day I-day O B-day")).tolist() == [False, True]
    assert matched(stretches("O"), found).tolist() == [False, False]
    scores = span_scores(1, 2, 4)
    assert scores == {"slot_precision": 0.25, "slot_recall": 0.5, "slot_f1": pytest.approx(1 / 3)}
    assert span_scores(0, 0, 0)["slot_f1"] == 0


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


def table(paths, name, rows):
    path = paths.data / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("intent\ttext\tslots\n" + "".join("\t".join(row) + "\n" for row in rows))


ROWS = [("fly", "to Rome on monday", "O B-city O B-day"), ("ask", "what is new york", "O O B-city I-city")]


def test_tags_stand_beside_their_tokens(paths):
    table(paths, "mine.tsv", ROWS * 10)
    data = SlotFiles(path="mine.tsv")
    data.setup(Holdout(duplicates="ignore"), paths)
    assert data.spec.slots == ("O", "B-city", "B-day", "I-city")
    tags, lengths = data.tags.rows(np.array([0, 1]), 10, "head")
    assert tags.tolist() == [[0, 1, 0, 2], [0, 0, 1, 3]] and lengths.tolist() == [4, 4]
    assert data.vocabulary[int(data.store.rows(np.array([0]), 4, "head")[0][0, 1])] == "rome"


@pytest.mark.parametrize(
    ("row", "told"),
    [(("fly", "to rome", "O"), r"record 3: 2 tokens and 1 tags: 'to rome'"),
     (("fly", "to rome", "O city"), r"record 3: the tag 'city' is none"),
     (("fly", "to rome", "O B-"), r"record 3: the tag 'B-' is none"),
     ((" ", "to rome", "O O"), r"record 3 has no intent: 'to rome'")],
)  # fmt: skip
def test_unequal_tokens_and_tags_and_tags_of_another_notation_are_named(paths, row, told):
    table(paths, "mine.tsv", [*ROWS, row])
    with pytest.raises(DataError, match=told):
        SlotFiles(path="mine.tsv").setup(Holdout(), paths)


def test_an_intent_that_training_never_sees_is_an_error_of_every_model_not_of_the_data(paths):
    for part, rows in {"train": ROWS * 3, "dev": ROWS, "test": [*ROWS, ("call", "call me", "O O")]}.items():
        table(paths, f"atis/{part}.tsv", rows)
    data = Atis()
    data.setup(Holdout(duplicates="ignore"), paths)
    assert {part: len(rows) for part, rows in data.parts.items()} == {"train": 6, "validation": 2, "test": 3}
    task = Slots(BiLstmTagger(data.spec, view=TextBatches(), dim=4, hidden=4), data)
    metrics, units = task.evaluate(MostFrequent(data), "test")
    # By hand: each word has one tag in training, so all slots are found, and the intent is right in one of three.
    assert metrics["slot_f1"] == 1.0 and metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["sentence_accuracy"] == pytest.approx(1 / 3)
    assert units["slots_wanted"].tolist() == [2, 1, 0]
    assert list(units)[:8] == [
        "example", "target", "predicted", "correct", "slots_wanted", "slots_found", "slots_right", "whole",
    ]  # fmt: skip


def test_the_tagger_reads_each_sentence_as_it_would_alone():
    torch.manual_seed(0)
    spec = SlotSpec(20, 3, ("a", "b", "c"), slots=NAMES)
    model = BiLstmTagger(spec, view=TextBatches(), dim=8, hidden=6, layers=2).eval()
    tokens = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0]])
    both = model.tag(tokens, torch.tensor([4, 2]))
    alone = model.tag(tokens[1:, :2], torch.tensor([2]))
    torch.testing.assert_close(both.tags[1, :2], alone.tags[0])
    torch.testing.assert_close(both.intents[1], alone.intents[0])


def test_the_loss_of_tags_leaves_padding_out(paths):
    table(paths, "mine.tsv", [*ROWS, ("ask", "rome", "B-city")] * 8)
    data = SlotFiles(path="mine.tsv")
    data.setup(Holdout(duplicates="ignore"), paths)
    model = BiLstmTagger(data.spec, view=TextBatches(), dim=4, hidden=4)
    task = Slots(model, data, intent_weight=0)
    batch = model.view.batch(data, np.array([0, 2]))
    logits = torch.randn(2, 4, len(data.spec.slots))
    model.tag = lambda tokens, lengths: Tagged(torch.zeros(2, 2), logits)
    wanted = [(0, 0, 0), (0, 1, 1), (0, 2, 0), (0, 3, 2), (1, 0, 1)]
    by_hand = -sum(logits[row, place].log_softmax(0)[tag] for row, place, tag in wanted) / 5
    assert float(task.loss(batch)) == pytest.approx(float(by_hand), rel=1e-5)


def test_a_test_of_flights_has_the_published_numbers(real_data):
    for part, rows in {"train": 4478, "dev": 500, "test": 893}.items():
        assert len(pd.read_csv(real_data / "atis" / f"{part}.tsv", sep="\t")) == rows
