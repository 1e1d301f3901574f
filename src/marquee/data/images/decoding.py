"""Image files to uint8 pixels of one size; `decode_image` is what a finished run uses alone."""

import errno
import io
import logging
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from marquee.errors import DataError

log = logging.getLogger(__name__)

# What Pillow raises on damaged bytes, depending on the format and on where the damage is.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
MODES = {1: "L", 3: "RGB"}
# Raised whenever the same bytes become other pixels: 2 turns images as EXIF says and scales 16-bit greys, 3 lays
# transparent images on white.
DECODING = 3
# EXIF 2.3, tag 0x0112: what to do to a picture that a camera held on its side has taken.
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
CHUNK = 32  # images a task of the pool: enough to hide its cost, few enough to share the work evenly


def decode_image(image: Any, spec: dict[str, Any]) -> np.ndarray:
    """A path, encoded bytes or a Pillow image as uint8 [channels, height, width].

    `spec` has "channels" (1 or 3), "height" and "width"; the image is turned as its EXIF says and stretched to that
    size, not cropped. 16-bit greys are scaled to 8 bits, what is transparent is white, and of an animation the first
    picture is taken. Raises DataError where the bytes are no such image.
    """
    try:
        return _pixels(image, spec["channels"], spec["height"], spec["width"])
    except FileNotFoundError as error:
        raise DataError(f"The image {image} does not exist.") from error
    except DAMAGE as error:
        name = image if isinstance(image, (str, Path)) else "the image"
        raise DataError(f"{name} is not a readable image ({error}).") from error


def decode_all(
    target: Path,
    names: Sequence[str],
    read: Callable[[int], bytes | Path],
    shape: tuple[int, int, int],
    max_corrupt: float,
    where: str,
) -> tuple[np.ndarray, list[str]]:
    """Decode `read(0) ... read(n-1)` into the .npy file `target`, uint8 [decoded, channels, height, width].

    Returns the row numbers that could be decoded and the names of those that could not (each is logged with its
    reason). Raises DataError where they are more than the share `max_corrupt`.
    """
    images = _new(target, (len(names), *shape))

    def decode(start: int) -> list[tuple[int, str]]:
        failed = []
        for row in range(start, min(start + CHUNK, len(names))):
            try:
                images[row] = _pixels(read(row), *shape)
            except DAMAGE as error:
                failed.append((row, str(error) or type(error).__name__))
        return failed

    # Threads suffice: Pillow lets go of the interpreter while it decodes and resizes.
    with ThreadPoolExecutor(max_workers=min(_cores(), 16)) as pool:
        failed = [failure for chunk in pool.map(decode, range(0, len(names), CHUNK)) for failure in chunk]
    for row, reason in failed[:20]:
        log.warning("corrupt image %s is left out: %s", names[row], reason)
    if len(failed) > max_corrupt * len(names):
        listed = "; ".join(f"{names[row]} ({reason})" for row, reason in failed[:5])
        raise DataError(
            f"{where}: {len(failed)} of {len(names)} images cannot be decoded: {listed}. Repair or remove them, or "
            f"accept a larger share with data.max_corrupt (now {max_corrupt:g})."
        )
    kept = np.setdiff1d(np.arange(len(names)), [row for row, _ in failed])
    if failed:
        if not len(kept):
            raise DataError(f"{where}: none of the {len(names)} images can be decoded.")
        complete = _new(target.with_suffix(".part"), (len(kept), *shape))
        for start in range(0, len(kept), 1024):
            complete[start : start + 1024] = images[kept[start : start + 1024]]
        complete.flush()
        os.replace(target.with_suffix(".part"), target)
    else:
        images.flush()
    return kept, [names[row] for row, _ in failed]


def _new(target: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new .npy file as a memory map. Raises OSError where the disk has no room for all of it."""
    images = open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # A page that finds no room when it is written kills the process (SIGBUS), so the room is taken beforehand.
        with open(target, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, target.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not every file system can
                    raise
    return images


def _cores() -> int:
    """Cores that this process may use, which on shared machines are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pixels(source: Any, channels: int, height: int, width: int) -> np.ndarray:
    if isinstance(source, Image.Image):
        return _resized(source, channels, height, width)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        # A JPEG much larger than needed is decoded at a fraction of its size, at a fraction of the cost.
        sideways = _orientation(image) >= 5
        image.draft(MODES[channels], (height, width) if sideways else (width, height))
        return _resized(image, channels, height, width)


def _resized(image: Image.Image, channels: int, height: int, width: int) -> np.ndarray:
    image.load()  # which turns a TIFF file by itself
    orientation = _orientation(image)
    # Early versions of Pillow open 16-bit PNG files in mode I.
    wide = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")
    if wide:
        image = Image.fromarray((np.asarray(image).astype(np.uint32) * 255 // 65535).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}) have no known range; save them with 8 or 16 bits")
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, 2, 0)


def _orientation(image: Image.Image) -> int:
    """1 ... 8, where 1 is upright and from 5 on width and height are swapped; 1 where EXIF does not say."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):  # the EXIF is damaged, not the image
        return 1
    return value if value in TURNS else 1
