"""Places: check-ins of Gowalla, in the split on which the papers of NGCF and LightGCN are measured."""

from pathlib import Path

import pandas as pd

from marquee.data.dataset import Paths
from marquee.data.interactions.dataset import InteractionData
from marquee.data.interactions.sequences import read_sequences
from marquee.data.sources import Archive, RawFile, find

ADDRESS = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data/gowalla"


class Gowalla(InteractionData):
    """1,027,370 pairs of 29,858 people and 40,981 places, published as train (810,128) and test (217,242).

    Cho, Myers & Leskovec 2011, "Friendship and mobility"; the split is that of Wang et al. 2019 (NGCF) and He et al.
    2020 (LightGCN), one user a line. There are no times, places have no names.
    """

    licence = "none stated; research use"
    name = "gowalla"

    def sources(self, paths: Paths) -> dict[str, Path]:
        def published(part: str) -> Path:
            names = (f"gowalla/{part}.txt.gz", f"gowalla/{part}.txt")
            archive = Archive(f"gowalla-{part}.txt", f"{ADDRESS}/{part}.txt")
            return find(RawFile(names, archive=archive), paths, self.name)

        return {part: published(part) for part in ("train", "test")}

    def read_interactions(self, path: Path) -> pd.DataFrame:
        return read_sequences(path)
