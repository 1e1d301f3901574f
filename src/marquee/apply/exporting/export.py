"""Export a finished run: written beside its place, certified there, and put into its place in one step."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from marquee.apply.exporting.archive import pack
from marquee.apply.exporting.card import card
from marquee.apply.exporting.graphs import graph_of
from marquee.apply.exporting.onnx_file import write_onnx
from marquee.apply.exporting.parity import certificate, refuse_worse, task_of
from marquee.apply.predictor import load
from marquee.errors import ConfigError, JobError
from marquee.files import sync
from marquee.inference.artefacts import read_model
from marquee.inference.portable.artefact import MODEL, SUMS, file_sum
from marquee.inference.portable.opening import open_artefact
from marquee.inference.predictor import Predictor
from marquee.runs.record import Run, now

Format = Literal["onnx", "torch", "run"]
RECORD, PARITY, CARD, WEIGHTS = "export.json", "parity.json", "README.md", "weights"
TOLERANCE = 0.002  # by which the monitored metric may be worse, as an absolute number


@dataclass(frozen=True)
class Wish:
    """What is asked of an export (see `marquee export --help`)."""

    format: Format
    int8: bool = False
    force: bool = False
    tolerance: float = TOLERANCE
    index: bool = False
    index_from: int = 200_000


def export(folder: Path, target: Path, wish: Wish) -> dict[str, Any]:
    """Export the run in `folder` to the folder `target`; what export.json says of it.

    Raises ConfigError for a run that cannot be exported so and for a target that holds something else, DataError for a
    damaged run, JobError for an artefact that is worse than the run, unless `wish.force`. Then nothing was written.
    """
    run = Run.open(folder)
    _refuse_foreign(target, run.manifest)
    predictor = load(folder)
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as place:
            made = Path(place) / "export"
            made.mkdir()
            record = WRITERS[wish.format](run, predictor, made, wish)
            _finish(made, run, record)
            _swap(made, target, Path(place) / "former")
    except OSError as error:
        raise JobError(f"{target} cannot be written: {error.strerror or error}.") from error
    _record(run, target, record)
    return record


def _refuse_foreign(target: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ConfigError where the target holds something that is not an export of this run."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        content = json.loads((target / RECORD).read_text(encoding="utf-8"))
        found, name = content["fingerprint"], content["run"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{target} exists and is no export of marquee. Choose another folder, or remove it."
        ) from None
    if found != manifest["fingerprint"]:
        raise ConfigError(
            f"{target} holds an export of another run, {name} (fingerprint {str(found)[:16]}), and this one is "
            f"{manifest['id']} ({manifest['fingerprint'][:16]}). Choose another folder, or remove it."
        )


# The formats ---------------------------------------------------------------------------------------------------------


def _onnx(run: Run, predictor: Predictor, made: Path, wish: Wish) -> dict[str, Any]:
    inference, manifest = run.folder / "inference", run.manifest
    content = read_model(inference)
    graph = graph_of(predictor.model, predictor.spec, run.folder.name)
    serves = content.get("serves") or {}
    told = {
        "run": manifest["id"], "fingerprint": manifest["fingerprint"], "data": (manifest["data"] or {}).get("name"),
        "model": content["model"]["_target_"], "protocol": (manifest["task"] or {}).get("protocol"),
        "split": (manifest["split"] or {}).get("fingerprint"), "serves": serves,
        "weights_sha256": (manifest.get("checkpoint") or {}).get("weights_sha256"), "int8": wish.int8,
        "settings": {"filter_seen": serves.get("filter_seen", True)},
    }  # fmt: skip
    write_onnx(graph, inference, made, told, wish.int8)
    artefact = open_artefact(made / MODEL)
    parity = _certified(run, predictor, artefact, made, wish, "The 8-bit model" if wish.int8 else "The ONNX model")
    record = {
        "format": "onnx",
        "int8": wish.int8,
        "model": MODEL,
        "model_sha256": file_sum(made / MODEL),
        "parity": parity,
    }
    if wish.index:
        from marquee.apply.exporting.indexing import add_index

        record["index"] = add_index(graph, predictor, artefact, made, run, wish.index_from)
    return record


def _torch(run: Run, predictor: Predictor, made: Path, wish: Wish) -> dict[str, Any]:
    """The weights as safetensors beside `model.json`: read back by Marquee's own loader, which builds whitelisted
    classes and nothing else. A program of torch.export (.pt2) would need no Marquee, but its loader unpickles."""
    _refuse_int8(wish)
    shutil.copytree(run.folder / "inference", made / WEIGHTS)
    from marquee.inference.predictor import predictor_of

    parity = _certified(run, predictor, predictor_of(made / WEIGHTS), made, wish, "The copy of the weights")
    return {"format": "torch", "int8": False, "model": WEIGHTS,
            "model_sha256": file_sum(made / WEIGHTS / "model.safetensors"), "parity": parity}  # fmt: skip


def _run(run: Run, predictor: Predictor, made: Path, wish: Wish) -> dict[str, Any]:
    _refuse_int8(wish)
    file = made / f"{run.folder.name}.zip"
    pack(run.folder, file)
    return {"format": "run", "int8": False, "model": file.name, "model_sha256": file_sum(file), "parity": None}


WRITERS: dict[str, Callable[[Run, Predictor, Path, Wish], dict[str, Any]]] = {
    "onnx": _onnx,
    "torch": _torch,
    "run": _run,
}


def _refuse_int8(wish: Wish) -> None:
    for option, given in (("--int8", wish.int8), ("--index", wish.index)):
        if given:
            raise ConfigError(f"{option} belongs to --format onnx, and --format {wish.format} was asked for.")


def _certified(
    run: Run, predictor: Predictor, artefact: Predictor, made: Path, wish: Wish, what: str
) -> dict[str, Any]:
    task, project = task_of(run.folder, run.manifest, predictor.model)
    parity = certificate(task, artefact, run.manifest, wish.tolerance, project)
    refuse_worse(parity, what, wish.force)
    (made / PARITY).write_text(json.dumps(parity, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    short = ("metric", "before", "after", "changed_units", "p", "max_score_difference", "tolerance", "passed")
    return {name: parity[name] for name in short}


# Written whole or not at all -----------------------------------------------------------------------------------------


def _finish(made: Path, run: Run, record: dict[str, Any]) -> None:
    """The card, export.json and the sums of all files."""
    parity = json.loads((made / PARITY).read_text(encoding="utf-8")) if (made / PARITY).is_file() else None
    kinds = {"onnx": "ONNX" + (", 8-bit weights" if record["int8"] else ""), "torch": "weights (safetensors)",
             "run": "a packed run"}  # fmt: skip
    example = (
        f"marquee import {record['model']}"
        if record["format"] == "run"
        else (f"python -c \"import marquee; predictor = marquee.load('{record['model']}')\"")
    )
    (made / CARD).write_text(card(run.folder, run.manifest, parity, kinds[record["format"]], example), encoding="utf-8")
    record |= {"run": run.manifest["id"], "fingerprint": run.manifest["fingerprint"], "at": now()}
    (made / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files = sorted(path for path in made.rglob("*") if path.is_file())
    sums = "".join(f"{file_sum(path)}  {path.relative_to(made).as_posix()}\n" for path in files)
    (made / SUMS).write_text(sums, encoding="utf-8")
    sync(made)


def _swap(made: Path, target: Path, former: Path) -> None:
    """Put the new folder into its place. There are two renames, and no reader ever sees a mixture of both folders."""
    if target.exists():
        os.replace(target, former)
    try:
        os.replace(made, target)
    except OSError:
        if former.exists():
            os.replace(former, target)
        raise


def _record(run: Run, target: Path, record: Mapping[str, Any]) -> None:
    """`exports` of the run's manifest: the last of each format and folder."""
    run = Run.open(run.folder)
    entry = {**record, "folder": str(target)}
    entry.pop("run"), entry.pop("fingerprint")
    others = [one for one in run.manifest.get("exports") or [] if one.get("folder") != entry["folder"]]
    run.update(exports=[*others, entry])
