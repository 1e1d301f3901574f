"""Recommend from a finished run: for users it knows by id, for anyone by history."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marquee.data.interactions.known import EVALUATION_CELLS, Known, from_inference
from marquee.errors import ConfigError
from marquee.inference.names import Ids, ItemNames, Unknown, short
from marquee.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from marquee.inference.embedding import Reader


class RecommendPredictor(Predictor):
    """The trained recommender with its id maps, titles and the histories it may mask.

    items        DataFrame: item_id, title and what else is known, one row an item
    users        the known user ids
    features     how further users and items are encoded ("user", "item"), where the model reads features
    filter_seen  whether items of the history are left out where nothing else is asked for: as the run was judged
    """

    does, verb = "recommends items", "recommend"
    example = "--user ID"

    def __init__(self, folder: Path):
        from marquee.data.interactions.features import Features
        from marquee.inference.artefacts import read_model

        super().__init__(folder)
        self._folder, self._readers = folder, None
        self._know(from_inference(folder), self.model.scores_unseen_users, type(self.model).__name__)
        facts = folder / "items.json"  # folders of earlier versions have none
        self.items = item_table(self.known, facts.read_text(encoding="utf-8") if facts.is_file() else None)
        self.filter_seen: bool = read_model(folder).get("serves", {}).get("filter_seen", True)
        file = folder / "features.json"
        learnt = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.features = {name: Features.from_json(content) for name, content in learnt.items()}

    def _know(self, known: Known, serves_all: bool, model: str) -> None:
        """Take what is known of the data, whether the model serves users that training never saw, and its name."""
        self.known, self.users = known, known.user_ids
        self.serves_all, self.model_name = serves_all, model
        self._user_ids = Ids(known.user_ids)
        self._names = ItemNames(known.item_ids, known.titles)
        self._titles = np.asarray(known.titles, dtype=object)

    def recommend(
        self,
        users: Sequence[int | str] | None = None,
        histories: Sequence[Sequence[int | str]] | None = None,
        *,
        k: int = 10,
        candidates: Sequence[int | str] | None = None,
        filter_seen: bool | None = None,
    ) -> "pd.DataFrame":
        """The `k` best items for each of `users` (original ids) or for each of `histories` (item ids or titles; what is
        both is the id, and a number is never a title).

        Without either, for all known users. `candidates` limits the catalogue; `filter_seen` leaves out the items of
        the history (None: where the run was judged so, `task.mask_seen`). Columns: user (for histories their number),
        rank (from 1), item_id, title, score; a user for whom fewer than `k` items are left gets fewer rows. Raises
        ConfigError for unknown ids or titles, and where the model cannot serve users it never saw.
        """
        import pandas as pd

        names, items, scores = self.best(users, histories, k=k, candidates=candidates, filter_seen=filter_seen)
        keep = np.isfinite(scores).ravel()
        width = items.shape[1]
        flat = items.ravel()[keep]
        return pd.DataFrame(
            {
                "user": np.repeat(names, width)[keep],
                "rank": np.tile(np.arange(1, width + 1), len(names))[keep],
                "item_id": self.known.item_ids[flat],
                "title": self._titles[flat],
                "score": scores.ravel()[keep],
            }
        )

    def best(
        self,
        users: Sequence[int | str] | None = None,
        histories: Sequence[Sequence[int | str]] | None = None,
        *,
        k: int = 10,
        candidates: Sequence[int | str] | None = None,
        filter_seen: bool | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `recommend`, in arrays: who they are for [n], positions of items [n, k] and scores [n, k], the best first;
        places that nothing is left for have the score -inf."""
        if k < 1:
            raise ConfigError(f"k={k}: at least one item must be asked for.")
        if users is not None and histories is not None:
            raise ConfigError("Give users or histories, not both.")
        if histories is not None:
            if not self.serves_all:
                from marquee.models.base import READ_HISTORIES

                raise ConfigError(
                    f"{self.model_name} knows users by id only and cannot score a history. "
                    f"Ask for a known user, or train a model that reads histories: {READ_HISTORIES}."
                )
            known, rows, names = self._histories(histories)
        else:
            rows = np.arange(len(self.users)) if users is None else self.find_users(users)
            known, names = (self.known.items, self.known.offsets, self.known.times), self.users[rows]
        allowed = None
        if candidates is not None:
            allowed = np.ones(len(self.known.item_ids), dtype=bool)
            allowed[self.find_items(candidates)] = False
        masked = self.filter_seen if filter_seen is None else filter_seen
        return np.asarray(names), *self._top(known, rows, histories is None, k, allowed, masked)

    def recommend_like(
        self,
        *,
        text: str | None = None,
        image: Any = None,
        k: int = 10,
        candidates: Sequence[int | str] | None = None,
    ) -> "pd.DataFrame":
        """The `k` items that are most like something nobody has met: a text, an image (path, bytes, Pillow), or both.

        It is read by the runs that made the features of the items, mapped as a new item would be, and compared by the
        cosine of the vectors. Columns: rank, item_id, title, score. Raises ConfigError where no feature comes from such
        a run, and for models that know no item by features.
        """
        import pandas as pd
        import torch

        if k < 1:
            raise ConfigError(f"k={k}: at least one item must be asked for.")
        given = {name: value for name, value in (("text", text), ("image", image)) if value is not None}
        if not given:
            raise ConfigError("Give a text or an image to be liked.")
        readers = self.readers()
        row: dict[str, Any] = {}
        for takes, value in given.items():
            names = [name for name, reader in readers.items() if reader.takes == takes]
            if not names:
                known = ", ".join(f"{name} ({reader.takes})" for name, reader in readers.items())
                raise ConfigError(
                    f"This run reads no {takes}s; features that runs made: {known or 'none'}. "
                    f"Train one with data.item_features=[NAME:RUN] of a run that classifies {takes}s."
                )
            row |= {name: pd.Series([readers[name].read([value])[0]], dtype=object) for name in names}
        vectors = self.model.item_vectors()
        new = None if vectors is None else self.model.content_vectors(self.features["item"].encode(pd.DataFrame(row)))
        if new is None:
            raise ConfigError(
                f"{type(self.model).__name__} does not know items by their features. Models that do: neural/two_tower, "
                "mf/vbpr, mf/mapped_ials, graph/freedom, and sequence models with model.features=true."
            )
        with torch.inference_mode():
            scores = torch.nn.functional.cosine_similarity(vectors.float(), new.float(), dim=1)
        if candidates is not None:
            allowed = torch.from_numpy(self.find_items(candidates))
            scores = torch.full_like(scores, -torch.inf).index_copy(0, allowed, scores[allowed])
        best, places = scores.topk(min(k, len(scores)))
        places = places[best > -torch.inf].numpy()
        return pd.DataFrame(
            {
                "rank": np.arange(1, len(places) + 1),
                "item_id": self.known.item_ids[places],
                "title": self._titles[places],
                "score": best[: len(places)].numpy(),
            }
        )

    def readers(self) -> "dict[str, Reader]":
        """The finished runs that made features of items of texts or images, by the name of the feature; loaded once."""
        from marquee.data.interactions.dataset import READERS
        from marquee.inference.embedding import Reader

        if self._readers is None:
            self._readers = {}
            for folder in sorted((self._folder / READERS / "item").glob("*")):
                scores = json.loads((folder / "reader.json").read_text(encoding="utf-8"))["scores"]
                self._readers[folder.name] = Reader(folder, f"The feature {folder.name}", scores)
        return self._readers

    def find_items(self, names: Iterable[int | str]) -> np.ndarray:
        """Positions of items given by id or title. Raises ConfigError that names the closest titles."""
        found = []
        for name in names:
            position = self._names.position(name)
            if position is None:
                raise self._names.refuse(name)
            found.append(position)
        return np.asarray(found, dtype=np.int64)

    def golden(self) -> list[dict[str, Any]]:
        """By histories where the model reads them, else by the rows of users: no id of a user is written down."""
        n = len(self.items)
        if not self.serves_all:
            return [{"row": row} for row in sorted({0, len(self.users) // 2, len(self.users) - 1})]
        spread = [[n // 7, n // 3, n // 2], [n - 1], []]
        return [{"history": self.known.item_ids[rows].tolist() if rows else []} for rows in spread]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        if "row" in question:
            table = self.recommend(users=[self.users[question["row"]]])
        else:
            table = self.recommend(histories=[question["history"]])
        return {"item_id": table["item_id"].tolist(), "score": table["score"].astype(float).tolist()}

    def search(self, text: str, n: int = 10) -> "pd.DataFrame":
        """Up to `n` items whose titles begin with a text, hold it or are spelt like it: rows of `items`."""
        return self.items.iloc[self._names.search(text, n)]

    def find_users(self, users: Sequence[int | str]) -> np.ndarray:
        """Positions of known users. Raises Unknown (a ConfigError) that says what there is."""
        rows = [self._user_ids.position(user) for user in users]
        if None in rows:
            unknown = short(users[rows.index(None)])
            serve = (
                "Give a history instead (--history)."
                if self.serves_all
                else (f"{self.model_name} cannot serve users that training never saw.")
            )
            raise Unknown(
                f"User {unknown!r} is not in this run, which knows {len(self.users):,} users "
                f"such as {', '.join(map(str, self.users[:3]))}. {serve}",
                self.users[:3].tolist(),
            )
        return np.asarray(rows, dtype=np.int64)

    def _histories(
        self, histories: Sequence[Sequence[int | str]]
    ) -> tuple[tuple[np.ndarray, np.ndarray, None], np.ndarray, np.ndarray]:
        rows = [self.find_items(history) for history in histories]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        items = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        numbers = np.arange(len(rows))
        return (items, offsets, None), numbers, numbers  # who types a history does not say when it was

    def _top(self, known, rows, by_id: bool, k: int, excluded, filter_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores [users, k]; places that nothing could fill have the score -inf."""
        import torch

        with torch.inference_mode():
            return self._best(known, rows, by_id, k, excluded, filter_seen)

    def _best(self, known, rows, by_id: bool, k: int, excluded, filter_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from marquee.data.interactions.histories import Histories, gather_rows

        excluded = None if excluded is None else torch.from_numpy(excluded)
        size = max(1, EVALUATION_CELLS // len(self.items))
        items, scores = [], []
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            histories: Histories = gather_rows(known[0], known[1], chunk, known[2])
            users = torch.from_numpy(np.ascontiguousarray(chunk)) if by_id else None
            table = self.model.score(users, histories).float()
            table = table.clone(memory_format=torch.contiguous_format)
            if filter_seen:
                table[histories.rows(), histories.items] = -torch.inf
            if excluded is not None:
                table[:, excluded] = -torch.inf
            best, index = table.topk(min(k, table.shape[1]), dim=1)
            items.append(index.numpy())
            scores.append(best.numpy())
        width = min(k, len(self.items))
        empty = np.zeros((0, width))
        return np.concatenate([empty.astype(np.int64), *items]), np.concatenate([empty, *scores])


def item_table(known: Known, facts: str | None) -> "pd.DataFrame":
    """item_id, title and what else is known of the items (`items.json` as text), one row an item."""
    import io

    import pandas as pd

    items = pd.DataFrame({"item_id": known.item_ids, "title": known.titles})
    if facts is None:
        return items
    return pd.concat([items, pd.read_json(io.StringIO(facts), orient="split", dtype=False)], axis=1)
