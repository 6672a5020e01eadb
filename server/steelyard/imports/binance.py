"""The trade history of Binance's USD-margined futures, as its users export it.

    Uid,Time,Symbol,Side,Price,Quantity,Amount,Fee,Realized Profit,Buyer,Maker,Trade ID,Order ID

in any order; `Uid` may be missing, `Position Side` (BOTH, LONG, SHORT; hedge mode) may be there. `Time` may also be
called `Time(UTC)` or `Date(UTC)`, and is UTC in any case: choose UTC+0 when exporting, since a file in another zone
says so in its name alone. It is written `26-03-17 09:34:12` or `2026-03-17 09:34:12`. The fee names its currency
(`0.29528919 USDT`, `0.0369USDT`) or is in the settle currency.

Ids are `binance:<symbol>:<trade id>`, which Binance gives out in the order of execution: fills of one second are folded
in the order of their ids, whichever way the file is sorted. The account is the one given with the import, else the Uid.
"""

from __future__ import annotations

import re
from operator import itemgetter

from steelyard.accounting import keys
from steelyard.imports.rows import (
    NULL,
    PARSING,
    VALIDATION,
    RowError,
    currency_of,
    name_of,
    number_text,
    remember,
    shown,
)
from steelyard.imports.times import OffsetTimes
from steelyard.imports.venue_rows import VenueRows, columns_of, file_account, order_of, venue_id

FORMAT = "BINANCE"
HEADER = (
    "Uid", "Time", "Symbol", "Side", "Price", "Quantity", "Amount", "Fee", "Realized Profit", "Buyer", "Maker",
    "Trade ID", "Order ID",
)  # fmt: skip
OPTIONAL = ("Uid", "Position Side")
_TIMES = ("Time", "Time(UTC)", "Date(UTC)")
_READ = ("Uid", "Time", "Symbol", "Side", "Position Side", "Price", "Quantity", "Fee", "Trade ID", "Order ID")
_REQUIRED = tuple(name for name in HEADER if name not in OPTIONAL)
_WRITTEN = re.compile(r"((?:[0-9]{2})?[0-9]{2})-([0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)")
_FEE = re.compile(r"(-?[0-9.]+)\s*([A-Z][A-Z0-9]*)?", re.ASCII)
_LEGS = {"": "NET", "BOTH": "NET", "LONG": "LONG", "SHORT": "SHORT"}
_BY_ID = 0
"""The sequence of every row: what ties is ordered by the ids."""


def is_binance(header: list[str]) -> bool:
    """Whether a header is this format's."""
    return columns_of(_spelt(header), required=_REQUIRED, optional=OPTIONAL)


class BinanceRows(VenueRows):
    """Reads the rows of one file."""

    def __init__(self, *, header: list[str], default_account: str | None) -> None:
        super().__init__(header=header)
        names = _spelt(header)
        self._account = default_account if "Uid" in names else file_account(default_account)
        # A column that the file has not reads as the blank cell that is put after each row.
        self._pick = itemgetter(*(names.index(name) if name in names else -1 for name in _READ))
        self._times = OffsetTimes(column="Time")
        self._fees: dict[str, str] = {}

    def _line(self, cells: list[str]) -> str:
        uid, time, symbol, side, position_side, price, size, fee, trade, order = self._pick([*cells, ""])
        account = self._account or _account_of(uid)
        word, leg = side.strip().upper(), _LEGS.get(position_side.strip().upper())
        if word not in ("BUY", "SELL"):
            raise RowError(VALIDATION, "Side", reason=f"{shown(side)} is neither BUY nor SELL")
        if leg is None:
            reason = f"{shown(position_side)} is none of BOTH, LONG, SHORT"
            raise RowError(VALIDATION, "Position Side", reason=reason)
        prefix = self._prefix(account, symbol, leg=leg, column="Symbol")
        quantity, at_price = self._positive(size, "Quantity"), self._positive(price, "Price")
        paid = self._fees.get(fee) or remember(self._fees, fee, value=_fee(fee))
        at = self._time(time)
        fill_id = venue_id("binance", symbol, trade, column="Trade ID")
        order_id = order_of(order, "Order ID")
        return f"{prefix}{word}\t{quantity}\t{at_price}\t{paid}\t{at}+00\t{_BY_ID}\t{fill_id}\t{order_id}"

    def _time(self, text: str) -> str:
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            what = f"{shown(text)} is not a time such as 2026-03-17 09:34:12" if text.strip() else "is missing"
            raise RowError(PARSING, "Time", reason=what)
        year = match[1] if len(match[1]) == 4 else f"20{match[1]}"
        return self._times.read(f"{year}-{match[2]} {match[3]}Z")


def _spelt(header: list[str]) -> list[str]:
    """The header's names as this module spells them."""
    return ["Time" if name in _TIMES else name for name in header]


def _account_of(uid: str) -> str:
    if not uid.strip():
        raise RowError(VALIDATION, "Uid", reason="is empty, and no default account was given")
    return name_of(keys.account, uid, column="Uid")


def _fee(text: str) -> str:
    """What was paid, negative for a rebate, and its currency, as COPY wants them."""
    stripped = text.strip()
    if not stripped:
        return f"0\t{NULL}"
    match = _FEE.fullmatch(stripped)
    if match is None:
        raise RowError(PARSING, "Fee", reason=f"{shown(text)} is not a fee such as 0.29528919 USDT")
    return f"{number_text(match[1], 'Fee')}\t{currency_of(match[2] or '', 'Fee')}"
