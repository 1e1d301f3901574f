"""The smallest of each kind that the contracts are for: as few lines as show that the contract holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from marquee.data.dataset import DataSet, Split, View
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.splits import HISTORY, TEST, TRAIN, VALIDATION, InteractionSplit
from marquee.data.interactions.views import MaskedSequences, Matrix, RowBatch, Rows
from marquee.data.spec import InteractionSpec, Spec, TokenSpec
from marquee.inference.predictor import Predictor
from marquee.metrics.evaluator import Evaluator
from marquee.models.base import Model, Recommender
from marquee.models.losses import NextItemLoss
from marquee.models.next_item import NextItemRecommender
from marquee.tasks.base import Task

# Learners that take no gradient step, over as many epochs as they like ----------------------------------------------


class LeastSquares(Recommender):
    """Alternating least squares on the dense 0/1 matrix: one sweep over users and items an epoch."""

    def __init__(self, spec: InteractionSpec, *, view: Matrix, dim: Annotated[int, Ge(1)] = 4):
        super().__init__()
        self.view = view
        self.register_buffer("users", torch.randn(spec.n_users, dim))
        self.register_buffer("items", torch.randn(spec.n_items, dim))

    def fit(self, batch) -> Tensor:
        matrix = torch.zeros(len(self.users), len(self.items))
        matrix[batch.users, batch.items] = 1
        ridge = torch.eye(self.users.shape[1])
        self.users.copy_(torch.linalg.solve(self.items.T @ self.items + ridge, self.items.T @ matrix.T).T)
        self.items.copy_(torch.linalg.solve(self.users.T @ self.users + ridge, self.users.T @ matrix).T)
        return ((matrix - self.users @ self.items.T) ** 2).mean()

    def score(self, users, histories: Histories) -> Tensor:
        return self.users[users] @ self.items.T


# What a model takes from the data before training --------------------------------------------------------------------


class ByFeatures(Recommender):
    """Items by their features, and a graph that only training walks on."""

    scores_unseen_users = True

    def __init__(self, spec: InteractionSpec, *, view: Rows):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        for column in spec.item_features:
            shape = (spec.n_items,) if column.kind == "categorical" else (spec.n_items, column.size)
            kind = torch.int64 if column.kind == "categorical" else torch.float32
            self.register_buffer(column.name, torch.zeros(shape, dtype=kind))
        self.columns = [column.name for column in spec.item_features if column.kind != "categorical"]
        width = sum(column.size for column in spec.item_features if column.kind != "categorical")
        self.embed = nn.Linear(width, 4)

    def prepare(self, data) -> None:
        for name, values in data.features["item"].encode(data.items).items():
            getattr(self, name).copy_(torch.from_numpy(values))
        train = data.parts["train"]
        edges = torch.from_numpy(np.stack([train.users, train.items]).astype(np.int64))
        graph = torch.sparse_coo_tensor(edges, torch.ones(edges.shape[1]), (data.spec.n_users, data.spec.n_items))
        self.register_buffer("graph", graph, persistent=False)

    def vectors(self) -> Tensor:
        return self.embed(torch.cat([getattr(self, name) for name in self.columns], dim=1))

    def loss(self, batch: RowBatch) -> Tensor:
        neighbours = torch.sparse.mm(self.graph, self.vectors())[batch.users]
        seen = batch.histories.matrix(self.n_items)
        return F.binary_cross_entropy_with_logits(neighbours @ self.vectors().T, seen)

    def score(self, users, histories: Histories) -> Tensor:
        return histories.matrix(self.n_items) @ self.vectors() @ self.vectors().T


# Rows, masked sequences, further tokens, a query of one's own --------------------------------------------------------


class Autoencoder(Recommender):
    """A user's row through a narrow layer and back (Mult-DAE without noise)."""

    scores_unseen_users = True

    def __init__(self, spec: InteractionSpec, *, view: Rows, dim: Annotated[int, Ge(1)] = 8):
        super().__init__()
        self.view = view
        self.n_items = spec.n_items
        self.inside, self.outside = nn.Linear(spec.n_items, dim), nn.Linear(dim, spec.n_items)

    def score(self, users, histories: Histories) -> Tensor:
        return self.outside(self.inside(F.normalize(histories.matrix(self.n_items))).tanh())

    def loss(self, batch: RowBatch) -> Tensor:
        seen = batch.histories.matrix(self.n_items)
        return -(self.score(batch.users, batch.histories).log_softmax(1) * seen).sum(1).mean()


