"""What a classifier looked at: the share of each token, or of each place in a picture, in the logit of a class.

Models that add up weights of words say it exactly. Others are asked by integrated gradients (Sundararajan, Taly & Yan
2017, "Axiomatic Attribution for Deep Networks", ICML), convolutions by Grad-CAM (Selvaraju et al. 2017, ICCV), both by
Captum (extra `explain`).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from marquee.models.base import Classifier

STEPS = 32  # of the path from nothing to the example
AT_ONCE = 64  # examples of a pass
MISSING = "captum is not installed: pip install 'marquee[explain]'"


class Shares(NamedTuple):
    """values: float64, for each example [its tokens], or [height, width]; method: in words."""

    values: list[np.ndarray]
    method: str


def available() -> bool:
    """Whether Captum is installed."""
    return find_spec("captum") is not None


def of_tokens(model: Classifier, batch: Any, classes: Sequence[int]) -> Shares | None:
    """The share of every token in the logit of the class that is named for its text; None where nothing can tell.

    `batch` is of the model's own view, with `tokens` and `lengths`; positive shares speak for the class.
    """
    lengths = batch.lengths.tolist()
    if model.adds_up:
        rows = zip(batch.tokens, lengths, classes, strict=True)
        found = [model.contributions(tokens[:length])[:, number].double().numpy() for tokens, length, number in rows]
        return Shares(found, "exact: with the bias they add up to the logit")
    layer = _table(model)
    if layer is None or not available():
        return None
    from captum.attr import LayerIntegratedGradients

    def logits(tokens: Tensor, lengths: Tensor) -> Tensor:
        return model(batch._replace(tokens=tokens, lengths=lengths)).float()

    shares, delta = LayerIntegratedGradients(logits, layer).attribute(
        batch.tokens, torch.zeros_like(batch.tokens), torch.as_tensor(classes), (batch.lengths,),
        n_steps=STEPS, internal_batch_size=AT_ONCE, return_convergence_delta=True,
    )  # fmt: skip
    of_token = shares.sum(dim=-1).double().detach().numpy()
    told = f"integrated gradients from empty vectors, {STEPS} steps; they miss the logit's rise by {_mean(delta):.3f}"
    return Shares([row[:length] for row, length in zip(of_token, lengths, strict=True)], told)


def of_pixels(model: Classifier, batch: Any, classes: Sequence[int]) -> Shares | None:
    """How much each place of each image speaks for the class that is named for it; None without Captum.

    By Grad-CAM on the last convolution where one keeps a plane of at least 4 by 4, else by integrated gradients from
    mid-grey, whose absolute values are smoothed over an eighth of the side.
    """
    if not available():
        return None
    from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam

    size = tuple(batch.images.shape[2:])
    numbers = torch.as_tensor(classes)

    def logits(images: Tensor) -> Tensor:
        return model(batch._replace(images=images * 1.0)).float()  # a copy: pixels are scaled in place

    images = batch.images.float()
    if (layer := _last_plane(model, batch)) is not None:
        shares = LayerGradCam(logits, layer).attribute(images, numbers, relu_attributions=True)
        shares = LayerAttribution.interpolate(shares, size, "bilinear")
        told = "Grad-CAM on the last convolution"
    else:
        shares = IntegratedGradients(logits).attribute(
            images, torch.full_like(images, 127.5), numbers, n_steps=STEPS, internal_batch_size=AT_ONCE
        )
        side = max(1, min(size) // 16)
        shares = nn.functional.avg_pool2d(shares.abs().sum(1, keepdim=True), 2 * side + 1, 1, side)
        told = f"integrated gradients from mid-grey, {STEPS} steps"
    return Shares(list(shares[:, 0].double().detach().numpy()), told)


def _table(model: nn.Module) -> nn.Module | None:
    """The table of token vectors: the embedding with the most rows."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    return max(tables, key=lambda table: table.num_embeddings, default=None)


@torch.no_grad()
def _last_plane(model: nn.Module, batch: Any) -> nn.Module | None:
    """The last convolution that still knows places: its output is at least 4 by 4, and another has read before it."""
    seen: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        if min(output.shape[2:]) >= 4:
            seen.append(module)

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        model(batch._replace(images=batch.images[:1], labels=batch.labels[:1], index=batch.index[:1]))
    finally:
        for hook in hooks:
            hook.remove()
    return seen[-1] if len(seen) > 1 else None  # one alone cuts patches for a Transformer


def _mean(delta: Tensor) -> float:
    return float(delta.abs().mean())
