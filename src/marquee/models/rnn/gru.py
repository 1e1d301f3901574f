"""A GRU that reads a text in one or both directions and pools its states over the real words."""

from torch import nn

from marquee.models.rnn.reader import Reader


class Gru(Reader):
    """Gated recurrent unit: two gates and no cell, a quarter fewer weights than an LSTM. Options as of `Reader`.

    Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP.
    """

    layer = nn.GRU
