"""Texts of one's own: reading, tokenising, vocabulary, batches, and what is said about bad files."""

import gzip
import json
import logging

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.records import read_labelled_lines
from marquee.data.text.files import Texts
from marquee.data.text.store import TextStore
from marquee.data.text.tokenizer import Tokenizer, build_vocabulary, encode, index_corpus, word_numbers
from marquee.data.text.views import TextBatches
from marquee.errors import ConfigError, DataError
from marquee.models.linear.bag_of_words import BagOfWords
from marquee.tasks.classification import Classification

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "data", tmp_path / "cache")


def rows(n=60, seed=0):
    """Distinct made-up texts of 1 to 30 words, labels good and bad in turn."""
    random = np.random.default_rng(seed)
    texts = [f"text{i} " + " ".join(random.choice(WORDS, random.integers(1, 30))) for i in range(n)]
    return [(text, ("good", "bad")[i % 2]) for i, text in enumerate(texts)]


def write(path, records, header="text,label"):
    path.write_text("\n".join([header, *(f"{text},{label}" for text, label in records)]) + "\n", encoding="utf-8")
    return str(path)


def prepared(paths, split=None, **options):
    data = Texts(**{"min_count": 1, **options})
    data.setup(split or Holdout(), paths)
    return data


def words_of(data, row):
    tokens, lengths = data.store.rows(np.array([row]), 1000, "head")
    return [data.vocabulary[token] for token in tokens[0, : lengths[0]].tolist()]


# Reading ------------------------------------------------------------------------------------------------------------


def test_lines_that_begin_with_a_label_are_read_too(tmp_path, paths):
    records = rows()
    write(tmp_path / "a.csv", records)
    (tmp_path / "sst.txt").write_text("\n".join(f"{label} {text}" for text, label in records) + "\n\n")
    (tmp_path / "tabs.txt").write_text("\n".join(f"{label}\t{text}" for text, label in records))
    (tmp_path / "fast.train").write_text("\n".join(f"__label__{label} {text}" for text, label in records))
    wanted = prepared(paths, path=str(tmp_path / "a.csv"))
    for name in ("sst.txt", "tabs.txt", "fast.train"):
        data = prepared(paths, path=str(tmp_path / name), label_first=True)
        assert data.spec == wanted.spec and (data.labels == wanted.labels).all(), name
        assert data.store.tokens.tolist() == wanted.store.tokens.tolist(), name
        with pytest.raises(DataError, match=r"no column 'text'.*data\.label_first=true"):
            prepared(paths, path=str(tmp_path / name))


def test_several_fasttext_labels_are_labels_that_go_together(tmp_path):
    path = tmp_path / "cooking.txt"
    path.write_text("__label__sauce __label__cheese How much?\n__label__food-safety   \n  __label__a\tb c \n")
    assert read_labelled_lines(path) == (["How much?", "", "b c"], [["sauce", "cheese"], ["food-safety"], ["a"]])
    with pytest.raises(DataError, match=r"1 texts have several labels.*sauce cheese.*data\.label_separator"):
        Texts(path=str(path), label_first=True)._records(path)
    assert Texts(path=str(path), label_first=True, label_separator="|")._records(path)[1][0] == ["sauce", "cheese"]
    path.write_text("__label__a b\nc d\n")
    with pytest.raises(DataError, match=r"line 2 does not begin with __label__"):
        read_labelled_lines(path)
    path.write_text("\n \n")
    with pytest.raises(DataError, match="is empty"):
        read_labelled_lines(path)


def test_a_list_in_json_lines_is_not_taken_for_a_label(tmp_path, paths):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a film", "label": ["a", "b"]}))
    with pytest.raises(DataError, match=r"line 1: 'label' holds .*data\.label_separator"):
        prepared(paths, path=str(tmp_path / "a.jsonl"))


def test_csv_tsv_jsonl_gzip_and_files_by_class_read_the_same(tmp_path, paths):
    records = rows()
    write(tmp_path / "a.csv", records)
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join("\t".join(row) for row in records), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": t, "label": c}) for t, c in records))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    read = [prepared(paths, path=str(tmp_path / name)) for name in ("a.csv", "a.tsv", "a.jsonl", "a.csv.gz")]
    for data in read:
        assert [words_of(data, row) for row in range(5)] == [words_of(read[0], row) for row in range(5)]
        assert data.labels.tolist() == read[0].labels.tolist()
        assert data.spec.labels == ("bad", "good")
    for name in ("good", "bad"):
        (tmp_path / f"{name}.txt").write_text("\n".join(text for text, label in records if label == name) + "\n")
    data = prepared(paths, files={name: str(tmp_path / f"{name}.txt") for name in ("good", "bad")})
    assert np.bincount(data.labels).tolist() == [30, 30]


def test_a_test_file_is_the_test_part(tmp_path, paths):
    train, test = write(tmp_path / "train.csv", rows()), write(tmp_path / "test.csv", rows(20, seed=1))
    data = prepared(paths, path=train, test_path=test)
    assert data.parts["test"].tolist() == list(range(60, 80))
    assert len(data.parts["validation"]) == 6


