"""Labelled images: decoded once into a uint8 memory map, from which batches are slices."""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.cache import cached, file_sha256
from marquee.data.decoding import decode_all
from marquee.data.holdout import ExampleSplit
from marquee.data.labels import check_labels, encode_labels, label_counts, label_names, strata
from marquee.data.module import DataModule, Part, Paths
from marquee.data.spec import ImageSpec
from marquee.data.text_files import read_records
from marquee.errors import DataError

log = logging.getLogger(__name__)

VERSION = 1  # raised when the code below prepares the same bytes differently
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class ImageSource:
    """Images and where they come from.

    key     JSON values that identify the raw bytes
    names   of the images, for messages
    read    the encoded bytes (or a path) of image i; or, where `pixels` is given, unused
    labels  a label (or, multi-label, several) an image; None leaves the image out (counted as without label)
    test    bool [images], the official test part where there is one
    pixels  the decoded images at once, uint8 [images, channels, height, width], for formats that hold plain arrays
    """

    name: str
    key: Mapping[str, Any]
    names: Sequence[str]
    labels: Sequence[Any]
    read: Callable[[int], bytes | Path] | None = None
    test: np.ndarray | None = None
    pixels: Callable[[], np.ndarray] | None = None
    multilabel: bool = False
    min_count: int = 1


class ImageData(DataModule):
    """Base of the image data sets. After `setup`:

    images  uint8 [images, channels, height, width], a memory map
    names   of the images
    labels  int64 [images], or float32 [images, classes] when multi-label; zero where an image has none
    parts   row numbers of train, validation and test
    """

    spec_type = ImageSpec
    split_type = ExampleSplit

    images: np.ndarray
    names: list[str]
    labels: np.ndarray
    parts: dict[Part, np.ndarray]

    def __init__(
        self,
        *,
        height: Annotated[int, Ge(1)] = 150,
        width: Annotated[int, Ge(1)] = 150,
        channels: Literal[1, 3] = 3,
        max_corrupt: Annotated[float, Interval(ge=0, le=1)] = 0.01,
    ):
        self.height, self.width, self.channels = height, width, channels
        self.max_corrupt = max_corrupt

    @abstractmethod
    def source(self, paths: Paths) -> ImageSource:
        """Locate and verify the raw files."""

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        source = self.source(paths)
        shape = (self.channels, self.height, self.width)
        key = {**source.key, "shape": shape, "version": VERSION}
        folder = cached(paths, source.name, key, lambda folder: self._prepare(folder, source, shape))
        images = np.asarray(np.load(folder / "images.npy", mmap_mode="r"))
        arrays = np.load(folder / "rows.npz")
        kept, content = arrays["kept"], arrays["content"]
        corrupt = json.loads((folder / "corrupt.json").read_text(encoding="utf-8"))
        if len(corrupt) > self.max_corrupt * len(source.names):  # a cache made under a more generous threshold
            raise DataError(
                f"data={source.name}: {len(corrupt)} of {len(source.names)} images cannot be decoded "
                f"({', '.join(corrupt[:5])}), more than data.max_corrupt={self.max_corrupt:g}."
            )

        self.names = [source.names[row] for row in kept]
        labels = [source.labels[row] for row in kept]
        labelled = np.flatnonzero([label is not None for label in labels])
        given = [labels[row] for row in labelled]
        names, left_out = self._names(given, source)
        codes = encode_labels(given, names, source.multilabel)
        # Rows without a label stay in the memory map, and in no part.
        self.labels = np.zeros((len(kept), *codes.shape[1:]), dtype=codes.dtype)
        self.labels[labelled] = codes
        self.images = images

        test = None if source.test is None else source.test[kept][labelled]
        cut = split.cut(strata(codes), content[labelled], test)
        self.parts = {part: labelled[rows] for part, rows in cut.parts.items()}
        check_labels(self.labels, self.parts, names, f"data={source.name}")

        self.spec = ImageSpec(*shape, len(names), tuple(names), source.multilabel)
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
        digest.update(json.dumps(names).encode())
        digest.update(self.labels.tobytes())
        self.fingerprint = digest.hexdigest()
        self.split_fingerprint = cut.fingerprint
        self.report = {
            "images": len(labelled),
            "corrupt images": len(corrupt),
            **({"corrupt": corrupt[:20]} if corrupt else {}),
            "images without a label": len(kept) - len(labelled),
            **({f"labels below {source.min_count} images": left_out} if left_out else {}),
            **cut.report,
        }

    def save_inference(self, folder: Path) -> None:
        """`image.json`: size, channels and the labels' names (see decoding.decode_image)."""
        spec = self.spec
        content = {
            "channels": spec.channels,
            "height": spec.height,
            "width": spec.width,
            "labels": list(spec.labels),
            "multilabel": spec.multilabel,
        }
        (folder / "image.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _names(self, labels: Sequence[Any], source: ImageSource) -> tuple[list[str], list[str]]:
        """The class names, and those left out for having fewer than `min_count` images (multi-label only)."""
        names = label_names(labels, source.multilabel)
        if not source.multilabel:
            return names, []
        counts = label_counts(encode_labels(labels, names, True), len(names))
        rare = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < source.min_count]
        if rare:
            log.info("data=%s: labels with too few images are left out: %s", source.name, ", ".join(rare))
        return [name for name, count in zip(names, counts, strict=True) if count >= source.min_count], rare

    def _prepare(self, folder: Path, source: ImageSource, shape: tuple[int, int, int]) -> None:
        target = folder / "images.npy"
        corrupt: list[str] = []
        if source.pixels is not None:
            images = source.pixels()
            kept = np.arange(len(images))
            np.save(target, images)
        else:
            where = f"data={source.name}"
            kept, corrupt = decode_all(target, source.names, source.read, shape, self.max_corrupt, where)
            images = np.load(target, mmap_mode="r")
        digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
        np.savez(folder / "rows.npz", kept=kept, content=np.frombuffer(digests, dtype="<i8"))
        (folder / "corrupt.json").write_text(json.dumps(corrupt), encoding="utf-8")


