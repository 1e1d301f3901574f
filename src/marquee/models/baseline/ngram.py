"""An n-gram model with Witten-Bell smoothing: what follows is counted, and rare contexts trust shorter ones."""

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from marquee.data.spec import TokenSpec
from marquee.data.tokens.views import Corpus, WholeCorpus
from marquee.models.language import LanguageModel


class NGram(LanguageModel):
    """P_n(w | h) = (c(h w) + T(h) P_{n-1}(w | h')) / (c(h) + T(h)), interpolated down to the uniform distribution.

    c counts in training, T(h) is how many different tokens follow h there, and h' is h without its oldest token. A
    context that training does not hold leaves the word to the shorter one. Witten & Bell 1991, "The zero-frequency
    problem", IEEE Transactions on Information Theory 37(4), method C; Chen & Goodman 1999, section 2.6.

    order  tokens of the longest n-gram, the predicted one counted: 1 knows frequencies alone

    Contexts of j tokens are numbered by the number of their newest j - 1 tokens and the one before these, so that keys
    stay below 2^63 whatever order and vocabulary. Per order, one behind the other:

    contexts  int64, ascending: key of each context; `totals` c(h), `kinds` T(h) float32
    grams     int64, ascending: number of the context times vocabulary size, plus token; `counts` float32
    ends      int64 [2, order], where the contexts and the grams of each order end
    """

    max_epochs = 1

    def __init__(self, spec: TokenSpec, *, view: WholeCorpus, order: Annotated[int, Interval(ge=1, le=6)] = 5):
        super().__init__()
        self.view, self.order, self.size = view, order, spec.vocab_size
        for name, kind in (("contexts", torch.int64), ("grams", torch.int64), ("totals", None), ("kinds", None),
                           ("counts", None)):  # fmt: skip
            self.register_buffer(name, torch.zeros(0, dtype=kind or torch.float32))
        self.register_buffer("ends", torch.zeros(2, order, dtype=torch.int64))
        self._tables: list[tuple[Tensor, ...]] | None = None

    def fit(self, batch: Corpus) -> None:
        tokens = batch.tokens[0]
        n = len(tokens) - 1
        context = torch.zeros(n, dtype=torch.int64, device=tokens.device)  # of each target, at the present order
        place = torch.arange(1, n + 1, device=tokens.device)
        found: dict[str, list[Tensor]] = {name: [] for name in ("contexts", "grams", "totals", "kinds", "counts")}
        for order in range(self.order):
            if order:
                inside = place > order - 1
                place, context = place[inside], context[inside]
                keys, context = torch.unique(context * self.size + tokens[place - order], return_inverse=True)
            else:
                keys = context.new_zeros(1)
            grams, counts = torch.unique(context * self.size + tokens[place], return_counts=True)
            found["contexts"].append(keys)
            found["totals"].append(torch.bincount(context, minlength=len(keys)).float())
            found["kinds"].append(torch.bincount(grams // self.size, minlength=len(keys)).float())
            found["grams"].append(grams)
            found["counts"].append(counts.float())
        for name, parts in found.items():
            setattr(self, name, torch.cat(parts))
        for row, name in enumerate(("contexts", "grams")):
            self.ends[row] = torch.tensor([len(part) for part in found[name]]).cumsum(0)
        self._tables = None

    def log_likelihood(self, batch: Any) -> Tensor:
        recent = self._recent(batch.inputs)
        return self._likelihoods(recent.flatten(0, 1), batch.targets.flatten()).log().view(batch.targets.shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Log-probabilities, so that softmax leaves them as they are."""
        recent = self._recent(inputs)
        return self._all(recent.flatten(0, 1)).log().view(*inputs.shape, self.size)

    def start(self, batch: int) -> Tensor:
        return torch.full((batch, max(self.order - 1, 1)), -1)

    def step(self, tokens: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        memory = torch.cat([memory, tokens], dim=1)[:, -memory.shape[1] :]
        return self._all(memory.flip(1)[:, : self.order - 1]).log(), memory

    def _recent(self, inputs: Tensor) -> Tensor:
        """The order - 1 tokens before each target, newest first, -1 before the window: [batch, length, order - 1]."""
        padded = torch.nn.functional.pad(inputs, (max(self.order - 2, 0), 0), value=-1)
        length = inputs.shape[1]
        shifts = [padded[:, self.order - 2 - back :][:, :length] for back in range(self.order - 1)]
        return torch.stack(shifts, dim=-1) if shifts else inputs.new_zeros(*inputs.shape, 0)

    def _all(self, recent: Tensor) -> Tensor:
        """Probabilities float64 of all tokens, [n, vocab_size], after `recent` [n, order - 1], newest first."""
        n, device = len(recent), recent.device
        p = torch.full((n, self.size), 1 / self.size, dtype=torch.float64, device=device)
        for context, known, total, kinds, grams, counts in self._levels(recent):
            # The n-grams of a context lie side by side, so that only what has followed it is looked at.
            first = torch.searchsorted(grams, context * self.size)
            some = torch.where(known, torch.searchsorted(grams, (context + 1) * self.size) - first, 0)
            rows = torch.arange(n, device=device).repeat_interleave(some)
            places = torch.arange(len(rows), device=device) - (some.cumsum(0) - some)[rows] + first[rows]
            mass = torch.zeros_like(p)
            mass[rows, grams[places] % self.size] = counts[places].double()
            p = torch.where(known[:, None], (mass + kinds[:, None] * p) / (total + kinds)[:, None], p)
        return p

    def _likelihoods(self, recent: Tensor, targets: Tensor) -> Tensor:
        """Probabilities float64 [n] of one target each, int64 [n], after `recent` [n, order - 1], newest first."""
        p = torch.full(targets.shape, 1 / self.size, dtype=torch.float64, device=targets.device)
        for context, known, total, kinds, grams, counts in self._levels(recent):
            place, counted = _find(grams, context * self.size + targets)
            count = torch.where(counted, counts[place], 0).double()
            p = torch.where(known, (count + kinds * p) / (total + kinds), p)
        return p

    def _levels(self, recent: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """From the shortest context to the longest: its number [n], whether training holds it, c(h), T(h), and the
        n-grams and counts of that order."""
        known = torch.ones(len(recent), dtype=torch.bool, device=recent.device)
        context = torch.zeros(len(recent), dtype=torch.int64, device=recent.device)
        for order, (contexts, totals, kinds, grams, counts) in enumerate(self._by_order()):
            if order:  # a context that is not known does not become known by a further token
                older = recent[:, order - 1]
                context, found = _find(contexts, context * self.size + older)
                known = known & found & (older >= 0)
            yield context, known, totals[context].double(), kinds[context].double(), grams, counts

    def _by_order(self) -> list[tuple[Tensor, ...]]:
        if self._tables is None or self._tables[0][0].device != self.grams.device:
            (context_ends, gram_ends), self._tables = self.ends.tolist(), []
            for order in range(self.order):
                c = slice(context_ends[order - 1] if order else 0, context_ends[order])
                g = slice(gram_ends[order - 1] if order else 0, gram_ends[order])
                self._tables.append(
                    (self.contexts[c], self.totals[c], self.kinds[c], self.grams[g], self.counts[g])
                )  # fmt: skip
        return self._tables

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # How many n-grams there are follows from the training texts, so the buffers take the size of what is loaded.
        for name in ("contexts", "grams", "totals", "kinds", "counts"):
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        self._tables = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def _find(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where each of `wanted` stands in the ascending `keys`, and whether it does."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return place, keys[place] == wanted
