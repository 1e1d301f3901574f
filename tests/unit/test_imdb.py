"""IMDb from its tables and from the original archive."""

import gzip
import io
import tarfile

import numpy as np
import pytest

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.text import imdb
from marquee.data.text.imdb import Imdb
from marquee.errors import DataError

REVIEWS = {
    (part, label): [f"{label} review {i} of {part} with some words<br />" for i in range(20)]
    for part in ("train", "test")
    for label in ("neg", "pos")
}


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data" / "imdb").mkdir(parents=True)
    return Paths(tmp_path / "data", tmp_path / "cache")


def write_tables(paths, change=lambda lines: lines):
    for part in ("train", "test"):
        lines = ["id\tsplit\tlabel\trating\ttext"]
        for label in ("neg", "pos"):
            lines += [f'{i}\t{part}\t{label}\t8\t{text} "quoted' for i, text in enumerate(REVIEWS[part, label])]
        content = "\n".join(change(lines)) + "\n"
        (paths.data / "imdb" / f"{part}.tsv.gz").write_bytes(gzip.compress(content.encode()))


def prepared(paths):
    data = Imdb(min_count=1)
    data.setup(Holdout(), paths)
    return data


def test_the_official_test_part_is_kept_and_validation_is_cut_from_train(paths):
    write_tables(paths)
    data = prepared(paths)
    assert data.parts["test"].tolist() == list(range(40, 80))
    assert len(data.parts["validation"]) == 4
    assert np.bincount(data.labels[data.parts["validation"]]).tolist() == [2, 2]
    assert data.spec.labels == ("neg", "pos")
    assert '"' in data.vocabulary  # a quotation mark is a plain character here


def test_the_original_archive_gives_the_same_reviews(paths, monkeypatch):
    archive = paths.data / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for (part, label), texts in REVIEWS.items():
            for i, text in enumerate(texts):
                member = tarfile.TarInfo(f"aclImdb/{part}/{label}/{i}_8.txt")
                member.size = len(text)
                content.addfile(member, io.BytesIO(text.encode()))
    monkeypatch.setattr(imdb, "ORIGINAL", imdb.Archive("aclImdb_v1.tar.gz", "http://localhost/none"))
    data = prepared(paths)
    assert data.parts["test"].tolist() == list(range(40, 80))
    tokens, lengths = data.store.rows(np.array([3]), 400, "head")
    words = [data.vocabulary[token] for token in tokens[0, : lengths[0]].tolist()]
    assert words == ["neg", "review", "3", "of", "train", "with", "some", "words"]


def test_a_malformed_line_is_named_by_number(paths):
    write_tables(paths, lambda lines: [*lines[:5], "4\ttrain\tneg", *lines[5:]])
    with pytest.raises(DataError, match=r"train\.tsv\.gz line 6: 3 fields, expected 5"):
        prepared(paths)


def test_another_table_is_refused_by_its_header(paths):
    write_tables(paths, lambda lines: ["text\tlabel", *lines[1:]])
    with pytest.raises(DataError, match="expected id split label rating text"):
        prepared(paths)


@pytest.mark.real_data
def test_real_reviews_are_counted(real_data, tmp_path):
    data = prepared(Paths(real_data, tmp_path))
    assert {name: len(rows) for name, rows in data.parts.items()} == {
        "train": 22_500,
        "validation": 2_500,
        "test": 25_000,
    }
    assert data.report["texts that repeat an earlier one"] == 418
