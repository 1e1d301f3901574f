"""Graphs of models in ONNX Runtime against the models themselves in torch, at other sizes than they were traced at."""

import json

import numpy as np
import pytest
import torch

from marquee.apply.exporting.graphs import graph_of
from marquee.apply.exporting.onnx_file import write_onnx
from marquee.config.build import build
from marquee.config.compose import compose
from marquee.data.images.views import ImageBatch
from marquee.data.interactions.histories import Histories
from marquee.data.spec import Feature, ImageSpec, InteractionSpec, TextSpec, TokenSpec
from marquee.data.text.views import TextBatch
from marquee.errors import ConfigError
from marquee.inference.portable.artefact import Artefact
from marquee.inference.portable.recommender import PortableRecommender
from marquee.inference.portable.writer import GraphSteps
from marquee.inference.sampling import TorchSteps, in_double, write

COLUMNS = (Feature("genres", "multi_hot", 2),)
PEOPLE = InteractionSpec(9, 40, has_timestamps=True, item_features=COLUMNS)
SMALL = {"dim": 8, "hidden": 8, "layers": 1, "heads": 2, "max_length": 12}


def made(words, spec, seed=2):
    """A small model with a random state, so that nothing is zero by chance."""
    model = build(compose(words).config["model"], spec).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.numel() and "running_var" not in name:
            tensor.copy_((torch.rand(tensor.shape, generator=generator) - 0.5) * 0.6)
    return model


def exported(model, spec, folder, **settings):
    inference = folder / "inference"
    inference.mkdir()
    told = {"run": "r", "fingerprint": "f", "settings": {"filter_seen": True, **settings}}
    return Artefact(write_onnx(graph_of(model, spec, "RUN"), inference, folder, told, int8=False))


def histories(seed, sizes):
    generator = np.random.default_rng(seed)
    items = np.concatenate([generator.choice(PEOPLE.n_items, n, replace=False) for n in sizes]).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    times = np.sort(generator.integers(1, 10**6, len(items)))
    return items, offsets, times


def recommender_agrees(words, folder, atol=1e-4):
    """Scores of users with histories short, long and empty, alone and together, with times and without."""
    model = made(["data=world_ratings", *words], PEOPLE)
    portable = object.__new__(PortableRecommender)
    portable.artefact = exported(model, PEOPLE, folder)
    settings = portable.artefact.told["settings"]
    portable.n_items, portable.max_length = settings["n_items"], settings.get("max_length", 0)
    for sizes in ([5], [3, 0, 7, 30, 1]):
        items, offsets, times = histories(len(sizes), sizes)
        users = np.arange(len(sizes)) + 2
        for when in (None, times):
            known = Histories(torch.from_numpy(items), torch.from_numpy(offsets),
                              None if when is None else torch.from_numpy(when))  # fmt: skip
            with torch.no_grad():
                wanted = model.score(torch.from_numpy(users), known).numpy()
            found = portable.scores(users, items, offsets, when)
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=atol, err_msg=str(words))


def small(name, *keys):
    known = {"dim": 8, "hidden": 8, "layers": 1, "max_length": 12}
    words = {"max_length": "model.view.max_length"}
    return [f"model={name}", *(f"{words.get(key, f'model.{key}')}={known[key]}" for key in keys)]


PRODUCTS = [
    ["model=linear/ease"], ["model=linear/slim"], ["model=linear/rp3beta"], ["model=neighbours/item_knn"],
    ["model=mf/truncated_svd", "model.dim=8"], ["model=mf/bpr", "model.item_bias=true"], ["model=mf/logistic_mf"],
    ["model=graph/lightgcn"], ["model=neural/two_tower"], ["model=neural/factorization_machine"],
]  # fmt: skip


@pytest.mark.parametrize("words", PRODUCTS, ids=lambda words: words[0][6:])
def test_products_of_tables_score_as_the_model_does(words, tmp_path):
    recommender_agrees(words, tmp_path)


