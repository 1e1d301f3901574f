"""Composes with a trained model of piano rolls."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marquee.errors import ConfigError
from marquee.inference.generation import Generator, Made
from marquee.inference.scores import BETWEEN, as_abc, as_midi, picture, rolls_in_turn, sound
from marquee.metrics.polyphony import validity
from marquee.models.rolls import RollModel
from marquee.seeding import numpy_generator

MOST_FRAMES = 100_000  # of all pieces together
MOST_SECONDS = 3600  # of sound in a file


class Composer(Generator):
    """Writes pieces from silence on, frame by frame."""

    does, makes = "composes music", "piece"
    example = "--output tune.mid --frames 64"
    formats = {"midi": ".mid", "wav": ".wav", "abc": ".abc", "png": ".png"}
    takes = {"frames": 64, "temperature": 1.0, "tempo": 90.0}

    def __init__(self, folder: Path):
        super().__init__(folder)
        content = json.loads((folder / "music.json").read_text(encoding="utf-8"))
        self.range: tuple[int, int] = tuple(content["range"])

    def make(self, n: int, seed: int, settings: Mapping[str, Any]) -> list[Made]:
        frames, temperature, tempo = (settings[name] for name in ("frames", "temperature", "tempo"))
        if not 1 <= frames <= MOST_FRAMES // n:
            raise ConfigError(f"--frames={frames}: allowed is 1 ... {MOST_FRAMES} of all pieces together, here {n}.")
        if not 0 <= temperature < float("inf"):
            raise ConfigError(f"--temperature={temperature}: allowed is 0 or more.")
        if not 10 <= tempo <= 400:
            raise ConfigError(f"--tempo={tempo}: allowed is 10 ... 400 quarter notes a minute.")
        made = []
        for roll, nats in compose(self.model, self.spec.keys, [(seed, k) for k in range(n)], frames, temperature):
            checked = {name: round(value, 6) for name, value in validity([roll], *self.range).items()}
            facts = {"frames": frames, "tempo": tempo, "nats": [round(value, 6) for value in nats], **checked}
            made.append(Made(roll, facts))
        return made

    def golden(self) -> list[dict[str, Any]]:
        return [{"seed": 1, "frames": 4}]

    def told(self, question: Mapping[str, Any]) -> dict[str, list[Any]]:
        (made,) = self.generate(1, question["seed"], frames=question["frames"])
        return {"nats": list(map(float, made.facts["nats"]))}

    def render(self, made: Sequence[Made], format: str) -> bytes:
        rolls, tempo = [one.content for one in made], float(made[0].facts["tempo"])
        if format in ("midi", "wav"):
            quarters = sum(len(roll) for roll in rolls) / self.spec.frames_per_quarter + BETWEEN * len(rolls)
            if format == "wav" and quarters * 60 / tempo > MOST_SECONDS:
                raise ConfigError(
                    f"--format=wav: {quarters * 60 / tempo:,.0f} seconds of sound; up to {MOST_SECONDS:,} are written. "
                    "Lower --frames or -n, raise --tempo, or type --format midi."
                )
            return (as_midi if format == "midi" else sound)(rolls_in_turn(rolls, self.spec), tempo)
        return as_abc(rolls, self.spec, tempo).encode() if format == "abc" else picture(rolls)

    def shown(self, made: Sequence[Made]) -> str:
        return as_abc([one.content for one in made], self.spec, float(made[0].facts["tempo"]))


@torch.inference_mode()
def compose(
    model: RollModel, keys: int, streams: Sequence[tuple[int, int]], frames: int, temperature: float
) -> list[tuple[np.ndarray, list[float]]]:
    """A piece for each of `streams`, (seed, index): a roll, uint8 [frames, keys], and the nats of each frame.

    In float64, and each piece by the random numbers of its stream alone, so that neither their number nor the processor
    changes a piece. Before the first frame there is one of silence.
    """
    model = copy.deepcopy(model).to("cpu", torch.float64).eval()
    uniform = torch.from_numpy(
        np.stack([numpy_generator(seed, "compose", index).random((frames, keys)) for seed, index in streams])
    )
    frame, memory = torch.zeros(len(streams), keys, dtype=torch.float64), model.start(len(streams))
    rolls, nats = [], []
    for number in range(frames):
        frame, likelihood, memory = model.step(frame, memory, uniform[:, number], temperature)
        rolls.append(frame)
        nats.append(-likelihood)
    made, costs = torch.stack(rolls, dim=1).to(torch.uint8).numpy(), torch.stack(nats, dim=1).tolist()
    return list(zip(made, costs, strict=True))
