"""Recurrent layers under autocast: in its type where the machine can run them, in their own where it cannot.

oneDNN has no LSTM in bfloat16 for processors without AVX-512, and none in float16 for most others; then the forward
pass ends in a RuntimeError. What the processor says of itself is no proof, so one tiny step is tried.
"""

from functools import cache

import torch
from torch import Tensor, nn


def read(layer: nn.RNNBase, states: Tensor) -> Tensor:
    """The outputs [batch, length, width] of a recurrent layer; autocast is left where it could not run there."""
    device = states.device.type
    if torch.is_autocast_enabled(device) and not runs(type(layer), device, torch.get_autocast_dtype(device)):
        with torch.autocast(device, enabled=False):
            return layer(states.to(layer.weight_ih_l0.dtype))[0]
    return layer(states)[0]


@cache
def runs(kind: type[nn.RNNBase], device: str, dtype: torch.dtype) -> bool:
    """Whether one step forward and backward of such a layer runs under autocast to `dtype`; tried once a process.

    The tiny layer is not initialised at random: that would take numbers from the generator that dropout draws from.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, dtype):
        layer = kind(2, 2, batch_first=True, device="meta").to_empty(device=device)
        for weight in layer.parameters():
            nn.init.zeros_(weight)
        try:
            layer(torch.zeros(1, 2, 2, device=device))[0].float().sum().backward()
        except RuntimeError:
            return False
    return True
