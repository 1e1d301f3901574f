"""What travels in a run's `inference/` folder: the model as JSON and safetensors beside what the data set wrote."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from marquee.config.build import build
from marquee.data.module import DataModule
from marquee.data.spec import spec_from_json
from marquee.errors import DataError
from marquee.models.base import Model

FORMAT = 1


def save_model(folder: Path, node: dict[str, Any], model: Model, data: DataModule) -> None:
    """Write `model.json`, `model.safetensors` and the data set's own artefacts into a new folder."""
    folder.mkdir(exist_ok=True)
    data.save_inference(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    content = {"format": FORMAT, "model": node, "spec": data.spec.to_json()}
    (folder / "model.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def load_model(folder: Path) -> Model:
    """The trained model in evaluation mode. Only whitelisted classes are built; nothing is unpickled."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "model.safetensors")
    model: Model = build(content["model"], spec_from_json(content["spec"]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{folder}: the weights are not those of {content['model']['_target_']}: {error}") from None
    return model.eval()
