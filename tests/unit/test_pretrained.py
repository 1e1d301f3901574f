"""Weights from a file: what is taken, what is not, and what is said of it."""

import pytest
import torch
from safetensors.torch import save_file

from marquee.data.images.views import ImageBatches
from marquee.data.spec import ImageSpec
from marquee.errors import ConfigError, DataError
from marquee.models.cnn.convnext import ConvNext
from marquee.models.cnn.mobile import Mobile
from marquee.models.cnn.poster import PosterCnn
from marquee.models.cnn.resnet_small import ResNetSmall
from marquee.models.pretrained import load_matching, weights_file
from marquee.models.transformer.vit_small import VitSmall

VIEW = ImageBatches()
MODELS = {
    "poster": lambda spec, **o: PosterCnn(spec, view=VIEW, channels=[4, 8], dense=16, batch_norm=True, **o),
    "resnet_small": lambda spec, **o: ResNetSmall(spec, view=VIEW, width=8, blocks=1, **o),
    "convnext": lambda spec, **o: ConvNext(spec, view=VIEW, channels=[8, 16], blocks=[1, 1], stem=2, **o),
    "mobile": lambda spec, **o: Mobile(spec, view=VIEW, channels=[8, 16], blocks=[1, 1], head=16, **o),
    "vit_small": lambda spec, **o: VitSmall(spec, view=VIEW, patch=7, dim=16, heads=2, layers=1, **o),
}


def spec(n_classes=3):
    return ImageSpec(3, 28, 20, n_classes)


def changed(model):
    """A state dict of other values than the model's."""
    state = model.state_dict()
    return {name: torch.randn(t.shape) if t.is_floating_point() else t + 5 for name, t in state.items()}


@pytest.mark.parametrize("name", MODELS)
def test_all_of_a_models_own_weights_are_taken_before_training(name, tmp_path):
    state = changed(MODELS[name](spec()))
    save_file(state, tmp_path / "w.safetensors")
    model = MODELS[name](spec(), weights=str(tmp_path / "w.safetensors"))
    model.prepare(None)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert model.pretrained.taken == model.pretrained.tensors == len(state)
    assert model.pretrained.fresh == model.pretrained.differing == model.pretrained.unknown == []
    (remark,) = model.remarks
    assert f"{len(state)} of the model's {len(state)} tensors taken" in remark
    assert remark.endswith("left at their initial value: none")


@pytest.mark.parametrize("name", MODELS)
def test_another_number_of_classes_leaves_the_last_layer_fresh(name, tmp_path):
    state = changed(MODELS[name](spec(10)))
    torch.save(state, tmp_path / "w.pt")
    model = MODELS[name](spec(2), weights=str(tmp_path / "w.pt"))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.prepare(None)
    head = [key for key, *_ in model.pretrained.differing]
    assert len(head) == 2
    assert model.pretrained.fresh == head
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key] if key in head else state[key])
    weight = next(key for key in head if key.endswith("weight"))
    width = state[weight].shape[1]
    assert f"of another shape: {weight} [10, {width}] there, [2, {width}] here" in model.remarks[0]


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_prefixes_and_checkpoints_are_understood(prefix, nested, tmp_path):
    state = changed(MODELS["resnet_small"](spec()))
    content = {prefix + name: tensor for name, tensor in state.items()}
    torch.save(content if nested is None else {nested: content, "epoch": 3}, tmp_path / "w.ckpt")
    model = MODELS["resnet_small"](spec())
    assert load_matching(model, str(tmp_path / "w.ckpt")).fresh == []
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_what_is_not_in_the_model_is_named(tmp_path):
    state = changed(MODELS["resnet_small"](spec()))
    first = next(iter(state))
    kept = {"other.weight": torch.ones(2), **{key: value for key, value in state.items() if key != first}}
    save_file(kept, tmp_path / "w.safetensors")
    found = load_matching(MODELS["resnet_small"](spec()), str(tmp_path / "w.safetensors"))
    assert (found.unknown, found.fresh, found.taken) == (["other.weight"], [first], len(state) - 1)
    assert found.parameters == sum(value.numel() for key, value in state.items() if key != first)
    assert "not in this model: other.weight" in str(found)


def test_halves_become_the_models_own_type(tmp_path):
    model = MODELS["vit_small"](spec())
    state = {key: value.half() for key, value in changed(model).items()}
    save_file(state, tmp_path / "w.safetensors")
    load_matching(model, str(tmp_path / "w.safetensors"))
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())


def test_a_file_of_another_network_is_refused(tmp_path):
    save_file({"conv1.weight": torch.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(
        ConfigError, match=r"none of its 1 tensors .* ResNetSmall's\. There: conv1\.weight\. Here: first"
    ):
        load_matching(MODELS["resnet_small"](spec()), str(tmp_path / "w.safetensors"))
    # A counter of batches alone is no weight.
    save_file({"first.1.num_batches_tracked": torch.tensor(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="none of its"):
        load_matching(MODELS["resnet_small"](spec()), str(tmp_path / "w.safetensors"))


class Foreign:
    """Something that only unpickling can make."""


@pytest.mark.parametrize("kind", ["pickle", "text", "truncated", "list", "empty", "damaged"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, kind):
    path = tmp_path / ("w.safetensors" if kind == "damaged" else "w.pt")
    content = {"pickle": Foreign(), "list": [torch.ones(2)], "empty": {"epoch": 3}}
    if kind in content:
        torch.save(content[kind], path)
    else:
        path.write_bytes(b"not weights" if kind != "truncated" else b"PK\3\4" + bytes(20))
    with pytest.raises(DataError, match=r"model\.weights=.*(cannot be read as weights|holds no tensors by name)"):
        load_matching(MODELS["resnet_small"](spec()), str(path))


def test_a_file_that_is_not_there_and_a_folder_without_weights(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.weights=.*none\.pt does not exist.*"):
        weights_file(str(tmp_path / "none.pt"))
    with pytest.raises(ConfigError, match=r"is a folder without model\.safetensors"):
        weights_file(str(tmp_path))


def test_the_folder_of_a_run_means_the_weights_that_it_serves(tmp_path):
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "model.safetensors").touch()
    assert weights_file(str(tmp_path)) == tmp_path / "inference" / "model.safetensors"
    assert weights_file(str(tmp_path / "inference")) == tmp_path / "inference" / "model.safetensors"


def test_without_the_key_nothing_is_loaded():
    model = MODELS["mobile"](spec())
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.prepare(None)
    assert model.remarks == ()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("told", "spoil"),
    [
        ("is sparse", lambda tensor: tensor.to_sparse()),
        ("is meta", lambda tensor: tensor.to("meta")),
        ("is torch.complex64", lambda tensor: tensor.to(torch.complex64)),
        ("infinite or no number", lambda tensor: tensor.double() * 1e300),
        ("infinite or no number", lambda tensor: tensor * torch.nan),
    ],
)
def test_what_is_no_plain_finite_number_is_refused_by_name(told, spoil, tmp_path):
    state = MODELS["vit_small"](spec()).state_dict()
    torch.save({name: spoil(tensor) for name, tensor in state.items()}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=told) as error:
        load_matching(MODELS["vit_small"](spec()), str(tmp_path / "w.pt"))
    assert next(iter(state)) in str(error.value) and "w.pt" in str(error.value)


def test_a_file_that_holds_itself_or_nothing_ends_in_an_error(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pt")
    save_file({}, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        with pytest.raises(DataError, match="holds no tensors by name"):
            load_matching(MODELS["poster"](spec()), str(tmp_path / name))
