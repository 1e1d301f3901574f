"""Customers of the world who can be asked what they like, choose by the world's own rule, and the best questioner."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.dataset import DataSet, Part, Paths, Split, View
from marquee.data.spec import GuideSpec
from marquee.data.world import catalogue
from marquee.seeding import numpy_generator

SPREAD = 0.8  # standard deviation of a person's early taste for a genre, as catalogue.py has it
VERSION = 1  # raised when the same seed gives other customers


class CustomerBatch(NamedTuple):
    """What customers would answer, and what they chose when left alone."""

    answers: Tensor  # float32 [batch, questions], 1 yes and -1 no
    choices: Tensor  # int64 [batch], an item
    index: Tensor  # int64 [batch], the customer's number


class Simulated(Split):
    """The parts are simulated one after the other, each customer for itself: there is nothing to draw."""


class WorldGuide(DataSet):
    """Customers with tastes as the world's people have them.

    To "do you like GENRE?" they say yes where their taste is above 0, and left alone they pick a film with probability
    proportional to exp(utility). After `setup`:

    utilities  float32 [customers, n_items], of every film for each customer: the exponent of the world's rule
    tastes     float32 [customers, questions]
    answers    float32 [customers, questions], 1 or -1
    choices    int64 [customers], the film that each picked alone
    genres     int64 [n_items], the main genre of each film
    parts      customers' numbers

    seed       of the world
    customers  of training; validation has a quarter as many, and so has the test part
    """

    licence = "made by Marquee, Apache-2.0"
    spec_type = GuideSpec
    split_type = Simulated

    def __init__(self, *, seed: Annotated[int, Ge(0)] = 1, customers: Annotated[int, Ge(8)] = 8000):
        self.seed, self.customers = seed, customers

    def setup(self, split: Simulated, paths: Paths) -> None:
        self.world = catalogue.before_watching(self.seed)
        n = self.customers + 2 * (self.customers // 4)
        rng = numpy_generator(self.seed, "world/customers")
        tastes = np.round(rng.standard_normal((n, len(catalogue.GENRES))) * SPREAD, 6)
        utilities = np.round(catalogue.TASTE * tastes @ self.world.vectors.T + self.world.appeal, 6)
        gumbel = -np.log(-np.log(rng.random(utilities.shape)))
        self.choices = (utilities + np.round(gumbel, 6)).argmax(axis=1)
        self.tastes, self.utilities = tastes.astype(np.float32), utilities.astype(np.float32)
        self.answers = np.where(tastes > 0, 1, -1).astype(np.float32)
        self.genres = self.world.genres[:, 0]
        ends = np.cumsum([self.customers, self.customers // 4, self.customers // 4])
        rows = np.split(np.arange(n), ends[:-1])
        self.parts: dict[Part, np.ndarray] = dict(zip(("train", "validation", "test"), rows, strict=True))
        self.spec = GuideSpec(catalogue.GENRES, catalogue.N_ITEMS)
        key = {"seed": self.seed, "customers": self.customers, "version": [VERSION, catalogue.VERSION]}
        self.fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self.split_fingerprint = hashlib.sha256(f"customers in order/{self.fingerprint}".encode()).hexdigest()
        self.report = {f"{part} customers": len(numbers) for part, numbers in self.parts.items()}

    def batch(self, index: np.ndarray) -> CustomerBatch:
        columns = (self.answers[index], self.choices[index], index)
        return CustomerBatch(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))

    def save_inference(self, folder: Path) -> None:
        """`films.json`: titles and main genres by number."""
        names = [catalogue.GENRES[genre] for genre in self.genres]
        content = {"titles": list(self.world.titles), "genres": names}
        (folder / "films.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Customers(View):
    """Each epoch is a new permutation of the customers, a pure function of (seed, epoch).

    batch_size  customers a training step
    """

    batch_size: Annotated[int, Ge(1)] = 128

    def steps(self, data: WorldGuide) -> int:
        return -(-len(data.parts["train"]) // self.batch_size)

    def train_batches(self, data: WorldGuide, seed: int, epoch: int) -> Iterator[CustomerBatch]:
        index = numpy_generator(seed, "customers", epoch).permutation(data.parts["train"])
        for step in range(self.steps(data)):
            yield data.batch(index[step * self.batch_size : (step + 1) * self.batch_size])


class BestQuestioner:
    """Asks and recommends so that the expected regret plus the price of at most `most_turns` questions is least.

    It knows the world's films and how tastes are distributed, and of a customer what the answers say.

    Tastes are independent and normal with mean 0, so yes and no are equally likely, and after yes the expected taste is
    SPREAD * sqrt(2 / pi). Utilities are linear in tastes: the best film of each of the 3^8 states of knowledge follows,
    and by dynamic programming, from states with all answers backwards, whether another question pays.
    """

    def __init__(self, world: catalogue.World, price: float, most_turns: int | None = None):
        self.world, self.price, self.most_turns = world, price, most_turns

    @cached_property
    def policy(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each state (base 3: 0 not asked, 1 yes, 2 no): the question to ask or -1, the film to name, and the
        expected utility of the film minus the price of the questions still to come."""
        questions = self.world.vectors.shape[1]
        digits = np.stack(np.unravel_index(np.arange(3**questions), (3,) * questions), axis=1)
        known = np.array([0.0, 1.0, -1.0])[digits] * SPREAD * np.sqrt(2 / np.pi)
        expected = catalogue.TASTE * known @ self.world.vectors.T + self.world.appeal
        films, values = expected.argmax(axis=1), expected.max(axis=1)
        asks = np.full(len(digits), -1)
        weight = 3 ** np.arange(questions)[::-1]
        open_ = (digits == 0).sum(axis=1)
        most = questions if self.most_turns is None else self.most_turns
        for left in range(questions - most + 1, questions + 1):  # those with fewer open questions are valued before
            if left < 1:
                continue
            states = np.flatnonzero(open_ == left)
            yes, no = states[:, None] + weight, states[:, None] + 2 * weight
            asked = digits[states] == 0
            after = np.full(asked.shape, -np.inf)
            after[asked] = (values[yes[asked]] + values[no[asked]]) / 2 - self.price
            best = after.argmax(axis=1)
            gains = after.max(axis=1)
            pays = gains > values[states]
            asks[states[pays]], values[states[pays]] = best[pays], gains[pays]
        return tuple(torch.from_numpy(np.asarray(part)) for part in (asks, films, values))

    def decide(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """As `Questioner.decide`."""
        asks, films, _ = self.policy
        digits = torch.where(answers > 0, 1, torch.where(answers < 0, 2, 0)).cpu()
        state = (digits * 3 ** torch.arange(digits.shape[1] - 1, -1, -1)).sum(dim=1)
        return asks[state].to(answers.device), films[state].to(answers.device)
