"""Closed forms against plain double loops, in little memory, and as earlier versions kept them."""

import logging
import math

import numpy as np
import pytest
import torch

from marquee.data.interactions.views import Matrix, MatrixBatch
from marquee.data.spec import InteractionSpec
from marquee.errors import ConfigError
from marquee.models.linear import ease, gram, memory
from marquee.models.linear.ease import EASE
from marquee.models.linear.kept import KeptWeights
from marquee.models.neighbours.item_knn import ItemKNN

from .small import histories

N_USERS, N_ITEMS = 30, 17


@pytest.fixture
def batch():
    """Random interactions, some of them repeated; an item that nobody met."""
    generator = torch.Generator().manual_seed(0)
    users = torch.randint(N_USERS, (200,), generator=generator)
    return MatrixBatch(users, torch.randint(N_ITEMS - 1, (200,), generator=generator))


def neighbourhoods(batch, n, shrinkage, similarity):
    """weight[j, i]: what item j says for item i, by a double loop; of equally near items the lower number is nearer."""
    fans = [set(batch.users[batch.items == item].tolist()) for item in range(N_ITEMS)]
    weight = np.zeros((N_ITEMS, N_ITEMS))
    for i in range(N_ITEMS):
        found = []
        for j in range(N_ITEMS):
            both, union = len(fans[i] & fans[j]), len(fans[i] | fans[j])
            below = (math.sqrt(len(fans[i]) * len(fans[j])) if similarity == "cosine" else union) + shrinkage
            found.append((-both / below if j != i and both else 0.0, j))
        for value, j in sorted((round(value, 6), j) for value, j in found)[:n]:
            weight[j, i] = -value
    return weight


@pytest.mark.parametrize("similarity", ["cosine", "jaccard"])
@pytest.mark.parametrize("n, shrinkage, cells", [(3, 0.0, 40), (5, 2.5, 10**6), (50, 0.0, 1)])
def test_item_knn_is_the_dense_double_loop(monkeypatch, batch, n, shrinkage, cells, similarity):
    """In panels of two items, in one panel, and one by one; ties at the last place are frequent among 30 users."""
    monkeypatch.setattr(gram, "PANEL_CELLS", cells)
    model = ItemKNN(
        InteractionSpec(N_USERS, N_ITEMS), view=Matrix(), neighbours=n, shrinkage=shrinkage, similarity=similarity
    )
    model.fit(batch)
    weight = neighbourhoods(batch, n, shrinkage, similarity)
    rows = [[0, 3, 5], [], [16], [2, 2, 7], list(range(N_ITEMS))]
    expected = [weight[sorted(set(row))].sum(0) for row in rows]
    np.testing.assert_allclose(model.score(None, histories(*rows)).numpy(), expected, atol=1e-5)


def test_of_equal_weights_those_of_the_lower_items_are_kept_and_signs_do_not_count():
    kept = KeptWeights(4, 2)
    kept.keep(slice(0, 4), torch.tensor([[0.0, 2, 2, 2], [1, 0, -3, 1], [0, 0, 0, 0], [-1, 0.5, 1, 0]]))
    assert kept.items.tolist() == [[1, 2], [2, 0], [0, 1], [0, 2]]
    assert kept.values.tolist() == [[2, 2], [-3, 1], [0, 0], [-1, 1]]


def test_what_was_scored_before_does_not_outlive_a_new_fit_or_other_weights(batch):
    spec = InteractionSpec(N_USERS, N_ITEMS)
    model, other = ItemKNN(spec, view=Matrix(), neighbours=3), ItemKNN(spec, view=Matrix(), neighbours=3)
    one = histories([0, 3])
    assert not model.score(None, one).any()
    model.fit(batch)
    assert model.score(None, one).any() and not other.score(None, one).any()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.score(None, one), model.score(None, one))


