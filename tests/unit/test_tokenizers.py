"""Tokenizers: any script by hand, characters, Chinese words, pieces; new texts are encoded as the data were."""

import json
import logging
import sys

import numpy as np
import pytest

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.text.files import Texts
from marquee.data.text.pieces import START, Pieces, learn
from marquee.data.text.tokenizer import Tokenizer, encode, word_numbers
from marquee.errors import ConfigError, DataError


def words(text, **options):
    return Tokenizer(any_script=True, **options).words(text)


# Words --------------------------------------------------------------------------------------------------------------


def test_english_words_are_those_of_former_runs():
    text = "It's GREAT!<br /><br />Don\u2019t miss it, 10/10 (really) \u2026 caf\u00e9"
    assert words(text)[:11] == Tokenizer().words(text)[:11]
    assert words("plain text, no more.") == Tokenizer().words("plain text, no more.")


def test_full_width_letters_and_marks_become_plain_ones():
    assert words("ＧＯＯＤ！（５）") == ["good", "!", "(", "5", ")"]


def test_chinese_characters_are_words_and_their_marks_too():
    assert words("酒店很好，不错。ok、是") == [*"酒店很好", ",", "不", "错", "。", "ok", "、", "是"]
    assert words("酒店。", punctuation=False) == ["酒", "店"]


def test_combining_marks_belong_to_their_word():
    assert words("हिन्दी में।") == ["हिन्दी", "में", "।"]
    assert words("cafe\u0301") == ["caf\u00e9"]


def test_emoji_are_words_with_their_modifiers_unless_marks_are_left_out():
    family, thumb, flag = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea"
    assert words(f"so {family}{thumb}{thumb}{flag}\u2764\ufe0f") == ["so", family, thumb, thumb, flag, "\u2764\ufe0f"]
    assert words(f"so {thumb}", punctuation=False) == ["so"]


def test_what_is_no_character_makes_no_word():
    assert words("a \ud83d b \ufffd c \u200b d \u00ad") == ["a", "b", "c", "d"]
    assert words("a\ud83db\ufffd c", kind="char") == ["a", "b", " ", "c"]


def test_characters_with_one_space_and_none_between_chinese_ones():
    assert words("So  good\n!", kind="char") == [*"so good !"]
    assert words("好 的 ok 好", kind="char") == ["好", "的", " ", "o", "k", " ", "好"]
    assert words("a, b。", kind="char", punctuation=False) == ["a", " ", "b"]


def test_jieba_cuts_chinese_into_words_and_leaves_the_rest(capsys, tmp_path, monkeypatch):
    pytest.importorskip("jieba")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    from marquee.data.text.tokenizer import chinese_words

    chinese_words.cache_clear()
    assert words("酒店很好，isn't 五星级", kind="jieba") == ["酒店", "很", "好", ",", "isn't", "五星级"]
    assert list(tmp_path.iterdir()) == []  # no dictionary in the folder for temporary files
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "package"), [("jieba", "jieba"), ("bpe", "tokenizers")])
def test_a_package_that_is_not_there_is_named_with_the_command(kind, package, monkeypatch, tmp_path):
    from marquee.data.text.tokenizer import chinese_words

    chinese_words.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"好 {i},{i % 2}\n" for i in range(40)))
    with pytest.raises(ConfigError, match=rf"data\.tokenizer={kind} needs the package {package}.*\n.*marquee\[text\]"):
        prepared(tmp_path, tokenizer=kind)


# Pieces -------------------------------------------------------------------------------------------------------------


def test_pieces_are_joined_in_order_of_frequency_by_hand():
    pytest.importorskip("tokenizers")
    # Pairs: a b stands in 5 + 3 words, the start and ab in as many, c d in 2.
    pieces = learn(["ab", "abb", "cd"], np.array([5, 3, 2]), size=100, min_count=3)
    assert pieces.vocabulary[:2] == ["<pad>", "<unknown>"]
    assert pieces.merges == [("a", "b"), (START, "ab"), (f"{START}ab", "b")]
    cut = pieces.split(["ab", "abab", "xa"])
    assert [[pieces.vocabulary[i] for i in cut[word]] for word in ("ab", "abab", "xa")] == [
        [f"{START}ab"],
        [f"{START}ab", "ab"],
        [START, "<unknown>", "a"],
    ]


def test_the_most_pieces_that_there_may_be():
    pytest.importorskip("tokenizers")
    counts = np.full(26, 3)
    pieces = learn([chr(97 + i) * 3 for i in range(26)], counts, size=12, min_count=1)
    assert len(pieces.vocabulary) == 12


def test_texts_are_expanded_to_pieces_by_hand():
    pytest.importorskip("tokenizers")
    pieces = Pieces(["<pad>", "<unknown>", START, "a", "b"], [])
    tokens, offsets = pieces.expand(np.array([1, 2, 0, 1]), np.array([0, 2, 3, 4]), ["", "ab", "b"])
    assert tokens.tolist() == [2, 3, 4, 2, 4, 1, 2, 3, 4]
    assert offsets.tolist() == [0, 5, 6, 9]


# Data sets ----------------------------------------------------------------------------------------------------------

