"""Randomness without state: every stream is derived from (seed, purpose, numbers such as epoch and index)."""

import hashlib


def derive(seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed for one purpose, independent of every other purpose, epoch and index."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, purpose: str, *numbers: int):
    """A CPU torch.Generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive(seed, purpose, *numbers))


def numpy_generator(seed: int, purpose: str, *numbers: int):
    """A NumPy Generator for one purpose."""
    import numpy

    return numpy.random.default_rng(derive(seed, purpose, *numbers))
