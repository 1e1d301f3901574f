"""A GRU that reads frames of a piano roll and says which keys sound next."""

from torch import nn

from marquee.models.rnn.frames import RecurrentFrames


class GruFrames(RecurrentFrames):
    """Gated recurrent units (Cho et al. 2014) over frames. Its options: see `RecurrentFrames`."""

    layer = nn.GRU
