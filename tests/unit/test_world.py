"""The embedded worlds: the same bytes for the same seed, and a ceiling that is really the best possible."""

import hashlib

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.interactions.cold import NewItems
from marquee.data.interactions.splits import LeaveOneOut, Ratio
from marquee.data.world import catalogue, posters, reviews
from marquee.data.world.datasets import WorldPosters, WorldRatings, WorldReviews


def digest(*arrays) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def test_seed_1_is_always_the_same_world():
    world = catalogue.generate(1)
    golden = {"ratings": "8cfd3fc8767ea15e", "reviews": "bbd374425a26e631", "posters": "eca31300646d811f"}
    assert {
        "ratings": digest(world.users, world.items, world.timestamps, world.stars),
        "reviews": hashlib.sha256("\n".join(reviews.write(1).texts).encode()).hexdigest()[:16],
        "posters": digest(posters.draw(1).images),
    } == golden


def test_another_seed_is_another_world():
    assert digest(catalogue.generate(2).items) != digest(catalogue.generate(1).items)


def test_nobody_watches_a_film_twice_and_time_goes_forward():
    world = catalogue.generate(1)
    assert len(np.unique(world.users * catalogue.N_ITEMS + world.items)) == len(world.users)
    same = world.users[1:] == world.users[:-1]
    assert (np.diff(world.timestamps)[same] > 0).all()
    assert (np.diff(world.steps)[same] == 1).all()


def test_choices_follow_the_stated_probabilities():
    """The mean log-probability of what was chosen equals the mean negative entropy of the choice rule."""
    world = catalogue.generate(1)
    events = np.flatnonzero(world.steps > 0)[::7]
    utilities = world.utilities(
        world.users[events], world.steps[events] / world.lengths[events], world.items[events - 1]
    )
    for row, event in enumerate(events):
        utilities[row, world.items[event - world.steps[event] : event]] = -np.inf
    logs = torch.from_numpy(utilities).log_softmax(1)
    chosen = logs[torch.arange(len(events)), torch.from_numpy(world.items[events])]
    expected = torch.where(logs.isfinite(), logs.exp() * logs, 0.0).sum(1)
    error = float((chosen - expected).std()) / len(events) ** 0.5
    assert float(chosen.mean()) == pytest.approx(float(expected.mean()), abs=4 * error)


def test_the_review_oracle_is_calibrated():
    written = reviews.write(1)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (written.posterior >= low) & (written.posterior < low + 0.2)
        spread = 4 * (0.25 / inside.sum()) ** 0.5
        assert written.favourable[inside].mean() == pytest.approx(written.posterior[inside].mean(), abs=spread)


def test_the_poster_oracle_is_calibrated():
    drawn = posters.draw(1)
    posterior = posters.posterior(1)
    best = posterior.max(axis=1)
    right = posterior.argmax(axis=1) == drawn.genres
    assert right.mean() == pytest.approx(best.mean(), abs=4 * (0.25 / len(best)) ** 0.5)
    np.testing.assert_allclose(posterior.sum(axis=1), 1)


def test_the_three_data_sets_share_their_ids(tmp_path, world_cache):
    paths = Paths(tmp_path, world_cache)
    ratings, texts, images = WorldRatings(), WorldReviews(), WorldPosters()
    ratings.setup(LeaveOneOut(), paths)
    texts.setup(Holdout(), paths)
    images.setup(Holdout(), paths)
    assert set(texts.users) <= set(ratings.store.user_ids.tolist())
    pairs = set(zip(ratings.store.user_ids[ratings.store.users], ratings.store.item_ids[ratings.store.items]))
    assert set(zip(texts.users, texts.items)) <= pairs
    genres = dict(zip(ratings.items["item_id"], ratings.items["genres"]))
    for row in (0, 999, 3199):
        assert genres[images.items[row]].startswith(images.spec.labels[images.labels[row]])


