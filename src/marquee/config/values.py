"""Is a YAML value what an annotation asks for? Strict: true is no integer, "3" is no number, ranges hold.

And how a value is written: in words, in YAML, and in the grammar of overrides.
"""

import json
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import annotated_types
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError


@cache
def adapter(annotation: Any) -> TypeAdapter | None:
    """A pydantic TypeAdapter, or None where the annotation says nothing that can be checked."""
    if annotation is Any:
        return None
    try:
        return TypeAdapter(_prepared(annotation), config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, PydanticSchemaGenerationError, NameError):
        return None


def _prepared(annotation: Any) -> Any:
    """The annotation with each class of ours or of a library refused: no YAML value is an instance of it."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        plain = annotation.__module__.partition(".")[0] in ("builtins", "pathlib", "datetime")  # 3.13: pathlib._local
        return annotation if plain else Annotated[Any, AfterValidator(_refuse)]
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(map(_prepared, typing.get_args(annotation)))]  # noqa: UP007  (made at run time)
    return annotation


def _refuse(value: Any) -> Any:
    raise ValueError("an object is asked for")


def convert(annotation: Any, value: Any) -> Any:
    """The value as the annotated type: a list becomes a tuple, a string a Path. Raises ValueError for a misfit."""
    judge = adapter(annotation)
    if judge is None:
        return value
    # YAML knows what JSON knows. Pydantic's strict JSON mode therefore asks exactly the right questions: lists may be
    # tuples, integers may be floats, but neither strings nor booleans are numbers.
    try:
        return judge.validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError) as error:
        raise ValueError(str(error)) from error


def fits(annotation: Any, value: Any) -> bool:
    """Whether `convert` accepts the value."""
    try:
        convert(annotation, value)
    except ValueError:
        return False
    return True


def describe(annotation: Any) -> str:
    """What is allowed, in words: `integer >= 1`, `number from 0 to below 1`, `one of bce, ce`."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return _ranged(describe(arguments[0]), arguments[1:])
    if origin is Literal:
        return "one of " + ", ".join(map(shown, arguments)) if len(arguments) > 1 else shown(arguments[0])
    if origin in (Union, types.UnionType):
        parts = list(dict.fromkeys(describe(argument) for argument in arguments if argument is not type(None)))
        # Lightning and torch accept objects as well; YAML cannot write them, so they are not worth a word.
        parts = [part for part in parts if not part.startswith("an object")] or parts
        return " or ".join(parts + ["null"] * (type(None) in arguments))
    if origin in (list, set, frozenset) or (origin is tuple and arguments[-1:] == (Ellipsis,)):
        return f"list of {describe(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)}: " + ", ".join(map(describe, arguments))
    if origin is dict:
        return f"mapping of {describe(arguments[0])} to {describe(arguments[1])}"
    names = {
        int: "integer", float: "number", str: "text", bool: "true or false", Path: "path", Any: "anything",
        list: "list", dict: "mapping", tuple: "list", type(None): "null",
    }  # fmt: skip
    if annotation in names:
        return names[annotation]
    return f"an object of {getattr(annotation, '__name__', annotation)} (_target_)"


def _ranged(base: str, constraints: tuple[Any, ...]) -> str:
    low = high = ""
    length = ""
    for constraint in constraints:
        if isinstance(constraint, annotated_types.Interval):
            return _ranged(base, tuple(constraint))
        if isinstance(constraint, annotated_types.Ge):
            low = f" >= {constraint.ge}"
        elif isinstance(constraint, annotated_types.Gt):
            low = f" > {constraint.gt}"
        elif isinstance(constraint, annotated_types.Le):
            high = f" <= {constraint.le}"
        elif isinstance(constraint, annotated_types.Lt):
            high = f" < {constraint.lt}"
        elif isinstance(constraint, annotated_types.MultipleOf):
            length += f", a multiple of {constraint.multiple_of}"
        elif isinstance(constraint, annotated_types.Len):
            length += f", at least {constraint.min_length} long" if constraint.min_length else ""
            length += f", at most {constraint.max_length} long" if constraint.max_length is not None else ""
        elif isinstance(constraint, annotated_types.MinLen):
            length += f", at least {constraint.min_length} long"
        elif isinstance(constraint, annotated_types.MaxLen):
            length += f", at most {constraint.max_length} long"
    return base + low + (" and" if low and high else "") + high + length


def shown(value: Any) -> str:
    """A value as one would type it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(shown, value)) + "]"
    if isinstance(value, str):
        return value if value and value.strip() == value else repr(value)
    return str(value)


def spelled(value: Any) -> str:
    """A value in the grammar of overrides, as one would type it after `key=`; Hydra reads the same value back."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{spelled(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(spelled, value)) + "]"
    if isinstance(value, str) and (not re.fullmatch(r"[A-Za-z_/][\w./@-]*", value) or value.lower() in _NOT_TEXT):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


_NOT_TEXT = ("null", "true", "false", "nan", "inf")


def kind(value: Any) -> str:
    """What a found value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    names = {int: "integer", float: "number", str: "text", list: "list", dict: "mapping", type(None): "null"}
    return names.get(type(value), type(value).__name__)