class Images(ImageData):
    """Images of one's own.

    path             a folder; without `labels`, every sub-folder is a class
    labels           a CSV file with a row an image; null takes the sub-folders
    file, label      its columns: the file's path below `path`, and the label
    label_separator  e.g. "|" where an image has several labels in one field; null for one label an image
    min_count        labels (multi-label only) with fewer images are left out, and listed
    height, width    pixels that every image is stretched to
    channels         3 colour, 1 grey
    max_corrupt      share of images that may be unreadable; they are left out, named and counted
    """

    def __init__(
        self,
        *,
        path: str,
        labels: str | None = None,
        file: str = "file",
        label: str = "label",
        label_separator: str | None = None,
        min_count: Annotated[int, Ge(1)] = 1,
        height: Annotated[int, Ge(1)] = 150,
        width: Annotated[int, Ge(1)] = 150,
        channels: Literal[1, 3] = 3,
        max_corrupt: Annotated[float, Interval(ge=0, le=1)] = 0.01,
    ):
        super().__init__(height=height, width=width, channels=channels, max_corrupt=max_corrupt)
        self.path, self.label_file, self.file, self.label = path, labels, file, label
        self.label_separator, self.min_count = label_separator, min_count

    def source(self, paths: Paths) -> ImageSource:
        root = next((root for root in (Path(self.path).expanduser(), paths.data / self.path) if root.is_dir()), None)
        if root is None:
            raise DataError(f"data.path={self.path} is not a folder; looked there and in {paths.data / self.path}.")
        if self.label_file is None:
            names, labels = _by_folder(root)
        else:
            table = next((p for p in (Path(self.label_file).expanduser(), root / self.label_file) if p.is_file()), None)
            if table is None:
                raise DataError(f"data.labels={self.label_file} does not exist; looked there and in {root}.")
            names, labels = read_records(table, {"data.file": self.file, "data.label": self.label})
            if missing := [name for name in names if not (root / name).is_file()]:
                raise DataError(
                    f"{table}: {len(missing)} of {len(names)} files do not exist below {root}, first {missing[0]}. "
                    f"The column {self.file!r} (data.file) must hold paths relative to data.path."
                )
        if self.label_separator is not None:
            labels = [[part.strip() for part in label.split(self.label_separator) if part.strip()] for label in labels]
        else:
            labels = [label if label else None for label in labels]
        digest = hashlib.sha256()
        for name in names:
            digest.update(f"{name}\0{file_sha256(root / name)}\n".encode())
        return ImageSource(
            "images",
            {"files": digest.hexdigest()},
            names,
            labels,
            lambda row: root / names[row],
            multilabel=self.label_separator is not None,
            min_count=self.min_count,
        )


def _by_folder(root: Path) -> tuple[list[str], list[str]]:
    """Names relative to `root` and classes, sorted, so that the order does not depend on the file system."""
    files = sorted(path.relative_to(root) for path in root.glob("*/**/*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(
            f"{root} holds no images in sub-folders. Without data.labels every sub-folder is a class; endings read: "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return [file.as_posix() for file in files], [file.parts[0] for file in files]
