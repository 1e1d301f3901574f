"""Recurrent layers as ONNX has them: one LSTM, GRU or RNN node each, of any length.

Left to themselves, torch's exporter writes a loop over time in their place, at which ONNX Runtime is slower, and in
torch 2.13 a second one of a process fails.
"""

import copy

import torch
from torch import Tensor, nn

from marquee.models.rnn.elman import SigmoidRnn

# Where ONNX wants the gates that torch keeps as i, f, g, o and as r, z, n.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def with_nodes(model: nn.Module) -> nn.Module:
    """A copy in which every recurrent layer becomes nodes of ONNX when it is exported; nothing else can run it."""
    model = copy.deepcopy(model)
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.RNNBase):
                setattr(part, name, Node(child))
    return model


class Node(nn.Module):
    """A layer that reads [batch, length, width] in one direction, or a stack of such, without its last state."""

    def __init__(self, layer: nn.RNNBase):
        super().__init__()
        if layer.bidirectional or not layer.batch_first or not layer.bias or getattr(layer, "proj_size", 0):
            raise ValueError(f"{layer} is a recurrent layer of a kind that is not exported")
        self.kind = "RNN" if isinstance(layer, nn.RNN) else type(layer).__name__
        self.hidden_size, self.layers = layer.hidden_size, layer.num_layers
        self.attributes: dict[str, object] = {"hidden_size": layer.hidden_size}
        if self.kind == "GRU":
            self.attributes["linear_before_reset"] = 1
        if self.kind == "RNN":
            kind = "sigmoid" if isinstance(layer, SigmoidRnn) else layer.nonlinearity
            self.attributes["activations"] = [{"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}[kind]]
        for number in range(layer.num_layers):
            inner, outer, inner_bias, outer_bias = (
                self._ordered(getattr(layer, f"{part}_l{number}").detach())
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            self.register_buffer(f"inner{number}", inner[None].contiguous())
            self.register_buffer(f"outer{number}", outer[None].contiguous())
            self.register_buffer(f"bias{number}", torch.cat([inner_bias, outer_bias])[None].contiguous())

    def _ordered(self, weight: Tensor) -> Tensor:
        parts = weight.split(self.hidden_size)
        return torch.cat([parts[place] for place in GATES[self.kind]])

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        x = x.transpose(0, 1)  # ONNX Runtime has these nodes with the time first
        for number in range(self.layers):
            inputs = [x, *(getattr(self, f"{part}{number}") for part in ("inner", "outer", "bias"))]
            shape = (x.shape[0], 1, x.shape[1], self.hidden_size)
            x = torch.onnx.ops.symbolic(self.kind, inputs, self.attributes, dtype=x.dtype, shape=shape, version=18)
            x = x[:, 0]
        return x.transpose(0, 1), None
