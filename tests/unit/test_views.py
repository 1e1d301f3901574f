"""Batches of interactions: complete, unseen negatives, shifted targets, and the same for the same (seed, epoch)."""

import numpy as np
import pytest
import torch

from marquee.data.interactions.histories import EVALUATION_CELLS
from marquee.data.interactions.seen import Seen
from marquee.data.interactions.views import MaskedSequences, Matrix, Pairs, Rows, Sequences
from marquee.models.baseline.popular import Popular
from marquee.seeding import torch_generator
from marquee.tasks.recommendation import Recommendation

from . import small

DATA = small.SmallData(
    train=[[0, 1, 2, 3], [4], [2, 0], []],
    validation=[[4], [], [1], [0]],
    test=[[5], [3], [5, 4], []],
    n_items=6,
)
LARGER = small.SmallData(
    [[(7 * u + i * i) % 30 for i in range(12)] for u in range(40)], [[]] * 40, [[]] * 40, n_items=30
)


def test_pairs_visit_every_interaction_once_and_negatives_are_unseen():
    batches = list(Pairs(batch_size=3, n_negatives=2).train_batches(DATA, seed=1, epoch=0))
    assert len(batches) == Pairs(batch_size=3).steps(DATA) == 3
    pairs = sorted((int(u), int(i)) for batch in batches for u, i in zip(batch.users, batch.items))
    assert pairs == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (2, 0), (2, 2)]
    seen = {0: {0, 1, 2, 3}, 1: {4}, 2: {2, 0}}
    for batch in batches:
        for user, negatives in zip(batch.users.tolist(), batch.negatives.tolist()):
            assert not seen[user] & set(negatives)


def test_the_same_seed_and_epoch_give_the_same_batches_and_another_epoch_others():
    def flat(seed, epoch):
        return torch.cat(
            [torch.cat([b.users, b.negatives[:, 0]]) for b in Pairs(batch_size=2).train_batches(DATA, seed, epoch)]
        )

    assert torch.equal(flat(1, 0), flat(1, 0))
    assert not torch.equal(flat(1, 0), flat(1, 1))
    assert not torch.equal(flat(1, 0), flat(2, 0))


def test_order_negatives_and_masks_are_drawn_anew_in_each_epoch():
    def drawn(view, epoch, field):
        return torch.cat([getattr(batch, field).flatten() for batch in view.train_batches(LARGER, 1, epoch)]).tolist()

    pairs, sequences, rows = Pairs(batch_size=64), Sequences(batch_size=64), Rows(batch_size=64)
    for view, field in ((pairs, "items"), (pairs, "negatives"), (sequences, "items"), (rows, "users")):
        assert drawn(view, 0, field) == drawn(view, 0, field) != drawn(view, 1, field), field
        if field != "negatives":
            assert sorted(drawn(view, 0, field)) == sorted(drawn(view, 1, field)), field
    # Drawn from a stream of the epoch's own, and not only for pairs in another order.
    one, two = (np.array(drawn(pairs, epoch, "negatives")) for epoch in (0, 1))
    assert (one == two).mean() < 0.2


def test_masked_sequences_hide_the_share_asked_for_and_one_at_least():
    # 40 users with 12 items each. Of a share of next to nothing one of each row is still hidden.
    view = MaskedSequences(batch_size=64, max_length=12, masked_share=0.25)
    batches = [batch for epoch in range(8) for batch in view.train_batches(LARGER, 0, epoch)]
    assert np.mean([(batch.targets != 30).float().mean() for batch in batches]) == pytest.approx(0.25, abs=0.03)
    (batch,) = MaskedSequences(batch_size=64, max_length=12, masked_share=1e-9).train_batches(LARGER, 0, 0)
    assert (batch.targets != 30).sum(1).tolist() == [1] * 40
    assert ((batch.items == 31) == (batch.targets != 30)).all()


def test_rows_hold_users_with_a_history_and_are_shared_out_whole():
    batches = list(Rows(batch_size=2).train_batches(DATA, 0, 0))
    assert len(batches) == Rows(batch_size=2).steps(DATA) == 2
    found = {}
    for batch in batches:
        for rank in range(2):
            part = Rows().shard(batch, rank, 2)
            rows = part.histories.items.split((part.histories.offsets.diff()).tolist())
            found.update({user: row.tolist() for user, row in zip(part.users.tolist(), rows, strict=True)})
    assert found == {0: [0, 1, 2, 3], 1: [4], 2: [2, 0]}


def seen_in(data) -> Seen:
    """Made anew, by the limit that stands now."""
    train = data.parts["train"]
    return Seen(train.pairs(), train.n_users, train.n_items)


def test_the_table_of_seen_items_is_made_once_for_all_epochs(monkeypatch):
    list(Pairs().train_batches(DATA, 0, 0))
    monkeypatch.setattr(Seen, "__init__", lambda *_: pytest.fail("made anew"))
    list(Pairs().train_batches(DATA, 0, 1))


