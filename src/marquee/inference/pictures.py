"""New pictures of a finished run, as a sheet of them in a PNG file or as an array in an NPZ file."""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marquee.errors import ConfigError
from marquee.inference.artefacts import read_model
from marquee.inference.generation import Generator, Made
from marquee.models.pictures import ImageModel, classes_of, noise_of

AT_ONCE = 16  # always: the last digits of a product depend on how many rows it has, so a short batch is filled up
LARGEST = 10_000  # pictures at once: their pixels are held in memory
GAP = 2  # pixels between pictures on a sheet
SHADES = " .:-=+*#%@"


class Pictures(Generator):
    """Makes pictures of noise; the noise of each is a function of (seed, number) alone."""

    does, example, makes = "makes pictures", "-n 64 --output grid.png", "picture"
    formats = {"png": ".png", "npz": ".npz"}

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.model: ImageModel
        self.labels: tuple[str, ...] = tuple(self.spec.labels)
        self.takes: Mapping[str, Any] = {"class": ""} if self.model.conditional else {}
        self.shares = torch.tensor(read_model(folder).get("serves", {}).get("shares") or [1.0] * len(self.labels))

    def make(self, n: int, seed: int, settings: Mapping[str, Any]) -> list[Made]:
        if n > LARGEST:
            raise ConfigError(f"-n {n}: at most {LARGEST:,} pictures are made at once. Make more with other seeds.")
        wanted = settings.get("class", "")
        if wanted and wanted not in self.labels:
            raise ConfigError(f"--class={wanted} is none of this run's classes.\n  allowed: {', '.join(self.labels)}")
        numbers = torch.arange(-(-n // AT_ONCE) * AT_ONCE)
        classes = None
        if self.model.conditional:
            drawn = classes_of(self.shares, seed, numbers)
            classes = torch.full_like(numbers, self.labels.index(wanted)) if wanted else drawn
        images = self.of_noise(noise_of(self.model, seed, numbers), classes)[:n].numpy()
        told = [{"number": number} for number in range(n)]
        if classes is not None:
            told = [{**facts, "class": self.labels[chosen]} for facts, chosen in zip(told, classes.tolist())]
        return [Made(image, facts) for image, facts in zip(images, told, strict=True)]

    def golden(self) -> list[dict[str, Any]]:
        return [{"seed": 1}]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The mean shade of each row of pixels: a flow ends in pixels that rounding may tip by one."""
        (made,) = self.generate(1, question["seed"])
        return {"shades": made.content.mean(axis=(0, 2)).astype(float).tolist()}

    @torch.inference_mode()
    def of_noise(self, noise: Tensor, classes: Tensor | None) -> Tensor:
        """uint8 [n, channels, height, width]; n is a multiple of AT_ONCE."""
        chosen = [None] * (len(noise) // AT_ONCE) if classes is None else classes.split(AT_ONCE)
        return torch.cat([self.model.generate(part, of) for part, of in zip(noise.split(AT_ONCE), chosen, strict=True)])

    def render(self, made: Sequence[Made], format: str) -> bytes:
        images = np.stack([one.content for one in made])
        file = io.BytesIO()
        if format == "png":
            from PIL import Image

            Image.fromarray(sheet(images)).save(file, "PNG")
            return file.getvalue()
        arrays = {"images": images}
        if made[0].facts.get("class") is not None:
            arrays["classes"] = np.array([one.facts["class"] for one in made])
        # Not `np.savez`, which writes the time into the file: the same pictures are the same bytes.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getvalue())
        return file.getvalue()

    def shown(self, made: Sequence[Made]) -> str:
        """The first picture in characters, at most 56 wide, and what to type for all of them."""
        image = made[0].content.mean(axis=0)
        step = max(1, -(-image.shape[1] // 56))
        rows = image[:: 2 * step, ::step]  # a character is twice as high as wide
        text = "\n".join("".join(SHADES[int(value) * len(SHADES) // 256] for value in row) for row in rows)
        return f"{text}\nto see {'it' if len(made) == 1 else f'all {len(made)}'}: --output FILE.png"


def sheet(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """uint8 [n, channels, height, width] as one picture [height, width, 3], row by row, near to a square."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n * height / width))
    rows = -(-n // columns)
    cells = np.full((rows * columns, height + GAP, width + GAP, 3), 255, dtype=np.uint8)
    cells[:n, :height, :width] = np.moveaxis(np.broadcast_to(images, (n, 3, height, width)), 1, -1)
    cells = cells.reshape(rows, columns, height + GAP, width + GAP, 3).swapaxes(1, 2)
    return cells.reshape(rows * (height + GAP), columns * (width + GAP), 3)[:-GAP, :-GAP]
