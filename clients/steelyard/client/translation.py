"""Between messages of the contract and the records users hold: by field name and by the record's annotations.

A record is a frozen dataclass whose fields are named as in the contract. Text becomes `Decimal` where the annotation
says so, a Timestamp an aware datetime, an enum number a word, an unset field None. A new field of the contract is one
line in its record; a field the record does not name is left out.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

R = TypeVar("R")
M = TypeVar("M", bound=Message)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Reader = Callable[[Any], Any]
"""Turns the value of a message's field into that of a record's."""


def record_of(kind: type[R], message: Any) -> R:
    """The record that a message stands for."""
    return kind(**{name: read(message) for name, read in _readers(cast(Any, kind))})


def message_of(kind: type[M], record: object) -> M:
    """The message that a record stands for; fields that are None or an empty collection stay unset."""
    message = kind()
    fill_message(message, record)
    return message


def fill_message(message: Message, record: object) -> None:
    """Writes a record's fields into a message, where the message has them."""
    known = message.DESCRIPTOR.fields_by_name
    for field in dataclasses.fields(cast(Any, record)):
        value = getattr(record, field.name)
        if value is not None and field.name in known:
            _write(message, field.name, value=value)


def timestamp(at: datetime) -> Timestamp:
    """A time as the contract carries it. Raises `ValueError` for one without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone; give an aware datetime")
    delta = at - _EPOCH
    return Timestamp(seconds=delta.days * 86_400 + delta.seconds, nanos=delta.microseconds * 1_000)


def decimal_text(value: Decimal | int) -> str:
    """A number as the contract carries it. Raises `ValueError` for NaN and infinities, `TypeError` for floats."""
    if isinstance(value, float):
        raise TypeError("give a Decimal: a float has already lost what was meant")
    exact = Decimal(value)
    if not exact.is_finite():
        raise ValueError(f"{value} is no number")
    return format(exact, "f") if exact else "0"


def set_word(message: Message, name: str, *, word: StrEnum | None) -> None:
    """Sets an enum field by its word; None leaves it unset."""
    if word is not None:
        setattr(message, name, enum_number(message, name, word=word))


def enum_number(message: Message, name: str, *, word: str) -> int:
    """The number of an enum field's value, by its word (`LONG`)."""
    enum: Any = message.DESCRIPTOR.fields_by_name[name].enum_type
    return cast(int, enum.values_by_name[f"{_prefix(enum.name)}_{word}"].number)


def _write(message: Message, name: str, *, value: Any) -> None:
    if isinstance(value, StrEnum):
        setattr(message, name, enum_number(message, name, word=value))
    elif isinstance(value, Decimal):
        setattr(message, name, decimal_text(value))
    elif isinstance(value, datetime):
        getattr(message, name).CopyFrom(timestamp(value))
    elif dataclasses.is_dataclass(value):
        getattr(message, name).SetInParent()
        fill_message(getattr(message, name), value)
    elif isinstance(value, Mapping):
        getattr(message, name).update(value)
    elif isinstance(value, tuple | list):
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


@cache
def _readers(kind: type[Any]) -> tuple[tuple[str, Reader], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((field.name, _field_reader(field.name, hints[field.name])) for field in dataclasses.fields(kind))


def _field_reader(name: str, hint: Any) -> Reader:
    inner = _without_none(hint)
    if isinstance(inner, type) and issubclass(inner, StrEnum):
        return _enum_reader(name, inner)
    (item, *_) = typing.get_args(inner) or (None,)
    if isinstance(item, type) and issubclass(item, StrEnum):
        return _enums_reader(name, item)
    convert = _converter(inner)
    if inner is hint:
        return lambda message: convert(getattr(message, name))
    return lambda message: convert(getattr(message, name)) if message.HasField(name) else None


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (Union, types.UnionType):
        (inner,) = (part for part in typing.get_args(hint) if part is not type(None))
        return inner
    return hint


def _converter(hint: Any) -> Reader:
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        convert = _converter(arguments[0])
        return lambda values: tuple(convert(value) for value in values)
    if origin is dict:
        convert = _converter(arguments[1])
        return lambda values: {name: convert(value) for name, value in values.items()}
    assert dataclasses.is_dataclass(hint), f"no way to read {hint}"
    return lambda message: record_of(cast(type[Any], hint), message)


def _enum_reader(name: str, kind: type[StrEnum]) -> Reader:
    """Words of an enum; unset is None, and a value this client does not know yet is its bare word."""

    def read(message: Message) -> Any:
        number = getattr(message, name)
        return _word(message, name, number=number, kind=kind) if number else None

    return read


def _enums_reader(name: str, kind: type[StrEnum]) -> Reader:
    """Words of a repeated enum."""
    return lambda message: tuple(_word(message, name, number=number, kind=kind) for number in getattr(message, name))


def _word(message: Message, name: str, *, number: int, kind: type[StrEnum]) -> Any:
    enum: Any = message.DESCRIPTOR.fields_by_name[name].enum_type
    value = enum.values_by_number.get(number)
    word = value.name.removeprefix(_prefix(enum.name) + "_") if value is not None else f"UNKNOWN_{number}"
    return kind(word) if word in kind.__members__ else word


def _prefix(enum_name: str) -> str:
    return _CAPITAL.sub("_", enum_name).upper()


def _datetime_of(value: Any) -> datetime:
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000)


def _same(value: Any) -> Any:
    return value


_SCALARS: Mapping[Any, Reader] = {
    str: _same,
    int: _same,
    float: _same,
    bool: _same,
    Decimal: Decimal,
    datetime: _datetime_of,
    timedelta: lambda value: timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000),
    date: lambda value: date(value.year, value.month, value.day),
}
