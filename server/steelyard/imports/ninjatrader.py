"""The executions grid of NinjaTrader, as its users export it.

`Action` alone gives the side. Times are local and without offset. `Position` is a cross-check: a row whose position
does not follow from the rows before it is recorded, with a warning.
"""

from __future__ import annotations

import re
from operator import itemgetter

from steelyard.accounting import keys
from steelyard.imports.rows import (
    NULL,
    NUMBER_MAX,
    PARSING,
    VALIDATION,
    WARNING,
    Batch,
    Part,
    RowError,
    id_of,
    name_of,
    number_text,
    positive_text,
    remember,
    scaled,
    shown,
    ungrouped,
    unscaled,
)
from steelyard.imports.sequence import KeyState, Occurrences, Ranks
from steelyard.imports.times import LocalTimes, zone_of

FORMAT = "NINJATRADER"
HEADER = (
    "Instrument", "Action", "Quantity", "Price", "Time", "ID", "E/X", "Position", "Order ID", "Name", "Commission",
    "Rate", "Account", "Connection",
)  # fmt: skip
OPTIONAL = "TradeValidation"
_READ = ("Instrument", "Account", "Action", "Quantity", "Price", "Time", "ID", "Position", "Order ID", "Commission")
_pick = itemgetter(*(HEADER.index(name) for name in _READ))
_SIDES = {"buy": "BUY", "buytocover": "BUY", "sell": "SELL", "sellshort": "SELL"}
_POSITION = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?)\s*([LS])", re.IGNORECASE | re.ASCII)
_UNSEEN = -1
"""No position: a whole contract is 1e18 units."""


def width_of(header: list[str]) -> int | None:
    """How many columns the rows of a file with this header have; None: it is another format's."""
    names = tuple(header[:-1] if len(header) > len(HEADER) and not header[-1] else header)
    return len(names) if names in (HEADER, (*HEADER, OPTIONAL)) else None


