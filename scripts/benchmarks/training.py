"""Epochs of the Trainer as a run sets it up, beside plain PyTorch loops over the same arithmetic.

The clock runs from one epoch's first batch to the next epoch's: making the batches, the steps, callbacks and the end
of the epoch all count. Validation and writing checkpoints do not, because the plain loop does neither. At each such
border the plain loop has its turn, so that ours and the reference alternate in one process. The first epoch of each
warms up and is not counted.
"""

import copy
import gc
import statistics
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from benchmarks.measure import Benchmark, Measured, cpu_seconds
from benchmarks.sequence_loops import Attention, Gated, Recurrent, all_logits, by_hand, sampled_logits
from benchmarks.workspace import Kind, Workspace

Reference = Callable[[int], float]  # runs an epoch of that number and returns its CPU seconds


def compare(
    space: Workspace,
    kind: Kind,
    reference: Callable[[Any, int | None], Reference],
    *words: str,
    steps: int | None = None,
    runs: int = 3,
) -> Measured:
    """Medians of our epoch and the reference's, each shortened to `steps` batches where that is given."""
    from marquee.runs import train
    from marquee.runs.code import code_identity

    if space.size == "once":
        runs, steps = 1, 2
    shortened = [f"trainer.limit_train_batches={steps}"] if steps else []
    config = space.config(
        kind, f"trainer.max_epochs={runs + 1}", "trainer.check_val_every_n_epoch=1000", *shortened, *words
    )
    data = train.prepare_data(config)
    task = train.prepare_task(config, data)
    run = train.open_run(config, [], data, task, None, code_identity(config))
    trainer, checkpoint = train.prepare_trainer(config, task, run, [])
    checkpoint.on_train_epoch_end = lambda *arguments: None
    clock = Alternation(task.model.view, reference(task, steps))
    task.model.view = clock
    train.fit(trainer, task, checkpoint, False)
    clock.border()
    run.finish("finished")
    return Measured(
        statistics.median(clock.ours[1:] or clock.ours),
        statistics.median(clock.theirs[1:] or clock.theirs),
        space.source(kind).synthetic,
    )


class Alternation:
    """Stands in for a view: tells the epochs' borders by its `train_batches` being called."""

    def __init__(self, view: Any, reference: Reference):
        self.view = view
        self.reference = reference
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.started: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.view, name)

    def train_batches(self, data: Any, seed: int, epoch: int, **policy: Any) -> Iterator[Any]:
        self.border()
        return self.view.train_batches(data, seed, epoch, **policy)

    def border(self) -> None:
        if self.started is not None:
            self.ours.append(cpu_seconds() - self.started)
            self.theirs.append(self.reference(len(self.theirs)))
            gc.collect()
        self.started = cpu_seconds()


# The plain loops -----------------------------------------------------------------------------------------------------


def plain_loop(task: Any, steps: int | None, channels_first: bool = False) -> Reference:
    """The model and its loss over batches that are ready before the clock starts: no batch could be had for less."""
    import torch
    from torch.nn import functional as F

    from marquee.models.base import Recommender

    model, view, data, seed = copy.deepcopy(task.model).train(), task.model.view, task.data, task.seed
    if channels_first:
        model.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def loss_of(batch: Any) -> torch.Tensor:
        if channels_first:
            pixels = batch.images.float().sub_(127.5).mul_(2 / 127.5)
            return F.cross_entropy(model.classifier(model.features(pixels)), batch.labels)
        return model.loss(batch) if isinstance(model, Recommender) else F.cross_entropy(model(batch), batch.labels)

    def epoch(number: int) -> float:
        batches = list(islice(view.train_batches(data, seed, number), steps))
        start = cpu_seconds()
        for batch in batches:
            optimizer.zero_grad()
            loss_of(batch).backward()
            optimizer.step()
        return cpu_seconds() - start

    return epoch


def plain_bpr(task: Any, steps: int | None) -> Reference:
    """BPR-MF as one would write it by hand for speed: no autograd, its gradient is three lines of the paper.

    Shuffled pairs, negatives drawn for each batch and drawn again where seen, the gradients of the tables gathered
    with index_add_, fused Adam.
    """
    import torch

    train, spec = task.data.parts["train"], task.data.spec
    size, l2 = task.model.view.batch_size, task.model.l2
    users, items = (torch.from_numpy(column.astype("int64")) for column in (train.users, train.items))
    seen = torch.zeros(spec.n_users * spec.n_items, dtype=torch.bool)
    seen[users * spec.n_items + items] = True
    p, q = (
        torch.nn.Parameter(0.1 * torch.randn(n, task.model.users.embedding_dim)) for n in (spec.n_users, spec.n_items)
    )
    p.grad, q.grad = torch.zeros_like(p), torch.zeros_like(q)
    optimizer = torch.optim.Adam([p, q], lr=1e-3, fused=True)

    @torch.no_grad()
    def epoch(number: int) -> float:
        start = cpu_seconds()
        losses = []
        for index in torch.randperm(len(users)).split(size)[:steps]:
            user, item = users[index], items[index]
            base = user * spec.n_items
            negative = torch.randint(spec.n_items, (len(index),))
            again = seen[base + negative].nonzero()[:, 0]
            while len(again):
                negative[again] = torch.randint(spec.n_items, (len(again),))
                again = again[seen[base[again] + negative[again]]]
            a, b, c = p.index_select(0, user), q.index_select(0, item), q.index_select(0, negative)
            difference = b - c
            margin = (a * difference).sum(1)
            losses.append(-torch.nn.functional.logsigmoid(margin).mean())
            pull = torch.sigmoid(-margin).div_(-len(index))[:, None]
            decay = l2 / len(index)
            p.grad.zero_().index_add_(0, user, (difference * pull).add_(a, alpha=decay))
            a.mul_(pull)
            q.grad.zero_().index_add_(0, item, b.mul_(decay).add_(a)).index_add_(0, negative, c.mul_(decay).sub_(a))
            optimizer.step()
        return cpu_seconds() - start

    return epoch


