"""What a data set tells a model about itself. A model's first parameter is annotated with the spec it takes."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Spec:
    """Base of the specs, so that `config.check` can tell which models fit which data by type alone."""

    def to_json(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class InteractionSpec(Spec):
    """Users and items are the integers `0 .. n-1`; padding, where a model needs it, is the item id `n_items`."""

    n_users: int
    n_items: int
    has_timestamps: bool = False
    has_values: bool = False


@dataclass(frozen=True)
class TextSpec(Spec):
    """Tokens are `0 .. vocab_size-1`, with 0 for padding and 1 for words that training never saw."""

    vocab_size: int
    n_classes: int
    labels: tuple[str, ...] = ()
    multilabel: bool = False


@dataclass(frozen=True)
class ImageSpec(Spec):
    """Images are uint8 tensors `[batch, channels, height, width]`."""

    channels: int
    height: int
    width: int
    n_classes: int
    labels: tuple[str, ...] = ()
    multilabel: bool = False


SPECS = {spec.__name__: spec for spec in (InteractionSpec, TextSpec, ImageSpec)}


def spec_from_json(content: dict[str, Any]) -> Spec:
    """The inverse of `Spec.to_json`."""
    fields = dict(content)
    kind = fields.pop("kind")
    if "labels" in fields:
        fields["labels"] = tuple(fields["labels"])
    return SPECS[kind](**fields)
