"""An LSTM that reads frames of a piano roll and says which keys sound next."""

from torch import nn

from marquee.models.rnn.frames import RecurrentFrames


class LstmFrames(RecurrentFrames):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) over frames. Its options: see `RecurrentFrames`."""

    layer = nn.LSTM
