"""An exported model: one ONNX file that carries what answering needs, and files beside it where those are large."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marquee.errors import ConfigError, DataError

FORMAT = 1
MODEL, WEIGHTS, SUMS = "model.onnx", ".data", "SHA256SUMS"  # WEIGHTS is appended to the name of a large model
TOLD = "marquee"  # the key of the file's metadata that says what the artefact is; `file:NAME` holds a file
LARGE = 4_000_000  # bytes from which on a file lies beside the model


class Artefact:
    """The graph of an exported run in a session of ONNX Runtime, with the files that the run's data set wrote.

    path  of the .onnx file

    told  what the export wrote of itself: run, fingerprint, protocol, kind, settings, files
    """

    def __init__(self, path: Path):
        runtime = runtime_of()
        self.path = path
        weights = path.name + WEIGHTS
        verify(path.parent, [path.name, weights])
        options = runtime.SessionOptions()
        # OMP_NUM_THREADS, as torch has it; unset: as many as there are cores.
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        options.log_severity_level = 3
        if (path.parent / weights).is_file():  # mapped into memory; prepacking would copy them
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has an exception of its own for each status, and no base of them
            raise DataError(
                f"{path} is damaged or no ONNX model: {_first_line(error)}. Export the run again."
            ) from None
        self._kept: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        if TOLD not in self._kept:
            raise ConfigError(
                f"{path} was not written by marquee export: its metadata does not say which run it is of. "
                "Export one: marquee export RUN --format onnx DIR"
            )
        self.told: dict[str, Any] = json.loads(self._kept[TOLD])
        if self.told["format"] > FORMAT:
            raise DataError(f"{path} has format {self.told['format']}; this Marquee reads up to {FORMAT}. Upgrade.")
        self.inputs = {one.name for one in self.session.get_inputs()}

    def run(self, **feeds: np.ndarray) -> list[np.ndarray]:
        """All outputs of the graph."""
        return self.session.run(None, feeds)

    def has(self, name: str) -> bool:
        return name in self.told["files"]

    def bytes(self, name: str) -> bytes:
        """The content of a file of the run's `inference/` folder. Raises DataError where it is not as exported."""
        wanted = self.told["files"][name]
        if (inside := self._kept.get(f"file:{name}")) is not None:
            content = base64.b64decode(inside) if not name.endswith(".json") else inside.encode("utf-8")
        else:
            file = self.path.parent / name
            try:
                content = file.read_bytes()
            except OSError:
                raise DataError(
                    f"{file} does not exist; {self.path.name} needs it beside it (sha256 {wanted})."
                ) from None
        if (found := hashlib.sha256(content).hexdigest()) != wanted:
            raise DataError(f"{name} of {self.path} is not the one that was exported: sha256 {found}, not {wanted}.")
        return content

    def json(self, name: str) -> Any:
        return json.loads(self.bytes(name))

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        from safetensors.numpy import load

        return load(self.bytes(name))


def runtime_of() -> Any:
    """The package onnxruntime. Raises ConfigError where it is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ConfigError("Exported models need ONNX Runtime, which comes with pip install 'marquee[export]'") from None
    return onnxruntime


def verify(folder: Path, names: list[str] | None = None) -> None:
    """Hold files of a folder (None: all that are listed) against its SHA256SUMS, where there is one.

    Raises DataError that names the first file that differs, with both sums.
    """
    try:
        listed = sums_of((folder / SUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    for name, wanted in listed.items():
        if names is not None and name not in names:
            continue
        try:
            found = file_sum(folder / name)
        except OSError:
            raise DataError(
                f"{folder / name} does not exist, and {folder / SUMS} lists it (sha256 {wanted})."
            ) from None
        if found != wanted:
            raise DataError(
                f"{folder / name} is corrupt, or of another export: sha256 {found}, and {SUMS} says {wanted}. "
                "Export the run again."
            )


def sums_of(text: str) -> dict[str, str]:
    """Names and sums of a SHA256SUMS, as sha256sum writes it. Raises DataError for what is none."""
    found = {}
    for line in text.splitlines():
        total, space, name = line.partition("  ")
        if not space or len(total) != 64:
            raise DataError(f"{SUMS} has a line that is no sum and name: {line[:80]!r}.")
        found[name] = total
    return found


def file_sum(path: Path) -> str:
    """The sha256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
