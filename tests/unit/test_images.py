"""Images of one's own: folders and tables, corrupt files, batches and their augmentation."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.images.decoding import decode_image
from marquee.data.images.folder import Images
from marquee.data.images.views import ImageBatches, as_float, uniform
from marquee.errors import DataError
from marquee.tasks.classification import Classification

N = 40


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "data", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """Twenty dark and twenty bright pictures, each different, 12 by 16 pixels."""
    random = np.random.default_rng(0)
    for i in range(N):
        name = ("dark", "bright")[i % 2]
        (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 100, (16, 12, 3)) + 150 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / name / f"{i:02}.png")
    return tmp_path / "pictures"


def path_of(i):
    return f"{('dark', 'bright')[i % 2]}/{i:02}.png"


def prepared(paths, folder, **options):
    data = Images(**{"path": str(folder), "height": 16, "width": 12, **options})
    data.setup(Holdout(), paths)
    return data


# Reading ------------------------------------------------------------------------------------------------------------


def test_every_sub_folder_is_a_class_and_pixels_are_kept(folder, paths):
    data = prepared(paths, folder)
    assert data.spec.labels == ("bright", "dark")
    assert data.images.shape == (N, 3, 16, 12)
    assert data.images.dtype == np.uint8
    assert np.bincount(data.labels).tolist() == [20, 20]
    row = data.names.index("dark/04.png")
    original = np.asarray(Image.open(folder / "dark" / "04.png"))
    assert np.array_equal(data.images[row], original.transpose(2, 0, 1))


def test_a_labels_file_with_several_labels_an_image(folder, paths):
    genres = ["b|rare", *(["b"] * 3), *["a|b", "b"] * 18]
    lines = ["file,genres", *(f"{path_of(i)},{genres[i]}" for i in range(N))]
    (folder / "labels.csv").write_text("\n".join(lines))
    data = prepared(paths, folder, labels="labels.csv", label="genres", label_separator="|", min_count=2)
    assert data.spec.multilabel
    assert data.spec.labels == ("a", "b")
    assert data.labels[[0, 4]].tolist() == [[0, 1], [1, 1]]
    assert data.report["labels below 2 images"] == ["rare (1)"]


def test_images_without_a_label_are_in_no_part(folder, paths):
    lines = ["file,label", *(f"{path_of(i)},{'' if i < 4 else 'xy'[i % 2]}" for i in range(N))]
    (folder / "labels.csv").write_text("\n".join(lines))
    data = prepared(paths, folder, labels="labels.csv")
    rows = np.sort(np.concatenate(list(data.parts.values())))
    assert rows.tolist() == list(range(4, N))
    assert data.report["images without a label"] == 4


def test_the_second_setup_reads_the_cache(folder, paths, monkeypatch):
    first = prepared(paths, folder)
    monkeypatch.setattr(Images, "_prepare", lambda *_: pytest.fail("decoded again"))
    second = prepared(paths, folder)
    assert (first.fingerprint, first.split_fingerprint) == (second.fingerprint, second.split_fingerprint)
    assert np.array_equal(first.images, second.images)


def test_other_sizes_and_grey_images(folder, paths):
    data = prepared(paths, folder, height=8, width=8, channels=1)
    assert data.images.shape == (N, 1, 8, 8)


def test_copies_of_an_image_land_in_one_part(folder, paths):
    for i in range(10, 20):
        name = ("dark", "bright")[i % 2]
        (folder / name / f"copy{i}.png").write_bytes((folder / name / f"{i}.png").read_bytes())
    data = prepared(paths, folder)
    part_of = {row: part for part, rows in data.parts.items() for row in rows}
    for i in range(10, 20):
        name = ("dark", "bright")[i % 2]
        copies = [data.names.index(f"{name}/{stem}.png") for stem in (i, f"copy{i}")]
        assert part_of[copies[0]] == part_of[copies[1]]


def test_a_new_image_is_decoded_as_the_data_set_was(folder, paths, tmp_path):
    data = prepared(paths, folder, height=10, width=10)
    data.save_inference(tmp_path)
    spec = json.loads((tmp_path / "image.json").read_text())
    file = folder / "bright" / "01.png"
    expected = data.images[data.names.index("bright/01.png")]
    for image in (file, file.read_bytes(), Image.open(file)):
        assert np.array_equal(decode_image(image, spec), expected)


# Bad input ----------------------------------------------------------------------------------------------------------


def test_a_corrupt_image_is_left_out_named_and_counted(folder, paths, caplog):
    whole = (folder / "dark" / "10.png").read_bytes()
    (folder / "dark" / "10.png").write_bytes(whole[:60])
    (folder / "dark" / "12.png").write_bytes(b"no image at all")
    with caplog.at_level(logging.WARNING):
        data = prepared(paths, folder, max_corrupt=0.1)
    assert data.report["corrupt images"] == 2
    assert data.report["corrupt"] == ["dark/10.png", "dark/12.png"]
    assert "corrupt image dark/10.png is left out" in caplog.text
    assert len(data.images) == len(data.labels) == len(data.names) == N - 2
    row = data.names.index("dark/14.png")
    assert np.array_equal(data.images[row], np.asarray(Image.open(folder / "dark" / "14.png")).transpose(2, 0, 1))
    assert data.spec.labels[data.labels[row]] == "dark"


def test_too_many_corrupt_images_are_refused_also_from_the_cache(folder, paths):
    (folder / "dark" / "10.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1 of 40 images cannot be decoded: dark/10\.png .*data\.max_corrupt"):
        prepared(paths, folder)
    prepared(paths, folder, max_corrupt=0.1)
    with pytest.raises(DataError, match=r"dark/10\.png.*data\.max_corrupt=0\.01"):
        prepared(paths, folder)


def test_files_that_the_table_lists_and_the_folder_lacks(folder, paths):
    (folder / "labels.csv").write_text("file,label\nnone.png,x\n")
    with pytest.raises(DataError, match=r"1 of 1 files do not exist.*none\.png.*data\.file"):
        prepared(paths, folder, labels="labels.csv")


def test_a_folder_without_images_and_no_folder(tmp_path, paths):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images in sub-folders"):
        prepared(paths, tmp_path / "empty")
    with pytest.raises(DataError, match=r"data\.path=.*none is not a folder"):
        prepared(paths, tmp_path / "none")


SPEC = {"channels": 1, "height": 2, "width": 3}


def test_grey_of_16_bits_is_scaled_and_not_cut_off(tmp_path):
    # 257 steps of 16 bits are one of 8: by hand 0, 1, 64, 128 (32,896 / 257), 255 and 254 (65,534 / 257, rounded down).
    pixels = np.array([[0, 257, 16448], [32896, 65535, 65534]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    wanted = [[0, 1, 64], [128, 255, 254]]
    assert decode_image(tmp_path / "grey.png", SPEC)[0].tolist() == wanted
    assert decode_image(Image.fromarray(pixels), SPEC)[0].tolist() == wanted
    assert decode_image(tmp_path / "grey.png", {**SPEC, "channels": 3})[2].tolist() == wanted
    Image.fromarray(np.zeros((2, 3), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"32 bits \(mode F\) have no known range"):
        decode_image(tmp_path / "float.tif", SPEC)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation):
    """Pillow's own exif_transpose is the second implementation."""
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    image = Image.fromarray(upright)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "photo.png", exif=exif)
    with Image.open(tmp_path / "photo.png") as opened:
        wanted = np.asarray(ImageOps.exif_transpose(opened))
    shape = {"channels": 1, "height": wanted.shape[0], "width": wanted.shape[1]}
    assert decode_image(tmp_path / "photo.png", shape)[0].tolist() == wanted.tolist()
    assert (wanted.shape == (3, 2)) == (orientation >= 5)


