"""Which stored run a job takes."""

from itertools import permutations

import pytest

from marquee.sweeps.plan import best_run

ORDER = ["finished", "running", "pruned", "interrupted", "failed"]


@pytest.mark.parametrize("better, worse", [(a, b) for i, a in enumerate(ORDER) for b in ORDER[i + 1 :]])
def test_a_finished_run_is_taken_before_one_under_way_and_that_before_what_is_left(better, worse):
    """Whatever is the newer: `found` is in the order of time."""
    for found in permutations([{"status": better}, {"status": worse}]):
        assert best_run(found)["status"] == better


def test_of_runs_that_ended_alike_the_newest_is_taken():
    assert best_run([{"status": "failed", "id": 1}, {"status": "failed", "id": 2}])["id"] == 2


def test_a_run_that_cannot_be_read_is_none():
    assert best_run([{"status": "unreadable"}]) is None
