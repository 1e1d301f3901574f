"""The steps of language models as graphs: some tokens and what was read before in, logits and what was read out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marquee.models.rnn.lstm_lm import LstmLanguageModel
from marquee.models.transformer.gpt import Gpt


class GptStep(nn.Module):
    """Logits behind each of some tokens that follow others, whose keys and values are given and grow.

    Keys and values are float64 [layers, batch, heads, read so far, width].
    """

    def __init__(self, model: Gpt):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, before_keys: Tensor, before_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model, past = self.model, before_keys.shape[3]
        place = torch.arange(tokens.shape[1]) + past
        states = model.embedding(tokens)
        turns = model.turns[:, place]
        seen = torch.arange(tokens.shape[1] + past) <= place[:, None]
        grown: tuple[list[Tensor], list[Tensor]] = ([], [])
        for number, block in enumerate(model.blocks):
            queries, keys, values = block._split(states, turns)
            keys = torch.cat([before_keys[number], keys], dim=2)
            values = torch.cat([before_values[number], values], dim=2)
            read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
            states = block._onwards(states, read)
            grown[0].append(keys)
            grown[1].append(values)
        return model._logits(states), torch.stack(grown[0]), torch.stack(grown[1])


class LstmStep(nn.Module):
    """Logits behind one token of each text, and the states [layers, batch, hidden] after it.

    ONNX Runtime's own LSTM has no float64, in which is written (see inference/sampling.py); so the gates stand here.
    """

    def __init__(self, model: LstmLanguageModel):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, before_state: Tensor, before_cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, states, cells = self.model.embedding(tokens[:, 0]), [], []
        for number, layer in enumerate(self.model.layers):
            gates = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
            gates = gates + F.linear(before_state[number], layer.weight_hh_l0, layer.bias_hh_l0)
            take, keep, new, show = gates.chunk(4, dim=1)
            cell = keep.sigmoid() * before_cell[number] + take.sigmoid() * new.tanh()
            x = show.sigmoid() * cell.tanh()
            states.append(x)
            cells.append(cell)
        return self.model._logits(x[:, None]), torch.stack(states), torch.stack(cells)