def test_a_large_photo_on_its_side_keeps_its_detail(tmp_path):
    """JPEG files are decoded smaller than they are, for which the sides must not be mixed up."""
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    pixels = decode_image(tmp_path / "photo.jpg", {"channels": 1, "height": 256, "width": 64})[0]
    assert pixels[:, 0].astype(int).tolist() == pytest.approx(list(range(256)), abs=4)


def test_damaged_exif_does_not_make_an_image_corrupt(tmp_path):
    Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0\xff\xff")
    assert decode_image(tmp_path / "photo.jpg", SPEC).shape == (1, 2, 3)


def test_a_new_image_that_is_none_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"text")
    spec = {"channels": 3, "height": 8, "width": 8}
    with pytest.raises(DataError, match=r"x\.jpg is not a readable image"):
        decode_image(tmp_path / "x.jpg", spec)
    with pytest.raises(DataError, match=r"none\.jpg does not exist"):
        decode_image(tmp_path / "none.jpg", spec)


# Batches ------------------------------------------------------------------------------------------------------------


def test_an_epoch_holds_every_training_image_once(folder, paths):
    data = prepared(paths, folder)
    view = ImageBatches(batch_size=8)
    batches = list(view.train_batches(data, seed=1, epoch=0))
    assert len(batches) == view.steps(data)
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == data.parts["train"].tolist()
    assert torch.equal(torch.cat([batch.images for batch in batches]), torch.from_numpy(data.images[index.numpy()]))


