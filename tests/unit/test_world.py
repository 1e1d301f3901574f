"""The embedded worlds: the same bytes for the same seed, and a ceiling that is really the best possible."""

import hashlib

import numpy as np
import pytest
import torch

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
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


def test_only_leave_one_out_has_a_ceiling_for_ratings(tmp_path, world_cache):
    data = WorldRatings()
    data.setup(LeaveOneOut(), Paths(tmp_path, world_cache))
    assert data.oracle() is not None
    data.setup(Ratio(), Paths(tmp_path, world_cache))
    assert data.oracle() is None


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
