"""The parts of a service: the queue before the model, requests answered together, golden requests, titles."""

import asyncio
import threading
import time
from difflib import SequenceMatcher

import numpy as np
import pandas as pd
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.interactions.splits import Ratio
from marquee.data.interactions.table import InteractionTable
from marquee.data.interactions.views import Pairs
from marquee.errors import ConfigError
from marquee.inference import asking
from marquee.inference.artefacts import save_model
from marquee.inference.golden import difference
from marquee.inference.names import ItemNames, Unknown
from marquee.inference.recommender import RecommendPredictor
from marquee.inference.titles import TitleIndex
from marquee.models.neural.two_tower import TwoTower
from marquee.serving.answering import answer
from marquee.serving.batcher import Batcher
from marquee.serving.refusals import Refusal, refusal_of
from marquee.serving.shadow import overlap

# The queue -----------------------------------------------------------------------------------------------------------


class Model:
    """Answers with what it is asked, tells of its batches, and works only while it may."""

    def __init__(self):
        self.batches = []
        self.may = threading.Event()
        self.may.set()
        self.began = threading.Event()

    def answer(self, kind, questions):
        self.began.set()
        assert self.may.wait(10)
        self.batches.append((kind, list(questions)))
        return [ValueError(question) if question == "bad" else question for question in questions]


@pytest.fixture
def batcher():
    model, made = Model(), []

    def make(rows=64, wait=0.0, queue=100, timeout=10.0, expected=lambda: 0):
        made.append(Batcher(model.answer, expected, rows, wait, queue, timeout))
        return model, made[-1]

    yield make
    model.may.set()
    for one in made:
        one.stop()


async def blocked(model, batcher):
    """A job that keeps the model at work until it may go on."""
    model.may.clear()
    first = asyncio.create_task(batcher.ask("a", "first"))
    while not model.began.is_set():
        await asyncio.sleep(0.001)
    return first


def test_what_waits_is_answered_together_kinds_apart_and_no_more_rows_than_allowed(batcher):
    async def ask():
        model, queue = batcher(rows=3)
        first = await blocked(model, queue)
        others = [asyncio.create_task(queue.ask(kind, number, rows)) for number, (kind, rows) in
                  enumerate([("a", 1), ("b", 1), ("a", 2), ("a", 1), ("b", 9)])]  # fmt: skip
        await asyncio.sleep(0.01)
        assert len(queue) == 5
        model.may.set()
        assert await asyncio.gather(first, *others) == ["first", 0, 1, 2, 3, 4]
        return model.batches

    assert asyncio.run(ask()) == [
        ("a", ["first"]), ("a", [0, 2]), ("b", [1]), ("a", [3]), ("b", [4]),
    ]  # fmt: skip


