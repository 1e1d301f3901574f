"""What travels in a run's `inference/` folder: the model as JSON and safetensors beside what the data set wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from marquee.config.build import build
from marquee.config.former import modern_model
from marquee.config.targets import resolve
from marquee.data.dataset import DataSet
from marquee.data.spec import Spec, spec_from_json
from marquee.errors import DataError
from marquee.models.base import Model

FORMAT = 2
MODEL, WEIGHTS = "model.json", "model.safetensors"


def save_model(
    folder: Path,
    node: dict[str, Any],
    model: Model,
    data: DataSet,
    predictor: type | None = None,
    serves: Mapping[str, Any] | None = None,
) -> None:
    """Write `model.json`, `model.safetensors` and what data set and model have of their own into a new folder.

    node       the model's configuration
    predictor  the class that answers with the folder; its dotted name is kept
    serves     what it does where nothing else is asked for, as JSON values (see `Task.serves`)
    """
    folder.mkdir(exist_ok=True)
    data.save_inference(folder)
    model.save_inference(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    name = f"{predictor.__module__}.{predictor.__qualname__}" if predictor else None
    content = {"format": FORMAT, "model": node, "spec": data.spec.to_json(), "predictor": name}
    content["serves"] = dict(serves or {})
    (folder / MODEL).write_text(json.dumps(content, indent=2), encoding="utf-8")


def load_model(folder: Path) -> tuple[Model, Spec]:
    """The trained model in evaluation mode, and its spec. Only whitelisted classes are built; nothing is unpickled."""
    content = read_model(folder)
    tensors = load_file(folder / WEIGHTS)
    resolve(content["model"]["_target_"])  # a plug-in's own spec is defined where its model is
    try:
        spec = spec_from_json(content["spec"])
    except ValueError as error:
        raise DataError(f"{folder / MODEL}: {error}") from None
    try:
        model: Model = build(content["model"], spec)
    except (ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"{folder / MODEL}: {content['model']['_target_']} cannot be built of this: {error}") from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{folder}: the weights are not those of {content['model']['_target_']}: {error}") from None
    return model.eval(), spec


def read_model(folder: Path) -> dict[str, Any]:
    """The content of `model.json` in today's words: format, model, spec, predictor (a dotted name, or None), serves."""
    content = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    if content["format"] > FORMAT:
        raise DataError(f"{folder / MODEL} has format {content['format']}; this Marquee reads up to {FORMAT}. Upgrade.")
    return content if content["format"] == FORMAT else modern_model(content)