def test_only_leave_one_out_and_new_items_have_a_ceiling_for_ratings(tmp_path, world_cache):
    data = WorldRatings()
    data.setup(LeaveOneOut(), Paths(tmp_path, world_cache))
    assert data.oracle() is not None
    data.setup(Ratio(), Paths(tmp_path, world_cache))
    assert data.oracle() is None
    data.setup(NewItems(), Paths(tmp_path, world_cache))
    assert data.oracle() is not None


@pytest.mark.parametrize("data, split", [
    (WorldRatings, LeaveOneOut()), (WorldReviews, Holdout()), (WorldPosters, Holdout()),
], ids=["ratings", "reviews", "posters"])  # fmt: skip
def test_a_job_that_finds_its_data_prepared_makes_no_world_anew(data, split, world_cache, monkeypatch):
    """Simulating what everybody watches, or drawing all posters, takes half a second and more of every job."""
    paths = Paths(data=world_cache, cache=world_cache, output=world_cache)
    first = data()
    first.setup(split, paths)
    first.oracle()

    def made(*_):
        raise AssertionError("made anew")

    for module, name in ((catalogue, "_watch"), (reviews, "write"), (posters, "draw")):
        monkeypatch.setattr(module, name, made)
    catalogue.generate.cache_clear()
    again = data()
    again.setup(split, paths)
    assert again.oracle() is not None


def new_films(world_cache, tmp_path):
    data = WorldRatings()
    data.setup(NewItems(), Paths(tmp_path, world_cache))
    return data, data.oracle()


def test_the_oracle_of_new_films_is_bayes_rule_where_one_step_is_hidden(world_cache, tmp_path):
    """Second implementation: the likelihood of a whole life by `World.utilities`, for each film that is new."""
    data, oracle = new_films(world_cache, tmp_path)
    store, world = data.store, catalogue.before_watching(1)
    known = np.isin(store.pairs(), data.history("test").pairs())
    hidden = np.bincount(store.users[~known], minlength=store.n_users)
    alone = [row for row in np.flatnonzero(~known) if hidden[store.users[row]] == 1]
    alone = [row for row in alone if store.offsets[store.users[row]] < row < store.offsets[store.users[row] + 1] - 1]
    assert len(alone) >= 5
    for row in alone[:5]:
        user = store.users[row]
        timeline = store.items[store.offsets[user] : store.offsets[user + 1]]
        person, place = np.array([store.user_ids[user] - 1]), row - store.offsets[user]

        def likelihood(film, timeline=timeline, person=person, place=place):
            """Of all that this person watched, had the hidden film been this one."""
            films = np.where(np.arange(len(timeline)) == place, film, timeline)
            total = 0.0
            for step in range(place, len(films)):
                previous = np.array([films[step - 1]])
                chances = world.utilities(person, np.array([step / len(films)]), previous)[0]
                chances[films[:step]] = -np.inf
                total += chances[films[step]] - np.log(np.exp(chances).sum())
            return total

        found = np.exp([likelihood(film) for film in oracle.new])
        np.testing.assert_allclose(oracle.watched[user], found / found.sum(), rtol=1e-3, atol=1e-9)


def test_the_oracle_of_new_films_is_calibrated(world_cache, tmp_path):
    """What it holds for likely happens that often: in ten bins of its probability, within three standard errors."""
    data, oracle = new_films(world_cache, tmp_path)
    test = data.parts["test"]
    watched = np.zeros((data.store.n_users, data.store.n_items))
    watched[test.users, test.items] = 1
    users = np.unique(test.users)
    predicted, happened = oracle.watched[users].ravel(), watched[np.ix_(users, oracle.new)].ravel()
    for low, high in zip(np.linspace(0, 0.9, 10), np.linspace(0.1, 1, 10)):
        inside = (predicted > low) & (predicted <= high)
        spread = (predicted[inside] * (1 - predicted[inside])).sum() ** 0.5
        assert abs(predicted[inside].sum() - happened[inside].sum()) < 3 * spread + 1
