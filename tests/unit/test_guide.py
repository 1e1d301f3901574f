"""The guide: the best questioner against brute force, what a catalogue finds, and a conversation with its claims."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.text.tokenizer import Tokenizer
from marquee.data.world import catalogue as worlds
from marquee.data.world.customers import SPREAD, BestQuestioner, Customers, Simulated, WorldGuide
from marquee.errors import ConfigError, DataError
from marquee.inference.catalogue import Catalogue, hours, read_catalogue
from marquee.inference.conversation import decade_in
from marquee.inference.guide import INTENTS, Guide
from marquee.inference.tagger import SlotPredictor
from marquee.models.guide.choices import Choices
from marquee.tasks.guide import Guide as GuideTask

# The best questioner -------------------------------------------------------------------------------------------------


def small_world(questions=3, films=7):
    rng = np.random.default_rng(3)
    vectors = rng.uniform(0, 1, (films, questions))
    return SimpleNamespace(vectors=vectors, appeal=rng.standard_normal(films) * 0.3)


@pytest.mark.parametrize("price", [0.0, 0.15, 0.6, 3.0])
def test_the_best_questioner_is_that_of_a_search_through_all_plans(price):
    """A second implementation: plain recursion over what is known, without tables."""
    world = small_world()
    expected = SPREAD * np.sqrt(2 / np.pi)

    def best(known):
        utilities = worlds.TASTE * world.vectors @ (np.array(known) * expected) + world.appeal
        plans = [(utilities.max(), -1)]
        for question in range(3):
            if known[question] == 0:
                after = [best([*known[:question], said, *known[question + 1 :]])[0] for said in (1, -1)]
                plans.append((sum(after) / 2 - price, question))
        return max(plans, key=lambda plan: round(plan[0], 9))

    questioner = BestQuestioner(world, price)
    states = np.stack(np.unravel_index(np.arange(27), (3, 3, 3)), axis=1)
    for number, state in enumerate(states):
        known = [[0, 1, -1][digit] for digit in state]
        value, question = best(known)
        asks, _, values = questioner.policy
        assert float(values[number]) == pytest.approx(value)
        asked, film = questioner.decide(torch.tensor([known], dtype=torch.float32))
        assert int(asked) == int(asks[number])
        if question == -1:
            assert int(asked) == -1 or abs(best(known)[0] - value) < 1e-9
        utilities = worlds.TASTE * world.vectors @ (np.array(known) * expected) + world.appeal
        assert int(film) == utilities.argmax()


def test_the_best_questioner_plans_with_the_questions_that_it_may_ask():
    """With one question: the best of all first questions, each followed by the best film."""
    world, expected = small_world(), SPREAD * np.sqrt(2 / np.pi)
    gains = []
    for question in range(3):
        after = [
            (worlds.TASTE * world.vectors[:, question] * said + world.appeal).max() for said in (expected, -expected)
        ]
        gains.append(np.mean(after) - 0.01)
    asks, films, values = BestQuestioner(world, 0.01, most_turns=1).policy
    assert float(values[0]) == pytest.approx(max(*gains, world.appeal.max()))
    assert (asks[[1, 3, 9]] == -1).all() and int(asks[0]) == int(np.argmax(gains))
    assert (BestQuestioner(world, 0.01, most_turns=0).policy[0] == -1).all()
    whole, nine = (BestQuestioner(world, 0.01, most).policy[2] for most in (None, 9))
    assert torch.equal(whole, nine)


@pytest.fixture(scope="module")
def customers():
    data = WorldGuide(customers=2000)
    data.setup(Simulated(), Paths(None, None))
    return data


def test_nobody_does_better_than_the_best_questioner_and_it_knows_what_it_will_reach(customers):
    model = Choices(customers.spec, view=Customers())
    model.prepare(customers)
    task = GuideTask(model, customers, price=0.2)
    oracle, units = task.evaluate(task.oracle(), "test")
    for scorer in task.baselines().values():
        assert task.evaluate(scorer, "test")[0]["cost"] > oracle["cost"]
    # Its expected utility, price paid, is what customers get of it on average, within three standard errors.
    rows = units["customer"].to_numpy()
    got = customers.utilities[rows, units["recommended"].to_numpy()] - 0.2 * units["turns"].to_numpy()
    promised = float(task.oracle().policy[2][0])
    assert abs(got.mean() - promised) < 3 * got.std() / np.sqrt(len(got))


def test_regret_turns_and_false_claims_by_hand(customers):
    task = GuideTask(Choices(customers.spec, view=Customers()), customers, price=0.5, most_turns=3)

    class Stubborn:
        """Asks question 1 and then always names film 4."""

        def decide(self, answers):
            return torch.where(answers[:, 1] == 0, 1, -1), torch.full((len(answers),), 4)

    metrics, units = task.evaluate(Stubborn(), "test")
    rows = customers.parts["test"]
    regret = customers.utilities[rows].max(1) - customers.utilities[rows, 4]
    assert metrics["turns"] == 1 and metrics["regret"] == pytest.approx(regret.mean(), rel=1e-6)
    assert metrics["cost"] == pytest.approx(regret.mean() + 0.5, rel=1e-6)
    assert metrics["false_claims"] == pytest.approx((customers.tastes[rows, customers.genres[4]] <= 0).mean())
    assert units["customer"].tolist() == rows.tolist()


def test_a_question_is_asked_only_where_its_answer_may_change_the_choice():
    """By hand: item 0 is worth 1 + the answer to question 0, item 1 is worth 1.5; question 1 tells nothing."""

    class Known(Choices):
        def values(self, answers):
            return torch.stack([1 + answers[:, 0], torch.full((len(answers),), 1.5)], dim=1)

    model = Known(SimpleNamespace(questions=("a", "b"), n_items=2), view=Customers())
    for price, question in ((0.0, 0), (0.2, 0), (0.3, -1)):  # yes: 2, no: 1.5; the mean is 0.25 above 1.5
        model.price = price
        asked, item = model.decide(torch.zeros(1, 2))
        assert (int(asked), int(item)) == (question, 1)
    model.price = 0.0
    assert int(model.decide(torch.tensor([[1.0, 0.0]]))[0]) == -1


# The catalogue -------------------------------------------------------------------------------------------------------

FILMS = pd.DataFrame(
    {"item_id": [11, 12, 13, 14, 15],
     "title": ["Heat (1995)", "Toy Story (1995)", "The Silent Harbour (1961)", "The Silent Garden (1983)",
               "Alien (1979)"],
     "genres": ["Crime|Thriller", "Animation|Comedy", "Drama", "Comedy|Romance", "Horror|Sci-Fi"],
     "year": [1995, 1995, 1961, 1983, 1979]}
)  # fmt: skip


def test_titles_are_found_as_people_say_them():
    films = Catalogue(FILMS, "films")
    assert films.find("heat")[0] == 0 and films.find("TOY STORY (1995)")[0] == 1
    assert films.find("silent harbour")[0] == 2
    row, near = films.find("the silent")
    assert row is None and near[:2] == ["The Silent Harbour (1961)", "The Silent Garden (1983)"]
    assert films.find("casablanca") == (None, [])
    assert films.of_kind("comedy").tolist() == [False, True, False, True, False]
    assert films.years().tolist() == FILMS["year"].tolist()
    assert np.argsort(films.weights).tolist() == [1, 3, 4, 0, 2]


def test_a_title_is_told_from_its_namesakes_and_from_others_that_share_a_word():
    titles = ["Sabrina (1954)", "Sabrina (1995)", "Matrix, The (1999)", "The Paper Harbour (2004)", None, ""]
    films = Catalogue(pd.DataFrame({"title": titles}), "films")
    assert [films.find(name)[0] for name in ("sabrina (1995)", "Sabrina", "the matrix", "(1995)", "")] == [
        1, 0, 2, None, None,
    ]  # fmt: skip
    assert films.find("the silent harbour") == (None, ["The Paper Harbour (2004)", "Matrix, The (1999)"])
    assert films.mentioned("I loved Sabrina (1995), and The Matrix!") == [
        (1, ("sabrina", "1995")), (2, ("the", "matrix")),
    ]  # fmt: skip
    walls = Catalogue(pd.DataFrame({"名称": ["长城博物馆", "八达岭长城", "故宫"]}), "sights")
    assert walls.find("长城")[0] is None and walls.mentioned("我喜欢八达岭长城") == [(1, tuple("八达岭长城"))]
    assert films.named.tolist() == [True] * 4 + [False] * 2
    with pytest.raises(DataError, match="films is no catalogue: its column title is empty"):
        Catalogue(pd.DataFrame({"title": ["", None]}), "films")


def test_ratings_that_are_no_numbers_count_as_none():
    sights = pd.DataFrame({"名称": ["故宫", "天坛", ""], "评分": ["暂无", "4.5", "5"]})
    asked, offered, why = talk("recommend", "recommend", "explain", films=sights)
    assert offered.claims[0].title == "天坛" and why.claims[0].value == "4.5"


@pytest.mark.parametrize(
    ("said", "meant"),
    [("a film of the 1990s", "1990s"), ("the 90s", "1990s"), ("the Nineties", "1990s"), ("the 00s", "2000s"),
     ("the \u00b20s", None), ("1990", None)],
)  # fmt: skip
def test_decades_are_read_as_people_write_them(said, meant):
    assert decade_in(said) == meant


def test_sights_are_read_as_they_were_published_and_weigh_what_they_take(tmp_path):
    rows = [["故宫", {"名称": "故宫", "游玩时间": "3小时 - 5小时", "评分": 4.7, "周边景点": ["天坛"]}],
            ["天坛公园", {"名称": "天坛公园", "游玩时间": "1天", "评分": None}]]  # fmt: skip
    path = tmp_path / "sights.json"
    path.write_text(json.dumps(rows))
    sights = read_catalogue(path)
    assert sights.find("天坛")[0] == 1 and sights.weights.tolist() == [4.0, 8.0]
    assert sights.fact(0, "评分") == "4.7" and sights.fact(1, "评分") is None and "周边景点" not in sights.facts
    assert hours("0.5小时 - 1小时") == 0.75 and hours("很久") == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [("[1]", "holds no list of rows"), ("{", "cannot be read"), ('[{"a": 1}]', r"needs a column title .* seen: a")],
)
def test_files_that_are_no_catalogue_are_refused(tmp_path, content, told):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(DataError, match=told):
        read_catalogue(path)
    with pytest.raises(DataError, match="does not exist"):
        read_catalogue(tmp_path / "y.csv")
    path = path.rename(tmp_path / "x.tsv")
    with pytest.raises(DataError, match="takes a .csv or a .json file"):
        read_catalogue(path)


# A conversation ------------------------------------------------------------------------------------------------------


class Reads(SlotPredictor):
    """Understands what stands before the colon as the intent, and slots as name=words."""

    labels = list(INTENTS)

    def __init__(self):
        self.tokenizer = Tokenizer(kind="space")

    def knows(self, word):
        return word.lower() not in ("titanic", "alien", "heat")

    def read(self, text):
        intent, _, rest = text.partition(" : ")
        slots = [tuple(part.split("=")) for part in rest.split(" / ") if "=" in part]
        return intent, 0.3 if intent == "unsure" else 0.9, slots


def talk(*messages, films=FILMS, **options):
    guide = Guide(Reads(), Catalogue(films, "films"), **options)
    return [guide.answer(message) for message in messages]


def test_the_guide_asks_when_it_knows_nothing_and_then_offers_what_was_asked_for():
    asked, offered, again, why = talk("recommend", "recommend : kind=comedy", "reject", "explain")
    assert asked.reply.startswith("What are you in the mood for: Comedy") and asked.claims == ()
    assert "How about Toy Story (1995)?" in offered.reply
    assert "not Toy Story (1995)" in again.reply and "How about The Silent Garden (1983)?" in again.reply
    assert "of the kind you asked for: Comedy|Romance" in why.reply


def test_every_fact_is_in_the_row_that_it_cites():
    turns = talk(
        "like : title=heat", "details", "recommend : kind=comedy / decade=1980s", "details : title=alien", "explain"
    )
    claims = [claim for turn in turns for claim in turn.claims]
    assert len(claims) > 8
    for claim in claims:
        row = FILMS.set_index("item_id").loc[claim.row]
        assert claim.title == row["title"] and claim.value == str(row[claim.column])
        assert claim.value in "".join(turn.reply for turn in turns)


def test_lighter_and_heavier_go_from_what_was_offered_and_say_so_when_nothing_is_left():
    _, lighter, heavier, _, none = talk("recommend : kind=crime", "lighter", "heavier", "lighter", "lighter")
    assert "How about Toy Story (1995)? It is lighter than Heat (1995)." in lighter.reply
    assert "more demanding than Toy Story" in heavier.reply
    assert "nothing left that fits" in none.reply or "How about" in none.reply


def test_what_is_not_in_the_catalogue_is_said_and_near_titles_are_offered():
    unknown, near, kind, decade = talk(
        "like : title=casablanca", "like : title=the silent", "recommend : kind=opera", "recommend : decade=1920s"
    )
    assert unknown.reply == "I do not know casablanca." and unknown.claims == ()
    assert "Did you mean The Silent Harbour (1961), The Silent Garden (1983)" in near.reply
    assert "nothing of the kind opera" in kind.reply
    assert "nothing left that fits (1920s)" in decade.reply


def test_titles_that_the_reader_missed_are_found_and_unknown_ones_are_not_taken_for_others():
    liked, partly, strange, refused, name = talk(
        "like : heat ( 1995 )", "like : toy story / title=story", "like : titanic", "reject : title=casablanca",
        "reject : not Titanic",
    )  # fmt: skip
    assert liked.slots == (("title", "Heat (1995)"),) and "You liked Heat (1995)." in liked.reply
    assert partly.slots == (("title", "Toy Story (1995)"),) and "You liked Toy Story (1995)." in partly.reply
    assert strange.reply == "I do not know titanic." and refused.reply == "I do not know casablanca."
    assert name.reply == "I do not know Titanic."


def test_no_year_is_no_decade():
    dated = FILMS.assign(year=[1995, None, 1961, 1983, 1979])
    _, offered = talk("greet", "recommend : decade=nineties", films=dated)
    assert offered.claims[1].value == "1995"


def test_a_reason_is_that_of_the_offer_even_when_the_wish_has_been_taken_back():
    _, offered, none, why = talk("greet", "recommend : kind=crime", "reject", "explain")
    assert "nothing left that fits (crime)" in none.reply
    assert why.reply == "It is of the kind you asked for: Crime|Thriller." and why.reply in offered.reply


@pytest.mark.parametrize("message", ["\udcff", "oos", "heard", "unsure", "abuse", "", "  \x00 ", "oos : " + "x" * 5000])
def test_what_it_cannot_do_and_what_it_does_not_hear_is_answered_without_a_claim(message):
    (turn,) = talk(message)
    assert turn.reply and turn.claims == () and len(turn.said) <= 1000 and "x" * 20 not in turn.reply


def test_the_same_messages_get_the_same_replies():
    messages = ["greet", "like : title=heat", "lighter", "reject", "explain", "thanks", "recommend"]
    assert [turn.to_json() for turn in talk(*messages)] == [turn.to_json() for turn in talk(*messages)]


def test_a_catalogue_without_kinds_or_weights_says_what_it_cannot_say():
    plain = FILMS[["item_id", "title"]]
    turns = talk("recommend", "like : title=heat", "lighter", "details", "recommend : kind=alien", films=plain)
    assert turns[0].reply == "Name something that you liked, or a word of its title."
    assert "does not say how demanding" in turns[2].reply and "no more of Toy Story" in turns[3].reply
    assert "How about Alien (1979)?" in turns[4].reply


def test_a_run_that_does_not_read_requests_is_refused():
    reader = Reads()
    reader.labels = ["recommend"]
    with pytest.raises(ConfigError, match=r"lacks abuse, .*\n  fix: marquee train data=world_requests"):
        Guide(reader, Catalogue(FILMS, "films"))
    with pytest.raises(ConfigError, match="--moderator: this run has none of the classes hate, offensive"):
        Guide(Reads(), Catalogue(FILMS, "films"), moderator=SimpleNamespace(labels=["good", "bad"]))
