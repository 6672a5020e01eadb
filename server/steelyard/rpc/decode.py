"""The contract's fields into domain values, where every service needs them; `decode_<service>.py` holds the rest.

Each function names the field by its full path (`fills[3].price`) in the `InvalidField` it raises. Absent is None; what
has a default in the contract gets it here.
"""

from __future__ import annotations

import hashlib
import re
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from steelyard.accounting import keys, units
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.rpc import limits
from steelyard.v1 import common_pb2

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'"?v([0-9]{1,18})"?', re.ASCII)
_CURRENCY = re.compile(r"[A-Z0-9]{1,16}", re.ASCII)
_ZONE_MAX = 64

LEGS: Mapping[int, Leg] = {
    common_pb2.LEG_UNSPECIFIED: Leg.NET,
    common_pb2.LEG_NET: Leg.NET,
    common_pb2.LEG_LONG: Leg.LONG,
    common_pb2.LEG_SHORT: Leg.SHORT,
}


def account(text: str, *, field: str = "account") -> Account:
    """A required account name."""
    return keys.account(text, field=field)


def accounts(texts: Sequence[str], *, field: str = "accounts") -> tuple[Account, ...]:
    """Account names, each once, sorted; empty means all."""
    if not texts:
        return ()
    at_most(texts, limits.BATCH_KEYS_MAX, field=field)
    return tuple(sorted({account(text, field=f"{field}[{index}]") for index, text in enumerate(texts)}))


def book(text: str, *, field: str = "book") -> Book:
    """A book name; empty means `main`."""
    return keys.book(text, field=field)


def optional_book(text: str, *, field: str = "book") -> Book | None:
    """A book to filter by; empty means all."""
    return keys.book(text, field=field) if text else None


def instrument(text: str, *, field: str = "instrument") -> InstrumentName:
    """A required instrument name."""
    return keys.instrument_name(text, field=field)


def optional_instrument(text: str, *, field: str = "instrument") -> InstrumentName | None:
    """An instrument to filter by; empty means all."""
    return keys.instrument_name(text, field=field) if text else None


def instruments(texts: Sequence[str], *, field: str = "instruments") -> tuple[InstrumentName, ...]:
    """Instrument names, each once, sorted; empty means all."""
    at_most(texts, limits.BATCH_KEYS_MAX, field=field)
    return tuple(sorted({instrument(text, field=f"{field}[{index}]") for index, text in enumerate(texts)}))


def leg(value: int, *, field: str = "leg") -> Leg:
    """The leg of a key or a fill; unspecified means NET."""
    return choice(value, LEGS, field=field)


def optional_leg(value: int, *, field: str = "leg") -> Leg | None:
    """A leg to filter by; unspecified means any."""
    return None if value == common_pb2.LEG_UNSPECIFIED else choice(value, LEGS, field=field)


def position_key(key: common_pb2.PositionKey, *, field: str = "key") -> PositionKey:
    """A position's key."""
    return PositionKey(
        account(key.account, field=f"{field}.account"),
        book(key.book, field=f"{field}.book"),
        instrument(key.instrument, field=f"{field}.instrument"),
        leg(key.leg, field=f"{field}.leg"),
    )


def choice(value: int, table: Mapping[int, T], *, field: str) -> T:
    """What an enum value stands for; a value without a meaning here (unspecified or unknown) is refused."""
    found = table.get(value)
    if found is None:
        raise InvalidField(field, "is required" if value == 0 else f"{value} is not a value of this field")
    return found


def decimal(text: str, *, field: str) -> Decimal:
    """A required decimal."""
    if not text:
        raise InvalidField(field, "is required")
    return units.parse_decimal(text, field=field)


def positive(text: str, *, field: str) -> Decimal:
    """A required decimal greater than zero."""
    if not text:
        raise InvalidField(field, "is required")
    return units.parse_positive(text, field=field)


