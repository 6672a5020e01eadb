"""The trade history of Bybit's derivatives (unified trading account), as its users export it.

    Market,Filled Type,Filled Quantity,Filled Price,Order Price,Fee Rate,Trading Fee,feeCoin,ExecFeeV2,Direction,
    Order Type,Trasaction ID,Order No.,Transaction Time(UTC+0)

in any order; the id's column is spelt as Bybit spells it, or `Transaction ID`; `Order Price`, `Fee Rate`, `feeCoin`,
`ExecFeeV2` and `Order Type` may be missing. The header names the offset of the times (`UTC+0`, `UTC+10`).

Times are to the minute (`10:00 2026-01-10`), so the order within a minute is that of the file: from top to bottom, or
from bottom to top where the file's times go down, as Bybit's do. Ids are `bybit:<id>:<side>`: on a self-trade both
sides carry the same id. Rows of funding and settlement are no executions and are refused by name.
"""

from __future__ import annotations

import re
from operator import itemgetter

from steelyard.imports.rows import (
    PARSING,
    SEQUENCE_MAX,
    VALIDATION,
    Batch,
    RowError,
    currency_of,
    number_text,
    shown,
)
from steelyard.imports.sequence import Ranks
from steelyard.imports.times import OffsetTimes
from steelyard.imports.venue_rows import VenueRows, columns_of, file_account, order_of, venue_id

FORMAT = "BYBIT"
HEADER = (
    "Market", "Filled Type", "Filled Quantity", "Filled Price", "Order Price", "Fee Rate", "Trading Fee", "feeCoin",
    "ExecFeeV2", "Direction", "Order Type", "Trasaction ID", "Order No.", "Transaction Time(UTC+0)",
)  # fmt: skip
OPTIONAL = ("Order Price", "Fee Rate", "feeCoin", "ExecFeeV2", "Order Type")
_ID, _ID_AS_MEANT = "Trasaction ID", "Transaction ID"
_TIME = "Transaction Time(UTC+0)"
_READ = (
    "Market", "Filled Type", "Filled Quantity", "Filled Price", "Trading Fee", "feeCoin", "ExecFeeV2", "Direction",
    _ID, "Order No.", _TIME,
)  # fmt: skip
_REQUIRED = tuple(name for name in HEADER if name not in OPTIONAL)
_OFFSET = re.compile(r"Transaction Time ?\(UTC([+-])([0-9]{1,2})(?::([0-9]{2}))?\)", re.ASCII)
_MINUTE_FIRST = re.compile(r"([0-9]{2}:[0-9]{2}(?::[0-9]{2})?) ([0-9]{4}-[0-9]{2}-[0-9]{2})", re.ASCII)
_DAY_FIRST = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,6})?)?", re.ASCII)
_EXECUTIONS = {"trade", "adltrade", "busttrade", "liquidation", "blocktrade", "moveposition"}
_NO_EXECUTIONS = {"funding", "settle", "settlement", "sessionsettlepnl", "delivery"}
_NOTHING = {"", "--"}
_MOVES = {
    "buy": ("BUY", "NET"), "long": ("BUY", "NET"), "sell": ("SELL", "NET"), "short": ("SELL", "NET"),
    "openlong": ("BUY", "LONG"), "closelong": ("SELL", "LONG"),
    "openshort": ("SELL", "SHORT"), "closeshort": ("BUY", "SHORT"),
}  # fmt: skip


def is_bybit(header: list[str]) -> bool:
    """Whether a header is this format's."""
    return columns_of(_spelt(header), required=_REQUIRED, optional=OPTIONAL)


