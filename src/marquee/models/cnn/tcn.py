"""A temporal convolutional network: dilated causal convolutions over the frames of a piano roll."""

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from marquee.data.rolls.views import RollWindows
from marquee.data.spec import RollSpec
from marquee.models.rolls import FrameModel


class Tcn(FrameModel):
    """Residual blocks of two dilated causal convolutions with weight normalisation; the dilation doubles each block.

    Bai, Kolter & Koltun 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
    Modeling", arXiv 1803.01271, section 3. A frame is predicted from 1 + 2 (kernel - 1) (2^levels - 1) frames before.

    channels  of each block
    levels    blocks
    kernel    frames that a convolution joins
    dropout   share of whole channels that are zeroed behind each convolution, for a stretch at a time
    """

    def __init__(
        self,
        spec: RollSpec,
        *,
        view: RollWindows,
        channels: Annotated[int, Ge(1)] = 150,
        levels: Annotated[int, Interval(ge=1, le=10)] = 4,
        kernel: Annotated[int, Ge(2)] = 5,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.25,
    ):
        super().__init__()
        self.view = view
        widths = [spec.keys] + [channels] * (levels - 1)
        self.blocks = nn.ModuleList(
            Block(width, channels, kernel, 2**level, dropout) for level, width in enumerate(widths)
        )
        self.output = nn.Linear(channels, spec.keys)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.constant_(self.output.bias, -3.0)  # one key in twenty sounds, not every second
        self.reach = 1 + 2 * (kernel - 1) * (2**levels - 1)

    def forward(self, frames: Tensor) -> Tensor:
        states = frames.transpose(1, 2)
        for block in self.blocks:
            states = block(states)
        return self.output(states.transpose(1, 2))

    def start(self, batch: int) -> Tensor | None:
        return None

    def next(self, frame: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        # Silence before the beginning is what the padding of training is.
        heard = frame[:, None] if memory is None else torch.cat([memory, frame[:, None]], dim=1)[:, -self.reach :]
        return self(heard)[:, -1], heard


class Block(nn.Module):
    """Two convolutions that see no later frame, added to what goes in."""

    def __init__(self, inside: int, outside: int, kernel: int, dilation: int, dropout: float):
        super().__init__()
        self.padding = (kernel - 1) * dilation
        self.convolutions = nn.ModuleList(
            weight_norm(nn.Conv1d(width, outside, kernel, dilation=dilation)) for width in (inside, outside)
        )
        self.dropout = nn.Dropout1d(dropout)
        self.match = nn.Conv1d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        """[batch, inside, frames] to [batch, outside, frames]."""
        found = states
        for convolution in self.convolutions:
            found = self.dropout(F.relu(convolution(F.pad(found, (self.padding, 0)))))
        return F.relu(found + self.match(states))
