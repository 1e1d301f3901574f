"""The embedded data sets: one world as ratings, reviews and posters, with the best score that anyone could reach."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge
from torch import Tensor

from marquee.data.cache import cached
from marquee.data.dataset import Paths
from marquee.data.holdout import ExampleSplit
from marquee.data.images.dataset import ImageData, ImageSource
from marquee.data.interactions.cold import NewItems
from marquee.data.interactions.content import FeatureSources
from marquee.data.interactions.dataset import InteractionData, Tables
from marquee.data.interactions.filters import Duplicates
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.joined import KnockOut
from marquee.data.interactions.splits import InteractionSplit, LeaveOneOut
from marquee.data.text.dataset import Corpus, TextData, TextSource
from marquee.data.text.tokenizer import Kind
from marquee.data.world import catalogue, posters, reviews
from marquee.data.world.new_films import NewFilmOracle


class WorldRatings(InteractionData):
    """What the world's people watched and how they rated it. User ids are 1 ... 1000, item ids 1 ... 400."""

    licence = "made by Marquee, Apache-2.0"
    name = "world_ratings"
    recorded_as = "marquee.data.world.modules.WorldRatings"
    preparation = catalogue.VERSION

    def __init__(
        self,
        *,
        seed: Annotated[int, Ge(0)] = 1,
        duplicates: Duplicates = "keep_last",
        min_rating: float | None = None,
        k_core: Annotated[int, Ge(0)] = 0,
        item_features: FeatureSources | None = None,
        knock_out: KnockOut | None = None,
    ):
        super().__init__(
            duplicates=duplicates,
            min_rating=min_rating,
            k_core=k_core,
            item_features=item_features,
            knock_out=knock_out,
        )
        self.seed = seed
        self._next_film = self._new_films = False

    def sources(self, paths: Paths) -> dict[str, Path]:
        return {}

    def read_interactions(self, path: Path) -> pd.DataFrame:
        raise NotImplementedError

    def read(self, sources: Mapping[str, Path]) -> Tables:
        world = catalogue.generate(self.seed)
        interactions = pd.DataFrame(
            {"user": world.users + 1, "item": world.items + 1, "value": world.stars, "timestamp": world.timestamps}
        )
        genres = np.asarray(catalogue.GENRES, dtype=object)[world.genres]
        items = pd.DataFrame(
            {
                "item_id": np.arange(catalogue.N_ITEMS) + 1,
                "title": world.titles,
                "year": world.years,
                "genres": [f"{main}|{second}" for main, second in genres],
            }
        )
        return Tables(interactions, items)

    def setup(self, split: InteractionSplit, paths: Paths) -> None:
        super().setup(split, paths)
        whole = self.min_rating is None and self.k_core == 0
        self._next_film = isinstance(split, LeaveOneOut) and whole
        self._new_films = isinstance(split, NewItems) and whole

    def oracle(self) -> "NextFilmOracle | NewFilmOracle | None":
        """Known on the unfiltered world for leave-one-out, which asks for the next film, and for new films."""
        if self._next_film:
            return NextFilmOracle(self)
        if not self._new_films:
            return None
        known = np.isin(self.store.pairs(), self.history("test").pairs())
        met = np.bincount(self.store.items[known], minlength=self.store.n_items) > 0
        people, films = self.store.user_ids - 1, self.store.item_ids - 1
        return NewFilmOracle(catalogue.before_watching(self.seed), self.store, known, ~met, people, films)


class NextFilmOracle:
    """Ranks unseen films by the probability that the world's choice rule gives them: no recommender can do better.

    It knows the tastes, how long each watching life is, and the film watched last; the film to be found is the next.
    """

    def __init__(self, data: WorldRatings):
        self.world = catalogue.before_watching(data.seed)
        self.users = data.store.user_ids - 1
        self.items = data.store.item_ids - 1
        self.lengths = catalogue.lives(data.seed)

    def score(self, users: Tensor, histories: Histories) -> Tensor:
        """float64 [batch, n_items]."""
        people = self.users[users.numpy()]
        offsets = histories.offsets.numpy()
        watched = np.diff(offsets)
        newest = histories.items.numpy()[np.maximum(offsets[1:] - 1, 0)]
        previous = np.where(watched > 0, self.items[newest], -1)
        utilities = self.world.utilities(people, watched / self.lengths[people], previous)
        return torch.from_numpy(utilities[:, self.items])


