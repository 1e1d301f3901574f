"""Intents: the published sets, official parts, and what is turned away as out of scope."""

import gzip
import json

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.text.intents import Banking77, Clinc150
from marquee.data.text.meld import Meld
from marquee.errors import ConfigError, DataError
from marquee.metrics.decisions import Decision, floor_for, scope_scores
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.tasks.intent import Intent

from .test_classification_task import Fixed, TextBatches, one_batch, texts


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


def put(paths, name, content):
    path = paths.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)


def clinc(sizes=(6, 2, 4)):
    names = {"train": sizes[0], "val": sizes[1], "test": sizes[2]}
    content = {}
    for name, n in names.items():
        content[name] = [[f"{name} {i} words of {i % 2}", ["weather", "balance"][i % 2]] for i in range(n)]
        content[f"oos_{name}"] = [[f"{name} {i} of nothing", "oos"] for i in range(2)]
    return content


def test_published_parts_are_kept_whatever_the_split_says(paths):
    put(paths, "clinc150/data_full.json.gz", json.dumps(clinc()))
    put(paths, "clinc150/domains.json", json.dumps({"home": ["weather"], "bank": ["balance"]}))
    data = Clinc150()
    data.setup(Holdout(validation=0.5), paths)
    assert {part: len(rows) for part, rows in data.parts.items()} == {"train": 8, "validation": 4, "test": 6}
    assert all(data.text(row).startswith("val") for row in data.parts["validation"])
    assert all(data.text(row).startswith("test") for row in data.parts["test"])
    assert data.spec.labels == ("balance", "oos", "weather")
    assert sorted(set(data.attributes["domain"])) == ["bank", "home", "none"]


def test_a_part_that_is_missing_and_a_broken_file_are_named(paths):
    content = clinc()
    del content["oos_val"]
    put(paths, "clinc150/data_full.json", json.dumps(content))
    put(paths, "clinc150/domains.json", "{}")
    with pytest.raises(DataError, match="has no part 'oos_val'"):
        Clinc150().setup(Holdout(), paths)
    put(paths, "clinc150/data_small.json", "{")
    with pytest.raises(DataError, match="cannot be read"):
        Clinc150(variant="small").setup(Holdout(), paths)
    with pytest.raises(DataError, match=r"needs clinc150/data_imbalanced.json.gz"):
        Clinc150(variant="imbalanced").setup(Holdout(), paths)


def test_questions_of_a_bank_have_a_test_part_and_validation_is_cut_from_the_rest(paths):
    rows = "".join(f'"my card {i}\nis lost",lost_card\nhow much {i},fees\n' for i in range(20))
    put(paths, "banking77/train.csv.gz", "text,category\n" + rows)
    put(paths, "banking77/test.csv", "text,category\nwhere is it,lost_card\n")
    data = Banking77()
    data.setup(Holdout(), paths)
    assert [len(data.parts[part]) for part in ("train", "validation", "test")] == [36, 4, 1]


def lines(rows):
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    return head + "".join(f'{n},"{text}",{who},{mood},x,{talk},{place}\n' for n, (text, who, mood, talk, place) in
                          enumerate(rows))  # fmt: skip


def test_lines_may_have_those_before_them_in_their_own_dialogue(paths):
    rows = [("b", "Joey", "joy", 0, 1), ("a", "Ross", "anger", 0, 0), ("c", "A waiter", "joy", 0, 2),
            ("d", "Ross", "anger", 1, 0)]  # fmt: skip
    for part in ("train", "dev", "test"):
        put(paths, f"meld/{part}_sent_emo.csv.gz", lines(rows))
    data = Meld(context=1)
    data.setup(Holdout(duplicates="ignore"), paths)
    assert [data.text(row) for row in data.parts["train"]] == ["a", "a | b", "b | c", "d"]
    assert data.attributes["speaker"][:4].tolist() == ["Ross", "Joey", "other", "Ross"]
    assert [data.spec.labels[data.labels[row]] for row in data.parts["test"]] == ["anger", "joy", "joy", "anger"]


# The class of what fits no other --------------------------------------------------------------------------------------