def timestamp(value: Timestamp, *, field: str) -> datetime:
    """An aware UTC time; finer than a microsecond or outside the years 1 to 9999 is refused."""
    nanos = value.nanos
    if not 0 <= nanos < 1_000_000_000:
        raise InvalidField(field, "nanos must be from 0 to 999,999,999")
    if nanos % 1_000:
        raise InvalidField(field, "must not be finer than a microsecond")
    try:
        return _EPOCH + timedelta(0, value.seconds, nanos // 1_000)
    except OverflowError:
        raise InvalidField(field, "is outside the years 1 to 9999") from None


def required_timestamp(message: Message, name: str, *, field: str) -> datetime:
    """The time in a field that must be given."""
    if not message.HasField(name):
        raise InvalidField(field, "is required")
    return timestamp(getattr(message, name), field=field)


def optional_timestamp(message: Message, name: str, *, field: str | None = None) -> datetime | None:
    """The time in a field that may be left unset."""
    return timestamp(getattr(message, name), field=field or name) if message.HasField(name) else None


def calendar_date(value: Date, *, field: str) -> date:
    """A whole day; a year or month alone is refused."""
    try:
        return date(value.year, value.month, value.day)
    except ValueError:
        raise InvalidField(field, "is not a day of the calendar") from None


def time_zone(text: str, *, field: str = "time_zone") -> zoneinfo.ZoneInfo:
    """An IANA zone, by name."""
    if not text or len(text) > _ZONE_MAX:
        raise InvalidField(field, "must be the name of an IANA time zone, such as America/Chicago")
    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidField(field, f"{text!r} is not a time zone known here") from None


def uuid(text: str, *, field: str) -> UUID:
    """A required UUID, in any letter case, with or without dashes."""
    if not text:
        raise InvalidField(field, "is required")
    if _UUID.fullmatch(text) is None:
        raise InvalidField(field, "must be a UUID")
    return UUID(text)


def currency(text: str, *, field: str) -> str:
    """A currency: 1 to 16 of `A-Z 0-9`."""
    if _CURRENCY.fullmatch(text) is None:
        raise InvalidField(field, "must be 1 to 16 of A-Z 0-9")
    return text


def currencies(texts: Sequence[str], *, field: str = "settle_currencies") -> tuple[str, ...]:
    """Currencies, each once, sorted; empty means all that occur."""
    if not texts:
        return ()
    at_most(texts, limits.CURRENCIES_MAX, field=field)
    return tuple(sorted({currency(text, field=f"{field}[{index}]") for index, text in enumerate(texts)}))


def labels(values: Mapping[str, str], *, field: str = "labels") -> dict[str, str]:
    """Labels: at most 32, names of at most 64 characters, values of at most 256."""
    at_most(values, limits.LABELS_MAX, field=field)
    for name, value in values.items():
        if not name or "=" in name:
            raise InvalidField(field, "a label's name must not be empty or hold '='")
        printable(name, limits.LABEL_NAME_MAX, field=field)
        printable(value, limits.LABEL_VALUE_MAX, field=f"{field}[{name}]")
    return dict(values)


def label_filter(texts: Sequence[str], *, field: str = "labels") -> dict[str, str]:
    """Labels to filter by, each written `name=value`."""
    found = {}
    for index, text in enumerate(texts):
        name, sign, value = text.partition("=")
        if not sign:
            raise InvalidField(f"{field}[{index}]", "must be written name=value")
        found[name] = value
    return labels(found, field=field)


def printable(text: str, longest: int, *, field: str) -> str:
    """A text of a person or another system: bounded, without NUL, which the store cannot hold."""
    if len(text) > longest:
        raise InvalidField(field, f"must not be longer than {longest} characters")
    if "\x00" in text:
        raise InvalidField(field, "must not hold a NUL character")
    return text


def note(text: str, *, field: str = "note") -> str:
    """What a person wants to remember."""
    return printable(text, limits.NOTE_MAX, field=field)


def source_sequence(value: int, *, field: str = "source_sequence") -> int:
    """The caller's order within one instant; not negative."""
    if value < 0:
        raise InvalidField(field, "must not be negative")
    return value


def body_hash(request: Message) -> bytes:
    """A hash of what a write asks, whichever request id it came under: the same body gives the same answer."""
    body = type(request)()
    body.CopyFrom(request)
    if "request_id" in body.DESCRIPTOR.fields_by_name:
        body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).digest()


@contextmanager
def within(path: str) -> Iterator[None]:
    """Runs a block whose complaints name fields of a part of the request: they come out with the full path."""
    try:
        yield
    except InvalidField as error:
        raise InvalidField(f"{path}.{error.field}", error.why) from error


def page_size(value: int, *, field: str = "page_size") -> int:
    """How many rows a page holds at most: 0 means 50, more than 1,000 means 1,000, negative is refused."""
    if value < 0:
        raise InvalidField(field, "must not be negative")
    return min(value, limits.PAGE_SIZE_MAX) if value else limits.PAGE_SIZE_DEFAULT


def version(value: int, *, field: str = "expected_version") -> int:
    """An expected version; 0 means that the thing does not exist yet."""
    if value < 0:
        raise InvalidField(field, "must not be negative")
    return value


def version_of_etag(text: str, *, field: str = "etag") -> int:
    """The version that an etag (`"v42"`) names."""
    match = _ETAG.fullmatch(text)
    if match is None:
        raise InvalidField(field, 'must be an etag of ours, such as "v42"')
    return int(match[1])


def interval(start: datetime | None, before: datetime | None, *, field: str) -> None:
    """Refuses a half-open interval that ends before it starts."""
    if start is not None and before is not None and before < start:
        raise InvalidField(field, "ends before it starts")


def at_most(values: Sequence[object] | Mapping[str, str], limit: int, *, field: str) -> None:
    """Refuses more values than the contract allows."""
    if len(values) > limit:
        raise InvalidField(field, f"holds {len(values)} values, the limit is {limit}")
