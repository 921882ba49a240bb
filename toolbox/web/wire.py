"""JSON on the wire: lenient decoding as the contract asks, strict encoding.

Lenient means: any Content-Type, unknown fields ignored, `null` counts as absent, and field names match without regard
to case (the reference daemon is written in Go, whose decoder does so).
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import inspect

from toolbox.errors import BadRequest, InvalidBody

T = TypeVar("T", bound=msgspec.Struct)

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""A string that must not be empty: an empty required string counts as missing."""

PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


class Model(msgspec.Struct, rename="camel"):
    """A wire model. Fields are snake_case here and camelCase on the wire."""


class _Shape:
    """How to normalise the keys of one struct: lower-case name -> (wire name, shape of the value)."""

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, tuple[str, "_Shape | _ListOf | None"]]) -> None:
        self.fields = fields

    def normalise(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        result: dict[str, Any] = {}
        for key, item in value.items():
            field = self.fields.get(key.lower())
            if field is None or item is None:
                continue
            name, shape = field
            # An exactly spelled key wins over one that matches only without regard to case.
            if name in result and key != name:
                continue
            result[name] = item if shape is None else shape.normalise(item)
        return result


class _ListOf:
    __slots__ = ("item",)

    def __init__(self, item: "_Shape | _ListOf") -> None:
        self.item = item

    def normalise(self, value: Any) -> Any:
        return [self.item.normalise(each) for each in value] if isinstance(value, list) else value


def _shape_of(kind: inspect.Type) -> "_Shape | _ListOf | None":
    match kind:
        case inspect.StructType():
            return _Shape({f.encode_name.lower(): (f.encode_name, _shape_of(f.type)) for f in kind.fields})
        case inspect.ListType():
            item = _shape_of(kind.item_type)
            return None if item is None else _ListOf(item)
        case inspect.UnionType():
            return next((shape for shape in map(_shape_of, kind.types) if shape is not None), None)
        case _:
            return None


@cache
def _shape(model: type[msgspec.Struct]) -> _Shape:
    shape = _shape_of(inspect.type_info(model))
    assert isinstance(shape, _Shape)  # noqa: S101 -- a Struct always has one
    return shape


def is_object(data: bytes) -> bool:
    """Tell whether `data` is a JSON object."""
    try:
        return isinstance(msgspec.json.decode(data), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def decode(data: bytes, model: type[T]) -> T:
    """Decode a JSON object into `model`. Raises `InvalidBody`."""
    try:
        return msgspec.convert(_shape(model).normalise(msgspec.json.decode(data)), model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(f"invalid request body: {error or 'nested too deeply'}") from None


def convert_text(values: Mapping[str, str], model: type[T]) -> T:
    """Convert query parameters to `model`; numbers and booleans come as text. Raises `BadRequest`."""
    try:
        return msgspec.convert(_shape(model).normalise(dict(values)), model, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"invalid query: {error}") from None
