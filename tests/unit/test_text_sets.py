"""The published sets of short and of Chinese texts, from small files of their formats and as they were published."""

import gzip
import zipfile

import numpy as np
import pytest

from marquee.data.dataset import Paths
from marquee.data.example_folds import StratifiedKFold
from marquee.data.holdout import Holdout
from marquee.data.text.chinese import ChnSentiCorp, OnlineShopping, Waimai
from marquee.data.text.hate_speech import HateSpeech
from marquee.data.text.sentences import RtPolarity, Subj
from marquee.errors import DataError


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data").mkdir()
    return Paths(tmp_path / "data", tmp_path / "cache")


def put(paths, name, content, encoding="utf-8"):
    path = paths.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode(encoding)
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)


def prepared(data, paths, split=None):
    data.setup(split or Holdout(), paths)
    return data


def test_sentences_are_read_in_the_encoding_of_their_file(paths):
    put(paths, "rt-polarity/rt-polarity.pos", "".join(f"a fine caf\u00e9 {i}\n" for i in range(20)), "iso-8859-1")
    put(paths, "rt-polarity/rt-polarity.neg", "".join(f"a dull na\u00efve film {i}\n" for i in range(20)), "iso-8859-1")
    data = prepared(RtPolarity(), paths)
    assert data.spec.labels == ("negative", "positive")
    assert data.text(0) == "a dull na\u00efve film 0" and data.labels[0] == 0
    assert data.text(39) == "a fine caf\u00e9 19" and "caf\u00e9" in data.vocabulary

    put(paths, "rotten_imdb/plot.tok.gt9.5000", "".join(f"the caf\u00e9 closes {i}\n" for i in range(20)))
    put(paths, "subj/subj.subjective.gz", "".join(f"i like caf\u00e9s {i}\n" for i in range(20)), "iso-8859-1")
    data = prepared(Subj(), paths)
    assert data.spec.labels == ("objective", "subjective")
    assert (data.text(0), data.text(20)) == ("the caf\u00e9 closes 0", "i like caf\u00e9s 0")


def tweets(change=lambda rows: rows):
    # All three agree on the classes 0 and 2, and two of three on 1.
    votes = ["3,0,0", "0,2,1", "0,0,3"]
    rows = [f'{i},3,{votes[i % 3]},{i % 3},"RT @a: &#128514; {i}\nmore &amp; more"' for i in range(60)]
    return "\n".join([",count,hate_speech,offensive_language,neither,class,tweet", *change(rows)])


def test_tweets_have_three_classes_and_tell_whether_people_agreed(paths):
    put(paths, "hate-speech-davidson/labeled_data.csv.gz", tweets())
    data = prepared(HateSpeech(), paths)
    assert data.spec.labels == ("hate", "neither", "offensive")
    assert data.labels[:3].tolist() == [0, 2, 1]
    assert data.attributes["annotators"][:3].tolist() == ["agree", "differ", "agree"]
    assert data.text(0) == "RT @a: \U0001f602 0\nmore & more"


def test_a_class_that_there_is_not_is_named(paths):
    put(paths, "labeled_data.csv", tweets(lambda rows: [*rows, '60,3,0,0,3,7,"x"']))
    with pytest.raises(DataError, match=r"labeled_data\.csv: the class '7' is not one of 0, 1, 2"):
        prepared(HateSpeech(), paths)


def test_chinese_reviews_are_read_packed_or_not(paths):
    rows = [f'{i % 2},"{"很好" if i % 2 else "不好"}，第{i}次"' for i in range(40)]
    put(paths, "chnsenticorp-htl/ChnSentiCorp_htl_all.csv.gz", "\n".join(["label,review", *rows, "0,"]))
    put(paths, "waimai_10k.csv", "\n".join(["label,review", *rows]))
    hotels, meals = prepared(ChnSentiCorp(), paths), prepared(Waimai(), paths)
    assert hotels.spec.labels == meals.spec.labels == ("negative", "positive")
    assert hotels.text(1) == meals.text(1) == "很好，第1次"
    assert hotels.report["empty texts"] == 1 and hotels.labels[40] == 0
    put(paths, "waimai_10k.csv", "label,review\n2,x\n")
    with pytest.raises(DataError, match="the label '2' is neither 0 nor 1"):
        prepared(Waimai(), paths)