def test_several_labels_a_text(tmp_path, paths):
    records = [(text, "a|b" if i % 2 else "b") for i, (text, _) in enumerate(rows())]
    data = prepared(paths, path=write(tmp_path / "a.csv", records), label_separator="|")
    assert data.spec.multilabel
    assert data.labels[:2].tolist() == [[0, 1], [1, 1]]


def test_the_second_setup_reads_the_cache_and_gives_the_same(tmp_path, paths, monkeypatch):
    path = write(tmp_path / "a.csv", rows())
    first = prepared(paths, path=path)
    monkeypatch.setattr("marquee.data.text.dataset._prepare", lambda *_: pytest.fail("prepared again"))
    second = prepared(paths, path=path)
    assert first.fingerprint == second.fingerprint
    assert first.split_fingerprint == second.split_fingerprint
    assert first.vocabulary == second.vocabulary


def test_changed_bytes_or_parameters_change_the_fingerprint(tmp_path, paths):
    first = prepared(paths, path=write(tmp_path / "a.csv", rows()))
    smaller = prepared(paths, path=str(tmp_path / "a.csv"), vocabulary_size=5)
    changed = prepared(paths, path=write(tmp_path / "b.csv", rows(seed=5)))
    assert len({first.fingerprint, smaller.fingerprint, changed.fingerprint}) == 3


# Words --------------------------------------------------------------------------------------------------------------


def test_words_are_lower_case_without_tags_and_keep_apostrophes_and_marks():
    words = Tokenizer().words("It's GREAT!<br /><br />Don\u2019t miss it, 10/10")
    assert words == ["it's", "great", "!", "don't", "miss", "it", ",", "10", "10"]
    assert Tokenizer(punctuation=False, lowercase=False).words("So GOOD!") == ["So", "GOOD"]


def test_scripts_without_spaces_give_a_word_a_character():
    assert Tokenizer().words("酒店很好 ok") == ["酒", "店", "很", "好", "ok"]


def test_the_vocabulary_knows_training_words_alone(tmp_path, paths):
    data = prepared(paths, path=write(tmp_path / "a.csv", rows()))
    known = {word for row in data.parts["train"] for word in words_of(data, row)}
    assert set(data.vocabulary[2:]) == known - {"<unknown>"}
    for row in data.parts["test"]:
        assert words_of(data, row)[0] == "<unknown>"  # the word "text17" stands in one text alone


def test_the_most_frequent_words_are_kept_and_ties_go_to_the_first_seen():
    tokens, _, words = index_corpus(["c b b a", "a d"], Tokenizer())
    vocabulary, word_ids = build_vocabulary(np.bincount(tokens, minlength=len(words)), words, size=5, min_count=1)
    assert vocabulary == ["<pad>", "<unknown>", "b", "a", "c"]  # counts by hand: b 2, a 2, c 1, d 1
    assert word_ids[tokens].tolist() == [4, 2, 2, 3, 3, 1]


def test_an_empty_text_is_counted_and_becomes_one_unknown_word(tmp_path, paths, caplog):
    with caplog.at_level(logging.WARNING):
        data = prepared(paths, path=write(tmp_path / "a.csv", [("", "good"), ("<br />", "bad"), *rows()]))
    assert data.report["empty texts"] == 2
    assert words_of(data, 0) == ["<unknown>"]
    assert "2 empty texts" in caplog.text


def test_new_texts_are_encoded_as_the_data_set_was(tmp_path, paths):
    records = rows()
    data = prepared(paths, path=write(tmp_path / "a.csv", records))
    data.save_inference(tmp_path)
    spec = word_numbers(json.loads((tmp_path / "text.json").read_text(encoding="utf-8")))
    tokens, lengths = encode([records[3][0], "", "neverseen alpha"], spec, max_length=400)
    expected, _ = data.store.rows(np.array([3]), 400, "head")
    assert tokens[0, : lengths[0]].tolist() == expected[0].tolist()
    assert tokens[1].tolist()[:2] == [1, 0]
    assert tokens[2].tolist()[:2] == [1, data.vocabulary.index("alpha")]


# Batches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truncate", "expected"),
    [("head", [10, 11, 12, 13, 14]), ("tail", [15, 16, 17, 18, 19]), ("both", [10, 11, 12, 18, 19])],
)
def test_long_texts_are_cut_where_asked(truncate, expected):
    # Two texts, 10 ... 19 and 20, 21; the identity as vocabulary.
    store = TextStore(np.arange(10, 22, dtype=np.int32), np.array([0, 10, 12]), np.arange(30, dtype=np.int32))
    tokens, lengths = store.rows(np.array([0, 1]), 5, truncate)
    assert tokens.tolist() == [expected, [20, 21, 0, 0, 0]]
    assert lengths.tolist() == [5, 2]