SENTENCES = [
    "The room was clean, really!",
    "酒店很好，房间不错。",
    "ok 👍🏽 caf\u00e9",
    "हिन्दी में",
    "",
    "<br />",
    "！！",
]


def prepared(folder, split=None, **options):
    data = Texts(path=str(folder / "a.csv"), **{"min_count": 1, **options})
    data.setup(split or Holdout(), Paths(folder, folder / "cache"))
    return data


@pytest.fixture
def written(tmp_path):
    rows = [f'"{SENTENCES[i % 7]} {"wide low" if i % 2 else "newest 新"} {i}",{i % 2},{("old", "new")[i % 3 > 0]}'
            for i in range(70)]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(["text,label,age", *rows, ",0,old"]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("kind", ["word", "char", "jieba", "bpe"])
@pytest.mark.parametrize("punctuation", [True, False])
def test_new_texts_are_encoded_exactly_as_the_data_set_was(written, kind, punctuation):
    pytest.importorskip({"jieba": "jieba", "bpe": "tokenizers"}.get(kind, "json"))
    data = prepared(written, tokenizer=kind, punctuation=punctuation, vocabulary_size=60)
    data.save_inference(written)
    spec = word_numbers(json.loads((written / "text.json").read_text(encoding="utf-8")))
    rows = np.arange(len(data.labels))
    for truncate, length in (("head", 400), ("both", 5)):
        tokens, lengths = encode([data.text(row) for row in rows], spec, length, truncate)
        expected, expected_lengths = data.store.rows(rows, length, truncate)
        assert tokens.tolist() == expected.tolist()
        assert lengths.tolist() == expected_lengths.tolist()
    assert len(data.vocabulary) <= 60 and data.spec.vocab_size == len(data.vocabulary)
    assert data.text(70) == "" and lengths[70] == 1
    assert data.example(0) == data.text(0) == "The room was clean, really! newest 新 0"


def test_pieces_are_learnt_from_the_training_part_alone_and_once(written, monkeypatch):
    pytest.importorskip("tokenizers")
    data = prepared(written, tokenizer="bpe", vocabulary_size=80)
    other = prepared(written, Holdout(seed=1), tokenizer="bpe", vocabulary_size=80)
    assert data.vocabulary != other.vocabulary
    monkeypatch.setattr("marquee.data.text.dataset.learn", lambda *_: pytest.fail("learnt again"))
    again = prepared(written, tokenizer="bpe", vocabulary_size=80)
    assert again.vocabulary == data.vocabulary
    letters = set("".join(data.text(row).lower() for row in data.parts["train"]))
    assert set("".join(data.vocabulary[2:])) - {START} <= letters | {","}  # the full-width comma became a plain one


def test_attributes_are_the_length_and_the_columns_asked_for(written):
    data = prepared(written, attributes=["age"])
    assert set(data.attributes) == {"length", "age"}
    assert data.attributes["age"][:4].tolist() == ["old", "new", "new", "old"]
    assert data.attributes["length"][0] == 10  # the room was clean , really ! newest 新 0
    with pytest.raises(DataError, match=r"no column 'year'.*Columns seen: text, label, age"):
        prepared(written, attributes=["year"])
    with pytest.raises(ConfigError, match="length is there of itself"):
        prepared(written, attributes=["length"])
    with pytest.raises(ConfigError, match=r"data\.attributes names columns"):
        Texts(files={"a": "x", "b": "y"}, attributes=["age"]).source(Paths(written, written))


def test_texts_that_were_broken_are_kept_and_told(tmp_path, caplog):
    rows = [json.dumps({"text": f"{'ab' if i % 2 else 'cd'} {i}", "label": i % 2}) for i in range(40)]
    rows[3] = '{"text": "half \\ud83d of a pair", "label": 1}'
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    data = Texts(path=str(tmp_path / "a.jsonl"), min_count=1)
    with caplog.at_level(logging.WARNING):
        data.setup(Holdout(), Paths(tmp_path, tmp_path / "cache"))
    assert "1 texts hold signs that could not be decoded" in caplog.text
    assert data.text(3) == "half \ufffd of a pair"
    assert data.attributes["length"][3] == 4


def test_a_text_far_longer_than_any_other_is_cut_and_not_lost(tmp_path):
    rows = [f"{'ab' if i % 2 else 'cd'} {i},{i % 2}" for i in range(40)]
    rows[0] = "word " * 200_000 + ",0"
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    data = prepared(tmp_path)
    tokens, lengths = data.store.rows(np.array([0, 1]), 400, "head")
    assert tokens.shape == (2, 400) and lengths.tolist() == [400, 2]
    assert data.attributes["length"][0] == 200_000


def test_what_former_runs_recorded_still_encodes_as_it_did():
    spec = {"tokenizer": {"lowercase": True, "strip_tags": True, "punctuation": True}, "labels": ["a", "b"]}
    spec["vocabulary"] = ["<pad>", "<unknown>", "酒", "店", "good", "!"]
    tokens, lengths = encode(["酒店。Good！ good!"], spec, 10)
    # The full-width marks were no words then.
    assert tokens[0, : lengths[0]].tolist() == [2, 3, 4, 4, 5]
