"""An LSTM that reads a text in one or both directions and pools its states over the real words."""

from torch import nn

from marquee.models.rnn.reader import Reader


class Lstm(Reader):
    """Long short-term memory: gates decide what a cell keeps, takes in and shows. Its options are those of `Reader`.

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8).
    """

    layer = nn.LSTM
