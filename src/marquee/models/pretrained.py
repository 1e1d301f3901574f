"""Weights from a file, into an image model: what fits by name and shape is taken, and all else is told."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from marquee.data.cache import file_sha256
from marquee.data.dataset import DataSet
from marquee.errors import ConfigError, DataError
from marquee.models.base import Classifier

PREFIXES = ("model.", "module.", "_orig_mod.")  # Marquee's tasks and Lightning; DataParallel; torch.compile
NESTED = ("state_dict", "model_state_dict", "model")  # keys under which checkpoints keep the weights
FOLDERS = ("model.safetensors", "inference/model.safetensors", "checkpoints/best.ckpt")  # of a run, or its inference/
TOLD = 5  # names a line of the report


class ImageClassifier(Classifier):
    """A classifier of images that may begin with weights from a file, given by the key `weights`."""

    weights: str | None = None
    pretrained: "Matched | None" = None

    def prepare(self, data: DataSet) -> None:
        """Take the weights that fit. Not at inference, where the file may be gone."""
        if self.weights is not None:
            self.pretrained = load_matching(self, self.weights)
            self.remarks = (str(self.pretrained),)


@dataclass(frozen=True)
class Matched:
    """What became of the tensors of a file, and of a model's own.

    taken       tensors that fit by name and shape, with `parameters` values in all
    tensors     that the model has
    differing   [name, shape in the file, shape in the model]: not taken
    unknown     names in the file that the model does not have
    fresh       the model's own that keep their initial value
    """

    file: str
    sha256: str
    taken: int
    parameters: int
    tensors: int
    differing: list[tuple[str, list[int], list[int]]]
    unknown: list[str]
    fresh: list[str]

    def __str__(self) -> str:
        parts = [f"{self.file}: {self.taken} of the model's {self.tensors} tensors taken ({self.parameters:,} values)"]
        if self.differing:
            shapes = [f"{name} {there} there, {here} here" for name, there, here in self.differing]
            parts.append(f"of another shape: {_some(shapes)}")
        if self.unknown:
            parts.append(f"not in this model: {_some(self.unknown)}")
        parts.append(f"left at their initial value: {_some(self.fresh) if self.fresh else 'none'}")
        return "; ".join(parts)


def load_matching(model: torch.nn.Module, given: str) -> Matched:
    """Copy from a file into a model each tensor that has the name and the shape of one of its own.

    A name is also known with `module.`, `model.` or the like before it. Raises ConfigError where the file does not
    exist or nothing in it matches, DataError where it cannot be read.
    """
    path = weights_file(given)
    own = model.state_dict()
    taken: dict[str, Tensor] = {}
    differing, unknown = [], []
    for name, tensor in _tensors(path).items():
        known = _name(name, own)
        if known is None or known in taken:
            unknown.append(name)
        elif tensor.shape != own[known].shape:
            differing.append((known, list(tensor.shape), list(own[known].shape)))
        else:
            taken[known] = tensor
    if not any(own[name].is_floating_point() for name in taken):
        raise ConfigError(
            f"model.weights={given}: none of its {len(differing) + len(unknown)} tensors has the name and shape of one "
            f"of {type(model).__name__}'s. There: {_some(unknown or [name for name, *_ in differing])}. Here: "
            f"{_some(list(own))}.\n  fix: the model and the sizes that the weights were trained with, or "
            "model.weights=null"
        )
    _refuse_unusable(given, taken)
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    if broken := [name for name in taken if not own[name].isfinite().all()]:
        raise DataError(f"model.weights={given} has values that are infinite or no number, in {_some(broken)}.")
    values = sum(tensor.numel() for tensor in taken.values())
    fresh = [name for name in own if name not in taken]
    return Matched(given, file_sha256(path), len(taken), values, len(own), differing, unknown, fresh)


def _refuse_unusable(given: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            kind = "meta" if tensor.is_meta else "sparse" if tensor.layout != torch.strided else tensor.dtype
            raise DataError(
                f"model.weights={given}: {name} is {kind}, and weights are plain numbers: dense, real, not quantised."
            )


def weights_file(given: str) -> Path:
    """The file that `model.weights` means: itself, or the weights in a run's folder or its `inference/`."""
    path = Path(given).expanduser()
    found = path if path.is_file() else next((path / name for name in FOLDERS if (path / name).is_file()), None)
    if found is None:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        what = f"is a folder without {', '.join(FOLDERS)}" if path.is_dir() else f"does not exist{where}"
        raise ConfigError(
            f"model.weights={given} {what}. Give a .safetensors file, one of torch.save (.pt, .pth, .ckpt), or the "
            "folder of a finished run.\n  fix: model.weights=null"
        )
    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. Nothing but tensors and plain values is unpickled."""
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, KeyError, OSError, ValueError, pickle.UnpicklingError) as error:
        told = str(error).partition(". ")[0].strip() or type(error).__name__
        raise DataError(
            f"model.weights={path} cannot be read as weights ({told}). Files of torch.save may hold tensors and plain "
            "values only: save model.state_dict()."
        ) from error
    for _ in NESTED:  # so deep and no deeper: a file may hold itself
        if isinstance(content, Mapping):
            content = next((content[key] for key in NESTED if _is_mapping(content, key)), content)
    found = {str(name): value for name, value in content.items()} if isinstance(content, Mapping) else {}
    found = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not found:
        raise DataError(f"model.weights={path} holds no tensors by name; save model.state_dict().")
    return found


def _is_mapping(content: Mapping, key: str) -> bool:
    return isinstance(content.get(key), Mapping)


def _name(name: str, own: Mapping[str, Tensor]) -> str | None:
    """The model's own name for a name in the file; None where it has none."""
    while name not in own:
        shorter = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), None)
        if shorter is None:
            return None
        name = shorter
    return name


def _some(names: list[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
