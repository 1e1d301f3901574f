"""Where a recommender says that its scores are products of vectors, they are: every one that ships, drawn at random."""

import pytest
import torch

from marquee.config.build import build
from marquee.config.compose import compose_all
from marquee.config.fitting import option_class
from marquee.config.folders import options
from marquee.data.interactions.histories import Histories
from marquee.data.spec import Feature, InteractionSpec
from marquee.models.base import Recommender

COLUMNS = (Feature("genres", "multi_hot", 2), Feature("year", "dense", 1))
SPEC = InteractionSpec(40, 60, has_timestamps=True, has_values=True, user_features=COLUMNS, item_features=COLUMNS)
NAMES = [name for name in options("model") if issubclass(option_class("model", name), Recommender)]
# Forms that the YAML files do not choose: biases, output vectors of their own, features, weights by value.
FURTHER = [
    ["model=mf/bpr", "model.item_bias=true"],
    ["model=mf/ials", "model.confidence=log"],
    ["model=mf/ials", "model.solver=cholesky"],
    ["model=neural/two_tower", "model.interaction=concatenated"],
    ["model=transformer/sasrec", "model.tied=false", "model.features=true"],
]
# A list of names, so that one who takes the contract away is noticed.
WITH_VECTORS = {
    "cnn/caser", "cnn/nextitnet", "graph/lightgcn", "graph/xsimgcl", "mf/biased_mf", "mf/bpr", "mf/ials",
    "mf/logistic_mf", "mf/nmf", "mf/svdpp", "mf/truncated_svd", "neural/factorization_machine", "neural/two_tower",
    "rnn/gru4rec", "transformer/bert4rec", "transformer/hstu", "transformer/sasrec",
}  # fmt: skip


def models():
    words = [[f"model={name}"] for name in NAMES] + FURTHER
    for choice, composed in zip(words, compose_all([["data=world_ratings", *choice] for choice in words]), strict=True):
        yield choice, build(composed.config["model"], SPEC).eval()


def drawn(model):
    """The model with a random state, as if it had learnt something."""
    generator = torch.Generator().manual_seed(3)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.numel():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.5)
    return model


@pytest.fixture(scope="module")
def histories():
    generator = torch.Generator().manual_seed(4)
    items = torch.randint(60, (17,), generator=generator)
    return Histories(items, torch.tensor([0, 5, 5, 9, 17]), torch.arange(17) * 1000)


@torch.no_grad()
def test_scores_are_the_products_of_the_vectors(histories):
    users, found, without = torch.tensor([3, 0, 39, 7]), set(), []
    for choice, model in models():
        rows = drawn(model).user_vectors(users, histories)
        columns = model.item_vectors()
        assert (rows is None) == (columns is None), choice
        if rows is None:
            without.append(choice)
            continue
        assert rows.shape[0] == 4 and columns.shape == (60, rows.shape[1]), choice
        scores = model.score(users, histories)
        torch.testing.assert_close(rows @ columns.T, scores, rtol=1e-4, atol=1e-4, msg=lambda m, c=choice: f"{c}: {m}")
        if model.scores_unseen_users:
            rows = model.user_vectors(None, histories)
            torch.testing.assert_close(rows @ columns.T, model.score(None, histories), rtol=1e-4, atol=1e-4)
        if len(choice) == 1:
            found.add(choice[0].removeprefix("model="))
    assert found >= WITH_VECTORS
    for choice in (["model=linear/ease"], ["model=neural/deepfm"], FURTHER[3]):
        assert choice in without
