"""The project's own CSV: one fill a row, nothing local about it.

Ten columns in this order: `fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at`, and after
them any of `leg`, `order_id`, `source_sequence`. Numbers are plain decimals, times ISO-8601 with an offset or Z.
"""

from __future__ import annotations

from operator import itemgetter

from steelyard.accounting import keys
from steelyard.imports.rows import (
    NULL,
    VALIDATION,
    Batch,
    Part,
    RowError,
    currency_of,
    id_of,
    name_of,
    number_text,
    positive_text,
    remember,
    sequence_of,
    shown,
)
from steelyard.imports.sequence import KeyState, Occurrences, Ranks
from steelyard.imports.times import OffsetTimes

FORMAT = "GENERIC_CSV"
HEADER = (
    "fill_id", "account", "book", "instrument", "side", "quantity", "price", "fee", "fee_currency", "executed_at",
)  # fmt: skip
OPTIONAL = ("leg", "order_id", "source_sequence")
_READ = (
    "account", "book", "instrument", "leg", "side", "quantity", "price", "fee", "fee_currency", "executed_at",
    "fill_id", "order_id", "source_sequence",
)  # fmt: skip
_LEGS = {"": keys.Leg.NET, **{leg.value: leg for leg in keys.Leg}}


def is_generic(header: list[str]) -> bool:
    """Whether a header is this format's."""
    extra = header[len(HEADER) :]
    return tuple(header[: len(HEADER)]) == HEADER and len(set(extra)) == len(extra) and set(extra) <= set(OPTIONAL)


class GenericRows:
    """Reads the rows of one file."""

    def __init__(self, *, header: list[str], default_account: str | None) -> None:
        self._width = len(header)
        # A column that the file has not reads as the blank cell that is put after each row.
        self._pick = itemgetter(*(header.index(name) if name in header else -1 for name in _READ))
        self._default_account = default_account
        self._times = OffsetTimes(column="executed_at")
        self._ranks = Ranks()
        self._occurrences = Occurrences()
        self._keys: dict[tuple[str, ...], tuple[str, KeyState]] = {}
        self._moves: dict[tuple[str, ...], str] = {}
        self._prices: dict[str, str] = {}
        self._fees: dict[tuple[str, ...], str] = {}

    def read(self, batch: Batch, part: Part) -> None:
        """Adds every row of the batch to the part, as a line for COPY or as a result."""
        # The one loop that runs a million times: a cell is looked up, and worked out only where it is new.
        known, moves, prices, fees, pick = self._keys, self._moves, self._prices, self._fees, self._pick
        read_time, width, id_max, is_odd = self._times.read, self._width, keys.FILL_ID_MAX, not batch.is_plain
        part.rows += len(batch.cells)
        for number, cells in enumerate(batch.cells, batch.first):
            try:
                if len(cells) != width:
                    batch.blame(number, width)
                cells.append("")
                account, book, name, leg, side, size, price, fee, currency, time, fill_id, order, given = pick(cells)
                prefix, key = known.get(whose := (account, book, name, leg)) or self._key(whose)
                move = moves.get((side, size)) or self._move(side, size)
                price = prices.get(price) or self._price(price)
                paid = fees.get((fee, currency)) or self._fee(fee, currency)
                at = read_time(time)
                sequence = sequence_of(given, "source_sequence") if given.strip() else -1
                if is_odd or not 0 < len(fill_id) <= id_max or len(order) > id_max or " " in fill_id or " " in order:
                    order = id_of(order, "order_id") if order.strip() else ""
                    fill_id = self._id(fill_id, f"{prefix}{move}\t{price}\t{at}\t{order}", key=key, at=at)
                second = at[:19]
                if second == key.second:
                    key.rank += 1
                else:
                    self._ranks.advance(key, second)
                part.lines.append(
                    f"{number}\t{prefix}{move}\t{price}\t{paid}\t{at}+00\t{sequence if sequence >= 0 else key.rank}\t"
                    f"{fill_id}\t{order or NULL}"
                )
            except RowError as problem:
                part.tell(problem, batch=batch, number=number)

    def _key(self, whose: tuple[str, str, str, str]) -> tuple[str, KeyState]:
        account, book, instrument, leg = whose
        if not account.strip() and not self._default_account:
            raise RowError(VALIDATION, "account", reason="is empty, and no default account was given")
        holder = name_of(keys.account, account.strip() or self._default_account or "", column="account")
        part_of = name_of(keys.book, book, column="book")
        name = name_of(keys.instrument_name, instrument, column="instrument")
        side_held = _LEGS.get(leg.strip().upper())
        if side_held is None:
            raise RowError(VALIDATION, "leg", reason=f"{shown(leg)} is none of NET, LONG, SHORT")
        if self._ranks.is_full:
            self._ranks.drop()
            self._keys.clear()
        prefix = f"{holder}\t{part_of}\t{name}\t{side_held}\t"
        return remember(self._keys, whose, value=(prefix, self._ranks.key(holder, name)))

    def _move(self, side: str, size: str) -> str:
        word = side.strip().upper()
        if word not in ("BUY", "SELL"):
            raise RowError(VALIDATION, "side", reason=f"{shown(side)} is neither BUY nor SELL")
        return remember(self._moves, (side, size), value=f"{word}\t{positive_text(size.strip(), 'quantity')}")

    def _price(self, text: str) -> str:
        return remember(self._prices, text, value=positive_text(text.strip(), "price"))

    def _fee(self, fee: str, currency: str) -> str:
        paid = number_text(fee.strip(), "fee") if fee.strip() else "0"
        return remember(self._fees, (fee, currency), value=f"{paid}\t{currency_of(currency, 'fee_currency')}")

    def _id(self, text: str, content: str, *, key: KeyState, at: str) -> str:
        if text.strip():
            return id_of(text, "fill_id")
        return self._occurrences.row_id(content, key=key, second=at[:19], column="fill_id")
