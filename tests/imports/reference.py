"""A plain reading of NinjaTrader rows: whole file in memory, one dictionary per row, no caches, nothing shared."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

_SIDES = {"Buy": "BUY", "BuyToCover": "BUY", "Sell": "SELL", "SellShort": "SELL"}


def expected_rows(text: str, *, zone: str = "America/Los_Angeles") -> list[tuple[object, ...]]:
    """(account, instrument, side, quantity, price, fee, UTC time, rank, id or occurrence) of each row."""
    ranks: Counter[object] = Counter()
    occurrences: Counter[object] = Counter()
    rows: list[tuple[object, ...]] = []
    for row in csv.DictReader(text.splitlines()):
        account, instrument = row["Account"].strip(), row["Instrument"].strip()
        at = datetime.strptime(row["Time"].strip(), "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=ZoneInfo(zone))
        quantity, price = Decimal(row["Quantity"]), Decimal(row["Price"].replace(",", ""))
        side, order = _SIDES[row["Action"].strip()], row["Order ID"].strip()
        second = (account, instrument, at.astimezone(UTC))
        content = (*second, side, quantity, price, order)
        name: object = row["ID"].strip()
        if not name:
            occurrences[content] += 1
            name = (content, occurrences[content])
        rows.append((*second, side, quantity, price, _fee(row["Commission"]), ranks[second], order or None, name))
        ranks[second] += 1
    return rows


def _fee(text: str) -> Decimal:
    plain = text.strip().replace("$", "")
    return -Decimal(plain.strip("()")) if plain.startswith("(") else Decimal(plain or 0)