TRACED = {
    "sasrec": small("transformer/sasrec", "dim", "layers", "max_length"),
    "sasrec with features": [*small("transformer/sasrec", "dim", "layers", "max_length"), "model.features=true"],
    "bert4rec": small("transformer/bert4rec", "dim", "layers", "max_length"),
    "hstu": small("transformer/hstu", "dim", "layers", "max_length"),
    "gru4rec": small("rnn/gru4rec", "dim", "hidden", "max_length"),
    "nextitnet": small("cnn/nextitnet", "dim", "max_length"),
    "ials": ["model=mf/ials", "model.dim=8", "model.solver=cholesky"],
    "neumf": ["model=neural/neumf"],
    "deepfm": ["model=neural/deepfm"],
    "multi_dae": ["model=autoencoder/multi_dae"],
    "multi_vae": ["model=autoencoder/multi_vae"],
    "recvae": ["model=autoencoder/recvae"],
}
# A few seconds each: those that had a bug, or a form, of their own are in every run of the suite.
OFTEN = ("gru4rec",)


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in TRACED]
)
def test_traced_recommenders_score_as_the_model_does(name, tmp_path):
    recommender_agrees(TRACED[name], tmp_path, atol=2e-3 if name == "ials" else 1e-4)


# Texts and images ----------------------------------------------------------------------------------------------------

TEXTS = {
    # GRU and manual bidirectional LSTM: both were exported wrong once (pytorch issues 189225 and 191855).
    "gru": ["model=rnn/gru", "model.dim=6", "model.hidden=5"],
    "lstm": ["model=rnn/lstm", "model.dim=6", "model.hidden=5", "model.layers=2"],
    "lstm last": ["model=rnn/lstm", "model.dim=6", "model.hidden=5", "model.pooling=last"],
    "lstm attention": ["model=rnn/lstm", "model.dim=6", "model.hidden=5", "model.pooling=attention"],
    "elman": ["model=rnn/elman", "model.dim=6", "model.hidden=5"],
    "transformer": ["model=transformer/text", "model.dim=8", "model.layers=1", "model.heads=2"],
    "transformer rope": ["model=transformer/text", "model.dim=8", "model.layers=1", "model.heads=2",
                         "model.positions=rope", "model.pooling=first"],
    "cnn": ["model=cnn/text", "model.dim=6", "model.maps=4"],
    "bag of words": ["model=linear/bag_of_words", "model.bigrams=true", "model.buckets=64"],
    "fasttext": ["model=linear/fasttext", "model.buckets=64"],
}  # fmt: skip
OFTEN_TEXTS = ("gru", "lstm", "transformer")


@pytest.mark.parametrize(
    "name", [name if name in OFTEN_TEXTS else pytest.param(name, marks=pytest.mark.slow) for name in TEXTS]
)
def test_texts_get_the_models_logits_padded_or_not(name, tmp_path):
    spec = TextSpec(30, 3, ("a", "b", "c"))
    model = made(["data=world_reviews", *TEXTS[name]], spec)
    artefact = exported(model, spec, tmp_path)
    generator = torch.Generator().manual_seed(1)
    for lengths in ([1], [6], [9, 9], [5, 12, 1, 8]):  # alone, together and of one length, together with padding
        tokens = torch.randint(2, 30, (len(lengths), max(lengths)), generator=generator)
        for row, length in enumerate(lengths):
            tokens[row, length:] = 0
        sizes = torch.tensor(lengths)
        with torch.no_grad():
            wanted = model(TextBatch(tokens, sizes, sizes, sizes)).numpy()
        feeds = {"tokens": tokens.numpy(), "lengths": sizes.numpy()}
        (found,) = artefact.run(**{key: feeds[key] for key in artefact.inputs})
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=str(lengths))


IMAGES = {
    "poster": ["model=cnn/poster", "model.channels=[4,8]", "model.dense=16", "model.batch_norm=true"],
    "resnet": ["model=cnn/resnet_small"],
    "convnext": ["model=cnn/convnext"],
    "mobile": ["model=cnn/mobile"],
    "vit": ["model=transformer/vit_small"],
}


