"""Names of things: accounts, books, instruments, fills, and the key of a position.

Keys are tuples because they are sorted, hashed and compared on every write; their order is the lock order.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

from steelyard.accounting.errors import InvalidField

Account = NewType("Account", str)
Book = NewType("Book", str)
InstrumentName = NewType("InstrumentName", str)
FillId = NewType("FillId", str)
TripId = NewType("TripId", uuid.UUID)

DEFAULT_BOOK = Book("main")
ACCOUNT_MAX = 64
BOOK_MAX = 64
FILL_ID_MAX = 128

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@#-]*( [A-Za-z0-9._:/@#-]+)*", re.ASCII)
_INSTRUMENT = re.compile(r"[A-Z0-9._:/-]+( [A-Z0-9._:/-]+)*", re.ASCII)
_FILL_ID = re.compile(r"[!-~]([ -~]*[!-~])?", re.ASCII)
_TRIP_NAMESPACE = uuid.UUID("6f0f6c36-53a5-5a52-9d0c-6d8f2f1f5d0b")


class Leg(StrEnum):
    """Which side of a hedge-mode account a position is on; NET in one-way mode."""

    NET = "NET"
    LONG = "LONG"
    SHORT = "SHORT"


class PositionKey(NamedTuple):
    """What a position is held under; books are folded apart."""

    account: Account
    book: Book
    instrument: InstrumentName
    leg: Leg


class OrderKey(NamedTuple):
    """The place of an entry in the fold: time, then the caller's sequence, then the id's bytes.

    Never the order of arrival. Ids are ASCII, so comparing texts compares bytes.
    """

    executed_at: datetime
    source_sequence: int
    entry_id: str


def account(text: str, *, field: str = "account") -> Account:
    """A valid account name, at most 64 characters. Raises `InvalidField`."""
    return Account(_checked(text, _NAME, longest=ACCOUNT_MAX, field=field))


def book(text: str, *, field: str = "book") -> Book:
    """A valid book name; empty text means the default book. Raises `InvalidField`."""
    return Book(_checked(text, _NAME, longest=BOOK_MAX, field=field)) if text else DEFAULT_BOOK


def instrument_name(text: str, *, field: str = "instrument") -> InstrumentName:
    """A valid instrument name: upper case, at most 64 of `A-Z 0-9 . _ : / -` and single inner spaces."""
    return InstrumentName(_checked(text, _INSTRUMENT, longest=64, field=field))


def fill_id(text: str, *, field: str = "fill_id") -> FillId:
    """A valid fill id: printable ASCII, at most 128 characters. Raises `InvalidField`."""
    return FillId(_checked(text, _FILL_ID, longest=FILL_ID_MAX, field=field))


def trip_id(key: PositionKey, first_entry_id: str) -> TripId:
    """The id of a round trip: a function of its key and its first entry, so a rebuild finds the same one."""
    return TripId(uuid.uuid5(_TRIP_NAMESPACE, "\n".join((*key, first_entry_id))))


def root_of(instrument: str) -> str:
    """The root of a futures contract: the first token of its name (`MNQ SEP25` -> `MNQ`)."""
    return instrument.split(" ", 1)[0]


def _checked(text: str, pattern: re.Pattern[str], *, longest: int, field: str) -> str:
    if not text:
        raise InvalidField(field, "is required")
    if len(text) > longest:
        raise InvalidField(field, f"must not be longer than {longest} characters")
    if pattern.fullmatch(text) is None:
        raise InvalidField(field, "holds characters that are not allowed here")
    return text