def test_an_epoch_holds_every_training_text_once_padded_on_the_right(tmp_path, paths):
    data = prepared(paths, path=write(tmp_path / "a.csv", rows(200)))
    view = TextBatches(batch_size=16, max_length=10)
    batches = list(view.train_batches(data, seed=1, epoch=0))
    assert len(batches) == view.steps(data)
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == data.parts["train"].tolist()
    for batch in batches:
        assert ((batch.tokens > 0).sum(1) == batch.lengths).all()
        assert batch.tokens.shape[1] == int(batch.lengths.max()) <= 10
        assert batch.tokens.dtype == torch.int64
        assert batch.labels.tolist() == data.labels[batch.index.numpy()].tolist()


def test_batches_depend_on_seed_and_epoch_alone(tmp_path, paths):
    data = prepared(paths, path=write(tmp_path / "a.csv", rows(200)))
    view = TextBatches(batch_size=16)

    def order(seed, epoch):
        return torch.cat([batch.index for batch in view.train_batches(data, seed, epoch)]).tolist()

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(*key)) for key in [(1, 3), (1, 4), (2, 3)]}) == 3


def test_texts_of_like_length_share_a_batch(tmp_path, paths):
    data = prepared(paths, path=write(tmp_path / "a.csv", rows(640)))
    view = TextBatches(batch_size=16)
    padding = [float((batch.tokens == 0).float().mean()) for batch in view.train_batches(data, 0, 0)]
    assert np.mean(padding) < 0.1


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_gives_every_unit_once_over_all_processes(tmp_path, paths, world):
    data = prepared(paths, path=write(tmp_path / "a.csv", rows(200)))
    task = Classification(BagOfWords(data.spec, view=TextBatches()), data, evaluation_batch_size=7)
    index = [batch.index for rank in range(world) for batch in task.evaluation_batches("test", rank, world)]
    assert max(map(len, index)) == 7
    assert sorted(torch.cat(index).tolist()) == data.parts["test"].tolist()


# Bad input ----------------------------------------------------------------------------------------------------------


def refused(paths, match, **options):
    with pytest.raises(DataError, match=match):
        prepared(paths, **options)


def test_an_unknown_column_lists_the_columns_seen(tmp_path, paths):
    path = write(tmp_path / "a.csv", rows(), header="review,label")
    refused(paths, r"no column 'text'\. Columns seen: review, label\. Type data\.text=COLUMN", path=path)


def test_a_duplicate_header_is_refused(tmp_path, paths):
    refused(paths, "'text' is there twice", path=write(tmp_path / "a.csv", rows(), header="text,text"))


def test_a_malformed_line_is_named_by_number(tmp_path, paths):
    path = write(tmp_path / "a.csv", [*rows(8), ("a text", "with,commas"), *rows(8)])
    refused(paths, r"a\.csv line 10: 3 fields, expected 2 \(text, label\)", path=path)


def test_a_malformed_json_line_is_named_by_number(tmp_path, paths):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "y"}\n{"text": \n')
    refused(paths, r"a\.jsonl line 2: not a JSON object", path=str(tmp_path / "a.jsonl"))


def test_a_wrong_encoding_is_named_with_the_line_and_the_key(tmp_path, paths):
    (tmp_path / "a.csv").write_bytes("text,label\nfine,good\ncaf\u00e9,bad\n".encode("iso-8859-1"))
    refused(paths, r"line 3: byte 0xe9 is not valid utf-8.*data\.encoding=iso-8859-1", path=str(tmp_path / "a.csv"))


@pytest.mark.parametrize("content", ["", "\n\n", "text,label\n"])
def test_an_empty_file_is_refused(tmp_path, paths, content):
    (tmp_path / "a.csv").write_text(content)
    refused(paths, r"a\.csv (is empty|has no records)", path=str(tmp_path / "a.csv"))


def test_a_truncated_gzip_file_is_refused(tmp_path, paths):
    whole = gzip.compress("\n".join(f"text {i},good" for i in range(1000)).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    refused(paths, "may be truncated", path=str(tmp_path / "a.csv.gz"))


def test_a_missing_file_names_both_places(tmp_path, paths):
    refused(paths, r"none\.csv does not exist.*data/none\.csv", path="none.csv")


def test_a_label_that_training_never_sees_is_named(tmp_path, paths):
    train, test = write(tmp_path / "train.csv", rows()), write(tmp_path / "test.csv", [("x", "awful"), *rows(9)])
    refused(paths, r"test part holds labels.*'awful' \(1 examples\).*'bad', 'good'", path=train, test_path=test)


def test_a_record_without_a_label_is_named(tmp_path, paths):
    path = write(tmp_path / "a.csv", [*rows(8), ("no label", ""), *rows(8)])
    refused(paths, r"1 of 17 records have no 'label', the first is record 9", path=path)


def test_a_single_label_is_refused(tmp_path, paths):
    refused(paths, "training holds 1 label", path=write(tmp_path / "a.csv", [(text, "good") for text, _ in rows()]))


def test_neither_path_nor_files_is_a_configuration_error(paths):
    with pytest.raises(ConfigError, match=r"data\.path=FILE"):
        prepared(paths)
