"""Answers as bytes: JSON in the order of the fields, worked out once from the declared types.

Only what answers are made of can be written: frozen dataclasses and named tuples of decimals, times, texts, numbers,
sequences and mappings. Nothing in the bytes names code, so reading them runs nothing, whoever wrote them; what does
not fit the types is a `ValueError`. Decimals and times keep every digit.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Generic, NewType, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from steelyard.operations.reading import Answer

T = TypeVar("T")

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Part:
    """How one type is written and read, and what it looks like."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    shape: str


def _same(value: Any) -> Any:
    return value


def _only(kind: type) -> Callable[[Any], Any]:
    def read(written: Any) -> Any:
        if type(written) is not kind:
            raise TypeError(f"{kind.__name__} was expected")
        return written

    return read


_PLAIN: Mapping[Any, _Part] = {
    str: _Part(_same, _only(str), "text"),
    int: _Part(_same, _only(int), "int"),
    bool: _Part(_same, _only(bool), "bool"),
    type(None): _Part(_same, _only(type(None)), "none"),
    Decimal: _Part(str, Decimal, "decimal"),
    datetime: _Part(datetime.isoformat, datetime.fromisoformat, "datetime"),
    date: _Part(date.isoformat, date.fromisoformat, "date"),
    time: _Part(time.isoformat, time.fromisoformat, "time"),
    timedelta: _Part(lambda value: value // _MICROSECOND, lambda number: number * _MICROSECOND, "duration"),
    UUID: _Part(str, UUID, "uuid"),
}


class AnswerForm(Generic[T]):
    """Writes and reads answers whose value is of one type; fulfils `caching.Form`."""

    def __init__(self, value_type: Any) -> None:
        """Raises `TypeError` for a type that holds anything else than what answers are made of."""
        self._part = _part_of(Answer[value_type], {})
        self._fingerprint = hashlib.blake2b(self._part.shape.encode(), digest_size=8).hexdigest()

    @property
    def fingerprint(self) -> str:
        """A digest of every name and type within."""
        return self._fingerprint

    def write(self, answer: Answer[T]) -> bytes:
        """An answer as bytes."""
        return json.dumps(self._part.write(answer), separators=(",", ":")).encode()

    def read(self, text: bytes) -> Answer[T]:
        """The answer in bytes that `write` made; raises `ValueError` for anything else."""
        try:
            answer: Answer[T] = self._part.read(json.loads(text))
        except (TypeError, KeyError, IndexError, InvalidOperation, AttributeError, RecursionError) as error:
            raise ValueError(f"not an answer of this shape: {error}") from None
        return answer


def _part_of(kind: Any, bound: Mapping[Any, Any]) -> _Part:
    kind = bound.get(kind, kind)
    while isinstance(kind, NewType):
        kind = kind.__supertype__
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return _union([_part_of(each, bound) for each in arguments], arguments)
    if origin is Mapping or origin is dict:
        return _mapping(*(_part_of(each, bound) for each in arguments))
    if origin is tuple and (len(arguments) != 2 or arguments[1] is not ...) and arguments:
        return _record(tuple, [_part_of(each, bound) for each in arguments], names=range(len(arguments)))
    if origin in (tuple, list, Sequence) and arguments:
        return _sequence(_part_of(arguments[0], bound))
    if isinstance(origin, type):
        return _class(origin, {**bound, **dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))})
    raise TypeError(f"answers are not made of {kind}")


def _class(kind: type, bound: Mapping[Any, Any]) -> _Part:
    if issubclass(kind, Enum):
        return _Part(lambda value: value.value, kind, f"{kind.__name__}{[each.value for each in kind]}")
    hints = get_type_hints(kind)
    if is_dataclass(kind):
        names = [each.name for each in fields(kind) if each.init]
        return _record(kind, [_part_of(hints[name], bound) for name in names], names=names)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
        return _record(kind, [_part_of(hints[name], bound) for name in names], names=names)
    raise TypeError(f"answers are not made of {kind}")


def _record(kind: type, parts: Sequence[_Part], *, names: Sequence[Any]) -> _Part:
    is_positional = issubclass(kind, tuple)
    writers = [part.write for part in parts]
    readers = [part.read for part in parts]

    def write(value: Any) -> list[Any]:
        values = value if is_positional else [getattr(value, name) for name in names]
        return [writer(each) for writer, each in zip(writers, values, strict=True)]

    def read(written: Any) -> Any:
        values = [reader(each) for reader, each in zip(readers, written, strict=True)]
        if kind is tuple:
            return tuple(values)
        return kind(**dict(zip(names, values, strict=True)))

    inside = ",".join(f"{name}={part.shape}" for name, part in zip(names, parts, strict=True))
    return _Part(write, read, f"{kind.__name__}({inside})")


def _sequence(part: _Part) -> _Part:
    def write(values: Any) -> list[Any]:
        return [part.write(each) for each in values]

    def read(written: Any) -> tuple[Any, ...]:
        if not isinstance(written, list):
            raise TypeError("a list was expected")
        return tuple(part.read(each) for each in written)

    return _Part(write, read, f"[{part.shape}]")


def _mapping(key: _Part, value: _Part) -> _Part:
    def write(values: Any) -> list[Any]:
        return [[key.write(name), value.write(each)] for name, each in values.items()]

    def read(written: Any) -> dict[Any, Any]:
        return {key.read(name): value.read(each) for name, each in written}

    return _Part(write, read, f"{{{key.shape}:{value.shape}}}")


def _union(parts: Sequence[_Part], kinds: Sequence[Any]) -> _Part:
    """One of several: written with its place among them, nothing as null."""
    plain = [get_origin(kind) or _unnamed(kind) for kind in kinds]

    def write(value: Any) -> Any:
        if value is None:
            return None
        for place, kind in enumerate(plain):
            if kind is not type(None) and isinstance(value, kind):
                return [place, parts[place].write(value)]
        raise TypeError(f"{type(value).__name__} is none of {kinds}")

    def read(written: Any) -> Any:
        return None if written is None else parts[written[0]].read(written[1])

    return _Part(write, read, "|".join(part.shape for part in parts))


def _unnamed(kind: Any) -> Any:
    while isinstance(kind, NewType):
        kind = kind.__supertype__
    return kind
