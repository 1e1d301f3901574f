"""Chords note by note: a recurrent network tells an autoregressive model of the keys what has been heard."""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.rolls.views import RollWindows
from marquee.data.spec import RollSpec
from marquee.models.dropout import Dropout
from marquee.models.rnn.autocast import read
from marquee.models.rolls import ChordModel, drawn

STRETCH = 1024  # frames whose keys are predicted at a time


class RnnNade(ChordModel):
    """A GRU over frames sets the biases of a NADE over the keys of the next frame, from the lowest to the highest.

    Boulanger-Lewandowski, Bengio & Vincent 2012, ICML, section 4 (there with a plain recurrent layer); NADE: Larochelle
    & Murray 2011, "The Neural Autoregressive Distribution Estimator", AISTATS, equations 8 to 10.

    hidden   width of the recurrent state
    units    hidden units of the NADE
    dropout  share of zeroed values in the frames and in the state
    """

    def __init__(
        self,
        spec: RollSpec,
        *,
        view: RollWindows,
        hidden: Annotated[int, Ge(1)] = 256,
        units: Annotated[int, Ge(1)] = 128,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
    ):
        super().__init__()
        self.view = view
        self.reader = nn.GRU(spec.keys, hidden, batch_first=True)
        self.dropout = Dropout(dropout)
        self.of_units, self.of_keys = nn.Linear(hidden, units), nn.Linear(hidden, spec.keys)
        nn.init.constant_(self.of_keys.bias, -3.0)  # one key in twenty sounds, not every second
        self.below = nn.Parameter(torch.randn(spec.keys, units) * 0.01)  # what a key that sounds adds to the units
        self.above = nn.Parameter(torch.randn(spec.keys, units) * 0.01)  # what the units say of a key

    def log_likelihood(self, frames: Tensor) -> Tensor:
        states = self.dropout(read(self.reader, self.dropout(frames[:, :-1])))
        wanted = frames[:, 1:]
        # A frame has keys * units values on the way: a long piece at once would not fit into memory.
        stretches = zip(states.split(STRETCH, dim=1), wanted.split(STRETCH, dim=1))
        logits = torch.cat([self._logits(*stretch) for stretch in stretches], dim=1)
        return -F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=2)

    def _logits(self, states: Tensor, wanted: Tensor) -> Tensor:
        """Of each key given those of `wanted` [batch, T, keys] below it: [batch, T, keys]."""
        # The keys that sound below each key, as one sum over all of them at once.
        added = (wanted[..., None] * self.below).cumsum(dim=2).roll(1, dims=2)
        added[:, :, 0] = 0
        units = (self.of_units(states)[:, :, None] + added).sigmoid()
        return (units * self.above).sum(dim=3).float() + self.of_keys(states).float()

    def start(self, batch: int) -> Any:
        return None

    def step(self, frame: Tensor, memory: Any, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor, Any]:
        states, memory = self.reader(frame[:, None], memory)
        units, bias = self.of_units(states[:, 0]), self.of_keys(states[:, 0])
        made, likelihood = torch.zeros_like(frame), frame.new_zeros(len(frame))
        for key in range(frame.shape[1]):  # each key hears those below it
            logit = (units.sigmoid() * self.above[key]).sum(dim=1) + bias[:, key]
            made[:, key] = drawn(logit, uniform[:, key], temperature)
            likelihood = likelihood - F.binary_cross_entropy_with_logits(logit, made[:, key], reduction="none")
            units = units + made[:, key, None] * self.below[key]
        return made, likelihood, memory