def test_a_full_queue_and_a_late_answer_are_refused_and_a_late_job_is_not_worked_on(batcher):
    async def ask():
        model, queue = batcher(queue=2, timeout=0.2)
        first = await blocked(model, queue)
        others = [asyncio.create_task(queue.ask("a", number)) for number in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as busy:
            await queue.ask("a", "too many")
        assert (busy.value.status, busy.value.headers) == (429, {"Retry-After": "1"})
        late = await asyncio.gather(first, *others, return_exceptions=True)
        assert [one.status for one in late] == [503] * 3 and "0.2 seconds" in str(late[0])
        model.may.set()
        assert await queue.ask("a", "afterwards") == "afterwards"
        return model.batches

    assert asyncio.run(ask()) == [("a", ["first"]), ("a", ["afterwards"])]


def test_only_a_request_that_others_are_on_their_way_beside_waits_for_them(batcher):
    async def ask():
        model, queue = batcher(wait=5.0, expected=lambda: 3)
        started = time.monotonic()
        tasks = [asyncio.create_task(queue.ask("a", number)) for number in range(2)]
        await asyncio.sleep(0.05)
        assert model.batches == []  # the third is on its way
        assert await asyncio.gather(*tasks, queue.ask("a", 2)) == [0, 1, 2]
        model, alone = batcher(wait=5.0, expected=lambda: 1)
        assert await alone.ask("a", "alone") == "alone"
        assert time.monotonic() - started < 5
        return model.batches

    assert asyncio.run(ask()) == [("a", [0, 1, 2]), ("a", ["alone"])]


def test_an_error_goes_to_who_asked_for_it_and_the_thread_goes_on(batcher):
    async def ask():
        _, queue = batcher()
        found = await asyncio.gather(*(queue.ask("a", name) for name in ("good", "bad", "too")), return_exceptions=True)
        assert found[0] == "good" and isinstance(found[1], ValueError) and found[2] == "too"
        assert refusal_of(found[1]).status == 500 and "bug" in str(refusal_of(found[1]))

    asyncio.run(ask())


def test_what_waits_when_the_service_stops_is_answered_and_nothing_more_is_taken(batcher):
    async def ask():
        model, queue = batcher()
        first = await blocked(model, queue)
        second = asyncio.create_task(queue.ask("a", "second"))
        await asyncio.sleep(0.01)
        stopping = asyncio.create_task(asyncio.to_thread(queue.stop))
        await asyncio.sleep(0.01)
        model.may.set()
        await stopping
        assert await asyncio.gather(first, second) == ["first", "second"]
        with pytest.raises(Refusal, match="being stopped"):
            await queue.ask("a", "third")

    asyncio.run(ask())


def test_one_question_that_fails_costs_the_others_nothing():
    class Fails:
        """Labels texts one by one, and all of them badly when `x` is among them."""

        def predict(self, inputs):
            if "x" in inputs:
                raise ConfigError("x is no text")
            return pd.DataFrame({"label": inputs, "p(a)": [0.5] * len(inputs)})

    class Run:
        predictor, takes = Fails(), "text"

    found = answer(Run(), "predict", [{"inputs": [text], "explain": False} for text in ("one", "x", "two")])
    assert [found[0][0]["label"], found[2][0]["label"]] == ["one", "two"]
    assert isinstance(found[1], ConfigError) and refusal_of(found[1]).status == 400


# Somebody new, known by features -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """The predictor of two towers that read age and tastes of users; initialised, not trained."""
    folder = tmp_path_factory.mktemp("towers")
    random = np.random.default_rng(0)
    rows = [(user, item) for user in range(6) for item in random.choice(9, 5, replace=False)]
    pd.DataFrame(rows, columns=["user", "item"]).to_csv(folder / "plays.csv", index=False)
    about = {"user": range(6), "age": [20, 31, 44, 52, 18, 70], "town": list("abcabc"),
             "tastes": ["x|y", "y", "", "x", "z|x", "y|z"]}  # fmt: skip
    pd.DataFrame(about).to_csv(folder / "users.csv", index=False)
    table = InteractionTable(
        path="plays.csv", columns={"user": "user", "item": "item"}, users_path="users.csv",
        user_features={"age": "dense", "town": "categorical", "tastes": "multi_hot"},
    )  # fmt: skip
    table.setup(Ratio(seed=1), Paths(folder, folder / "cache"))
    torch.manual_seed(0)
    model = TwoTower(table.spec, view=Pairs(batch_size=4), dim=4, layers=[4])
    model.prepare(table)
    view = {"_target_": "marquee.data.interactions.views.Pairs", "batch_size": 4}
    node = {"_target_": "marquee.models.neural.two_tower.TwoTower", "view": view, "dim": 4, "layers": [4]}
    save_model(folder / "inference", node, model, table, RecommendPredictor)
    return RecommendPredictor(folder / "inference")


def test_somebody_new_is_scored_as_a_user_with_the_same_features_of_whom_no_id_is_known(towers):
    about = {"age": 44, "town": "c", "tastes": ["x", "z"]}
    (ranking,) = asking.answer(towers, [asking.resolve(towers, features=about, k=9)])
    model = towers.model
    encoded = towers.features["user"].encode(pd.DataFrame([{**about, "tastes": "x|z"}]))
    with torch.no_grad():
        for place, column in enumerate(model.user.columns.columns):  # the row of user 0 becomes that person's
            values = torch.from_numpy(encoded[column.name])
            values = values / values.sum() if column.kind == "multi_hot" else values
            getattr(model.user.columns, f"column{place}")[0] = values[0]
        model.user.known[0] = False
        scores = model.score(torch.tensor([0]), asking._histories(np.zeros(0), np.zeros(2), None))[0].numpy()
    assert ranking.items.tolist() == np.argsort(-scores, kind="stable").tolist()
    assert ranking.scores == pytest.approx(np.sort(scores)[::-1], rel=1e-5)


def test_known_and_new_users_are_answered_together_as_alone(towers):
    asked = [
        asking.resolve(towers, user=3, k=4),
        asking.resolve(towers, features={"age": 20}, history=[1, 2], k=9),
        asking.resolve(towers, features={"town": "a"}, k=2, exclude=[0, 1]),
        asking.resolve(towers, user=5, k=3, candidates=[1, 4, 7], filter_seen=False),
    ]
    together = asking.answer(towers, asked)
    for one, ranking in zip(asked, together, strict=True):
        (alone,) = asking.answer(towers, [one])
        assert alone.items.tolist() == ranking.items.tolist()
        assert alone.scores == pytest.approx(ranking.scores, rel=1e-5)
    assert not {1, 2} & set(together[1].items.tolist()) and not {0, 1} & set(together[2].items.tolist())
    assert set(together[3].items.tolist()) == {1, 4, 7}


def test_features_that_the_model_does_not_read_are_refused(towers):
    with pytest.raises(ConfigError, match=r"features\.shoe: no such column\.\n  allowed: age, town, tastes"):
        asking.resolve(towers, features={"shoe": 44})
    with pytest.raises(ConfigError, match="a dense feature holds numbers"):
        asking.resolve(towers, features={"age": "old"})
    for value in (float("inf"), float("nan"), ["a", float("-inf")]):
        with pytest.raises(ConfigError, match=r"features\.tastes: -?(inf|nan)\n  allowed: finite numbers"):
            asking.resolve(towers, features={"tastes": value})
    with pytest.raises(ConfigError, match=r"features\.town has half a character"):
        asking.resolve(towers, features={"town": "\ud800"})
    with pytest.raises(ConfigError, match="It reads features of users: give them"):
        asking.resolve(towers, history=[1])
    assert towers.model.user._guests is None


# Golden requests and the shadow --------------------------------------------------------------------------------------


def test_numbers_may_differ_by_rounding_and_texts_not_at_all():
    then = {"p(a)": [0.2, 0.8], "label": ["b", "b"]}
    assert difference(then, {"p(a)": [0.2001, 0.8], "label": ["b", "b"]}, 1e-3) is None
    assert "p(a) is 0.21" in difference(then, {"p(a)": [0.21, 0.8], "label": ["b", "b"]}, 1e-3)
    assert "label is 'a'" in difference(then, {"p(a)": [0.2, 0.8], "label": ["a", "b"]}, 1e-3)
    assert "2 then" in difference(then, {"p(a)": [0.2], "label": ["b"]}, 1e-3)
    assert "columns" in difference(then, {"p(a)": [0.2, 0.8]}, 1e-3)
    assert "nan" in difference(then, {"p(a)": [float("nan"), 0.8], "label": ["b", "b"]}, 1e-3)


def test_items_change_places_only_where_their_scores_are_as_good():
    then = {"item_id": [1, 2, 3], "score": [1.0, 0.9, 0.5]}
    assert difference(then, {"item_id": [1, 2, 4], "score": [1.0, 0.9, 0.5002]}, 1e-3) is None
    assert difference(then, {"item_id": [2, 1, 3], "score": [1.0, 0.9, 0.5]}, 1e-3) == (
        "item 1 has the score 0.9, and 1 then"
    )
    assert "item 2" in difference(then, {"item_id": [1, 4, 3], "score": [1.0, 0.9, 0.5]}, 1e-3)
    assert "2 items" in difference(then, {"item_id": [1, 2], "score": [1.0, 0.9]}, 1e-3)


def test_overlap_is_the_share_of_what_is_served():
    lists = [[{"item_id": item} for item in items] for items in ([1, 2, 3, 4], [3, 4, 5], [])]
    assert overlap(lists[0], lists[1]) == 0.5 and overlap(lists[1], lists[0]) == pytest.approx(2 / 3)
    assert overlap(lists[2], lists[0]) == 1.0


# Titles --------------------------------------------------------------------------------------------------------------

TITLES = [
    "Heat (1995)",
    "The Heat (2013)",
    "Dead Heat",
    "heath",
    "Up",
    "A Cup",
    "Été",
    "北京",
    "北京人",
    "it's",
    "",
    "up",
]


def test_a_search_finds_what_begins_with_a_text_then_what_holds_it_then_what_is_spelt_like_it():
    names = ItemNames(np.arange(len(TITLES)), TITLES)
    found = lambda text, n=10: [TITLES[row] for row in names.search(text, n)]  # noqa: E731
    assert found("heat") == ["Heat (1995)", "heath", "The Heat (2013)", "Dead Heat"]
    assert found("heat", 2) == ["Heat (1995)", "heath"]
    assert found("UP") == ["Up", "up", "A Cup"] and found("京") == ["北京", "北京人"] and found("été") == ["Été"]
    assert found("haet (1995)")[0] == "Heat (1995)"
    assert names.search("\0") == names.search("p\0") == []  # which stands between titles where they are joined
    assert found("") == found("   ") == [] and found("zzzzzz") == []


def test_whatever_the_part_a_search_holds_what_a_scan_finds():
    random = np.random.default_rng(2)
    titles = ["".join(random.choice(list("abc d"), random.integers(0, 9))) for _ in range(300)]
    index = TitleIndex(titles)
    for length in range(1, 6):
        for _ in range(30):
            part = "".join(random.choice(list("abcd "), length))
            holding = [row for row, title in enumerate(titles) if part in title]
            assert index.close(part, 500)[: len(holding)] == holding or not holding


def test_an_unknown_name_is_refused_with_suggestions_and_a_long_one_is_cut():
    names = ItemNames(np.arange(len(TITLES)), TITLES)
    error = names.refuse("Haet (1995)")
    assert isinstance(error, Unknown) and error.suggestions[0] == "Heat (1995)"
    assert SequenceMatcher(None, "heat (1995)", "haet (1995)").ratio() > 0.9
    assert len(str(names.refuse("x" * 100_000))) < 500
    assert names.refuse("\ud800\ud800\ud800").suggestions == []
