"""The predictor of an exported run, by the kind that its file tells."""

from pathlib import Path

from marquee.errors import DataError
from marquee.inference.portable.artefact import Artefact
from marquee.inference.predictor import Predictor

KINDS = ("recommender", "text", "image", "writer")


def open_artefact(path: Path) -> Predictor:
    """What answers with an .onnx file that `marquee export` wrote."""
    artefact = Artefact(path)
    kind = artefact.told["kind"]
    if kind == "recommender":
        from marquee.inference.portable.recommender import PortableRecommender

        return PortableRecommender(artefact)
    if kind in ("text", "image"):
        from marquee.inference.portable.classifier import PortableImages, PortableTexts

        return PortableTexts(artefact) if kind == "text" else PortableImages(artefact)
    if kind == "writer":
        from marquee.inference.portable.writer import PortableWriter

        return PortableWriter(artefact)
    raise DataError(f"{path} is of a kind that this Marquee does not know: {kind!r}; known are {', '.join(KINDS)}.")
