"""A run that is loaded to be served: verified, tried by its golden requests, and what it can be asked."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from marquee.apply.predictor import load
from marquee.data.cache import file_sha256
from marquee.errors import ConfigError, DataError
from marquee.inference.artefacts import WEIGHTS
from marquee.inference.classifier import ClassPredictor
from marquee.inference.generation import Generator
from marquee.inference.golden import GOLDEN, differences, stated_sums
from marquee.inference.guide import INTENTS
from marquee.inference.player import GamePlayer
from marquee.inference.predictor import Predictor
from marquee.inference.recommender import RecommendPredictor
from marquee.inference.responder import ResponsePredictor
from marquee.inference.tagger import SlotPredictor
from marquee.runs.record import read_manifest

# What may be asked of which kind of run, and where.
PATHS = {
    RecommendPredictor: ("/v1/recommend", "/v1/items"),
    ClassPredictor: ("/v1/predict",),
    Generator: ("/v1/generate",),
    ResponsePredictor: ("/v1/reply",),
    GamePlayer: ("/v1/advise",),
}


@dataclass
class Served:
    """A loaded run.

    wrong    where it answers otherwise than at its training, a line each; a run with such is not ready
    remarks  what is worth knowing besides
    guide    the conversation that it holds with each visitor: called without arguments, it begins one
    """

    folder: Path
    manifest: dict[str, Any]
    predictor: Predictor
    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    guide: Any = None

    @property
    def fingerprint(self) -> str:
        return self.manifest["fingerprint"]

    @property
    def headers(self) -> dict[str, str]:
        """What every answer carries."""
        return {"X-Marquee-Run": self.manifest["id"], "X-Marquee-Fingerprint": self.fingerprint}

    @cached_property
    def paths(self) -> list[str]:
        """The endpoints that answer; asked for when all that the run has is there."""
        found = [path for kind, own in PATHS.items() if isinstance(self.predictor, kind) for path in own]
        return [*found, "/v1/chat"] if self.guide is not None else found

    @property
    def takes(self) -> str | None:
        """What a classifier labels: text or image."""
        return self.predictor.takes if isinstance(self.predictor, ClassPredictor) else None

    @property
    def decoding(self) -> dict[str, int]:
        """The size of the images that the model reads."""
        spec = self.predictor.spec
        return {"channels": spec.channels, "height": spec.height, "width": spec.width}

    def described(self) -> dict[str, Any]:
        """What `/v1/run` says."""
        manifest, predictor = self.manifest, self.predictor
        told: dict[str, Any] = {
            "run": manifest["id"],
            "fingerprint": self.fingerprint,
            "name": manifest.get("name"),
            "model": manifest.get("model"),
            "does": predictor.does,
            "endpoints": self.paths,
            "data": (manifest.get("data") or {}).get("name"),
            "protocol": (manifest.get("task") or {}).get("protocol"),
            "monitor": manifest.get("monitor"),
            "metrics": manifest.get("metrics") or {},
            "finished": manifest.get("finished"),
            "remarks": self.remarks,
        }
        if isinstance(predictor, RecommendPredictor):
            columns = predictor.features["user"].kinds if "user" in predictor.features else {}
            told |= {"items": len(predictor.items), "users": len(predictor.users), "user_features": list(columns),
                     "reads_histories": predictor.model.scores_unseen_users}  # fmt: skip
        if isinstance(predictor, ClassPredictor):
            told |= {"takes": predictor.takes, "labels": predictor.labels}
        if isinstance(predictor, Generator):
            told |= {"takes": dict(predictor.takes), "formats": list(predictor.formats)}
        return told


def open_served(
    folder: Path, recommender: str | None = None, catalogue: Path | None = None, output: Path | None = None
) -> Served:
    """Load a finished run, and verify that its weights are those that training wrote.

    Raises ConfigError for a run that cannot be served, DataError for a damaged one, which names the file.
    """
    manifest = read_manifest(folder)
    verify(folder, manifest)
    served = Served(folder, manifest, load(folder))
    if recommender is not None or catalogue is not None:
        from marquee.apply.guide import open_guide
        from marquee.inference.guide import Guide

        reader = served.predictor
        if not isinstance(reader, SlotPredictor) or set(INTENTS) - set(reader.labels):
            raise ConfigError(
                f"--recommender, --catalogue: they are for a run of data=world_requests, and {folder.name} "
                f"{reader.does}.\n  fix: leave them out"
            )
        first, _ = open_guide(folder, recommender, catalogue, None, output)
        served.guide = lambda: Guide(reader, first.catalogue, first.recommender)
    if not served.paths:
        raise ConfigError(f"{folder.name} {served.predictor.does}, and there is no endpoint for that.")
    return served


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise DataError where a file is not the one that training wrote; what, of an earlier version, has no sum passes.

    The manifest has the sum of the weights, `golden.json` those of the other files.
    """
    inference = folder / "inference"
    sums = [(WEIGHTS, (manifest.get("checkpoint") or {}).get("weights_sha256"), "the manifest says")]
    sums += [(name, stated, f"{GOLDEN} says") for name, stated in stated_sums(inference).items()]
    for name, stated, says in sums:
        if stated is None:
            continue
        file = inference / name
        try:
            found = file_sha256(file)
        except OSError as error:
            raise DataError(
                f"{file} cannot be read ({error.strerror}). To train it again: marquee rerun {folder.name}"
            ) from None
        if found != stated:
            raise DataError(
                f"{file} is damaged: its sha256 is {found}, and {says} {stated}.\n"
                f"  fix: copy the run again, or train it again: marquee rerun {folder.name}"
            )


def try_golden(served: Served) -> None:
    """Ask the golden requests again; what differs stands in `wrong` afterwards."""
    found = differences(served.predictor, served.folder / "inference")
    if found is None:
        served.remarks.append(
            "The run has no golden requests, as those of earlier versions: its answers are not tried."
        )
    served.wrong = found or []