class Cloze(NextItemRecommender):
    """BERT4Rec without attention: the mean of what is seen says what is hidden; the query is a mask at the end."""

    def __init__(self, spec: InteractionSpec, *, view: MaskedSequences, loss: NextItemLoss):
        super().__init__(spec.n_items, view, loss)
        self.items = nn.Embedding(spec.n_items + 1 + view.extra_tokens, 8)

    def _encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        known = (items < self.n_items)[..., None]
        mean = (self.items(items) * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
        return mean + self.items(items) * ~known

    def query(self, histories: Histories) -> Tensor:
        items, lengths = histories.padded(self.view.max_length - 1, self.n_items)
        items = torch.cat([items, items.new_full((len(items), 1), self.n_items)], dim=1)
        rows = torch.arange(len(items))
        items[rows, lengths] = self.n_items + 1
        return self._encode(items, lengths + 1)[rows, lengths]


# Users held out, folds -----------------------------------------------------------------------------------------------


class HeldOutUsers(InteractionSplit):
    """Every fifth user is never trained on: the older half of the rows is the history, the newer one the target."""

    chronological = True

    def assign(self, store) -> np.ndarray:
        place = np.arange(len(store)) - store.offsets[store.users]
        newer = place >= np.diff(store.offsets)[store.users] / 2
        part = np.select([store.users % 5 == 0, store.users % 5 == 1], [TEST, VALIDATION], TRAIN)
        return np.where((part != TRAIN) & ~newer, HISTORY, part)


class NewItems(InteractionSplit):
    """Every tenth item is never trained on, and its interactions are the targets; a user's last other one validates."""

    chronological = False

    def assign(self, store) -> np.ndarray:
        new = store.items % 10 == 0
        last = np.zeros(len(store), dtype=bool)
        last[store.offsets[1:] - 1] = True
        return np.select([new, last], [TEST, VALIDATION], TRAIN)


class Folds(InteractionSplit):
    """Cross-validation over rows; a tenth of the rest is validation."""

    chronological = False
    fold_key = "fold"

    def __init__(self, *, fold: Annotated[int, Ge(0)] = 0, n_folds: Annotated[int, Ge(2)] = 3):
        self.fold, self.n_folds = fold, n_folds

    @property
    def folds(self) -> int:
        return self.n_folds

    def assign(self, store) -> np.ndarray:
        place = np.arange(len(store)) - store.offsets[store.users]
        kept = np.where(place % 10 == 9, VALIDATION, TRAIN)
        return np.where(place % self.n_folds == self.fold, TEST, kept)


# Another question asked of other data: everything is the task's to say ----------------------------------------------


@dataclass(frozen=True)
class DiceSpec(Spec):
    """A spec that Marquee does not know."""

    sides: int


class Tokens(NamedTuple):
    tokens: Tensor  # int64 [batch, length]


class Melodies(DataSet):
    """Tunes of four notes that go round; the spec is one without labels."""

    spec_type = TokenSpec
    split_type = Split
    fingerprint = split_fingerprint = "5" * 64

    def setup(self, split, paths) -> None:
        self.tokens = (torch.arange(8)[None] + torch.arange(40)[:, None]) % 4
        self.parts = {"train": self.tokens[:32], "validation": self.tokens[32:36], "test": self.tokens[36:]}
        self.spec = TokenSpec(4)
        self.report = {"tunes": 40}

    def save_inference(self, folder) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("c d e f")


class WholeTunes(View):
    def steps(self, data) -> int:
        return 4

    def train_batches(self, data, seed: int, epoch: int) -> Iterator[Tokens]:
        return map(Tokens, data.parts["train"].split(8))


class NextNote(Model):
    """A table of what follows what."""

    def __init__(self, spec: TokenSpec, *, view: WholeTunes):
        super().__init__()
        self.view = view
        self.follows = nn.Embedding(spec.vocab_size, spec.vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.follows(tokens)


class Composer(Predictor):
    does, verb, example = "continues tunes", "generate", "--prompt c"

    def __init__(self, folder):
        super().__init__(folder)
        self.notes = (folder / "notes.txt").read_text().split()

    def generate(self, note: str, n: int) -> list[str]:
        tune = [self.notes.index(note)]
        for _ in range(n):
            tune.append(int(self.model(torch.tensor(tune[-1:])).argmax()))
        return [self.notes[token] for token in tune]


class PerNote(Evaluator):
    def __init__(self):
        self.losses = []

    def update(self, scores: Tensor, batch: Tokens) -> None:
        losses = F.cross_entropy(scores[:, :-1].transpose(1, 2), batch.tokens[:, 1:], reduction="none")
        self.losses.append(losses.mean(1).numpy())

    def state(self):
        return {"losses": np.concatenate(self.losses)}

    def compute(self, states):
        losses = np.concatenate([state["losses"] for state in states]).astype(np.float64)
        return {"nats": float(losses.mean())}, pd.DataFrame({"tune": np.arange(len(losses)), "nats": losses})


class Continuation(Task):
    """Which note comes next?"""

    spec_types = (TokenSpec,)
    unit = "tune"
    measured = ("stride",)
    monitor, mode = "nats", "min"

    def __init__(self, model, data, optimizer=None, scheduler=None, seed=0, *, stride: Annotated[int, Ge(1)] = 1):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.stride = stride

    def loss(self, batch: Tokens) -> Tensor:
        return F.cross_entropy(self.model(batch.tokens[:, :-1]).flatten(0, 1), batch.tokens[:, 1:].flatten())

    def evaluation_batches(self, part, rank=0, world=1) -> Iterator[Tokens]:
        return map(Tokens, self.data.parts[part][rank::world].split(3))

    def scores(self, scorer, batch: Tokens) -> Tensor:
        return scorer(batch.tokens)

    def evaluator(self) -> PerNote:
        return PerNote()

    def baselines(self):
        return {"uniform": lambda tokens: torch.zeros(*tokens.shape, 4)}

    @classmethod
    def metrics_of(cls, settings) -> list[str]:
        return ["nats"]

    def protocol(self) -> str:
        return f"every note of {len(self.data.parts['test'])} tunes, stride {self.stride}"

    def predictor(self) -> type[Composer]:
        return Composer

    def requests(self, predictor: Composer, n: int):
        return [lambda: predictor.generate("c", 3)]

    def suggestions(self):
        return "generate {run} --prompt c", None


# Two learners that take turns ----------------------------------------------------------------------------------------


class Pair(Model):
    """A generator of numbers and a judge of them."""

    def __init__(self, spec: TokenSpec, *, view: WholeTunes):
        super().__init__()
        self.view = view
        self.generator = nn.Linear(1, 1)
        self.judge = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros(*tokens.shape, 4) + self.generator.bias


class Adversaries(Continuation):
    """The judge tells notes from made-up numbers; the generator would have it believe."""

    learners = ("generator", "judge")

    def learn(self, batch: Tokens) -> Tensor:
        real = batch.tokens[:, :1].float()
        made = self.model.generator(torch.randn_like(real))
        judged = F.softplus(-self.model.judge(real)).mean() + F.softplus(self.model.judge(made.detach())).mean()
        self.step("judge", 100 * judged)
        self.step("generator", 100 * F.softplus(-self.model.judge(made)).mean())
        return judged


# Experience that the model collects ----------------------------------------------------------------------------------


class Played(View):
    """What the frozen policy preferred joins a buffer; batches are drawn from all that was ever played."""

    wants_policy = True

    def __init__(self):
        self.buffer = torch.zeros(0, 4)

    def steps(self, data) -> int:
        return 2

    def train_batches(self, data, seed: int, epoch: int, policy: Model) -> Iterator[Tokens]:
        with torch.no_grad():
            self.buffer = torch.cat([self.buffer, policy(torch.tensor([epoch % 4]))])
        for step in range(2):
            yield Tokens(((self.buffer.sum(0).argsort() + step) % 4)[None])

    def state_dict(self):
        return {"buffer": self.buffer}

    def load_state_dict(self, state) -> None:
        self.buffer = state["buffer"]


class Player(NextNote):
    def __init__(self, spec: TokenSpec, *, view: Played):
        super().__init__(spec, view=view)
