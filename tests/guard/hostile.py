"""Requests that nobody sends by accident: made from the contract's own descriptors, seeded, half good and half hostile.

A request is built field by field, with values that fit the field's name and with values that do not; sometimes its
bytes are then damaged, given fields nobody knows, text that is no UTF-8, or made too large.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

DECIMALS = (
    *("1", "0", "-1", "0.5", "25000.25", "99999999999999999999.999999999999999999", "0.000000000000000001"),
    *("", "NaN", "sNaN", "Infinity", "-inf", "1e5", "1e1000000", "1E-400", "1_000", " 1", "1 ", "+1", "-0", "00", "01"),
    *("1.", ".5", "0x10", "１２", "٣", "1,000.00", "1.0000000000000000001", "9" * 21, "9" * 10_000, "1\x00", "½"),
)
NAMES = (
    *("desk", "other", "main", "swing", "BTCUSDT", "MNQ SEP25", "ETHUSDT", "USD", "SIM-101"),
    *(
        "",
        " ",
        "a" * 65,
        "a" * 200,
        "a\x00b",
        "a\nb",
        "désk",
        "\u202edesk",
        "' OR 1=1 --",
        "${jndi:x}",
        "../../etc",
        "%s%n",
    ),
)
ZONES = ("America/Chicago", "UTC", "Asia/Kathmandu", "", "Mars/Olympus", "../UTC", "America/Chicago\x00", "x" * 300)
TOKENS = ("", "AAAA", "not base64!", "x" * 5_000, "e30", "AQ" * 40, "\x00", "-1")
SECONDS = (0, 1, 1_750_000_000, 1_750_000_600, -1, -(2**62), 2**62, 253_402_300_800, 4_102_444_800)
NANOS = (0, 1_000, 999_999_999, 1_000_000_000, -1, 2**31 - 1, 500)
NUMBERS = (0, 1, 2, 50, 1_000, -1, -50, 2**31 - 1, -(2**31), 7)
LARGE = 5 * 1024 * 1024

_WORDS: Sequence[tuple[Sequence[str], Sequence[str]]] = (
    (("quantity", "price", "fee", "amount", "rate", "multiplier", "min", "max", "size", "exposure", "loss"), DECIMALS),
    (("zone",), ZONES),
    (("token", "etag"), TOKENS),
)
_LIMITS = {
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
}


class Hostile:
    """Makes requests from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.ids = [str(uuid.UUID(int=self._random.getrandbits(128), version=4)) for _ in range(20)]

    def request(self, kind: Descriptor) -> bytes:
        """The bytes of one request."""
        message = GetMessageClass(kind)()
        self._fill(message, depth=0)
        try:
            raw = message.SerializeToString()
        except EncodeError:
            raw = b""
        return self._damaged(raw)

    def _damaged(self, raw: bytes) -> bytes:
        chance = self._random.random()
        if chance < 0.85:
            return raw
        if chance < 0.90 and raw:
            place = self._random.randrange(len(raw))
            return raw[:place] + bytes([self._random.randrange(256)]) + raw[place + 1 :]
        if chance < 0.93:
            return raw + b"\xfa\xff\x03\x03abc"  # a field that nobody knows
        if chance < 0.96:
            return raw + b"\x0a\x02\xff\xfe"  # the first field again, with text that is no UTF-8
        if chance < 0.995:
            return self._random.randbytes(self._random.randrange(200))
        return raw + b"\xfa\xff\x03" + _varint(LARGE) + bytes(LARGE)

    def _fill(self, message: Message, *, depth: int) -> None:
        taken: set[str] = set()
        for field in message.DESCRIPTOR.fields:
            union = field.containing_oneof
            if union is not None and len(union.fields) > 1 and union.name in taken:
                continue
            if self._random.random() < 0.2:
                continue
            if union is not None:
                taken.add(union.name)
            self._set(message, field, depth=depth)

    def _set(self, message: Any, field: Any, *, depth: int) -> None:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(self._count()):
                value[self._text("label")] = self._text("label")
        elif field.message_type is not None:
            if depth > 6:
                return
            for _ in range(self._count() if field.is_repeated else 1):
                inner = value.add() if field.is_repeated else value
                inner.SetInParent()
                self._inner(inner, depth=depth + 1)
        elif field.is_repeated:
            value.extend(self._scalar(field) for _ in range(self._count()))
        else:
            setattr(message, field.name, self._scalar(field))

    def _inner(self, message: Any, *, depth: int) -> None:
        name = message.DESCRIPTOR.full_name
        if name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            message.seconds, message.nanos = self._random.choice(SECONDS), self._random.choice(NANOS)
        elif name == "google.type.Date":
            message.year, message.month, message.day = (
                self._random.choice((2025, 2026, 0, -1, 9999, 10_000, 2**31 - 1)),
                self._random.choice((1, 6, 12, 0, 13, -5)),
                self._random.choice((1, 20, 31, 0, 32, -1)),
            )
        else:
            self._fill(message, depth=depth)

    def _scalar(self, field: FieldDescriptor) -> Any:
        made: dict[int, Callable[[], Any]] = {
            FieldDescriptor.TYPE_STRING: lambda: self._text(field.name),
            FieldDescriptor.TYPE_BYTES: lambda: self._random.randbytes(self._random.randrange(300)),
            FieldDescriptor.TYPE_BOOL: lambda: self._random.random() < 0.5,
            FieldDescriptor.TYPE_DOUBLE: lambda: self._random.choice((0.0, 1.5, -1.0, float("nan"), float("inf"))),
            FieldDescriptor.TYPE_ENUM: lambda: self._random.choice((0, 1, 2, 3, 99, -1)),
        }
        if field.type in made:
            return made[field.type]()
        least, most = _LIMITS.get(field.type, (-(2**31), 2**31 - 1))
        return min(max(self._random.choice((*NUMBERS, least, most)), least), most)

    def _text(self, name: str) -> str:
        if name.endswith(("_id", "request_id")) and self._random.random() < 0.7:
            return self._random.choice(self.ids)
        for endings, values in _WORDS:
            if any(part in name for part in endings):
                # Half of them good ones, so that requests get past the first field.
                return self._random.choice(values[:6] if self._random.random() < 0.6 else values)
        return self._random.choice(NAMES[:9] if self._random.random() < 0.7 else NAMES)

    def _count(self) -> int:
        return self._random.choice((0, 1, 1, 2, 3)) if self._random.random() < 0.995 else 5_001


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
