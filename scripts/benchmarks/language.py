"""Language models beside plain PyTorch loops of the same networks, and what a memory of keys and values is worth.

The networks here are built of torch alone, as one would write them for speed. Written is in float64 on both sides: ours
does so in order that a sample does not depend on its batch, and beside it the networks are to be the same.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import Benchmark, Measured, cpu_seconds, in_turns
from benchmarks.training import compare
from benchmarks.workspace import Workspace

TOKENS = 256
Past = list[tuple[Tensor, Tensor]]


class Recurrent(nn.Module):
    """Token vectors, LSTM layers of torch's, a linear layer."""

    def __init__(self, model: Any):
        super().__init__()
        size, dim = model.embedding.weight.shape
        self.embedding = nn.Embedding(size, dim)
        self.layer = nn.LSTM(dim, model.hidden, len(model.layers), batch_first=True)
        self.output = nn.Linear(model.hidden, size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.layer(self.embedding(tokens))[0])


class Decoder(nn.Module):
    """A decoder with rotary positions, RMSNorm and SwiGLU, written out; `past` holds keys and values of each layer."""

    def __init__(self, model: Any):
        super().__init__()
        size, dim = model.embedding.weight.shape
        self.heads, width = model.heads, model.blocks[0].feed_out.in_features
        self.embedding, self.norm = nn.Embedding(size, dim), nn.RMSNorm(dim, eps=1e-5)
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "before": nn.RMSNorm(dim, eps=1e-5), "qkv": nn.Linear(dim, 3 * dim, bias=False),
                "out": nn.Linear(dim, dim, bias=False), "behind": nn.RMSNorm(dim, eps=1e-5),
                "gate": nn.Linear(dim, 2 * width, bias=False), "down": nn.Linear(width, dim, bias=False),
            })
            for _ in model.blocks
        )  # fmt: skip
        speed = 10000.0 ** (-torch.arange(0, dim // self.heads, 2) / (dim // self.heads))
        angle = torch.arange(model.context)[:, None] * speed
        self.register_buffer("cosine", angle.cos())
        self.register_buffer("sine", angle.sin())

    def turned(self, x: Tensor, begin: int) -> Tensor:
        cosine, sine = (t[begin : begin + x.shape[2]] for t in (self.cosine, self.sine))
        left, right = x.chunk(2, -1)
        return torch.cat([left * cosine - right * sine, left * sine + right * cosine], -1)

    def forward(self, tokens: Tensor, past: Past | None = None, begin: int = 0) -> Tensor:
        x = self.embedding(tokens)
        batch, length, dim = x.shape
        for number, layer in enumerate(self.layers):
            parts = layer["qkv"](layer["before"](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            query, key, value = self.turned(parts[0], begin), self.turned(parts[1], begin), parts[2]
            if past is not None:
                if begin:
                    key, value = torch.cat([past[number][0], key], 2), torch.cat([past[number][1], value], 2)
                past[number : number + 1] = [(key, value)]
            read = F.scaled_dot_product_attention(query, key, value, is_causal=length > 1)
            x = x + layer["out"](read.transpose(1, 2).reshape(batch, length, dim))
            gate, inner = layer["gate"](layer["behind"](x)).chunk(2, -1)
            x = x + layer["down"](F.silu(gate) * inner)
        return self.norm(x) @ self.embedding.weight.T


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
                F.cross_entropy(plain(batch.inputs).flatten(0, 1), batch.targets.flatten()).backward()
                optimizer.step()
            return cpu_seconds() - start

        return epoch

    return prepared


def trained_by(model: str, network: Callable[[Any], nn.Module]) -> Callable[[Workspace], Measured]:
    """Ten steps of a model as it is shipped."""
    return lambda space: compare(space, "script", by_hand(network), f"model={model}", steps=10)


def writing(cached: bool) -> Callable[[Workspace], Measured]:
    """One sample of TOKENS tokens; beside it a loop by hand with a memory, or one that reads all again each time."""

    def measured(space: Workspace) -> Measured:
        from marquee.config.build import build
        from marquee.data.spec import TokenSpec
        from marquee.inference.sampling import SETTINGS, in_double, write

        tokens = space.of(TOKENS, TOKENS, 8)
        node = space.config("script", "model=transformer/gpt", f"model.view.length={TOKENS + 1}")["model"]
        torch.manual_seed(0)
        model = in_double(build(node, TokenSpec(67)))
        plain = Decoder(model).double().eval()
        settings = {name: default for name, (default, *_) in SETTINGS.items()} | {"tokens": tokens}

        @torch.inference_mode()
        def loop() -> None:
            text, past = torch.ones(1, 1, dtype=torch.int64), [] if cached else None
            for place in range(tokens):
                logits = plain(text[:, -1:], past, place) if cached else plain(text)
                chosen = torch.multinomial(logits[:, -1].softmax(-1), 1)
                text = torch.cat([text, chosen], 1)

        loop()
        found = in_turns(space.runs, lambda: write(model, [1], [(1, 0)], settings), loop)
        return Measured(*(1000 * seconds / tokens for seconds in found), synthetic=True)  # nobody has trained it

    return measured


_LOOP = "hand-written loop"
BENCHMARKS = [
    Benchmark("gpt_epoch", "ratio", 1.10, "CPU s/10 steps", _LOOP, trained_by("transformer/gpt", Decoder)),
    Benchmark("lstm_lm_epoch", "ratio", 1.10, "CPU s/10 steps", _LOOP, trained_by("rnn/lstm_lm", Recurrent)),
    Benchmark("gpt_write", "ratio", 1.10, "ms a token", "loop with cache", writing(cached=True)),
    Benchmark("gpt_write_cached", "ratio", 1 / 3, "ms a token", "without cache", writing(cached=False)),
]