def test_below_the_floor_an_example_belongs_to_none_of_the_classes():
    probabilities = np.array([[0.5, 0.1, 0.4], [0.3, 0.35, 0.35], [0.2, 0.7, 0.1]])
    decision = Decision((1.0, 1.0, 1.0), apart=1, floor=0.45)
    assert decision.predict(probabilities).tolist() == [0, 1, 1]
    assert Decision((1.0,) * 3, apart=1, floor=0.3).predict(probabilities).tolist() == [0, 1, 1]
    assert Decision((1.0,) * 3, apart=1, floor=0.51).predict(probabilities).tolist() == [1, 1, 1]
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision
    plain = Decision((1.0, 1.0, 1.0))
    assert "apart" not in plain.to_json() and Decision.from_json(plain.to_json()) == plain


def test_the_floor_costs_the_share_that_may_be_turned_away():
    targets = np.array([0] * 10 + [1] * 3)
    confidence = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.58, 0.4, 0.3])
    predicted = np.zeros(13, dtype=int)
    floor = floor_for(targets, predicted, confidence, 1, 0.2)
    assert floor == pytest.approx(0.6)  # two of ten lie below it
    assert ((confidence < floor) & (targets == 0)).sum() == 2
    # By hand: below 0.45 there are two of the three and nothing else, F1 0.8; below 0.6 all three and two more, 0.75.
    assert floor_for(targets, predicted, confidence, 1, "f1") == pytest.approx((0.4 + 0.5) / 2)


def test_scores_of_scope_by_hand():
    targets, predicted = np.array([0, 0, 2, 2, 1, 1]), np.array([0, 1, 2, 0, 1, 2])
    assert scope_scores(targets, predicted, 1) == {
        "in_scope_accuracy": 0.5,
        "out_of_scope_recall": 0.5,
        "out_of_scope_precision": 0.5,
        "out_of_scope_f1": 0.5,
    }
    assert scope_scores(np.array([0]), np.array([0]), 1) == {"in_scope_accuracy": 1.0}


def model_of(data):
    return BagOfWords(data.spec, view=TextBatches(batch_size=4))


def test_a_class_that_is_not_there_and_a_split_without_validation_are_refused():
    data = texts([0, 1, 2, 1] * 4, 3)
    with pytest.raises(ConfigError, match=r"task.out_of_scope=oos: there is no such class in this data.\n.*a, b, c"):
        Intent(model_of(data), data, out_of_scope="oos")
    data.parts["validation"] = data.parts["validation"][:0]
    with pytest.raises(ConfigError, match="chosen on validation, and this split has none"):
        Intent(model_of(data), data, out_of_scope="b")


def test_a_floor_is_not_chosen_by_texts_that_validation_does_not_have():
    data = texts([0, 1, 2, 1] * 4, 3)
    inside = [row for row in data.parts["validation"] if data.labels[row] != 1]
    data.parts["validation"] = np.array(inside)
    with pytest.raises(
        ConfigError, match=r"task.scope=f1: validation has no text of class b .*\n  fix: task.scope=0.01"
    ):
        Intent(model_of(data), data, out_of_scope="b", scope="f1")
    assert Intent(model_of(data), data, out_of_scope="b").apart == 1


def test_without_such_a_class_intents_are_a_plain_classification():
    data = texts([0, 1, 2, 1] * 4, 3)
    task = Intent(model_of(data), data)
    assert task.apart is None and task.protocol() == "" and "in_scope_accuracy" not in task.shown()


def test_the_floor_is_chosen_on_validation_alone_and_travels_with_the_run():
    data = texts([0, 2, 1, 1] * 4, 3)
    task = Intent(model_of(data), data, out_of_scope="c", scope=0.3)
    fixed = Fixed([[1.0, 0.0, 0.0], [0.2, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    task.evaluation_batches = lambda part: iter([one_batch(data.labels[data.parts[part]])])
    decision = task._chosen(fixed)
    of_validation = torch.tensor(fixed.logits).softmax(1).numpy()
    in_scope = np.sort(of_validation[[0, 2, 3], :2].max(1))
    assert decision.floor == pytest.approx(in_scope[round(0.3 * 3 - 0.5)])
    task.decision = decision
    assert task.serves()["decision"]["apart"] == 2
    assert "c below a confidence chosen on validation" in task.protocol()