class BybitRows(VenueRows):
    """Reads the rows of one file."""

    def __init__(self, *, header: list[str], default_account: str | None) -> None:
        super().__init__(header=header)
        names = _spelt(header)
        self._account = file_account(default_account)
        self._offset = next(offset for name in header if (offset := _offset_of(name)))
        # A column that the file has not reads as the blank cell that is put after each row.
        self._pick = itemgetter(*(names.index(name) if name in names else -1 for name in _READ))
        self._time_at = names.index(_TIME)
        self._times = OffsetTimes(column=_TIME)
        self._ranks = Ranks()
        self._is_newest_first: bool | None = None

    def _look_at(self, batch: Batch) -> None:
        if self._is_newest_first is not None:
            return
        times = [found for cells in batch.cells if (found := self._time_in(cells)) is not None]
        if times and times[0] != times[-1]:
            self._is_newest_first = times[0] > times[-1]

    def _line(self, cells: list[str]) -> str:
        market, kind, size, price, fee, coin, fee_2, direction, trade, order, time = self._pick([*cells, ""])
        _check_kind(kind)
        side, leg = _move(direction)
        prefix = self._prefix(self._account, market, leg=leg, column="Market")
        quantity, at_price = self._positive(size, "Filled Quantity"), self._positive(price, "Filled Price")
        paid = _fee(fee, fee_2)
        currency = currency_of("" if coin.strip() in _NOTHING else coin, "feeCoin")
        at = self._time(time)
        fill_id = venue_id("bybit", trade, side, column=_ID)
        order_id = order_of("" if order.strip() in _NOTHING else order, "Order No.")
        sequence = self._sequence(market, second=at[:19])
        return f"{prefix}{side}\t{quantity}\t{at_price}\t{paid}\t{currency}\t{at}+00\t{sequence}\t{fill_id}\t{order_id}"

    def _sequence(self, market: str, *, second: str) -> int:
        """The place among the rows of the same time, the oldest first."""
        if self._ranks.is_full:
            self._ranks.drop()
        key = self._ranks.key(self._account, market)
        if second == key.second:
            key.rank += 1
        else:
            self._ranks.advance(key, second)
        # Newer rows come on top of a longer export: counted down from the end, all keep their order.
        return SEQUENCE_MAX - key.rank if self._is_newest_first else key.rank

    def _time(self, text: str) -> str:
        written = _iso(text)
        if written is None:
            what = f"{shown(text)} is not a time such as 10:00 2026-01-10" if text.strip() else "is missing"
            raise RowError(PARSING, _TIME, reason=what)
        return self._times.read(f"{written}{self._offset}")

    def _time_in(self, cells: list[str]) -> str | None:
        return _iso(cells[self._time_at]) if len(cells) == self._width else None


def _spelt(header: list[str]) -> list[str]:
    """The header's names as this module spells them, whatever the offset of its times."""
    spelt = [_TIME if _offset_of(name) else name for name in header]
    return [_ID if name == _ID_AS_MEANT else name for name in spelt]


def _offset_of(name: str) -> str | None:
    """The offset in the name of the column of times, `+00:00`; None for another column."""
    match = _OFFSET.fullmatch(name)
    return f"{match[1]}{int(match[2]):02d}:{match[3] or '00'}" if match else None


def _iso(text: str) -> str | None:
    """A time as `YYYY-MM-DD HH:MM:SS`; None for what is none."""
    stripped = text.strip()
    if match := _MINUTE_FIRST.fullmatch(stripped):
        clock = match[1]
        return f"{match[2]} {clock}:00" if len(clock) == 5 else f"{match[2]} {clock}"
    if match := _DAY_FIRST.fullmatch(stripped):
        return f"{match[1]} {match[2]}{match[3] or ':00'}"
    return None


def _check_kind(kind: str) -> None:
    word = "".join(kind.split()).lower()
    if word in _NO_EXECUTIONS:
        reason = f"{shown(kind)} is no execution: record it as an adjustment"
        raise RowError(VALIDATION, "Filled Type", reason=reason)
    if word not in _EXECUTIONS:
        raise RowError(VALIDATION, "Filled Type", reason=f"{shown(kind)} is no kind of execution known here")


def _move(direction: str) -> tuple[str, str]:
    """Side and leg: in hedge mode the file says which leg is opened or closed."""
    found = _MOVES.get("".join(direction.split()).lower())
    if found is None:
        reason = f"{shown(direction)} is none of Buy, Sell, Long, Short, Open or Close Long, Open or Close Short"
        raise RowError(VALIDATION, "Direction", reason=reason)
    return found


def _fee(fee: str, fee_2: str) -> str:
    """What was paid, negative for a rebate; Bybit tells it in either of two columns."""
    for text, column in ((fee, "Trading Fee"), (fee_2, "ExecFeeV2")):
        if text.strip() not in _NOTHING:
            return number_text(text.strip(), column)
    return "0"