class NinjaTraderRows:
    """Reads the rows of one file."""

    def __init__(self, *, width: int, time_zone: str, default_account: str | None) -> None:
        self._width = width
        self._default_account = default_account
        self._times = LocalTimes(zone_of(time_zone), column="Time")
        self._ranks = Ranks()
        self._occurrences = Occurrences()
        self._keys: dict[tuple[str, ...], tuple[str, KeyState]] = {}
        self._moves: dict[tuple[str, ...], tuple[str, int]] = {}
        self._prices: dict[str, str] = {}
        self._fees: dict[str, str] = {}
        self._positions: dict[str, int | None] = {"": None, "-": None}

    def read(self, batch: Batch, part: Part) -> None:
        """Adds every row of the batch to the part, as a line for COPY or as a result."""
        # The one loop that runs a million times: a cell is looked up, and worked out only where it is new.
        known, moves, prices, fees = self._keys, self._moves, self._prices, self._fees
        seconds, positions, id_max, is_odd = self._times.seconds, self._positions, keys.FILL_ID_MAX, not batch.is_plain
        part.rows += len(batch.cells)
        for number, cells in enumerate(batch.cells, batch.first):
            try:
                if len(cells) != self._width and (len(cells) != self._width + 1 or cells[-1].strip()):
                    batch.blame(number, self._width)
                instrument, account, action, size, price, time, fill_id, position, order, commission = _pick(cells)
                prefix, key = known.get((account, instrument)) or self._key(account, instrument)
                move, delta = moves.get((action, size)) or self._move(action, size)
                price = prices.get(price) or self._price(price)
                fee = fees.get(commission) or self._fee(commission)
                at = seconds.get(time) or self._times.read(time, after=key.second)
                if is_odd or not 0 < len(fill_id) <= id_max or len(order) > id_max or " " in fill_id or " " in order:
                    order = id_of(order, "Order ID") if order.strip() else ""
                    fill_id = self._id(fill_id, f"{prefix}{move}\t{price}\t{at}\t{order}", key=key, at=at)
                if at == key.second:
                    key.rank += 1
                else:
                    self._ranks.advance(key, at)
                part.lines.append(
                    f"{number}\t{prefix}{move}\t{price}\t{fee}\t{NULL}\t{at}+00\t{key.rank}\t{fill_id}\t{order or NULL}"
                )
                if fee[0] == "-":
                    part.tell(_rebate(fee), batch=batch, number=number)
                if key.held is not None:
                    key.held += delta
                stated = positions.get(position, _UNSEEN)
                if stated == _UNSEEN:
                    stated = self._position(position)
                if stated is not None and stated != key.held:
                    _anchor(key, stated)
            except RowError as problem:
                part.tell(problem, batch=batch, number=number)

    def _key(self, account: str, instrument: str) -> tuple[str, KeyState]:
        name = name_of(keys.instrument_name, instrument, column="Instrument")
        if account.strip():
            holder = name_of(keys.account, account, column="Account")
        elif self._default_account:
            holder = self._default_account
        else:
            raise RowError(VALIDATION, "Account", reason="is empty, and no default account was given")
        if self._ranks.is_full:
            self._ranks.drop()
            self._keys.clear()
        prefix = f"{holder}\t{keys.DEFAULT_BOOK}\t{name}\t{keys.Leg.NET}\t"
        return remember(self._keys, (account, instrument), value=(prefix, self._ranks.key(holder, name)))

    def _move(self, action: str, size: str) -> tuple[str, int]:
        side = _SIDES.get("".join(action.split()).lower())
        if side is None:
            raise RowError(VALIDATION, "Action", reason=f"{shown(action)} is none of Buy, Sell, BuyToCover, SellShort")
        quantity = positive_text(ungrouped(size.strip()), "Quantity")
        delta = scaled(quantity) if side == "BUY" else -scaled(quantity)
        return remember(self._moves, (action, size), value=(f"{side}\t{quantity}", delta))

    def _price(self, text: str) -> str:
        return remember(self._prices, text, value=positive_text(ungrouped(text.strip()), "Price"))

    def _fee(self, text: str) -> str:
        body = text.strip().lstrip("$")
        is_bracketed = body[:1] == "(" and body[-1:] == ")"
        is_rebate = is_bracketed or body[:1] == "-"
        if is_rebate:
            body = body[1:-1] if is_bracketed else body[1:]
        # Nothing at all is no commission; a lone currency sign is not a number.
        number = number_text(ungrouped(body.strip().lstrip("$")), "Commission") if text.strip() else "0"
        if is_rebate and number[0] == "-":
            raise RowError(PARSING, "Commission", reason=f"{shown(text)} has two signs")
        return remember(self._fees, text, value=f"-{number}" if is_rebate and number != "0" else number)

    def _id(self, text: str, content: str, *, key: KeyState, at: str) -> str:
        if text.strip():
            return id_of(text, "ID")
        return self._occurrences.row_id(content, key=key, second=at, column="ID")

    def _position(self, text: str) -> int | None:
        stripped = text.strip()
        if stripped in ("", "-"):
            return remember(self._positions, text, value=None)
        match = _POSITION.fullmatch(stripped) if len(stripped) <= NUMBER_MAX else None
        if match is None:
            raise RowError(WARNING, "Position", reason=f"{shown(text)} is not a position such as 3 L: not checked")
        try:
            held = scaled(number_text(ungrouped(match[1]), "Position"))
        except RowError as unreadable:
            raise RowError(WARNING, "Position", reason=f"{unreadable.reason}: not checked") from None
        return remember(self._positions, text, value=held if match[2] in "lL" else -held)


def _anchor(key: KeyState, stated: int) -> None:
    """Takes a stated position as the running one. Raises `RowError`, a warning, if another one was known."""
    held, key.held = key.held, stated
    if held is not None and not key.is_backwards:
        reason = f"says {_holding(stated)} where the rows before it give {_holding(held)}: are fills missing?"
        raise RowError(WARNING, "Position", reason=reason)


def _holding(units: int) -> str:
    if not units:
        return "flat"
    return f"{unscaled(abs(units))} {'L' if units > 0 else 'S'}"


def _rebate(fee: str) -> RowError:
    return RowError(WARNING, "Commission", reason=f"is a rebate: recorded as a fee of {fee}")
