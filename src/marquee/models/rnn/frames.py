"""What recurrent models of piano rolls share: they differ in the layer that they stack."""

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.rolls.views import RollWindows
from marquee.data.spec import RollSpec
from marquee.models.dropout import Dropout
from marquee.models.rnn.autocast import read
from marquee.models.rolls import FrameModel


class RecurrentFrames(FrameModel):
    """Stacked recurrent layers read frames, a linear layer says which keys sound next.

    The protocol and its recurrent models: Boulanger-Lewandowski, Bengio & Vincent 2012, ICML; with gates: Chung et al.
    2014, "Empirical Evaluation of Gated Recurrent Neural Networks on Sequence Modeling", arXiv 1412.3555.

    hidden   width of the state
    layers   stacked layers
    dropout  share of zeroed values between layers and before the output
    missed   share of the notes that a training step does not hear

    layer    the recurrent layer of a sub-class, with the arguments of torch's own
    """

    layer: ClassVar[type[nn.RNNBase]]

    def __init__(
        self,
        spec: RollSpec,
        *,
        view: RollWindows,
        hidden: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.3,
        missed: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ):
        super().__init__()
        self.view = view
        widths = [spec.keys] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList(self.layer(width, hidden, batch_first=True) for width in widths)
        self.missed, self.dropout = Dropout(missed), Dropout(dropout)
        self.output = nn.Linear(hidden, spec.keys)
        nn.init.constant_(self.output.bias, -3.0)  # one key in twenty sounds, not every second

    def forward(self, frames: Tensor) -> Tensor:
        states = self.missed(frames)
        for number, layer in enumerate(self.layers):
            states = read(layer, self.dropout(states) if number else states)
        return self.output(self.dropout(states))

    def start(self, batch: int) -> list[Any]:
        return [None] * len(self.layers)

    def next(self, frame: Tensor, memory: list[Any]) -> tuple[Tensor, list[Any]]:
        states, after = frame[:, None], []
        for layer, before in zip(self.layers, memory):
            states, state = layer(states, before)
            after.append(state)
        return self.output(states[:, 0]), after