def test_reviews_of_goods_have_their_sentiment_or_their_category(paths):
    rows = [f'{"书籍" if i % 3 else "酒店"},{i % 2},"第{i}次&hellip;"' for i in range(60)]
    (paths.data / "online-shopping-10-cats").mkdir()
    archive = paths.data / "online-shopping-10-cats" / "online_shopping_10_cats.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("online_shopping_10_cats.csv", "\n".join(["cat,label,review", *rows]))
    sentiment, category = prepared(OnlineShopping(), paths), prepared(OnlineShopping(labels="category"), paths)
    assert sentiment.spec.labels == ("negative", "positive") and category.spec.labels == ("书籍", "酒店")
    assert sentiment.fingerprint != category.fingerprint
    assert sentiment.attributes["category"][:2].tolist() == ["酒店", "书籍"]
    assert [category.spec.labels[label] for label in category.labels] == sentiment.attributes["category"].tolist()
    assert sentiment.text(3) == "第3次\u2026"
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr("readme.txt", "x")
    with pytest.raises(DataError, match="holds 2 files, expected one"):
        prepared(OnlineShopping(), paths)
    archive.write_bytes(b"PK\x03\x04 half of it")
    with pytest.raises(DataError, match="may be truncated"):
        prepared(OnlineShopping(), paths)


@pytest.mark.parametrize(
    ("data", "file", "origin"),
    [
        (RtPolarity, "rt-polarity/rt-polarity.neg", "rt-polaritydata.tar.gz"),
        (Subj, "subj/subj.objective.gz", "rotten_imdb.tar.gz"),
        (HateSpeech, "hate-speech-davidson/labeled_data.csv.gz", "t-davidson"),
        (ChnSentiCorp, "chnsenticorp-htl/ChnSentiCorp_htl_all.csv.gz", "ChineseNlpCorpus"),
        (Waimai, "waimai-10k/waimai_10k.csv.gz", "ChineseNlpCorpus"),
        (OnlineShopping, "online-shopping-10-cats/online_shopping_10_cats.zip", "ChineseNlpCorpus"),
    ],
)
def test_a_set_that_is_not_there_says_what_to_put_where(paths, data, file, origin):
    with pytest.raises(DataError, match=rf"needs {file}(.|\n)*{origin}(.|\n)*Put the file there"):
        prepared(data(), paths)


@pytest.mark.real_data
def test_real_sets_are_counted(real_data, tmp_path):
    """By the README of the data: texts and examples of each class, in the order of the labels."""
    paths = Paths(real_data, tmp_path)
    for data, counts in (
        (RtPolarity(), [5331, 5331]),
        (Subj(), [5000, 5000]),
        (HateSpeech(), [1430, 4163, 19190]),
        (ChnSentiCorp(), [2444, 5322]),
        (Waimai(), [7987, 4000]),
    ):
        prepared(data, paths)
        assert np.bincount(data.labels).tolist() == counts
    data = prepared(OnlineShopping(labels="category"), paths)
    # 书籍 平板 手机 水果 洗发水 热水器 蒙牛 衣服 计算机 酒店
    assert np.unique(data.attributes["sentiment"], return_counts=True)[1].tolist() == [31046, 31728]
    assert np.bincount(data.labels).tolist() == [3851, 10000, 2323, 10000, 10000, 575, 2033, 10000, 3992, 10000]


@pytest.mark.real_data
def test_ten_folds_test_every_real_sentence_once(real_data, tmp_path):
    tested = []
    for fold in range(10):
        data = prepared(RtPolarity(), Paths(real_data, tmp_path), StratifiedKFold(fold=fold))
        tested.append(data.parts["test"])
        assert len(data.parts["test"]) in range(1064, 1069)
    assert sorted(np.concatenate(tested).tolist()) == list(range(10_662))