def test_augmentation_depends_on_seed_epoch_and_row_and_not_on_the_batch(folder, paths):
    data = prepared(paths, folder)

    def augmented(batch_size, seed, epoch):
        view = ImageBatches(batch_size=batch_size, flip=True, crop=3, jitter=0.3)
        batches = list(view.train_batches(data, seed, epoch))
        images, index = (torch.cat([batch[i] for batch in batches]) for i in (0, 2))
        return images[index.argsort()]

    assert torch.equal(augmented(8, 1, 2), augmented(5, 1, 2))
    assert not torch.equal(augmented(8, 1, 2), augmented(8, 1, 3))
    assert not torch.equal(augmented(8, 1, 2), augmented(8, 2, 2))


def test_flip_mirrors_about_half_of_the_images_and_nothing_else():
    images = torch.arange(200 * 12, dtype=torch.int64).remainder(251).to(torch.uint8).view(200, 1, 3, 4)
    flipped = ImageBatches(flip=True).augment(images, torch.arange(200), key=7)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 70 < int(mirrored.sum()) < 130


def test_crop_shifts_by_whole_pixels_and_repeats_the_border():
    images = torch.randint(0, 256, (50, 2, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cropped = ImageBatches(crop=1).augment(images, torch.arange(50), key=7)
    padded = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="replicate").to(torch.uint8)
    shifts = [padded[:, :, y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
    found = torch.stack([(cropped == shifted).flatten(1).all(1) for shifted in shifts])
    assert bool(found.any(0).all())
    assert int(found.any(1).sum()) == 9  # every one of the nine shifts occurs


def test_jitter_changes_brightness_within_its_share():
    images = torch.full((300, 1, 4, 4), 100, dtype=torch.uint8)
    grey = ImageBatches(jitter=0.2).augment(images, torch.arange(300), key=7).float().mean((1, 2, 3))
    assert 80 <= float(grey.min()) < 84
    assert 116 < float(grey.max()) <= 120


def test_augmentation_numbers_are_uniform_and_independent_of_each_other():
    index = torch.arange(20_000)
    numbers = [uniform(key, index, stream) for key in (1, 2) for stream in (0, 1)]
    for one in numbers:
        assert 0 <= float(one.min()) < float(one.max()) < 1
        counts = torch.histc(one, bins=10, min=0, max=1)
        assert float(((counts - 2000) ** 2 / 2000).sum()) < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    correlation = torch.corrcoef(torch.stack(numbers))
    assert float((correlation - torch.eye(4)).abs().max()) < 0.03


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_gives_every_unit_once_as_it_is(folder, paths, world):
    data = prepared(paths, folder)
    model = SimpleNamespace(view=ImageBatches(flip=True, crop=2, jitter=0.5))
    task = SimpleNamespace(model=model, data=data, evaluation_batch_size=3)
    batches = [b for rank in range(world) for b in Classification.evaluation_batches(task, "test", rank, world)]
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == data.parts["test"].tolist()
    for batch in batches:
        assert np.array_equal(batch.images, data.images[batch.index.numpy()])


def test_pixels_as_numbers_are_centred_and_channels_last():
    floats = as_float(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4))
    assert floats[:, 0, 0, 0].tolist() == [-2.0, 2.0]
    assert floats.is_contiguous(memory_format=torch.channels_last)