def test_bitmap_and_search_agree_on_what_was_seen(monkeypatch):
    users = torch.arange(4).repeat_interleave(6)
    items = torch.arange(6).repeat(4)
    by_table = seen_in(DATA).contains(users, items)
    monkeypatch.setattr("marquee.data.interactions.seen.BITMAP_CELLS", 0)
    by_search = seen_in(DATA).contains(users, items)
    assert torch.equal(by_table, by_search)
    assert int(by_table.sum()) == 7


def test_a_user_who_has_seen_everything_does_not_hang_the_sampler():
    data = small.SmallData([[0, 1]], [[]], [[]], n_items=2)
    drawn = data.parts["train"].seen.sample_unseen(torch.tensor([0, 0]), 3, torch_generator(0, "test"))
    assert drawn.shape == (2, 3)


@pytest.mark.parametrize("cells", [0, 10**6])
def test_negatives_of_users_who_have_seen_nearly_everything_are_unseen_and_uniform(monkeypatch, cells):
    """20 rounds of rejection leave 0.99^21 = 81 % of the draws at 396 seen items of 400."""
    monkeypatch.setattr("marquee.data.interactions.seen.BITMAP_CELLS", cells)
    unseen = [{0, 17, 200, 399}, set(range(400)) - {3}, {1, 2, 398, 399}, {250}]
    train = [[item for item in range(400) if item not in row] for row in unseen]
    seen = small.SmallData(train, [[]] * 4, [[]] * 4, n_items=400).parts["train"].seen
    users = torch.tensor([0, 1, 2, 3, 0, 2]).repeat(500)
    drawn = seen.sample_unseen(users, 2, torch_generator(0, "test"))
    assert drawn.shape == (3000, 2) and not seen.contains(users[:, None].expand(-1, 2), drawn).any()
    for user in (0, 2):
        items, counts = drawn[users == user].unique(return_counts=True)
        assert set(items.tolist()) == unseen[user]
        assert counts.tolist() == pytest.approx([500] * 4, abs=5 * (2000 * 0.25 * 0.75) ** 0.5)
    assert len(drawn[users == 1].unique()) > 350


def test_sequences_shift_by_one_with_padding_at_the_end():
    (batch,) = Sequences(batch_size=4, max_length=3).train_batches(DATA, seed=0, epoch=0)
    rows = {tuple(items): tuple(targets) for items, targets in zip(batch.items.tolist(), batch.targets.tolist())}
    # User 0 keeps its newest four items; user 2 has one step; users 1 and 3 have none. 6 is padding.
    assert rows == {(0, 1, 2): (1, 2, 3), (2, 0, 6): (0, 6, 6)}


def test_sequences_keep_the_newest_items():
    (batch,) = Sequences(batch_size=4, max_length=2).train_batches(DATA, seed=0, epoch=0)
    assert [1, 2] in batch.items.tolist()


def ranking():
    return Recommendation(Popular(DATA.spec, view=Matrix()), DATA, ks=[2], monitor="ndcg@2")


def test_evaluation_gives_every_unit_once_whatever_the_number_of_processes(monkeypatch):
    monkeypatch.setattr("marquee.tasks.recommendation.EVALUATION_CELLS", 6)  # one user a batch
    assert EVALUATION_CELLS > 6
    whole = [int(b.users) for b in ranking().evaluation_batches("test")]
    shared = [int(b.users) for rank in range(2) for b in ranking().evaluation_batches("test", rank, 2)]
    assert whole == [0, 1, 2]
    assert sorted(shared) == whole


def test_the_history_of_a_test_user_includes_validation():
    (batch,) = ranking().evaluation_batches("test")
    assert batch.histories.items.tolist() == [0, 1, 2, 3, 4, 4, 2, 0, 1]
    assert batch.histories.offsets.tolist() == [0, 5, 6, 9]
    assert batch.targets.items.tolist() == [5, 3, 5, 4]


def test_padded_histories_keep_the_newest_and_allow_none():
    items, lengths = small.histories([1, 2, 3], [], [4]).padded(2, padding=9)
    assert items.tolist() == [[2, 3], [9, 9], [4, 9]]
    assert lengths.tolist() == [2, 0, 1]


def test_histories_are_taken_in_the_order_asked_for():
    taken = small.histories([1, 2], [3], [], [4, 5, 6]).take(torch.tensor([3, 2, 0, 3]))
    assert taken.items.tolist() == [4, 5, 6, 1, 2, 4, 5, 6] and taken.offsets.tolist() == [0, 3, 3, 5, 8]


def test_a_batch_is_shared_out_among_processes_without_loss():
    (batch,) = Sequences(batch_size=4, max_length=3).train_batches(DATA, seed=0, epoch=0)
    view = Sequences(batch_size=4, max_length=3)
    parts = [view.shard(batch, rank, 2).items for rank in range(2)]
    assert sum(map(len, parts)) == len(batch.items)
    lonely = type(batch)(batch.items[:1], batch.targets[:1])
    assert all(len(view.shard(lonely, rank, 2).items) == 1 for rank in range(2))
    (matrix,) = Matrix().train_batches(DATA, 0, 0)
    assert Matrix().shard(matrix, 1, 2) is matrix
    assert np.array_equal(matrix.items.numpy(), DATA.parts["train"].items)
