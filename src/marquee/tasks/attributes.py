"""What is known of users and items besides: by which users are told apart, and by which lists are measured."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from marquee.data.dataset import Part
from marquee.data.interactions.dataset import InteractionData
from marquee.errors import ConfigError
from marquee.metrics.beyond import BY_FEATURE
from marquee.metrics.groups import Groups, quartiles, values_or_quartiles


def feature_table(data: InteractionData, name: str | None, beyond: Sequence[str]) -> Tensor | None:
    """float32 [n_items, values] of the item feature `name`; None where neither it nor what needs it is asked for.

    Raises ConfigError where it is no column of `data.item_features`, or cannot serve a metric of `beyond`.
    """
    wanted = [metric for metric in BY_FEATURE if metric in beyond]
    if name is None and not wanted:
        return None
    learnt = data.features["item"]
    known = [column.name for column in learnt.columns]
    if name not in known:
        what = f"task.beyond names {' and '.join(wanted)}, which need" if wanted else "task.item_feature names"
        raise ConfigError(
            f"task.item_feature={name or 'null'}: {what} a column of data.item_features "
            f"({', '.join(known) or 'null'}).\n  fix: 'data.item_features={{genres: multi_hot}}' "
            "task.item_feature=genres, or another column of the item table"
        )
    column = learnt.columns[known.index(name)]
    if column.kind == "dense" and "miscalibration" in beyond:
        raise ConfigError(
            f"task.item_feature={name} is dense, and miscalibration compares shares of values such as genres. Name a "
            "multi_hot or categorical column, or leave miscalibration out of task.beyond."
        )
    table = torch.from_numpy(data.encoded("item", whole=True)[name])
    if column.kind == "categorical":  # 0 is unknown, and so no value
        table = torch.nn.functional.one_hot(table, column.size)[:, 1:]
    return table.float()


def groups_of(data: InteractionData, attributes: Sequence[str], part: Part) -> dict[str, Groups]:
    """The groups of users by each attribute; quarters are those of the users with targets in the part.

    Raises ConfigError for what is neither a column of the user table nor history_length nor item_popularity, which
    groups targets and not users.
    """
    found = {}
    judged = np.diff(data.parts[part].offsets) > 0
    for name in attributes:
        if name == "item_popularity":
            continue
        if name == "history_length":
            lengths = np.diff(data.history(part).offsets)
            names, places = quartiles(lengths[judged]) if judged.any() else ([], np.zeros(0, int))
            of_user = np.full(len(judged), -1)
            of_user[judged] = places
        elif name in data.users and name != "user_id":
            names, of_user = values_or_quartiles(data.users[name], f"task.groups: {name}")
        else:
            columns = [column for column in data.users if column != "user_id"]
            raise ConfigError(
                f"task.groups: {name} is neither history_length nor item_popularity nor a column of the user table "
                f"({', '.join(columns) or 'which this data does not have'})."
            )
        found[name] = Groups(names, of_user)
    return found