@pytest.mark.parametrize(
    "name", [name if name == "poster" else pytest.param(name, marks=pytest.mark.slow) for name in IMAGES]
)
def test_images_get_the_models_logits(name, tmp_path):
    spec = ImageSpec(3, 48, 32, 4, tuple("abcd"))
    model = made(["data=world_posters", *IMAGES[name]], spec)
    artefact = exported(model, spec, tmp_path)
    images = torch.randint(0, 256, (5, 3, 48, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for some in (images[:1], images):
        with torch.no_grad():
            wanted = model(ImageBatch(some, some, some)).numpy()
        np.testing.assert_allclose(artefact.run(images=some.numpy())[0], wanted, rtol=1e-3, atol=1e-4)


# Language models -----------------------------------------------------------------------------------------------------

WRITERS = {
    "gpt": ["model=transformer/gpt", "model.dim=8", "model.heads=2", "model.layers=2"],
    "gpt with an output": ["model=transformer/gpt", "model.dim=8", "model.heads=2", "model.layers=1",
                           "model.tie=false"],
    "lstm": ["model=rnn/lstm_lm", "model.dim=6", "model.hidden=8"],
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name == "gpt" else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS]
)
def test_a_graph_writes_what_the_model_writes_beyond_its_window(name, tmp_path):
    """60 tokens, and 20 before them, through a window of 16; the same random numbers."""
    spec = TokenSpec(11)
    model = made(["data=world_script", *WRITERS[name], "model.view.length=16"], spec)
    steps = GraphSteps(exported(model, spec, tmp_path))
    settings = {"tokens": 60, "temperature": 0.9, "top_k": 6, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1}
    prompt = [1, *np.random.default_rng(0).integers(2, 11, 20).tolist()]
    streams = [(5, index) for index in range(3)]
    found, wanted = (
        write(steps, prompt, streams, settings),
        write(TorchSteps(in_double(model)), prompt, streams, settings),
    )
    assert [one.tokens for one in found] == [one.tokens for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-9)


# What is refused, and what the file says -----------------------------------------------------------------------------


@pytest.mark.parametrize("words, spec, part", [
    (["data=world_reviews", "model=linear/nbsvm"], TextSpec(30, 2), "NbSvm cannot be exported as a graph: it looks up"),
    (["data=world_ratings", "model=neighbours/user_knn"], PEOPLE, "UserKNN cannot be exported"),
    (["data=world_ratings", "model=baseline/random"], PEOPLE, "Random cannot be exported"),
    (["data=world_ratings", "model=mf/ials", "model.confidence=log"], InteractionSpec(9, 40, has_values=True),
     "with model.confidence=log known users keep vectors"),
    (["data=world_script", "model=transformer/gpt", "model.block=classic"], TokenSpec(11), "no GELU in float64"),
])  # fmt: skip
def test_what_has_no_fixed_graph_is_refused_by_name_with_what_works(words, spec, part):
    with pytest.raises(ConfigError, match="formats that work: torch, run") as refused:
        graph_of(made(words, spec), spec, "RUN")
    assert part in str(refused.value)


def test_small_files_travel_inside_and_large_ones_beside(tmp_path, monkeypatch):
    from marquee.apply.exporting import onnx_file

    monkeypatch.setattr(onnx_file, "LARGE", 100)
    monkeypatch.setattr(onnx_file, "LARGE_GRAPH", 100)
    inference = tmp_path / "inference"
    inference.mkdir()
    (inference / "ids.json").write_text(json.dumps({"titles": ["é"]}), encoding="utf-8")
    (inference / "blob.safetensors").write_bytes(bytes(range(256)))
    model = made(["data=world_ratings", "model=mf/bpr"], PEOPLE)
    told = {"run": "r", "fingerprint": "f", "settings": {}}
    file = write_onnx(graph_of(model, PEOPLE, "RUN"), inference, tmp_path, told, int8=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "blob.safetensors", "inference", "model.onnx", "model.onnx.data"
    ]  # fmt: skip
    artefact = Artefact(file)
    assert artefact.json("ids.json") == {"titles": ["é"]}
    assert artefact.bytes("blob.safetensors") == bytes(range(256))
    with torch.no_grad():
        wanted = model.score(torch.tensor([4]), None).numpy()
    np.testing.assert_allclose(artefact.run(users=np.array([4]))[0], wanted, rtol=1e-5)
