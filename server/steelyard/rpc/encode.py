"""Domain values into the contract's fields, where every service needs them; `encode_<service>.py` holds the rest.

Decimals are written canonically; money is rounded to 18 places here and nowhere before.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from steelyard.accounting.keys import Leg, PositionKey
from steelyard.accounting.units import decimal_text, money_text
from steelyard.v1 import common_pb2

LEGS = {Leg.NET: common_pb2.LEG_NET, Leg.LONG: common_pb2.LEG_LONG, Leg.SHORT: common_pb2.LEG_SHORT}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(at: datetime) -> Timestamp:
    """A time, exact to the microsecond."""
    delta = at - _EPOCH
    return Timestamp(seconds=delta.days * 86_400 + delta.seconds, nanos=delta.microseconds * 1_000)


def optional_timestamp(at: datetime | None) -> Timestamp | None:
    """The same; None leaves the field unset."""
    return None if at is None else timestamp(at)


def calendar_date(day: date) -> Date:
    """A day."""
    return Date(year=day.year, month=day.month, day=day.day)


def decimal(value: Decimal) -> str:
    """A quantity, price or ratio, canonical."""
    return decimal_text(value)


def optional_decimal(value: Decimal | None) -> str | None:
    """The same; None leaves the field unset."""
    return None if value is None else decimal_text(value)


def money(value: Decimal) -> str:
    """Money, rounded half-even to 18 places."""
    return money_text(value)


def optional_money(value: Decimal | None) -> str | None:
    """The same; None leaves the field unset."""
    return None if value is None else money_text(value)


def position_key(key: PositionKey) -> common_pb2.PositionKey:
    """A position's key."""
    return common_pb2.PositionKey(account=key.account, book=key.book, instrument=key.instrument, leg=LEGS[key.leg])


def etag(version: int) -> str:
    """A version as text: `"v42"`, quotes included, as HTTP writes it."""
    return f'"v{version}"'
