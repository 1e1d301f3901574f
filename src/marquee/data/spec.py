"""What a data set tells a model about itself. A model's first parameter is annotated with the spec it takes."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Spec:
    """Base of the specs, so that `config.check` can tell which models fit which data by type alone.

    A sub-class is known to `spec_from_json` as soon as it is defined, also one of a plug-in.
    """

    kinds: ClassVar[dict[str, type["Spec"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Spec.kinds[cls.__name__] = cls

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data, with `kind`, the name of the class."""
        return {"kind": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Feature:
    """A column that is known of every user, or of every item.

    kind  categorical: one of `size` values, 0 stands for a missing or unknown one; int64 [n]
          multi_hot: any of `size` values, or none; float32 [n, size]
          dense: `size` numbers, standardised over the table; float32 [n, size]
    """

    name: str
    kind: Literal["categorical", "multi_hot", "dense"]
    size: int


@dataclass(frozen=True)
class InteractionSpec(Spec):
    """Users and items are the integers `0 .. n-1`; padding, where a model needs it, is the item id `n_items`.

    Further tokens of a model's own, such as the mask of BERT4Rec, follow from `n_items + 1` on.
    """

    n_users: int
    n_items: int
    has_timestamps: bool = False
    has_values: bool = False
    user_features: tuple[Feature, ...] = ()
    item_features: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class TextSpec(Spec):
    """Labelled texts. Tokens are `0 .. vocab_size-1`, with 0 for padding and 1 for words that training never saw."""

    vocab_size: int
    n_classes: int
    labels: tuple[str, ...] = ()
    multilabel: bool = False


@dataclass(frozen=True)
class SlotSpec(TextSpec):
    """Labelled texts with a tag for each token: `slots` names the tags, B-city, I-city, O, ..., from number 0 on."""

    slots: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairSpec(Spec):
    """What is said and what is replied to it, in tokens as those of `TextSpec`."""

    vocab_size: int


@dataclass(frozen=True)
class GuideSpec(Spec):
    """Customers who are asked yes-or-no questions and are then recommended one of `n_items` items."""

    questions: tuple[str, ...]
    n_items: int


@dataclass(frozen=True)
class TokenSpec(Spec):
    """Text or music to be continued: tokens are `0 .. vocab_size-1`, and there are no labels."""

    vocab_size: int


@dataclass(frozen=True)
class RollSpec(Spec):
    """Piano rolls: `keys` notes that sound or not in each frame, the first of them MIDI note `lowest`.

    frames_per_quarter  of a quarter note
    """

    keys: int = 88
    lowest: int = 21
    frames_per_quarter: int = 1


@dataclass(frozen=True)
class ImageSpec(Spec):
    """Images are uint8 tensors `[batch, channels, height, width]`; without labels there are no classes."""

    channels: int
    height: int
    width: int
    n_classes: int = 0
    labels: tuple[str, ...] = ()
    multilabel: bool = False


def spec_from_json(content: dict[str, Any]) -> Spec:
    """The inverse of `Spec.to_json`.

    Raises ValueError for a kind that nobody has defined, and for fields that do not fit.
    """
    fields = dict(content)
    kind = fields.pop("kind")
    if kind not in Spec.kinds:
        raise ValueError(f"there is no spec {kind}; known are {', '.join(sorted(Spec.kinds))}")
    return TypeAdapter(Spec.kinds[kind]).validate_python(fields)
