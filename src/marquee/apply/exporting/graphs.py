"""Which graph a trained model is exported as, or why it has none."""

import copy
import types
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marquee.apply.exporting.recurrent import with_nodes
from marquee.apply.exporting.steps import GptStep, LstmStep
from marquee.data.images.views import ImageBatch
from marquee.data.interactions.histories import Histories
from marquee.data.text.views import TextBatch, TextBatches
from marquee.errors import ConfigError
from marquee.models.autoencoder.rows import Cells
from marquee.models.base import Classifier, Model, Recommender, Tagger
from marquee.models.mf.ials import IALS
from marquee.models.mf.truncated_svd import TruncatedSVD
from marquee.models.neural.perceptron import PairPerceptron
from marquee.models.next_item import NextItemRecommender
from marquee.models.pretrained import ImageClassifier
from marquee.models.rnn.lstm_lm import LstmLanguageModel
from marquee.models.transformer.gpt import Gpt
from marquee.models.transformer.hstu import HSTU, TIME_BUCKETS, time_buckets

MOST_CELLS = 450_000_000  # of a matrix in an ONNX file, which holds 2 GB at most
FOLD_IN_STEPS = 20  # of plain conjugate gradients, from nothing to the vector of a history
AT_ONCE = 1024  # items whose scores are taken as rows of a matrix at a time


@dataclass(frozen=True)
class Graph:
    """What is exported of a model.

    kind       what answers with it: recommender, text, image or writer
    settings   what that must know of the model, as JSON values
    network    traced by torch.export with `examples` (by the names of its arguments), whose dimensions `dynamic` may
               vary; None where the graph is products of `tables` alone
    tables     by name: of users, `users` [n_users, dim] and `items` [n_items, dim]; of histories, `matrices`
    outputs    names of the outputs of `network`
    query      of models whose scores are products with item vectors: what puts out the user's vector, with the inputs
               of `network`; for `users` there is none to trace
    items      those item vectors, [n_items, dim], where there is a `query`
    """

    kind: str
    settings: dict[str, Any]
    network: nn.Module | None = None
    examples: dict[str, Tensor] = field(default_factory=dict)
    dynamic: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("scores",)
    users: tuple[Tensor, Tensor] | None = None
    matrices: tuple[Tensor, ...] = ()
    query: nn.Module | None = None
    items: Tensor | None = None


def graph_of(model: Model, spec: Any, run: str) -> Graph:
    """The graph of a trained model. Raises ConfigError, with the reason and what works instead, where it has none."""
    if isinstance(model, Recommender):
        return _recommender(model, spec, run)
    if isinstance(model, Tagger):
        raise _refused(model, run, "its answers are tags and slots, which the exported predictors do not read yet")
    if isinstance(model, Classifier) and isinstance(model.view, TextBatches):
        lengths = torch.tensor([7, 5, 3])
        tokens = torch.where(torch.arange(7) < lengths[:, None], min(2, spec.vocab_size - 1), 0)
        settings = {"max_length": model.view.max_length, "truncate": model.view.truncate, "multilabel": spec.multilabel}
        examples = {"tokens": tokens, "lengths": lengths}
        return Graph(
            "text", settings, Texts(with_nodes(model)), examples, {"tokens": (0, 1), "lengths": (0,)}, ("logits",)
        )
    if isinstance(model, ImageClassifier):
        images = torch.zeros(2, spec.channels, spec.height, spec.width, dtype=torch.uint8)
        settings = {"multilabel": spec.multilabel}
        return Graph("image", settings, Images(model), {"images": images}, {"images": (0,)}, ("logits",))
    if isinstance(model, Gpt):
        if model.places is not None:
            reason = "ONNX Runtime has no GELU in float64, in which is written (model.block=modern has another)"
            raise _refused(model, run, reason)
        return _gpt(model)
    if isinstance(model, LstmLanguageModel):
        return _lstm(model)
    reason = (
        "it looks up keys of what it reads in tables that are sorted"
        if isinstance(model, Classifier)
        else ("how it answers is no fixed graph of tensors")
    )
    raise _refused(model, run, reason)


