"""Bring your own images: a folder a class, or a folder with a table of labels."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from marquee.data.cache import file_sha256
from marquee.data.dataset import Paths
from marquee.data.images.dataset import ImageData, ImageSource
from marquee.data.records import read_records
from marquee.errors import ConfigError, DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


class Images(ImageData):
    """Images of one's own.

    path             a folder; without `labels`, every sub-folder is a class
    labels           a CSV file with a row an image; null takes the sub-folders
    file, label      its columns: the file's path below `path`, and the label
    attributes       further columns that results may be broken down by; read as words
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
        attributes: list[str] | None = None,
        label_separator: str | None = None,
        min_count: Annotated[int, Ge(1)] = 1,
        height: Annotated[int, Ge(1)] = 150,
        width: Annotated[int, Ge(1)] = 150,
        channels: Literal[1, 3] = 3,
        max_corrupt: Annotated[float, Interval(ge=0, le=1)] = 0.01,
    ):
        super().__init__(height=height, width=width, channels=channels, max_corrupt=max_corrupt)
        self.path, self.label_file, self.file, self.label = path, labels, file, label
        self.attribute_columns = list(attributes or [])
        self.label_separator, self.min_count = label_separator, min_count

    def source(self, paths: Paths) -> ImageSource:
        root = next((root for root in (Path(self.path).expanduser(), paths.data / self.path) if root.is_dir()), None)
        if root is None:
            raise DataError(f"data.path={self.path} is not a folder; looked there and in {paths.data / self.path}.")
        values: list[list[str]] = []
        report = {}
        if self.label_file is None:
            if self.attribute_columns:
                raise ConfigError("data.attributes names columns of a labels file.\n  fix: data.labels=FILE")
            names, labels = _by_folder(root)
        else:
            names, labels, *values = self._table(root)
            listed = {Path(name) for name in names}
            report["images that the labels file does not list"] = sum(file not in listed for file in _images(root))
        if self.label_separator is not None:
            labels = [[part.strip() for part in label.split(self.label_separator) if part.strip()] for label in labels]
        else:
            labels = [label if label else None for label in labels]
        digest = hashlib.sha256()
        for name in names:
            try:
                digest.update(f"{name}\0{file_sha256(root / name)}\n".encode())
            except UnicodeEncodeError as error:
                raise DataError(f"{root} holds a file whose name is not UTF-8: {name!a}. Rename it.") from error
        return ImageSource(
            "images",
            {"files": digest.hexdigest()},
            names,
            labels,
            lambda row: root / names[row],
            multilabel=self.label_separator is not None,
            min_count=self.min_count,
            attributes=dict(zip(self.attribute_columns, values, strict=True)),
            report=report,
        )

    def about(self) -> dict[Literal["item", "user"], Sequence[str]]:
        """By the attributes item_id and user_id; without item_id, an image is named as its item: 1193.jpg."""
        return {"item": [Path(name).stem for name in self.names], **super().about()}

    def _table(self, root: Path) -> list[list[str]]:
        """Names, labels and attributes of the labels file, each name once and below `root`."""
        table = next((p for p in (Path(self.label_file).expanduser(), root / self.label_file) if p.is_file()), None)
        if table is None:
            raise DataError(f"data.labels={self.label_file} does not exist; looked there and in {root}.")
        columns = {"data.file": self.file, "data.label": self.label}
        columns |= {f"data.attributes.{number}": name for number, name in enumerate(self.attribute_columns)}
        names, labels, *values = read_records(table, columns)
        column = f"The column {self.file!r} (data.file) must hold paths below data.path"
        if outside := [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]:
            raise DataError(
                f"{table}: {len(outside)} of {len(names)} files are not below {root}, first {outside[0]}. {column}, "
                "relative to it and without `..`."
            )
        if missing := [name for name in names if not _is_file(root / name)]:
            raise DataError(
                f"{table}: {len(missing)} of {len(names)} files do not exist below {root}, first {missing[0]}. "
                f"{column}, relative to it."
            )
        first: dict[Path, int] = {}
        for row, name in enumerate(names):
            if (before := first.setdefault(Path(name), row)) != row:
                raise DataError(
                    f"{table}: {name} is there twice, with the labels {labels[before]!r} and {labels[row]!r}. Leave "
                    'one line; several labels are one field such as "a|b", with data.label_separator="|".'
                )
        return [names, labels, *values]


def _by_folder(root: Path) -> tuple[list[str], list[str]]:
    """Names relative to `root` and classes, sorted, so that the order does not depend on the file system."""
    files = sorted(file for file in _images(root) if len(file.parts) > 1)
    if not files:
        raise DataError(
            f"{root} holds no images in sub-folders. Without data.labels every sub-folder is a class; endings read: "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    return [file.as_posix() for file in files], [file.parts[0] for file in files]


def _images(root: Path) -> list[Path]:
    """The image files below `root`, relative to it."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path.relative_to(root) for path in found]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False
