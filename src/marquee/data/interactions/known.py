"""What a predictor keeps of the data: every user's history, the original ids and the titles. JSON and safetensors."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # an id that is a whole number, as people write one
# Evaluation scores about this many (user, item) cells at a time: 8 MB of float32. Twice as many save 0.04 CPU s on
# MovieLens-1M, but cost 0.08 GB of peak memory in the metrics of scores that tie.
EVALUATION_CELLS = 2_000_000


@dataclass(frozen=True)
class Known:
    """All known interactions and the names of their users and items.

    offsets   int64 [n_users + 1]; the items of user u are items[offsets[u]:offsets[u + 1]], oldest first
    items     int32 [n]
    user_ids  [n_users] original ids, int64 or object (strings)
    item_ids  [n_items] likewise
    titles    [n_items]; the id as text where no title is known
    times     int64 [n], when each of `items` was met, in seconds; None where the data does not say
    """

    offsets: np.ndarray
    items: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: list[str]
    times: np.ndarray | None = None

    def history(self, user: int) -> np.ndarray:
        """The items of the user at position `user`, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def save(self, folder: Path) -> None:
        """Write histories.safetensors and ids.json."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        histories = {"offsets": self.offsets, "items": self.items}
        if self.times is not None:
            histories["times"] = self.times
        save_file(
            {name: np.ascontiguousarray(array) for name, array in histories.items()}, folder / "histories.safetensors"
        )
        ids = {"user_ids": self.user_ids.tolist(), "item_ids": self.item_ids.tolist(), "titles": self.titles}
        (folder / "ids.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")


def from_inference(folder: Path) -> Known:
    """Read back what `Known.save` wrote."""
    from safetensors.numpy import load_file

    ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
    return known_of(load_file(folder / "histories.safetensors"), ids)


def known_of(histories: Mapping[str, np.ndarray], ids: Mapping[str, Any]) -> Known:
    """What the two files hold, read already."""
    return Known(
        histories["offsets"],
        histories["items"],
        _array(ids["user_ids"]),
        _array(ids["item_ids"]),
        ids["titles"],
        histories.get("times"),  # folders of earlier versions have none
    )


def _array(ids: list) -> np.ndarray:
    return np.asarray(ids, dtype=np.int64 if all(isinstance(value, int) for value in ids) else object)
