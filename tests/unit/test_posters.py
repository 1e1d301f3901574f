"""Posters from a zip archive and its labels file."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.images.posters import Posters
from marquee.errors import DataError

N = 30


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data" / "posters").mkdir(parents=True)
    return Paths(tmp_path / "data", tmp_path / "cache")


def write(paths, spoil=()):
    """Thirty posters, a fifth without MovieLens genres; `spoil` lists those whose bytes are damaged."""
    random = np.random.default_rng(0)
    lines = ["file,imdb_id,label,ml_movie_id,ml_title,ml_genres,width,height"]
    with zipfile.ZipFile(paths.data / "posters" / "posters.zip", "w") as archive:
        for i in range(N):
            name = f"posters/{i:07}.jpg"
            encoded = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (15, 10, 3), dtype=np.uint8)).save(encoded, "JPEG")
            archive.writestr(name, encoded.getvalue()[:200] if i in spoil else encoded.getvalue())
            genres = "" if i % 5 == 0 else "Comedy|Drama" if i % 2 else "Drama" if i % 3 else "Comedy|Western"
            lines.append(f'{name},tt{i:07},{("Comedy", "Drama")[i % 2]},{i},"A Film, {i}",{genres},10,15')
    (paths.data / "posters" / "labels.csv").write_text("\n".join(lines) + "\n")


def prepared(paths, **options):
    data = Posters(**{"height": 20, "width": 16, "min_count": 5, **options})
    data.setup(Holdout(), paths)
    return data


def test_binary_labels_take_every_poster(paths):
    write(paths)
    data = prepared(paths)
    assert data.images.shape == (N, 3, 20, 16)
    assert data.spec.labels == ("Comedy", "Drama")
    assert np.bincount(data.labels).tolist() == [15, 15]


def test_genres_are_multi_label_for_those_that_have_them(paths):
    write(paths)
    data = prepared(paths, labels="genres")
    assert data.spec.multilabel
    assert data.spec.labels == ("Comedy", "Drama")
    assert data.report["labels below 5 images"] == ["Western (4)"]
    assert data.report["images"] == 24
    assert 0 not in np.concatenate(list(data.parts.values()))
    assert data.labels[1].tolist() == [1, 1]


def test_both_label_sets_share_one_cache(paths):
    write(paths)
    prepared(paths)
    prepared(paths, labels="genres")
    assert len(list((paths.cache / "prepared").iterdir())) == 1


def test_a_corrupt_poster_is_named_and_counted(paths):
    write(paths, spoil=(7,))
    data = prepared(paths, max_corrupt=0.1)
    assert data.report["corrupt"] == ["posters/0000007.jpg"]
    with pytest.raises(DataError, match=r"posters/0000007\.jpg"):
        prepared(paths, max_corrupt=0.01)


def test_a_truncated_archive_is_refused(paths):
    write(paths)
    archive = paths.data / "posters" / "posters.zip"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"posters\.zip is not a whole zip archive"):
        prepared(paths)


def test_missing_files_are_named_with_the_places(paths):
    with pytest.raises(DataError, match=r"posters/posters\.zip"):
        prepared(paths)


@pytest.mark.real_data
def test_real_posters_are_counted_from_the_archive_and_again_from_the_cache(real_data, tmp_path):
    for _ in range(2):
        data = Posters()
        data.setup(Holdout(), Paths(real_data, tmp_path))
        assert np.bincount(data.labels).tolist() == [3212, 2362]