def _refused(model: Model, run: str, reason: str) -> ConfigError:
    return ConfigError(
        f"--format onnx: {type(model).__name__} cannot be exported as a graph: {reason}.\n"
        f"  formats that work: torch, run   (marquee export {run} --format torch DIR)"
    )


# Recommenders --------------------------------------------------------------------------------------------------------


def _recommender(model: Recommender, spec: Any, run: str) -> Graph:
    n_users, n_items = spec.n_users, spec.n_items
    settings: dict[str, Any] = {"n_items": n_items}
    if isinstance(model, NextItemRecommender):
        items, lengths = torch.tensor([[0, 1, 2], [1, n_items, n_items]]).clamp(max=n_items), torch.tensor([3, 1])
        examples, dynamic = {"items": items, "lengths": lengths}, {"items": (0, 1), "lengths": (0,)}
        settings["max_length"] = model.reads
        network: nn.Module = Sequence(model)
        query, vectors = Query(model), model.item_vectors()
        if isinstance(model, HSTU) and model.blocks[0].time_bias is not None:
            network = TimedSequence(model)
            examples["times"], dynamic["times"] = torch.tensor([[1, 50, 90], [1, 0, 0]]), (0, 1)
            query = vectors = None
        return Graph("recommender", settings, network, examples, dynamic, query=query, items=vectors)
    seen = torch.zeros(2, n_items)
    seen[:, 0] = seen[1, -1] = 1
    if isinstance(model, IALS):
        if model.confidence != "none":
            reason = f"with model.confidence={model.confidence} known users keep vectors that their values gave them"
            raise _refused(model, run, reason)
        return Graph("recommender", settings, FoldIn(model), {"seen": seen}, {"seen": (0,)})
    if isinstance(model, TruncatedSVD):
        return Graph("recommender", settings, matrices=(model.vectors, model.vectors.T))
    if model.adds_up:
        if n_items**2 > MOST_CELLS:
            reason = f"a matrix of {n_items:,} by {n_items:,} weights is more than an ONNX file holds (2 GB)"
            raise _refused(model, run, reason)
        return Graph("recommender", settings, matrices=(_matrix(model, n_items),))
    if not model.scores_unseen_users:
        users, nobody = torch.arange(n_users), torch.zeros(n_users + 1, dtype=torch.int64)
        with torch.no_grad():
            vectors = model.user_vectors(users, Histories(users[:0], nobody)), model.item_vectors()
        if vectors[0] is not None:
            return Graph("recommender", settings, users=vectors, items=vectors[1])
        if any(isinstance(part, PairPerceptron) for part in model.modules()):
            return Graph("recommender", settings, Pairs(model), {"users": torch.tensor([0, 1])}, {"users": (0,)})
    if any(isinstance(part, Cells) for part in model.modules()):
        return Graph("recommender", settings, Seen(model), {"seen": seen}, {"seen": (0,)})
    reason = (
        "its scores need more of the data than a history or an id"
        if model.scores_unseen_users
        else ("its scores are neither products of vectors nor dense layers")
    )
    raise _refused(model, run, reason)


def _matrix(model: Recommender, n_items: int) -> Tensor:
    """Row i is what item i alone says of all items: [n_items, n_items]."""
    parts = []
    with torch.no_grad():
        for items in torch.arange(n_items).split(AT_ONCE):
            parts.append(model.score(None, Histories(items, torch.arange(len(items) + 1))).float())
    return torch.cat(parts)


class Sequence(nn.Module):
    """Scores of all items from the newest items of histories."""

    def __init__(self, model: NextItemRecommender):
        super().__init__()
        self.model = with_nodes(model)

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.model._with_bias(self.model.newest(items, lengths)) @ self.model.output().T


class Query(Sequence):
    """The vectors whose products with the items' are those scores."""

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.model._with_bias(self.model.newest(items, lengths))


