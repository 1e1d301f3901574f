"""From a finished run, or what was exported of one, straight to use. Needs neither Hydra nor Lightning nor the data
set; an ONNX export needs no torch either.

predictor = marquee.load("latest")
predictor.recommend(users=[1, 2], k=5)                       # a run on interactions
predictor.predict(["a slow start, but a wonderful end"])     # a run on texts
"""

import json
import os
from pathlib import Path

from marquee.errors import ConfigError, DataError
from marquee.inference.portable.artefact import MODEL, verify
from marquee.inference.predictor import DAMAGE, Predictor, predictor_of
from marquee.runs.finding import EXPORT, find_run
from marquee.runs.liveness import status_of
from marquee.runs.record import MANIFEST, read_manifest


def load(run: str | Path = "latest", output: str | Path | None = None) -> Predictor:
    """The predictor of a finished run: a folder, an id or fingerprint prefix, or "latest" below `output`; or of an
    export: the folder, its .onnx file or the .zip of a packed run.

    `output` is where runs land (default: MARQUEE_OUTPUT, else outputs). Raises ConfigError for an unknown or
    unfinished run and for one whose task names no predictor, DataError for a damaged one.
    """
    if (exported := export_at(run)) is not None:
        return _load_export(exported)
    folder = find_run(str(run), Path(output or os.environ.get("MARQUEE_OUTPUT", "outputs")))
    manifest = read_manifest(folder)
    status = status_of(folder, manifest)
    if status != "finished":
        hint = f" To continue it: marquee train resume={folder.name}" if status in ("interrupted", "failed") else ""
        raise ConfigError(f"{folder.name} is {status}, and only finished runs can be used.{hint}")
    return _of_folder(folder / "inference", f"To train it again: marquee rerun {folder.name}")


def export_at(name: str | Path) -> Path | None:
    """The .onnx or .zip file, or the folder of an export, that a name stands for; None where it names a run."""
    path = Path(name).expanduser()
    if path.suffix.lower() in (".onnx", ".zip") and not (path / MANIFEST).is_file():
        if not path.is_file():
            raise ConfigError(f"{path} does not exist.")
        return path
    if (path / EXPORT).is_file() or (path / MODEL).is_file():
        return path
    return None


def _load_export(path: Path) -> Predictor:
    if path.is_dir():
        path = _model_of(path)
    if path.is_dir():  # --format torch
        verify(path.parent)
        return _of_folder(path, "Export the run again.")
    if path.suffix.lower() == ".zip":
        from marquee.apply.exporting.archive import unpacked

        folder, place = unpacked(path)
        predictor = _of_folder(folder / "inference", "Export the run again.")
        predictor.unpacked = place  # some files are read later; the folder goes when the predictor goes
        return predictor
    from marquee.inference.portable.opening import open_artefact

    try:
        return open_artefact(path)
    except DAMAGE as error:
        raise DataError(f"{path} is damaged ({error}). Export the run again.") from error


def _model_of(folder: Path) -> Path:
    """What an export's folder says that its model is: a file, or a folder of weights."""
    if not (folder / EXPORT).is_file():
        return folder / MODEL
    try:
        name = json.loads((folder / EXPORT).read_text(encoding="utf-8"))["model"]
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError("its model is no name of a file")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / EXPORT} is damaged ({error}). Export the run again.") from error
    if not (folder / name).exists():
        raise DataError(f"{folder / name} does not exist, and {EXPORT} names it. Export the run again.")
    return folder / name


def _of_folder(inference: Path, again: str) -> Predictor:
    try:
        return predictor_of(inference)
    except DAMAGE as error:
        raise DataError(f"{inference} is damaged ({error}), so the run cannot be used. {again}") from error
