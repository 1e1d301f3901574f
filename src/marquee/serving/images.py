"""Images that somebody sends: looked at before they are decoded, so that a small file cannot fill the memory."""

import base64
import binascii
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from marquee.data.images.decoding import DAMAGE, decode_image
from marquee.serving.refusals import Refusal

SCANS = 100  # of a JPEG; programs write about ten
TOGETHER = 4  # times the largest image: the pixels of all images of a request
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # not those whose readers start other programs


def refuse_bombs(images: Sequence[bytes], max_pixels: int) -> None:
    """Raise Refusal for what is no image, is too large, or would take too long to decode, by what it says of itself."""
    pixels = 0
    for content in images:
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
        except Image.DecompressionBombError:  # so large that Pillow itself does not go on
            raise _too_large(f"The image has more pixels than the {max_pixels:,} that are decoded.") from None
        except DAMAGE as error:
            raise Refusal(400, "unreadable", f"The image is none of {', '.join(FORMATS)} ({_short(error)}).") from None
        if width * height > max_pixels:
            raise _too_large(f"The image has {width} x {height} pixels; up to {max_pixels:,} are decoded. Shrink it.")
        if image.format == "JPEG" and content.count(b"\xff\xda") > SCANS:  # each goes through all pixels
            raise _too_large(f"The image comes in more than {SCANS} scans. Save it again.")
        pixels += width * height
    if pixels > TOGETHER * max_pixels:
        raise _too_large(
            f"The images have {pixels:,} pixels; up to {TOGETHER * max_pixels:,} of a request are decoded. Send fewer."
        )


def decoded(content: bytes, spec: dict[str, Any]) -> Image.Image:
    """The pixels that a model reads, of an encoded image that `refuse_bombs` let pass."""
    pixels = decode_image(content, spec)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())


def from_base64(text: str) -> bytes:
    """The bytes of an image in JSON, with or without the head of a data URL."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "unreadable", f"images holds something that is no base64 ({_short(error)}).") from None


def _too_large(message: str) -> Refusal:
    return Refusal(413, "too_large", message)


def _short(error: Exception) -> str:
    return str(error).replace("\n", " ")[:200]
