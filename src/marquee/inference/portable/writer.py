"""Write with an exported language model: the same sampler, steps from ONNX Runtime in float64."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from marquee.data.tokens.copies import Passages
from marquee.inference.portable.artefact import Artefact
from marquee.inference.sampling import Steps
from marquee.inference.writer import Writer


class PortableWriter(Writer):
    """As `Writer`."""

    def __init__(self, artefact: Artefact):
        self.artefact = artefact
        self._know(GraphSteps(artefact), artefact.json("tokens.json"))

    @cached_property
    def _passages(self) -> Passages:
        hashes = self.artefact.tensors("passages.safetensors")["hashes"].view(np.uint32)
        content = self.artefact.json("tokens.json")["passages"]
        return Passages(hashes, content["starts"], content["titles"], content["size"])


@dataclass
class Memory:
    """What the graph is given again, by name, and the tokens that a window holds, int64 [batch, n]."""

    state: dict[str, np.ndarray]
    tokens: np.ndarray
    filled: int = field(default=0)


class GraphSteps(Steps):
    """Reads tokens and hands on what the graph remembers: keys and values of a window, or a recurrent state.

    The graph has inputs `tokens` and `before...`, outputs logits for every place read and as many `after...`. Keys and
    values, [layers, batch, heads, read so far, width], grow up to `context`; then, as in the model itself, the newer
    half is read anew.
    """

    def __init__(self, artefact: Artefact):
        settings = artefact.told["settings"]
        self.artefact = artefact
        self.context = settings["context"]
        self.alone: bool = settings["one_at_a_time"]  # the graph takes one token of each text a step
        self._shapes = {one.name: one.shape for one in artefact.session.get_inputs() if one.name != "tokens"}

    def start(self, batch: int) -> Memory:
        # Dimensions that are not fixed are the batch and, of keys and values, what has been read, which is nothing.
        empty = {name: np.zeros([_size(place, size, batch) for place, size in enumerate(shape)])
                 for name, shape in self._shapes.items()}  # fmt: skip
        return Memory(empty, np.zeros((batch, 0), dtype=np.int64))

    def step(self, tokens: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        if self.context is not None:
            together = np.concatenate([memory.tokens, tokens], axis=1)
            if together.shape[1] > self.context:
                kept = max(self.context // 2, min(tokens.shape[1], self.context))
                tokens = together = together[:, -kept:]
                memory = self.start(len(tokens))
            memory.tokens = together
        logits = self.read(tokens, memory)
        return logits[:, -1], memory

    def read(self, tokens: np.ndarray, memory: Memory) -> np.ndarray:
        """Logits float64 [batch, n, vocab_size] behind each of the tokens; the memory goes on to their end."""
        found = []
        for part in np.split(tokens, tokens.shape[1], axis=1) if self.alone else [tokens]:
            logits, *after = self.artefact.run(tokens=part, **memory.state)
            memory.state = dict(zip(memory.state, after, strict=True))
            found.append(logits)
        return np.concatenate(found, axis=1)


def _size(place: int, size: Any, batch: int) -> int:
    if isinstance(size, int):
        return size
    return batch if place == 1 else 0
