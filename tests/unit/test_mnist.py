"""MNIST from one npz file and from the original IDX files."""

import gzip
import struct

import numpy as np
import pytest

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.images.mnist import Mnist, read_idx
from marquee.errors import DataError


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    return Paths(tmp_path / "data", tmp_path / "cache")


def digits():
    random = np.random.default_rng(0)
    arrays = {}
    for name, size in (("train", 200), ("test", 50)):
        arrays[f"x_{name}"] = random.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"y_{name}"] = (np.arange(size) % 10).astype(np.uint8)
    return arrays


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def prepared(paths):
    data = Mnist()
    data.setup(Holdout(), paths)
    return data


def check(data):
    arrays = digits()
    assert np.array_equal(data.images[:200, 0], arrays["x_train"])
    assert np.array_equal(data.images[200:, 0], arrays["x_test"])
    assert data.labels.tolist() == [*arrays["y_train"], *arrays["y_test"]]
    assert data.parts["test"].tolist() == list(range(200, 250))
    assert len(data.parts["validation"]) == 20
    assert data.spec.labels == tuple("0123456789")


def test_the_npz_file(paths):
    np.savez(paths.data / "mnist" / "mnist.npz", **digits())
    check(prepared(paths))


def test_the_original_idx_files_packed_and_plain(paths):
    names = {
        "x_train": "train-images-idx3-ubyte",
        "y_train": "train-labels-idx1-ubyte",
        "x_test": "t10k-images-idx3-ubyte",
        "y_test": "t10k-labels-idx1-ubyte",
    }
    for key, array in digits().items():
        write_idx(paths.data / "mnist" / f"{names[key]}.gz", array)
    check(prepared(paths))
    for key in digits():
        packed = paths.data / "mnist" / f"{names[key]}.gz"
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    check(prepared(paths))


def test_a_truncated_or_foreign_idx_file_is_refused(tmp_path):
    write_idx(tmp_path / "whole.gz", digits()["x_test"])
    content = gzip.decompress((tmp_path / "whole.gz").read_bytes())
    (tmp_path / "short").write_bytes(content[:-5])
    with pytest.raises(DataError, match=r"short is truncated: 39195 bytes, expected 50 x 28 x 28"):
        read_idx(tmp_path / "short")
    (tmp_path / "foreign").write_bytes(b"PNG and so on")
    with pytest.raises(DataError, match="foreign is not an IDX file"):
        read_idx(tmp_path / "foreign")


def test_an_npz_file_without_the_arrays_lists_those_seen(paths):
    np.savez(paths.data / "mnist" / "mnist.npz", images=np.zeros(3))
    with pytest.raises(DataError, match="no array x_train; arrays seen: images"):
        prepared(paths)


def test_images_of_another_size_are_refused(paths):
    np.savez(paths.data / "mnist" / "mnist.npz", **{**digits(), "x_test": np.zeros((50, 14, 14), dtype=np.uint8)})
    with pytest.raises(DataError, match=r"test images are uint8 \(50, 14, 14\), expected uint8 \(50, 28, 28\)"):
        prepared(paths)


@pytest.mark.real_data
def test_the_real_digits_are_counted(real_data, tmp_path):
    data = Mnist()
    data.setup(Holdout(), Paths(real_data, tmp_path))
    assert np.bincount(data.labels[:60_000]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert {name: len(rows) for name, rows in data.parts.items()}["test"] == 10_000


def test_a_tone_curve_is_undone_by_its_table_and_the_test_images_are_the_original_ones(paths):
    arrays, folder = digits(), paths.data / "mnist-idx"
    np.savez(paths.data / "mnist" / "mnist.npz", **arrays)
    as_stored = prepared(paths)
    undone = Mnist(tone="undone")
    with pytest.raises(DataError, match=r"data\.tone=undone needs .*inverse_curve\.npy, which cannot be read"):
        undone.setup(Holdout(), paths)
    folder.mkdir()
    np.save(folder / "inverse_curve.npy", np.arange(256))
    with pytest.raises(DataError, match=r"inverse_curve\.npy is int64 \(256,\), expected uint8"):
        undone.setup(Holdout(), paths)
    np.save(folder / "inverse_curve.npy", np.arange(255, -1, -1, dtype=np.uint8))
    with pytest.raises(DataError, match="t10k-images"):
        undone.setup(Holdout(), paths)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", arrays["x_test"] // 2)
    undone.setup(Holdout(), paths)
    assert np.array_equal(undone.images[:200, 0], 255 - arrays["x_train"])
    assert np.array_equal(undone.images[200:, 0], arrays["x_test"] // 2)
    assert undone.fingerprint != as_stored.fingerprint == prepared(paths).fingerprint


@pytest.mark.real_data
def test_the_undone_digits_have_the_published_mean(real_data, tmp_path):
    """33.3184 is the mean grey value of the 60,000 original training images (0.1307 of 255)."""
    data = Mnist(tone="undone")
    data.setup(Holdout(), Paths(real_data, tmp_path / "cache"))
    assert data.images[:60000].mean() == pytest.approx(33.3184, abs=0.05)
    assert data.images[60000:].mean() == pytest.approx(33.7912, abs=0.0001)  # of the official test images