class WorldReviews(TextData):
    """Reviews by the world's people of the world's films; the class says whether the reviewer liked the film."""

    licence = "made by Marquee, Apache-2.0"

    def __init__(
        self,
        *,
        seed: Annotated[int, Ge(0)] = 1,
        tokenizer: Kind = "word",
        lowercase: bool = True,
        punctuation: bool = True,
        vocabulary_size: Annotated[int, Ge(3)] = 2000,
        min_count: Annotated[int, Ge(1)] = 1,
    ):
        super().__init__(
            tokenizer=tokenizer,
            lowercase=lowercase,
            punctuation=punctuation,
            vocabulary_size=vocabulary_size,
            min_count=min_count,
        )
        self.seed = seed

    def source(self, paths: Paths) -> TextSource:
        def read() -> Corpus:
            written = reviews.write(self.seed)
            return Corpus(written.texts, ["positive" if good else "negative" for good in written.favourable])

        return TextSource("world_reviews", {"seed": self.seed, "world": catalogue.VERSION}, read)

    @property
    def users(self) -> np.ndarray:
        """The user id (as in world_ratings) of each review."""
        return reviews.write(self.seed).users + 1

    @property
    def items(self) -> np.ndarray:
        """The item id (as in world_ratings) of each review."""
        return reviews.write(self.seed).items + 1

    def about(self) -> dict[Literal["item", "user"], Sequence[str]]:
        return {"item": self.items.astype(str), "user": self.users.astype(str)}

    def setup(self, split: ExampleSplit, paths: Paths) -> None:
        super().setup(split, paths)
        self._paths = paths

    def oracle(self) -> "PosteriorOracle":
        def write(folder: Path) -> None:
            np.save(folder / "posterior.npy", reviews.write(self.seed).posterior)

        # Kept: whoever finds the texts prepared would have to write them all again.
        key = {"seed": self.seed, "world": catalogue.VERSION}
        good = np.load(cached(self._paths, "world_reviews_posterior", key, write) / "posterior.npy")
        columns = {"negative": 1 - good, "positive": good}
        return PosteriorOracle(np.stack([columns[label] for label in self.spec.labels], axis=1))


class WorldPosters(ImageData):
    """Posters of the world's films; the class is the film's main genre."""

    licence = "made by Marquee, Apache-2.0"

    def __init__(self, *, seed: Annotated[int, Ge(0)] = 1):
        super().__init__(height=posters.HEIGHT, width=posters.WIDTH, channels=3)
        self.seed = seed

    def source(self, paths: Paths) -> ImageSource:
        genres = catalogue.before_watching(self.seed).genres[:, 0]
        labels = np.repeat([catalogue.GENRES[genre] for genre in genres], posters.PER_FILM)
        names = [f"film {film + 1}, poster {n + 1}" for film in range(len(genres)) for n in range(posters.PER_FILM)]
        key = {"seed": self.seed, "world": catalogue.VERSION}
        return ImageSource("world_posters", key, names, labels.tolist(), pixels=lambda: posters.draw(self.seed).images)

    @property
    def items(self) -> np.ndarray:
        """The item id (as in world_ratings) of each poster."""
        return posters.pictured() + 1

    def about(self) -> dict[Literal["item", "user"], Sequence[str]]:
        return {"item": self.items.astype(str)}

    def anew(self) -> np.ndarray:
        """As many posters of the same films, by the same law: the best that a maker of pictures could do."""
        return posters.draw(self.seed, "world/posters anew").images

    def oracle(self) -> "PosteriorOracle":
        order = [catalogue.GENRES.index(label) for label in self.spec.labels]
        return PosteriorOracle(posters.posterior(self.seed)[:, order])


class PosteriorOracle:
    """The exact P(class | example), [examples, n_classes], looked up by the example's row number."""

    def __init__(self, posterior: np.ndarray):
        self.log_posterior = torch.from_numpy(np.log(posterior))

    def __call__(self, batch: Any) -> Tensor:
        """Logits [batch, n_classes] whose softmax is the posterior."""
        return self.log_posterior[batch.index]
