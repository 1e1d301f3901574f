"""Clicks in a shop: 204,789 sessions of DIGINETICA in 17 weekly periods, to learn one after the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Interval

from marquee.data.dataset import Paths
from marquee.data.interactions.columns import read_interactions
from marquee.data.interactions.dataset import InteractionData, Tables
from marquee.data.sources import Archive, RawFile, find

ADDRESS = "https://raw.githubusercontent.com/doublemul/ADER/348fc2128bceb6bb3f3d8dd25ec8bbbae831af94/data/DIGINETICA"
PERIODS = 17


class Diginetica(InteractionData):
    """993,483 clicks of 204,789 sessions on 43,136 items, in order within a session; sessions are the users.

    548 sessions go on in the next period, so that the periods have 205,337 together.

    CIKM Cup 2016, prepared by Mi, Lin & Faltings 2020, "ADER: Adaptively distilled exemplar replay towards continual
    learning for session-based recommendation", RecSys. There are no times, but the period of each session.

    first  how many of the 17 periods are read, from the oldest on
    """

    name = "diginetica"
    ordered = True
    periods = True

    def __init__(self, *, first: Annotated[int, Interval(ge=2, le=PERIODS)] = PERIODS):
        super().__init__(duplicates="keep_all")
        self.first = first

    def sources(self, paths: Paths) -> dict[str, Path]:
        def published(number: int) -> Path:
            file = f"period_{number}.txt"
            names = (f"diginetica/{file}.gz", f"diginetica/{file}")
            return find(RawFile(names, archive=Archive(f"diginetica-{file}", f"{ADDRESS}/{file}")), paths, self.name)

        return {f"period{number}": published(number) for number in range(self.first)}

    def read(self, sources: Mapping[str, Path]) -> Tables:
        frames = [self.read_interactions(path).astype(str) for path in sources.values()]
        joined = pd.concat(frames, ignore_index=True)
        joined["label"] = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
        return Tables(joined.astype({"user": "int64", "item": "int64"}))

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_interactions(path, {"user": 0, "item": 1}, " ")