def test_weights_that_an_earlier_version_kept_densely_are_read(batch):
    """Its state was one matrix whose column i had the neighbours of item i; its scores were a dense product."""
    spec, weight = InteractionSpec(N_USERS, N_ITEMS), neighbourhoods(batch, 4, 0.0, "cosine")
    model = ItemKNN(spec, view=Matrix(), neighbours=4)
    model.load_state_dict({"weight": torch.from_numpy(weight).float()})
    dense = torch.zeros(2, N_ITEMS, dtype=torch.float64)
    dense[0, [1, 5]] = dense[1, 2] = 1
    np.testing.assert_allclose(model.score(None, histories([1, 5], [2])).numpy(), dense.numpy() @ weight, atol=1e-6)


@pytest.mark.parametrize("cells", [10**6, 40])
def test_ease_keeps_the_largest_weights_of_each_item_and_says_what_that_is(monkeypatch, caplog, batch, cells):
    monkeypatch.setattr(gram, "PANEL_CELLS", cells)
    monkeypatch.setattr(ease, "PANEL_CELLS", cells)
    spec = InteractionSpec(N_USERS, N_ITEMS)
    dense, some, all_of_it = (EASE(spec, view=Matrix(), l2=2.0, keep=keep) for keep in ("dense", 5, 1000))
    with caplog.at_level(logging.INFO):
        for model in (dense, some, all_of_it):
            model.fit(batch)
    x = np.zeros((N_USERS, N_ITEMS))
    x[batch.users, batch.items] = 1
    inverse = np.linalg.inv(x.T @ x + 2 * np.eye(N_ITEMS))
    weight = inverse / -np.diag(inverse)
    np.fill_diagonal(weight, 0)
    np.testing.assert_allclose(dense.weight.numpy(), weight, atol=1e-5)
    asked = histories([0, 3, 5], [2])
    torch.testing.assert_close(all_of_it.score(None, asked), dense.score(None, asked))
    least = np.sort(abs(weight), axis=0)[-5]
    cut = np.where(abs(weight) >= least, weight, 0)
    np.testing.assert_allclose(some.score(None, asked)[1].numpy(), cut[2], atol=1e-5)
    share = 100 * abs(cut).sum() / abs(weight).sum()
    assert f"keeps 5 of 17 weights an item, with {share:.1f} % of the sum" in caplog.text
    assert set(some.state_dict()) == {"kept.items", "kept.values"}, "the shipped size follows"


# Memory --------------------------------------------------------------------------------------------------------------


def test_a_matrix_that_does_not_fit_is_refused_before_it_is_made(monkeypatch, batch):
    """400,000 items: 640 GB a matrix, which no test could allocate."""
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * 10**9)
    spec = InteractionSpec(5, 400_000)
    with pytest.raises(ConfigError, match=r"400,000 items needs 1[\d.,]+ GB, and 8\.0 GB .*\n  fix: model\.keep=100"):
        EASE(spec, view=Matrix())
    with pytest.raises(ConfigError, match=r"data\.k_core"):
        EASE(spec, view=Matrix(), keep=10).fit(batch)
    monkeypatch.setattr(memory, "available_memory", lambda: None)  # nobody knows: no check
    EASE(InteractionSpec(5, 10), view=Matrix())


def test_what_is_left_is_the_least_that_the_machine_and_the_control_groups_leave(monkeypatch, tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", groups)
    inner = groups / "slurm" / "job"
    for folder in (proc / "self", inner):
        folder.mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 90 kB\nMemAvailable:   64 kB\n")
    (proc / "self" / "cgroup").write_text("1:name=systemd:/x\n0::/slurm/job\n")
    assert memory.available_memory() == 64 * 1024
    for folder, limit, held in ((inner, "max", "5"), (inner.parent, "40000", "15000")):
        for name, text in (("max", limit), ("current", held), ("stat", "anon 1\ninactive_file 3000\n")):
            (folder / f"memory.{name}").write_text(text)
    assert memory.available_memory() == 40000 - 15000 + 3000
