"""Data from its raw files to the first training batch, and the same once it is prepared in the cache."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Benchmark, Measured, in_turns
from benchmarks.workspace import Kind, Workspace

Reference = Callable[[Workspace, Any], Callable[[], object]]  # of the prepared data; what to run beside ours


MODELS: dict[Kind, str] = {"ratings": "mf/bpr", "reviews": "rnn/lstm", "posters": "cnn/poster"}


def prepare(space: Workspace, kind: Kind) -> tuple[Callable[[], object], Any]:
    """An action: set the data up, as a run does, and make the first batch of the model's view; and the data set."""
    from marquee.config.build import build
    from marquee.runs.train import prepare_data

    config = space.config(kind, f"model={MODELS[kind]}")
    view = build(config["model"]["view"])

    def action() -> object:
        return next(iter(view.train_batches(prepare_data(config), 1, 0)))

    return action, prepare_data(config)


def from_raw(kind: Kind, reference: Reference) -> Callable[[Workspace], Measured]:
    def run(space: Workspace) -> Measured:
        ours, data = prepare(space, kind)
        beside = reference(space, data)
        found = in_turns(min(space.runs, 3), ours, beside, before=lambda: space.empty_cache(kind))
        return Measured(*found, synthetic=space.source(kind).synthetic)

    return run


def from_cache(kind: Kind, reference: Callable[[Workspace, Kind], Callable[[], object]]):
    def run(space: Workspace) -> Measured:
        ours, data = prepare(space, kind)
        ours()
        return Measured(*in_turns(space.runs, ours, reference(space, kind)), synthetic=space.source(kind).synthetic)

    return run


def loaded(space: Workspace, kind: Kind) -> Callable[[], object]:
    """np.load of every array that lies in the cache, each read once."""
    files = sorted(space.cache(kind).rglob("*.npy"))
    return lambda: [np.load(file).sum() for file in files]


def loaded_and_sorted(space: Workspace, kind: Kind) -> Callable[[], object]:
    """np.load and the one sort that a random split of each user's rows cannot do without."""
    load = loaded(space, kind)
    users = np.load(next(space.cache(kind).rglob("users.npy")))
    return lambda: (load(), _sorted(users))


def _sorted(users: np.ndarray) -> np.ndarray:
    return np.lexsort((np.random.default_rng(0).random(len(users)), users))


def read_ratings(space: Workspace, data: Any) -> Callable[[], object]:
    """pandas.read_csv of the file, its columns as integers, and the same sort."""
    import pandas as pd

    file = space.published / "ml-1m" / "ratings.dat"
    file = file if not space.source("ratings").synthetic else space.folder / "ratings.dat"
    # Between the two colons of "::" lie columns without content; copies without times have fewer.
    columns = pd.read_csv(file, sep=":", header=None, nrows=1).columns[::2]

    def read() -> np.ndarray:
        table = pd.read_csv(file, sep=":", header=None, usecols=columns, dtype=np.int64)
        return _sorted(table[0].to_numpy())

    return read


def counted(space: Workspace, data: Any) -> Callable[[], object]:
    """scikit-learn's CountVectorizer over the same texts."""
    from sklearn.feature_extraction.text import CountVectorizer

    from marquee.config.build import paths

    texts = data.source(paths(space.config("reviews")["paths"])).read().texts
    return lambda: CountVectorizer().fit_transform(texts)


def decoded(space: Workspace, data: Any) -> Callable[[], object]:
    """Pillow's decoding of the same files, made small while they are read."""
    import io
    import zipfile

    from PIL import Image

    if space.source("posters").synthetic:
        content = [file.read_bytes() for file in sorted((space.folder / "posters").rglob("*.jpg"))]
    else:
        with zipfile.ZipFile(space.published / "posters" / "posters.zip") as archive:
            content = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
    size = (data.spec.width, data.spec.height)

    def decode() -> int:
        total = 0
        for item in content:
            with Image.open(io.BytesIO(item)) as image:
                image.draft("RGB", size)
                total += np.asarray(image.convert("RGB")).size
        return total

    return decode


BENCHMARKS = [
    Benchmark("ml1m_raw", "ratio", 2, "CPU s", "read_csv and a sort", from_raw("ratings", read_ratings)),
    Benchmark("ml1m_cache", "ratio", 1.5, "CPU s", "np.load and a sort", from_cache("ratings", loaded_and_sorted)),
    Benchmark("imdb_raw", "ratio", 1.5, "CPU s", "CountVectorizer", from_raw("reviews", counted)),
    Benchmark("imdb_cache", "ratio", 10, "CPU s", "np.load", from_cache("reviews", loaded)),
    Benchmark("posters_decode", "ratio", 5, "CPU s", "Pillow's decode", from_raw("posters", decoded)),
    Benchmark("posters_cache", "ratio", 1.5, "CPU s", "np.load", from_cache("posters", loaded)),
]
