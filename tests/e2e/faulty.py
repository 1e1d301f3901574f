"""A plug-in whose model does what jobs of a sweep do on a bad day: it raises, crashes, hangs, fills the disk."""

import os
import sys
from pathlib import Path

import pytest

MODEL = '''
"""Popularity, unless told otherwise."""

import ctypes
import os
import time
from pathlib import Path
from typing import Literal

import torch

from marquee.data.spec import InteractionSpec
from marquee.data.interactions.histories import Histories
from marquee.data.interactions.views import Matrix
from marquee.models.base import Recommender


class Moody(Recommender):
    max_epochs = 1
    scores_unseen_users = True

    def __init__(
        self,
        spec: InteractionSpec,
        *,
        view: Matrix,
        mood: Literal["fine", "raise", "segfault", "hang", "disk", "edit", "once", "killed", "card"] = "fine",
        lift: float = 1.0,
        note: str = "",
    ):
        super().__init__()
        self.view, self.mood, self.note, self.lift = view, mood, note, lift
        self.register_buffer("counts", torch.zeros(spec.n_items))

    def fit(self, batch):
        getattr(self, f"be_{self.mood}")()
        self.counts += torch.bincount(batch.items, minlength=len(self.counts)) * self.lift

    def score(self, users, histories: Histories):
        return self.counts.expand(len(histories.offsets) - 1, -1)

    def be_fine(self):
        pass

    def be_raise(self):
        print("the last words of this job")
        raise ArithmeticError("the model has had enough")

    def be_segfault(self):
        ctypes.string_at(0)

    def be_killed(self):
        os.kill(os.getpid(), 9)

    def be_hang(self):
        time.sleep(600)

    def be_disk(self):
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    def be_edit(self):
        file = Path(self.note)
        file.write_text(file.read_text().replace("lift: 1.0", "lift: 7.0"))

    def be_card(self):
        with open(self.note, "a") as file:
            file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + "\\n")

    def be_once(self):
        """Fails at the first attempt only."""
        mark = Path(self.note)
        if not mark.exists():
            mark.touch()
            raise ArithmeticError("the first attempt fails")
'''

YAML = """\
_target_: moods.model.Moody
mood: fine
lift: 1.0
note: ""
view:
  _target_: marquee.data.interactions.views.Matrix
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the plug-in into a folder and on the path; returns its YAML file."""
    package = folder / "moods"
    (package / "conf" / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(MODEL)
    file = package / "conf" / "model" / "moody.yaml"
    file.write_text(YAML)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("MARQUEE_PLUGINS", "moods")
    for name in [name for name in sys.modules if name.split(".")[0] == "moods"]:
        monkeypatch.delitem(sys.modules, name)
    return file
