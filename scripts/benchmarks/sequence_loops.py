"""Epochs of sequence models in plain PyTorch, as one would write them by hand for speed: nothing of Marquee's models.

The layers are those of torch.nn, attention is `scaled_dot_product_attention`, losses are `cross_entropy` over logits
formed at once, Adam is fused. Batches are ready before the clock starts, of the same rows in the same order as ours.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import cpu_seconds


class Attention(nn.Module):
    """Pre-norm causal self-attention and a point-wise network, `layers` times; positions counted back from the end."""

    def __init__(self, model: Any):
        super().__init__()
        dim, self.heads, self.p = model.items.embedding_dim, model.blocks[0].heads, model.dropout.p
        self.positions = nn.Embedding(model.view.max_length, dim)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.LayerNorm(dim),
                    "qkv": nn.Linear(dim, 3 * dim),
                    "out": nn.Linear(dim, dim),
                    "feed": nn.Sequential(
                        nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(self.p), nn.Linear(dim, dim),
                        nn.Dropout(self.p),
                    ),
                }
            )
            for _ in model.blocks
        )  # fmt: skip
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(self.p)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        batch, length, dim = vectors.shape
        back = (lengths[:, None] - 1 - torch.arange(length)).clamp_(min=0)
        x = self.drop(vectors * dim**0.5 + self.positions(back))
        for layer in self.layers:
            parts = layer["qkv"](layer["before"](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*parts, dropout_p=self.p, is_causal=True)
            x = x + layer["out"](mixed.transpose(1, 2).reshape(batch, length, dim))
            x = x + layer["feed"](x)
        return self.norm(x)


class Recurrent(nn.Module):
    """A GRU between a dropout and a projection."""

    def __init__(self, model: Any):
        super().__init__()
        dim, hidden = model.items.embedding_dim, model.gru.hidden_size
        self.drop, self.out = nn.Dropout(model.dropout.p), nn.Linear(hidden, dim)
        self.gru = nn.GRU(dim, hidden, model.gru.num_layers, batch_first=True)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        return self.out(self.gru(self.drop(vectors))[0])


class Gated(nn.Module):
    """HSTU without times: SiLU(q k + bias of the distance) / length, gated."""

    def __init__(self, model: Any):
        super().__init__()
        dim, self.heads, self.length = model.items.embedding_dim, model.blocks[0].heads, model.view.max_length
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.LayerNorm(dim),
                    "uvqk": nn.Linear(dim, 4 * dim, bias=False),
                    "behind": nn.LayerNorm(dim, elementwise_affine=False),
                    "out": nn.Sequential(nn.Dropout(model.dropout.p), nn.Linear(dim, dim)),
                }
            )
            for _ in model.blocks
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(self.length)) for _ in model.blocks)
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(model.dropout.p)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        batch, length, dim = vectors.shape
        places = torch.arange(length)
        distance = places[:, None] - places
        causal = (distance >= 0).float() / self.length
        x = self.drop(vectors * dim**0.5)
        for layer, bias in zip(self.layers, self.biases, strict=True):
            u, v, q, k = F.silu(layer["uvqk"](layer["before"](x))).chunk(4, -1)
            v, q, k = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in (v, q, k))
            weights = F.silu(q @ k.transpose(-1, -2) + bias[distance.clamp(min=0)]) * causal
            mixed = (weights @ v).transpose(1, 2).reshape(batch, length, dim)
            x = x + layer["out"](layer["behind"](mixed) * u)
        return self.norm(x)


def all_logits(states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(states @ table.T, targets)


def sampled_logits(states: Tensor, table: Tensor, targets: Tensor, n: int = 256) -> Tensor:
    """The target before `n` uniform items that all positions share; where they are the target they are left out."""
    drawn = torch.randint(len(table), (n,))
    negative = (states @ table[drawn].T).masked_fill(targets[:, None] == drawn, -torch.inf)
    positive = (states * table[targets]).sum(1, keepdim=True)
    return F.cross_entropy(torch.cat([positive, negative], 1), torch.zeros_like(targets))


def by_hand(
    encoder: Callable[[Any], nn.Module], loss: Callable[[Tensor, Tensor, Tensor], Tensor] = all_logits
) -> Callable[[Any, int | None], Callable[[int], float]]:
    """What makes, for a task, the plain loop of an epoch: `encoder` is given the model whose sizes it takes."""

    def prepared(task: Any, steps: int | None) -> Callable[[int], float]:
        view, data, seed, n_items = task.model.view, task.data, task.seed, task.data.spec.n_items
        items = nn.Embedding(n_items + 1, task.model.items.embedding_dim, padding_idx=n_items)
        nn.init.normal_(items.weight, std=0.06)
        network = encoder(task.model)
        optimizer = torch.optim.Adam([*items.parameters(), *network.parameters()], lr=1e-3, fused=True)

        def epoch(number: int) -> float:
            batches = list(islice(view.train_batches(data, seed, number), steps))
            start = cpu_seconds()
            for batch in batches:
                wanted = batch.targets != n_items
                states = network(items(batch.items), wanted.sum(1))
                optimizer.zero_grad()
                loss(states[wanted], items.weight[:n_items], batch.targets[wanted]).backward()
                optimizer.step()
            return cpu_seconds() - start

        return epoch

    return prepared
