"""Keywords of classes and texts: by hand, beside scikit-learn, and through the verb."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from marquee.apply.keywords import keywords_of_classes, keywords_of_texts
from marquee.cli.main import main
from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.text.files import Texts
from marquee.data.text.keywords import class_keywords, written
from marquee.errors import ConfigError, DataError
from marquee.inference.artefacts import save_model
from marquee.inference.classifier import TextPredictor
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.models.linear.nbsvm import NbSvm
from marquee.runs.record import Run

GOOD, BAD = "fine moving clever".split(), "dull flat slow".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    random = np.random.default_rng(0)
    rows = []
    for i in range(80):
        own, other = (GOOD, BAD) if i % 2 else (BAD, GOOD)
        words = [*random.choice(own, 3), *random.choice(other, 1), "film", "the", f"nr{i}"]
        rows.append((" ".join(random.permutation(words)) + " .", "good" if i % 2 else "bad"))
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "a.csv", index=False)
    data = Texts(path="a.csv", min_count=1)
    data.setup(Holdout(), Paths(folder, folder / "cache"))
    return data


def saved(folder, data, kind=NbSvm):
    view = kind.__init__.__annotations__["view"]
    model = kind(data.spec, view=view())
    if kind is NbSvm:
        model.fit(next(model.view.train_batches(data, 0, 0)))
    node = {"_target_": f"{kind.__module__}.{kind.__name__}"}
    node["view"] = {"_target_": f"{view.__module__}.{view.__name__}"}
    run = Run.create(folder, "a" * 64, "texts", {"config": {}, "data": {"spec": data.spec.to_json()}})
    save_model(run.folder / "inference", node, model, data, TextPredictor)
    class_keywords(data, 20).to_csv(run.folder / "keywords.csv", index=False)
    run.finish("finished")
    return run.folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("run"), data)


def test_the_words_of_a_class_are_its_own_and_neither_frequent_words_nor_marks(data):
    table = class_keywords(data, n=1000)
    single = table[~table["term"].str.contains(" ")].groupby("class")["term"].apply(lambda terms: set(terms[:3]))
    assert single.to_dict() == {"good": set(GOOD), "bad": set(BAD)}
    everything = class_keywords(data, n=1000)
    assert not everything["term"].str.contains(r"\.").any()
    assert not everything["term"].str.startswith("nr").any()  # in one text alone


def test_class_based_tf_idf_by_hand(data):
    table = class_keywords(data, n=1000).set_index(["class", "term"])
    texts = [[data.text(row), data.spec.labels[data.labels[row]]] for row in data.parts["train"]]
    grams = []  # words and pairs of each text, those in two texts or more
    for text, _ in texts:
        words = text.replace(" .", " .").split()
        grams.append(words + [" ".join(pair) for pair in zip(words, words[1:])])
    often = {gram for gram in sum(grams, []) if sum(gram in row for row in grams) >= 2}
    counts = {c: [g for row, (_, label) in zip(grams, texts) if label == c for g in row if g in often] for c in
              data.spec.labels}  # fmt: skip
    mean = np.mean([len(words) for words in counts.values()])
    weights = {}
    for c, words in counts.items():
        total = sum(other.count("fine") for other in counts.values())
        weights[c] = np.sqrt(words.count("fine") / len(words)) * np.log(1 + mean / total)
    row = table.loc[("good", "fine")]
    assert row["c_tf_idf"] == pytest.approx(weights["good"], rel=1e-6)
    assert row["score"] == pytest.approx(weights["good"] - weights["bad"], rel=1e-6)
    assert row["count"] == counts["good"].count("fine")


def test_a_texts_words_have_scikit_learns_tf_idf_and_the_models_part(data, run):
    predictor = TextPredictor(run / "inference")
    text = "the film is fine fine and moving zzz"
    table = keywords_of_texts(predictor, [text, ""], n=10)
    assert set(table["text"]) == {1}  # the empty one has none
    vectorizer = TfidfVectorizer(norm=None, token_pattern=r"\w+")
    vectorizer.fit([data.text(row) for row in data.parts["train"]])
    values = vectorizer.transform([text]).toarray()[0]
    for row in table.itertuples():
        assert row.tf_idf == pytest.approx(values[vectorizer.vocabulary_[row.term]], rel=1e-6)
    assert set(table["label"]) == {"good"}
    by_term = table.set_index("term")
    assert by_term.loc["fine", "count"] == 2
    assert by_term.loc["fine", "contribution"] > by_term.loc["film", "contribution"]
    logits = predictor.model(predictor.batch([text]))[0]
    bias = predictor.model.bias
    lead = (logits - bias)[1] - (logits - bias)[0]
    assert table["contribution"].sum() == pytest.approx(float(lead), rel=1e-4)


def test_every_model_that_adds_up_tells_the_part_of_a_word(data, tmp_path):
    predictor = TextPredictor(saved(tmp_path, data, BagOfWords) / "inference")
    with torch.no_grad():
        predictor.model.weights.weight[:, 1] = 1  # each word speaks for good alike
    table = keywords_of_texts(predictor, ["fine film"], n=10)
    assert table["label"].tolist() == ["good"] * 2
    assert table["contribution"].tolist() == pytest.approx([10.0] * 2)  # sqrt(200 / 2)


def test_the_verb_shows_classes_and_texts(run, capsys, tmp_path):
    assert main(["keywords", str(run), "-n", "2"]) == 0
    shown = capsys.readouterr().out
    assert "c_tf_idf" in shown and "weights" in shown and any(word in shown for word in GOOD)
    assert main(["keywords", str(run), "--text", "a fine film", "--output", str(tmp_path / "a.csv")]) == 0
    assert pd.read_csv(tmp_path / "a.csv")["term"].tolist()[0] == "fine"
    (tmp_path / "in.csv").write_text("text\na dull film\nfine\n")
    assert main(["keywords", str(run), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "b.json")]) == 0
    assert pd.read_json(tmp_path / "b.json")["text"].tolist() == [1, 1, 2]


def test_what_cannot_be_shown_is_said(run, data, capsys, tmp_path):
    (tmp_path / "in.csv").write_text("review\na dull film\n")
    assert main(["keywords", str(run), "--input", str(tmp_path / "in.csv")]) == 3
    assert "column 'text'; columns seen: review" in capsys.readouterr().err
    folder = saved(tmp_path, data, BagOfWords)
    table = keywords_of_classes(folder, TextPredictor(folder / "inference"), 5)
    assert set(table["by"]) == {"c_tf_idf"}  # its weights are no n-grams'
    (folder / "keywords.csv").write_text("nothing\n")
    with pytest.raises(DataError, match=r"keywords\.csv is damaged"):
        keywords_of_classes(folder, TextPredictor(folder / "inference"), 5)
    (folder / "keywords.csv").unlink()
    with pytest.raises(ConfigError, match=r"has no keywords\.csv.*\n.*marquee rerun"):
        keywords_of_classes(folder, TextPredictor(folder / "inference"), 5)


def test_texts_that_share_no_word_have_no_keywords(tmp_path):
    rows = [f"w{i} v{i} .,{'good' if i % 2 else 'bad'}" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    data = Texts(path=str(tmp_path / "a.csv"), min_count=1)
    data.setup(Holdout(), Paths(tmp_path, tmp_path / "cache"))
    table = class_keywords(data)
    assert len(table) == 0 and list(table) == ["class", "rank", "term", "score", "c_tf_idf", "count", "texts"]


def test_words_are_written_as_one_reads_them():
    assert written(["很", "好"]) == "很好"
    assert written(["very", "good"]) == "very good"
    assert written(["\u2581re", "read", "\u2581it"]) == "reread it"
