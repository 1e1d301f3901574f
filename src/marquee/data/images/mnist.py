"""Handwritten digits: 60,000 to train and 10,000 to test, by the official split.

LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11).
"""

import gzip
import hashlib
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Literal

import numpy as np

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.images.dataset import ImageData, ImageSource
from marquee.data.sources import Archive, RawFile, find
from marquee.errors import DataError

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
ORIGINALS = {
    "x_train": ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "y_train": ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    "x_test": ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    "y_test": ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
}


INVERSE = "mnist-idx/inverse_curve.npy"  # uint8 [256]: the original of each stored grey value


class Mnist(ImageData):
    """`mnist/mnist.npz` (x_train, y_train, x_test, y_test) or the four original IDX files, also packed (.gz).

    tone  undone: the grey values of an npz file whose tone curve somebody has changed are put back by the table
          `mnist-idx/inverse_curve.npy`, and the test images taken from the original file. Likelihoods can be held
          against published ones only then. Original IDX files are as they should be and stay so
    """

    licence = "CC BY-SA 3.0, as is commonly stated"

    def __init__(self, *, tone: Literal["undone"] | None = None):
        super().__init__(height=28, width=28, channels=1)
        self.tone = tone

    def source(self, paths: Paths) -> ImageSource:
        packed = next((p for p in (paths.data / "mnist" / "mnist.npz", paths.data / "mnist.npz") if p.is_file()), None)
        if packed:
            key = {"npz": file_sha256(packed)}
            arrays: dict[str, _Npz | _Idx | _Undone] = {name: _Npz(packed, name) for name in ORIGINALS}
            if self.tone == "undone":
                table, test = _inverse(paths), find(_raw(*ORIGINALS["x_test"]), paths, "mnist")
                key |= {"inverse": hashlib.sha256(table.tobytes()).hexdigest(), "x_test": file_sha256(test)}
                arrays |= {"x_train": _Undone(arrays["x_train"], table), "x_test": _Idx(test)}
        else:
            found = {name: find(_raw(*original), paths, "mnist") for name, original in ORIGINALS.items()}
            key = {name: file_sha256(path) for name, path in found.items()}
            arrays = {name: _Idx(path) for name, path in found.items()}
        labels = [np.asarray(arrays[name]) for name in ("y_train", "y_test")]
        sizes = [len(part) for part in labels]

        def pixels() -> np.ndarray:
            parts = [np.asarray(arrays[name]) for name in ("x_train", "x_test")]
            for part, size, name in zip(parts, sizes, ("train", "test"), strict=True):
                if part.shape != (size, 28, 28) or part.dtype != np.uint8:
                    raise DataError(
                        f"data=mnist: the {name} images are {part.dtype} {part.shape}, expected uint8 ({size}, 28, 28)."
                    )
            return np.concatenate(parts)[:, None]

        return ImageSource(
            "mnist",
            key,
            [f"{name}/{row}" for name, size in zip(("train", "test"), sizes, strict=True) for row in range(size)],
            [str(digit) for digit in np.concatenate(labels).tolist()],
            test=np.repeat([False, True], sizes),
            pixels=pixels,
        )


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes: two zero bytes, type 8, the number of dimensions, their sizes (big-endian), the data."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}). Delete it and try again.") from error
    if content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of bytes (it begins with {content[:4]!r}).")
    shape = tuple(np.frombuffer(content, dtype=">i4", count=content[3], offset=4).tolist())
    data = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3])
    if len(data) != np.prod(shape):
        raise DataError(f"{path} is truncated: {len(data)} bytes, expected {' x '.join(map(str, shape))}.")
    return data.reshape(shape)


class _Idx:
    """An IDX file that is read when asked for, so that a start from the cache unpacks the labels alone."""

    def __init__(self, path: Path):
        self.path = path

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return read_idx(self.path)


class _Npz:
    """An array of a packed file, likewise. Raises DataError where it is damaged or not there."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        try:
            with np.load(self.path) as arrays:
                seen = list(arrays)
                if not (missing := [name for name in ORIGINALS if name not in seen]):
                    return arrays[self.name]
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error, TokenError) as error:
            raise DataError(f"{self.path} is damaged ({error}). Put the whole file there.") from error
        raise DataError(f"{self.path} has no array {missing[0]}; arrays seen: {', '.join(seen)}.")


class _Undone:
    """The images of a packed file with each grey value replaced by its original, likewise."""

    def __init__(self, images: _Npz, table: np.ndarray):
        self.images, self.table = images, table

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.table[np.asarray(self.images)]


def _inverse(paths: Paths) -> np.ndarray:
    """The table that undoes the tone curve. Raises DataError where it is not there or no such table."""
    file = paths.data / INVERSE
    try:
        table = np.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"data.tone=undone needs {file}, which cannot be read ({error}). Put it there, or the four original IDX "
            "files of MNIST in place of mnist.npz, or leave data.tone out."
        ) from error
    if table.dtype != np.uint8 or table.shape != (256,):
        raise DataError(f"{file} is {table.dtype} {table.shape}, expected uint8 (256,): an original a stored value.")
    return table


def _raw(name: str, md5: str) -> RawFile:
    plain = name.removesuffix(".gz")
    folders = ("mnist/", "mnist-idx/", "mnist/raw/", "MNIST/raw/", "")
    names = tuple(folder + file for folder in folders for file in (name, plain))
    return RawFile(names, archive=Archive(name, MIRROR + name, md5=md5))