# The benchmarks ------------------------------------------------------------------------------------------------------


def bpr(space: Workspace, batch_size: int) -> Measured:
    return compare(space, "sequences", plain_bpr, "model=mf/bpr", f"model.view.batch_size={batch_size}", runs=7)


def sasrec(space: Workspace, length: int, steps: int | None, sampled: bool = False) -> Measured:
    words = ["model=transformer/sasrec", f"model.view.max_length={length}"]
    if sampled:
        words.append("model.loss.kind=sampled_softmax")
    loop = by_hand(Attention, sampled_logits if sampled else all_logits)
    return compare(space, "sequences", loop, *words, steps=steps)


def gru4rec(space: Workspace) -> Measured:
    return compare(space, "sequences", by_hand(Recurrent), "model=rnn/gru4rec", steps=12)


def hstu(space: Workspace) -> Measured:
    return compare(space, "sequences", by_hand(Gated), "model=transformer/hstu", steps=12)


def lstm(space: Workspace) -> Measured:
    return compare(space, "reviews", plain_loop, "model=rnn/lstm", *batch_of(space), steps=10)


def cnn(space: Workspace) -> Measured:
    return compare(space, "posters", plain_loop, "model=cnn/poster", *batch_of(space), steps=10)


def cnn_augmented(space: Workspace) -> Measured:
    """The plain loop has its batches changed before the clock starts, so that the ratio holds what the changes cost."""
    view = {"flip": "true", "crop": 8, "rotate": 10, "scale": 0.1, "jitter": 0.2, "erase": 0.25}
    words = [f"model.view.{means}={value}" for means, value in view.items()]
    return compare(space, "posters", plain_loop, "model=cnn/poster", *words, *batch_of(space), steps=10)


def mobile(space: Workspace) -> Measured:
    return compare(space, "posters", plain_loop, "model=cnn/mobile", *batch_of(space), steps=10)


def cnn_bf16(space: Workspace) -> Measured:
    def channels_first(task: Any, steps: int | None) -> Reference:
        return plain_loop(task, steps, channels_first=True)

    words = ("model=cnn/poster", "trainer.precision=bf16-mixed", *batch_of(space))
    return compare(space, "posters", channels_first, *words, steps=10)


def batch_of(space: Workspace) -> list[str]:
    """The words for smaller batches, where the data is small."""
    return [f"model.view.batch_size={space.of(0, 8, 2)}"] if space.quick else []


def bpr_memory(space: Workspace) -> Measured:
    """Peak resident memory of a process that runs a whole `marquee train`, tracker, tests and baselines included."""
    words = space.words("sequences", "model=mf/bpr", f"trainer.max_epochs={space.of(2, 2, 1)}", "tracker=none")
    peaks = [space.marquee("train", *words).memory for _ in range(space.of(3, 1, 1))]
    return Measured(statistics.median(peaks), synthetic=space.source("sequences").synthetic)


BENCHMARKS = [
    Benchmark("bpr_epoch_8192", "ratio", 1.25, "CPU s/epoch", "hand-written loop", lambda space: bpr(space, 8192)),
    Benchmark("bpr_epoch_2048", "ratio", 1.25, "CPU s/epoch", "hand-written loop", lambda space: bpr(space, 2048)),
    Benchmark(
        "sasrec_epoch_50", "ratio", 1.1, "CPU s/epoch", "hand-written loop", lambda space: sasrec(space, 50, None)
    ),
    Benchmark(
        "sasrec_epoch_200", "ratio", 1.1, "CPU s/12 steps", "hand-written loop", lambda space: sasrec(space, 200, 12)
    ),
    Benchmark(
        "sasrec_sampled_50",
        "ratio",
        1.1,
        "CPU s/epoch",
        "hand-written loop",
        lambda space: sasrec(space, 50, None, True),
    ),
    Benchmark("gru4rec_epoch", "ratio", 1.1, "CPU s/12 steps", "hand-written loop", gru4rec),
    Benchmark("hstu_epoch", "ratio", 1.1, "CPU s/12 steps", "hand-written loop", hstu),
    Benchmark("lstm_epoch", "ratio", 1.1, "CPU s/10 steps", "plain loop", lstm),
    Benchmark("cnn_epoch", "ratio", 1.1, "CPU s/10 steps", "plain loop", cnn),
    Benchmark("cnn_augmented_epoch", "ratio", 1.15, "CPU s/10 steps", "plain loop", cnn_augmented),
    Benchmark("mobile_epoch", "ratio", 1.1, "CPU s/10 steps", "plain loop", mobile),
    # 1 / 1.8 of the time of float32 with channels first is 1.8 times faster.
    Benchmark("cnn_bf16", "ratio", 0.556, "CPU s/10 steps", "plain float32 loop", cnn_bf16),
    Benchmark("bpr_peak_memory", "ours", 1.2, "GB", "", bpr_memory),
]
