"""Readers of texts beside plain PyTorch loops of the same networks, and what length buckets and batches are worth.

The networks here are built of torch.nn alone, as one would write them for speed: nothing of Marquee's models. They read
padding as though it were words, which is wrong and costs nothing. Batches are ready before the clock starts, and are
those that Marquee makes, of texts of like length.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.serving import REVIEW, trained
from benchmarks.training import batch_of, compare
from benchmarks.workspace import Workspace


class Recurrent(nn.Module):
    """A layer of torch's in both directions, the maximum over time."""

    def __init__(self, model: Any):
        super().__init__()
        dim, hidden, kind = model.embedding.embedding_dim, model.forwards[0].hidden_size, type(model.forwards[0])
        self.embedding, self.drop = nn.Embedding(model.embedding.num_embeddings, dim), nn.Dropout(model.dropout.p)
        self.layer = kind(dim, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden, model.output.out_features)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.drop(self.layer(self.drop(self.embedding(tokens)))[0].amax(1)))


class Convolutional(nn.Module):
    """A convolution a width, the maximum over time."""

    def __init__(self, model: Any):
        super().__init__()
        self.embedding = nn.Embedding(model.embedding.num_embeddings, model.embedding.embedding_dim)
        self.layers = nn.ModuleList(
            nn.Conv1d(layer.in_channels, layer.out_channels, layer.kernel_size[0], padding=layer.kernel_size[0] - 1)
            for layer in model.filters
        )
        self.drop = nn.Dropout(model.dropout.p)
        self.output = nn.Linear(model.output.in_features, model.output.out_features)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = self.embedding(tokens).transpose(1, 2)
        return self.output(self.drop(torch.cat([layer(vectors).amax(2).relu() for layer in self.layers], 1)))


class Attentive(nn.Module):
    """The blocks of `TextTransformer` by hand: qkv in one product, fused attention, the mean over time."""

    def __init__(self, model: Any):
        super().__init__()
        dim, self.heads, p = model.words.embedding_dim, model.blocks[0].heads, model.dropout.p
        feed = model.blocks[0].feed[0].out_features
        self.embedding, self.drop = nn.Embedding(model.words.num_embeddings, dim), nn.Dropout(p)
        self.positions = nn.Parameter(torch.randn(model.view.max_length, dim) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "before": nn.LayerNorm(dim),
                    "qkv": nn.Linear(dim, 3 * dim),
                    "out": nn.Linear(dim, dim),
                    "feed": nn.Sequential(
                        nn.LayerNorm(dim), nn.Linear(dim, feed), nn.GELU(), nn.Linear(feed, dim), nn.Dropout(p)
                    ),
                }
            )
            for _ in model.blocks
        )
        self.norm, self.output = nn.LayerNorm(dim), nn.Linear(dim, model.output.out_features)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length = tokens.shape
        x = self.drop(self.embedding(tokens) + self.positions[:length])
        for layer in self.layers:
            parts = layer["qkv"](layer["before"](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, length, -1)
            x = x + self.drop(layer["out"](mixed))
            x = x + layer["feed"](x)
        return self.output(self.drop(self.norm(x).mean(1)))


def by_hand(network: Callable[[Any], nn.Module]) -> Callable[[Any, int | None], Callable[[int], float]]:
    """What makes, for a task, the plain loop of an epoch: `network` is given the model whose sizes it takes."""

    def prepared(task: Any, steps: int | None) -> Callable[[int], float]:
        view, data, seed = task.model.view, task.data, task.seed
        plain = network(task.model).train()
        optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=True)

        def epoch(number: int) -> float:
            batches = list(islice(view.train_batches(data, seed, number), steps))
            start = cpu_seconds()
            for batch in batches:
                optimizer.zero_grad()
                F.cross_entropy(plain(batch.tokens), batch.labels).backward()
                optimizer.step()
            return cpu_seconds() - start

        return epoch

    return prepared


def reader(model: str, network: Callable[[Any], nn.Module]) -> Callable[[Workspace], Measured]:
    """Ten steps of a model as it is shipped."""
    return lambda space: compare(space, "reviews", by_hand(network), f"model={model}", *batch_of(space), steps=10)


def buckets(space: Workspace) -> Measured:
    """A step of the LSTM on batches of like length, beside one on batches drawn without regard to length.

    Every 22nd batch of an epoch, in the order of their widths, stands for all of them.
    """
    from marquee.runs.train import prepare_data, prepare_task

    config = space.config("reviews", "model=rnn/lstm", *batch_of(space))
    task = prepare_task(config, prepare_data(config)).train()
    view, data = task.model.view, task.data
    stride = space.of(22, 22, 200)
    sorted_ones = sorted(view.train_batches(data, 1, 0), key=lambda batch: batch.tokens.shape[1])[stride // 2 :: stride]
    index = torch.randperm(len(data.parts["train"]), generator=torch.Generator().manual_seed(0)).numpy()
    mixed = [
        view.batch(data, data.parts["train"][index[start : start + view.batch_size]])
        for start in range(0, len(sorted_ones) * view.batch_size, view.batch_size)
    ]

    def epoch(batches: list[Any]) -> None:
        for batch in batches:
            task.zero_grad()
            task.loss(batch).backward()

    found = in_turns(space.of(3, 1, 1), lambda: epoch(sorted_ones), lambda: epoch(mixed))
    return Measured(*found, synthetic=space.source("reviews").synthetic)


def reviews(space: Workspace) -> Measured:
    """CPU milliseconds a review, from text to label, where 512 of about 200 words are asked for at once."""
    predictor = trained(space, "reviews", "model=rnn/lstm")
    asked = [REVIEW] * space.of(512, 64, 4)
    predictor.predict(asked)
    start = cpu_seconds()
    predictor.predict(asked)
    return Measured(1000 * (cpu_seconds() - start) / len(asked), synthetic=space.source("reviews").synthetic)


BENCHMARKS = [
    Benchmark("gru_epoch", "ratio", 1.1, "CPU s/10 steps", "hand-written loop", reader("rnn/gru", Recurrent)),
    Benchmark("lstm_by_hand", "ratio", 1.1, "CPU s/10 steps", "hand-written loop", reader("rnn/lstm", Recurrent)),
    Benchmark("text_cnn_epoch", "ratio", 1.1, "CPU s/10 steps", "hand-written loop", reader("cnn/text", Convolutional)),
    Benchmark(
        "text_transformer_epoch",
        "ratio",
        1.1,
        "CPU s/10 steps",
        "hand-written loop",
        reader("transformer/text", Attentive),
    ),
    Benchmark("length_buckets", "ratio", 0.7, "CPU s/16 steps", "mixed batches", buckets),
    Benchmark("lstm_reviews", "ours", 5, "CPU ms/review", "", reviews),
]
