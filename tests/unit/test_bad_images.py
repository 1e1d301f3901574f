"""Images as the world has them, made up here: odd modes, odd files, odd labels."""

import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from marquee.data.dataset import Paths
from marquee.data.holdout import Holdout
from marquee.data.images import decoding
from marquee.data.images.decoding import decode_image
from marquee.data.images.folder import Images
from marquee.data.images.posters import decade
from marquee.errors import ConfigError, DataError
from marquee.metrics.classification import ClassificationEvaluator

COLOUR, GREY = ({"channels": channels, "height": 8, "width": 6} for channels in (3, 1))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain_image(colour, mode="RGB"):
    return Image.new(mode, (6, 8), colour)


def colour_of(image, spec=COLOUR):
    pixels = decode_image(image, spec)
    assert pixels.shape == (spec["channels"], 8, 6)
    assert pixels.dtype == np.uint8
    return pixels[:, 4, 3].tolist()


# Modes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_grey_becomes_three_equal_channels_and_stays_one(kind):
    image = encoded(plain_image(90, "L"), kind)
    assert colour_of(image) == pytest.approx([90] * 3, abs=2)
    assert colour_of(image, GREY) == pytest.approx([90], abs=2)


def test_colour_becomes_grey_by_the_weights_of_television():
    # ITU-R 601: 0.299 red + 0.587 green + 0.114 blue.
    assert colour_of(encoded(plain_image((200, 100, 50)), "PNG"), GREY) == pytest.approx([124], abs=1)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_what_the_printer_would_print(kind):
    """By hand: (255 - C)(255 - K) / 255. JPEG files of this kind hold the values inverted, as Adobe writes them."""
    image = encoded(plain_image((0, 255, 255, 0), "CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {}))
    if kind == "JPEG":
        assert b"Adobe" in image
    assert colour_of(image) == pytest.approx([255, 0, 0], abs=4)
    image = encoded(plain_image((51, 0, 0, 102), "CMYK"), kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert colour_of(image) == pytest.approx([122, 153, 153], abs=5)


def test_black_and_white_of_one_bit():
    assert colour_of(encoded(plain_image(1, "1"), "PNG")) == [255] * 3
    assert colour_of(encoded(plain_image(0, "1"), "PNG"), GREY) == [0]


def palette(transparent):
    """Left red, right blue, and in the palette a third colour."""
    image = Image.new("P", (6, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    ImageDraw.Draw(image).rectangle((3, 0, 5, 7), fill=1)
    return encoded(image, "PNG", **({} if transparent is None else {"transparency": transparent}))


@pytest.mark.parametrize(
    ("transparent", "right"),
    [
        (None, [0, 0, 255]),
        (1, [255, 255, 255]),  # the second colour of the palette is seen through
        (bytes([255, 0, 255]), [255, 255, 255]),  # with a value each
        (bytes([255, 51, 255]), [204, 204, 255]),  # a fifth of blue on four fifths of white
    ],
)
def test_a_palette_and_what_is_transparent_in_it(transparent, right):
    pixels = decode_image(palette(transparent), COLOUR)
    assert pixels[:, 4, 1].tolist() == [255, 0, 0]
    assert pixels[:, 4, 4].tolist() == pytest.approx(right, abs=1)


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (10, 20, 30, 0)), ("LA", (10, 0))])
def test_what_is_transparent_is_white_and_not_what_stands_below_it(mode, colour):
    image = plain_image(colour, mode)
    assert colour_of(encoded(image, "PNG")) == [255] * 3
    assert colour_of(image) == [255] * 3
    opaque = plain_image((*colour[:-1], 255), mode)
    assert colour_of(encoded(opaque, "PNG")) == (list(colour[:3]) if mode == "RGBA" else [10] * 3)


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken(kind):
    frames = [plain_image(colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    animated = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(animated)).n_frames == 3
    assert colour_of(animated) == pytest.approx([250, 0, 0], abs=8)


def test_an_image_that_unpacks_to_far_more_than_it_seems_is_refused(monkeypatch):
    """A decompression bomb: here Pillow's limit is lowered instead of an image of 200 million pixels written."""
    bomb = encoded(Image.new("1", (400, 400)), "PNG")
    assert len(bomb) < 500
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400 * 400 // 2 - 1)
    with pytest.raises(DataError, match="not a readable image .*decompression bomb"):
        decode_image(bomb, COLOUR)


def test_truncated_files_are_refused_in_every_format():
    random = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encoded(Image.fromarray(random), kind)
        for share in (0.1, 0.6):
            with pytest.raises(DataError, match="not a readable image"):
                decode_image(whole[: int(share * len(whole))], COLOUR)


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "data", tmp_path / "cache")


@pytest.fixture
def pictures(tmp_path):
    """Forty small pictures of two shades, and the file of their labels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["file,label,year,country"]
    for i in range(40):
        shade = 40 + 150 * (i % 2)
        Image.fromarray(np.full((6, 5, 3), shade + i, dtype=np.uint8)).save(folder / f"{i:02}.png")
        lines.append(f"{i:02}.png,{('night', 'day/light & sun')[i % 2]},{1990 + i % 3},{'ab'[i // 20]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def prepared(paths, folder, **options):
    data = Images(**{"path": str(folder), "labels": "labels.csv", "height": 6, "width": 5, **options})
    data.setup(Holdout(), paths)
    return data


def listed(folder, *lines):
    with open(folder / "labels.csv", "a") as file:
        file.write("\n".join(lines) + "\n")


def test_further_columns_of_the_labels_file_are_attributes(pictures, paths):
    data = prepared(paths, pictures, attributes=["year", "country"])
    assert list(data.attributes) == ["year", "country"]
    assert data.attributes["year"][:4].tolist() == ["1990", "1991", "1992", "1990"]
    assert data.attributes["country"].tolist() == ["a"] * 20 + ["b"] * 20


def test_attributes_stay_with_their_images_where_one_cannot_be_decoded(pictures, paths):
    (pictures / "01.png").write_bytes(b"broken")
    data = prepared(paths, pictures, attributes=["year"], max_corrupt=0.1)
    assert data.names[:2] == ["00.png", "02.png"]
    assert data.attributes["year"][:3].tolist() == ["1990", "1992", "1990"]
    assert len(data.attributes["year"]) == len(data.images) == 39


def test_an_attribute_that_is_no_column_and_one_without_a_labels_file(pictures, paths):
    with pytest.raises(DataError, match=r"no column 'studio'\. Columns seen: file, label, year, country"):
        prepared(paths, pictures, attributes=["year", "studio"])
    with pytest.raises(ConfigError, match=r"data\.attributes names columns of a labels file"):
        prepared(paths, pictures, labels=None, attributes=["year"])


def test_images_that_the_labels_file_does_not_list_are_counted(pictures, paths):
    (pictures / "more").mkdir()
    for name in ("new.png", "more/other.JPG"):
        (pictures / name).write_bytes((pictures / "00.png").read_bytes())
    (pictures / "notes.txt").touch()
    data = prepared(paths, pictures)
    assert data.report["images that the labels file does not list"] == 2
    assert len(data.images) == 40


@pytest.mark.parametrize("name", ["../secret.png", "more/../../secret.png", "{root}/secret.png"])
def test_a_labels_file_cannot_lead_out_of_its_folder(pictures, paths, name):
    name = name.format(root=pictures.parent)
    (pictures / "more").mkdir()
    (pictures.parent / "secret.png").write_bytes((pictures / "00.png").read_bytes())
    listed(pictures, f"{name},night,1990,a")
    with pytest.raises(DataError, match=r"1 of 41 files are not below .*pictures, first .*secret\.png.*without `\.\.`"):
        prepared(paths, pictures)


@pytest.mark.parametrize("name", ["00.png", "./00.png"])
def test_two_labels_for_one_file_are_refused(pictures, paths, name):
    listed(pictures, f"{name},day/light & sun,1990,a")
    with pytest.raises(DataError, match=r"00\.png is there twice, with the labels 'night' and 'day/light & sun'"):
        prepared(paths, pictures)


def test_one_class_only_is_refused(pictures, paths):
    lines = ["file,label", *(f"{i:02}.png,night" for i in range(40))]
    (pictures / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"training holds 1 label\(s\) \(night\); a classification needs at least 2"):
        prepared(paths, pictures)


def test_names_of_classes_may_hold_spaces_and_slashes_in_tables_and_metrics(pictures, paths):
    data = prepared(paths, pictures)
    assert data.spec.labels == ("day/light & sun", "night")
    evaluator = ClassificationEvaluator(data.spec.labels)
    state = {
        "index": np.arange(4),
        "targets": np.array([0, 1, 0, 1]),
        "probabilities": np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], dtype=np.float32),
    }
    metrics, units = evaluator.compute([state])
    assert metrics["accuracy"] == 0.75
    assert units["target"].tolist() == ["day/light & sun", "night"] * 2
    assert {"p(day/light & sun)", "p(night)"} <= set(units.columns)


def test_a_folder_of_a_class_may_have_a_space_in_its_name(tmp_path, paths):
    for name in ("film noir", "comedy"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (4, 4), i + 100 * (name == "comedy")).save(tmp_path / "pictures" / name / f"{i} a.png")
    data = prepared(paths, tmp_path / "pictures", labels=None)
    assert data.spec.labels == ("comedy", "film noir")


def test_images_are_decoded_once_whatever_the_labels_say(pictures, paths, monkeypatch, caplog):
    prepared(paths, pictures)
    monkeypatch.setattr(decoding, "_pixels", lambda *_: pytest.fail("decoded again"))
    caplog.set_level(logging.WARNING)
    assert len(prepared(paths, pictures, attributes=["year"]).images) == 40
    text = (pictures / "labels.csv").read_text().replace("night", "dusk")
    (pictures / "labels.csv").write_text(text)
    assert "dusk" in prepared(paths, pictures).spec.labels
    assert len(list(Path(paths.cache / "prepared").iterdir())) == 1


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Toy Story (1995)", "1990s"),
        ("2001: A Space Odyssey (1968)", "1960s"),
        ("Hyena Road", "unknown"),
        ("", "unknown"),
        ("Generation Kill (2008–2009)", "2000s"),
        ("Cosmos (1980–)", "1980s"),
        ("Room 1408 (2007) ", "2000s"),
        ("Big (Really Big) (1988)", "1980s"),
    ],
)
def test_the_decade_of_a_film_is_that_of_the_year_in_its_title(title, wanted):
    assert decade(title) == wanted


def test_a_name_that_is_no_text_is_refused(tmp_path, paths):
    for name in ("day", "night"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        file = tmp_path / "pictures" / name / "a.png"
        Image.new("L", (4, 4)).save(file)
        try:
            file.rename(file.with_name(os.fsdecode(b"caf\xe9.png")))  # as Windows once wrote it
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"not UTF-8: 'day/caf\\udce9\.png'\. Rename it"):
        prepared(paths, tmp_path / "pictures", labels=None)
