"""Data that has grown by new interactions, or that some users have left: the same data set with another store."""

import hashlib
from collections.abc import Collection, Iterable
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.features import Features
from marquee.data.interactions.filters import without_duplicates
from marquee.data.interactions.splits import HISTORY, TEST, TRAIN, VALIDATION
from marquee.data.interactions.store import Interactions


def joined(data: InteractionData, events: pd.DataFrame) -> tuple[InteractionData, dict[str, Any]]:
    """The data with events (`events.read_events`) as training rows, and a report; `data` stays as it is.

    New users and items take their place among the ids. Rows stand in the order of time, or behind the user's others
    where there are no times. The data set's rule for duplicates decides between an event and a former training row.
    """
    store = data.store
    user_ids, item_ids = (
        _union(known, events[name]) for known, name in ((store.user_ids, "user"), (store.item_ids, "item"))
    )
    users = np.concatenate([_at(user_ids, store.user_ids)[store.users], _at(user_ids, events["user"])])
    items = np.concatenate([_at(item_ids, store.item_ids)[store.items], _at(item_ids, events["item"])])
    assigned = np.concatenate([data._assigned, np.full(len(events), TRAIN, dtype=data._assigned.dtype)])
    columns: dict[str, Any] = {"users": users.astype(np.int32), "items": items.astype(np.int32)}
    for name, key in (("timestamps", "timestamp"), ("values", "value")):
        own = getattr(store, name)
        columns[name] = None if own is None else np.concatenate([own, events[key].to_numpy(own.dtype)])
    last = None if store.labels is None else store.labels.max(initial=0)
    columns["labels"] = None if last is None else np.concatenate([store.labels, np.full(len(events), last, np.int8)])

    keep = np.ones(len(users), dtype=bool)
    free = np.isin(assigned, (TRAIN, HISTORY))
    own = None if columns["timestamps"] is None else columns["timestamps"][free]
    keep[free] = without_duplicates(users[free], items[free], own, data.duplicates)
    low = np.zeros(len(users), dtype=bool)
    if data.min_rating is not None:  # after the rule for duplicates, as where the data is prepared
        low = free & (columns["values"] < data.min_rating)
        keep &= ~low
    order = np.flatnonzero(keep)
    keys = (users[order],) if columns["timestamps"] is None else (columns["timestamps"][order], users[order])
    order = order[np.lexsort(keys)]
    columns = {name: None if column is None else column[order] for name, column in columns.items()}
    grown = replace(store, **columns, user_ids=user_ids, item_ids=item_ids)
    report = {
        "new_users": len(user_ids) - store.n_users,
        "new_items": len(item_ids) - store.n_items,
        "replaced": int((~keep[: len(store)]).sum()),
        "known_before": int((~keep & ~low)[len(store) :].sum()),
    }
    if data.min_rating is not None:
        report["withdrawn"] = int(low[len(store) :].sum())  # events that are below it, and so take their pair away
    return _with(data, grown, assigned[order]), report


def without(data: InteractionData, users: np.ndarray) -> InteractionData:
    """The data without some users (positions): their rows, ids, and what the user table had of them, also in how
    features of users are encoded. Items all stay."""
    stay = np.ones(data.store.n_users, dtype=bool)
    stay[users] = False
    rows = stay[data.store.users]
    store = data.store.take(rows)
    store = replace(store, users=(np.cumsum(stay) - 1)[store.users].astype(np.int32), user_ids=store.user_ids[stay])
    left = _with(data, store, data._assigned[rows])
    known = left._joined["user"]
    if known.features.kinds:
        learnt = Features.learn(known.table, known.features.kinds, "data.user_features")
        left._joined["user"] = replace(known, features=learnt)
        left.features = {**data.features, "user": learnt}
        left.spec = replace(left.spec, user_features=learnt.columns)
    return left


def hashed(ids: Iterable[Any], salt: str) -> list[str]:
    """What is kept of the id of somebody who is forgotten: enough to leave the same user out again of the raw data.

    Where all possible ids are known, such a hash can be guessed by trying them; it is no secret, and no id.
    """
    return [hashlib.blake2b(str(own).encode(), key=salt.encode()[:64], digest_size=16).hexdigest() for own in ids]


def positions_of(data: InteractionData, hashes: Collection[str], salt: str) -> np.ndarray:
    """The users whose ids have these hashes."""
    wanted = set(hashes)
    found = [place for place, own in enumerate(hashed(data.store.user_ids.tolist(), salt)) if own in wanted]
    return np.asarray(found, dtype=np.int64)


def _with(data: InteractionData, store: Interactions, assigned: np.ndarray) -> InteractionData:
    """The data set of another store, whose rows are assigned to parts like this."""
    grown = copy(data)
    grown.store, grown._assigned, grown._histories = store, assigned, {}
    codes = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    grown.parts = {name: store.take(assigned == code) for name, code in codes.items()}
    grown.items = _rows(data.items, "item_id", store.item_ids)
    grown.items["title"] = grown.items["title"].where(grown.items["title"].notna(), grown.items["item_id"].astype(str))
    grown.users = _rows(data.users, "user_id", store.user_ids)
    ids = {"user": store.user_ids, "item": store.item_ids}
    grown._joined = {
        side: replace(known, table=_rows(known.table, f"{side}_id", ids[side])) for side, known in data._joined.items()
    }
    grown.spec = replace(data.spec, n_users=store.n_users, n_items=store.n_items)
    grown.validates = len(grown.parts["validation"]) > 0
    return grown


def _rows(table: pd.DataFrame, key: str, ids: np.ndarray) -> pd.DataFrame:
    found = table.set_index(key).reindex(ids).reset_index(drop=True)
    found.insert(0, key, ids)
    return found


def _union(known: np.ndarray, more: pd.Series) -> np.ndarray:
    """All ids, ascending; where there is no new one, `known` itself."""
    new = pd.unique(more[~more.isin(known)])
    if not len(new):
        return known
    both = np.concatenate([known, new])
    return both[np.argsort(both, kind="stable")]


def _at(ids: np.ndarray, wanted: Any) -> np.ndarray:
    return pd.Index(ids).get_indexer(wanted)
