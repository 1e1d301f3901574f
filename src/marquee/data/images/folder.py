"""Bring your own images: a folder a class, or a folder with a table of labels."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.images.dataset import ImageData, ImageSource
from marquee.data.records import read_records
from marquee.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


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
            if missing := [name for name in names if not _is_file(root / name)]:
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
    found = (path for path in root.glob("*/**/*") if path.suffix.lower() in SUFFIXES and path.is_file())
    files = sorted(path.relative_to(root) for path in found)
    if not files:
        raise DataError(
            f"{root} holds no images in sub-folders. Without data.labels every sub-folder is a class; endings read: "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return [file.as_posix() for file in files], [file.parts[0] for file in files]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False
