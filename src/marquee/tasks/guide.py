"""What should a guide ask, and what should it recommend when it has asked enough?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.spec import GuideSpec
from marquee.data.world.customers import BestQuestioner, CustomerBatch, WorldGuide
from marquee.metrics.evaluator import Evaluator
from marquee.models.base import Questioner
from marquee.seeding import numpy_generator
from marquee.tasks.base import Task
from marquee.tasks.loop import MakeOptimizer, Schedule


class Talked(NamedTuple):
    """How conversations went."""

    items: Tensor  # int64 [n], what was recommended in the end
    turns: Tensor  # int64 [n], questions that were asked


class Guide(Task):
    """A guide asks simulated customers questions, each at a price, and then recommends one film.

    regret        utility of the customer's best film minus that of the film recommended, by the world's own rule
    turns         questions asked
    false_claims  share of the recommendations whose claim is false: "you like GENRE", the film's main genre
    cost          regret plus the price of the questions: what the world's best questioner makes least

    price       of a question, in the world's unit of utility
    most_turns  questions to a customer at most
    batch_size  conversations at a time, in validation and test
    """

    spec_types = (GuideSpec,)
    unit = "customer"
    measured = ("price", "most_turns")
    monitor, mode = "cost", "min"
    directions = {"regret": "min", "turns": "min", "false_claims": "min", "cost": "min"}

    def __init__(
        self,
        model: Questioner,
        data: WorldGuide,
        optimizer: MakeOptimizer | None = None,
        scheduler: Callable[[torch.optim.Optimizer], Schedule] | None = None,
        seed: int = 0,
        *,
        price: Annotated[float, Ge(0)] = 0.2,
        most_turns: Annotated[int, Ge(0)] = 8,
        batch_size: Annotated[int, Gt(0)] = 500,
    ):
        super().__init__(model, data, optimizer, scheduler, seed)
        self.price, self.most_turns, self.batch_size = price, most_turns, batch_size
        model.price = price

    def loss(self, batch: CustomerBatch) -> Tensor:
        return self.model.loss(batch)

    def evaluation_batches(self, part: Part, rank: int = 0, world: int = 1) -> Iterator[CustomerBatch]:
        index = self.data.parts[part][rank::world]
        for start in range(0, len(index), self.batch_size):
            yield self.data.batch(index[start : start + self.batch_size])

    def scores(self, scorer: Any, batch: CustomerBatch) -> Talked:
        """One question at a time of all conversations, to those who are still to be asked."""
        known = torch.zeros_like(batch.answers)
        turns = torch.zeros(len(known), dtype=torch.int64, device=known.device)
        question, items = scorer.decide(known)
        for _ in range(self.most_turns):
            asked = (question >= 0).nonzero()[:, 0]
            if not len(asked):
                break
            known[asked, question[asked]] = batch.answers[asked, question[asked]]
            turns[asked] += 1
            question, items = scorer.decide(known)
        return Talked(items, turns)

    def evaluator(self) -> "GuideEvaluator":
        return GuideEvaluator(self.data, self.price)

    def baselines(self) -> dict[str, Any]:
        """By the favourites of training alone, and by asking everything and then naming the favourite of those who
        answered alike in most."""
        rows = self.data.parts["train"]
        return {
            "no questions": Asker(self.data, rows, ask=False),
            "all questions": Asker(self.data, rows, ask=True),
        }

    def oracle(self) -> BestQuestioner:
        return BestQuestioner(self.data.world, self.price, self.most_turns)

    @classmethod
    def metrics_of(cls, settings: Mapping[str, Any]) -> list[str]:
        return list(cls.directions)

    def shown(self) -> list[str]:
        return ["regret", "turns", "false_claims"]

    def protocol(self) -> str:
        most = f", {self.most_turns} at most" if self.most_turns < len(self.data.spec.questions) else ""
        return f"simulated customers; regret in the world's unit of utility, a question costs {self.price:g}{most}"

    def found(self) -> dict[str, Any]:
        """A 95 % interval of the cost, by drawing customers with replacement."""
        _, units = self.results["test"]
        rng = numpy_generator(self.seed, "intervals")
        values = units["cost"].to_numpy()
        means = rng.choice(values, size=(1000, len(values))).mean(axis=1)
        return {"intervals": {"test/cost": np.quantile(means, [0.025, 0.975]).tolist()}}

    def write_tables(self, folder: Path) -> None:
        """`questions.csv`: what is asked first, second, ... of a customer who says no to everything, or yes."""
        from marquee.files import replacing

        rows = []
        self.model.eval()
        with torch.no_grad():
            for said in (1.0, -1.0):
                known = torch.zeros(1, len(self.data.spec.questions))
                for turn in range(1, self.most_turns + 1):
                    question = int(self.model.cpu().decide(known)[0])
                    if question < 0:
                        break
                    rows.append((turn, "yes" if said > 0 else "no", self.data.spec.questions[question]))
                    known[0, question] = said
        with replacing(folder / "questions.csv") as file:
            pd.DataFrame(rows, columns=["turn", "always says", "do you like"]).to_csv(file, index=False)


class Asker:
    """Knows what the customers of training chose, and asks nothing, or everything.

    A film counts as often as it was chosen, by customers who weigh the more the more answers they share.
    """

    def __init__(self, data: WorldGuide, rows: np.ndarray, ask: bool):
        self.ask = ask
        self.answers, self.choices = torch.from_numpy(data.answers[rows]), torch.from_numpy(data.choices[rows])
        self.n_items = data.spec.n_items

    def decide(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        answers = answers.cpu()
        alike = answers @ self.answers.T if self.ask else torch.zeros(len(answers), len(self.answers))
        chosen = torch.zeros(len(answers), self.n_items)
        chosen.index_add_(1, self.choices, alike.exp())
        open_ = (answers == 0) & self.ask
        question = torch.where(open_.any(dim=1), open_.int().argmax(dim=1), -1)
        return question, chosen.argmax(dim=1)


class GuideEvaluator(Evaluator):
    """A row a customer: customer, recommended, turns, regret, false_claims (0 or 1), cost."""

    def __init__(self, data: WorldGuide, price: float):
        self.data, self.price = data, price
        self._seen: list[np.ndarray] = []

    def update(self, scores: Talked, batch: CustomerBatch) -> None:
        columns = (batch.index, scores.items, scores.turns)
        self._seen.append(np.stack([column.cpu().numpy() for column in columns], axis=1))

    def state(self) -> dict[str, np.ndarray]:
        return {"talks": np.concatenate(self._seen) if self._seen else np.zeros((0, 3), dtype=np.int64)}

    def compute(self, states: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, float], pd.DataFrame]:
        joined = np.concatenate([state["talks"] for state in states])
        index, items, turns = joined[np.argsort(joined[:, 0], kind="stable")].T
        utilities = self.data.utilities[index].astype(np.float64)
        regret = utilities.max(axis=1) - utilities[np.arange(len(index)), items]
        false = (self.data.tastes[index, self.data.genres[items]] <= 0).astype(np.float64)
        columns = {"turns": turns, "regret": regret, "false_claims": false, "cost": regret + self.price * turns}
        metrics = {name: float(np.mean(values)) for name, values in columns.items()}
        return metrics, pd.DataFrame({"customer": index, "recommended": items, **columns})