class TimedSequence(Sequence):
    """Likewise with times, int64 [batch, length]; where the first of a row is -1, nobody knows them."""

    def __init__(self, model: HSTU):
        super().__init__(model)
        for block in self.model.blocks:  # one bucket more, of intervals that are not known, which weighs nothing
            block.time_bias = nn.Parameter(F.pad(block.time_bias.detach(), (0, 1)))

    def forward(self, items: Tensor, lengths: Tensor, times: Tensor) -> Tensor:
        places = torch.arange(items.shape[1], device=items.device)
        buckets = torch.where(times[:, :1, None] < 0, TIME_BUCKETS, time_buckets(times))
        x = self.model.embed(items) * self.model.items.embedding_dim**0.5
        for block in self.model.blocks:
            x = block(x, places[:, None] - places, buckets)
        newest = self.model.norm(x)[torch.arange(items.shape[0]), (lengths - 1).clamp(min=0)]
        return self.model._with_bias(newest) @ self.model.output().T


class FoldIn(nn.Module):
    """iALS: the vector of a history by conjugate gradients, in dense products over all items."""

    def __init__(self, model: IALS):
        super().__init__()
        self.alpha0, self.l2, self.nu = model.alpha0, model.l2, model.nu
        self.register_buffer("items", model.items.detach().clone())
        self.register_buffer("gram", model.alpha0 * (model.items.T @ model.items))

    def forward(self, seen: Tensor) -> Tensor:
        penalty = self.l2 * (seen.sum(1, keepdim=True) + self.alpha0 * self.items.shape[0]) ** self.nu
        residual = seen @ self.items
        x, towards = torch.zeros_like(residual), residual
        size = residual.square().sum(1, keepdim=True)
        for _ in range(FOLD_IN_STEPS):
            change = (seen * (towards @ self.items.T)) @ self.items + towards @ self.gram + penalty * towards
            length = size / (towards * change).sum(1, keepdim=True).clamp(min=1e-30)
            x = x + length * towards
            residual = residual - length * change
            former, size = size, residual.square().sum(1, keepdim=True)
            towards = residual + size / former.clamp(min=1e-30) * towards
        return x @ self.items.T


class Pairs(nn.Module):
    """Dense layers over all pairs of some users, whom training knows, and all items."""

    def __init__(self, model: Recommender):
        super().__init__()
        self.model = copy.deepcopy(model)
        for part in self.model.modules():
            if isinstance(part, PairPerceptron):  # which otherwise cuts the users into pieces, in Python
                part.all_pairs = types.MethodType(PairPerceptron.forward_all, part)

    def forward(self, users: Tensor) -> Tensor:
        return self.model.score(users, None)


class Seen(nn.Module):
    """An autoencoder, whose first layer reads rows that are written out."""

    def __init__(self, model: Recommender):
        super().__init__()
        self.model = copy.deepcopy(model)
        for part in self.model.modules():
            if isinstance(part, Cells):
                part.forward = types.MethodType(Cells.dense, part)

    def forward(self, seen: Tensor) -> Tensor:
        return self.model.score(None, seen)


# Classifiers ---------------------------------------------------------------------------------------------------------


class Texts(nn.Module):
    """Logits of token rows."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.model(TextBatch(tokens, lengths, lengths, lengths))


class Images(nn.Module):
    """Logits of images."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(ImageBatch(images, images, images))


# Language models -----------------------------------------------------------------------------------------------------


def _gpt(model: Gpt) -> Graph:
    network = GptStep(copy.deepcopy(model).double())
    width = model.embedding.weight.shape[1] // model.heads
    past = torch.zeros(len(model.blocks), 2, model.heads, 5, width, dtype=torch.float64)
    examples = {"tokens": torch.ones(2, 3, dtype=torch.int64), "before_keys": past, "before_values": past.clone()}
    dynamic = {"tokens": (0, 1), "before_keys": (1, 3), "before_values": (1, 3)}
    settings = {"context": model.context, "one_at_a_time": False}
    return Graph("writer", settings, network, examples, dynamic, ("logits", "after_keys", "after_values"))


def _lstm(model: LstmLanguageModel) -> Graph:
    state = torch.zeros(len(model.layers), 2, model.hidden, dtype=torch.float64)
    examples = {"tokens": torch.ones(2, 1, dtype=torch.int64), "before_state": state, "before_cell": state.clone()}
    dynamic = {"tokens": (0,), "before_state": (1,), "before_cell": (1,)}
    settings = {"context": None, "one_at_a_time": True}
    network = LstmStep(copy.deepcopy(model).double())
    return Graph("writer", settings, network, examples, dynamic, ("logits", "after_state", "after_cell"))
