"""A bidirectional LSTM that says of each word which slot it belongs to, and of the sentence what is wanted."""

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn

from marquee.data.spec import SlotSpec
from marquee.data.text.views import TextBatches
from marquee.models.base import Tagged, Tagger
from marquee.models.dropout import Dropout
from marquee.models.reading import hide_words, pool_max, real_words, word_vectors
from marquee.models.rnn.reader import both_ways, directions


class BiLstmTagger(Tagger):
    """Word vectors, LSTMs in both directions, a linear layer to tags at each word, and one to intents of their maximum.

    Joint intents and slots by one recurrent reader: Liu & Lane 2016, "Attention-Based Recurrent Neural Network Models
    for Joint Intent Detection and Slot Filling", Interspeech (its encoder, without attention).

    dim           width of the word vectors
    hidden        width of the state, per direction
    layers        stacked recurrent layers
    dropout       share of zeroed values in word vectors, between layers and before the outputs
    word_dropout  share of the words that are unknown to a training step: their slots must follow from their neighbours
    """

    def __init__(
        self,
        spec: SlotSpec,
        *,
        view: TextBatches,
        dim: Annotated[int, Ge(1)] = 100,
        hidden: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ):
        super().__init__()
        self.view = view
        self.word_dropout = word_dropout
        self.embedding = word_vectors(spec.vocab_size, dim)
        self.forwards, self.backwards = directions(nn.LSTM, dim, hidden, layers, bidirectional=True)
        self.dropout = Dropout(dropout)
        self.intents = nn.Linear(2 * hidden, spec.n_classes)
        self.tags = nn.Linear(2 * hidden, len(spec.slots))

    def tag(self, tokens: Tensor, lengths: Tensor) -> Tagged:
        if self.training:
            tokens = hide_words(tokens, self.word_dropout)
        inside = real_words(lengths, tokens.shape[1])
        states = both_ways(self.embedding(tokens), lengths, inside, self.forwards, self.backwards, self.dropout)
        intents = self.intents(self.dropout(pool_max(states, inside)))
        return Tagged(intents, self.tags(self.dropout(states)))
