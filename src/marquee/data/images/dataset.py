"""Labelled images: decoded once into a uint8 memory map, from which batches are slices."""

import hashlib
import io
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval

from marquee.data.cache import cached
from marquee.data.dataset import DataSet, Part, Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.images.decoding import DECODING, decode_all
from marquee.data.labels import check_labels, encode_labels, label_counts, label_names, strata
from marquee.data.spec import ImageSpec
from marquee.errors import DataError

log = logging.getLogger(__name__)

VERSION = 1  # raised when the code below prepares the same bytes differently


@dataclass(frozen=True)
class ImageSource:
    """Images and where they come from.

    key         JSON values that identify the raw bytes
    names       of the images, for messages
    read        the encoded bytes (or a path) of image i; or, where `pixels` is given, unused
    labels      a label (or, multi-label, several) an image; None leaves the image out (counted as without label)
    test        bool [images], the official test part where there is one
    pixels      the decoded images at once, uint8 [images, channels, height, width], for formats that hold plain arrays
    attributes  by name, a word an image: what results may be broken down by
    report      counts of what was read, for the log and the manifest
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
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


class ImageData(DataSet):
    """Base of the image data sets. After `setup`:

    images      uint8 [images, channels, height, width], a memory map
    names       of the images
    labels      int64 [images], or float32 [images, classes] when multi-label; zero where an image has none
    parts       row numbers of train, validation and test
    attributes  by name, an array over all images: what results may be broken down by
    """

    spec_type = ImageSpec
    split_type = ExampleSplit

    images: np.ndarray
    names: list[str]
    labels: np.ndarray
    parts: dict[Part, np.ndarray]
    attributes: dict[str, np.ndarray]

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
        if source.pixels is None:
            key["decoding"] = DECODING
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
        self.attributes = {name: np.asarray(values, dtype=np.str_)[kept] for name, values in source.attributes.items()}

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
            **source.report,
            **({f"labels below {source.min_count} images": left_out} if left_out else {}),
            **cut.report,
        }

    def about(self) -> dict[Literal["item", "user"], Sequence[str]]:
        """By the attributes item_id and user_id, where the source has them."""
        return {side: self.attributes[f"{side}_id"] for side in ("item", "user") if f"{side}_id" in self.attributes}

    def example(self, row: int) -> bytes:
        """The prepared pixels of a row as a JPEG file, which is to be decoded."""
        from PIL import Image

        pixels = np.moveaxis(np.asarray(self.images[row]), 0, -1)
        file = io.BytesIO()
        Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0]).save(file, "JPEG")
        return file.getvalue()

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
