"""Run by the reference's own Python: NautilusTrader's `Position`, fed the fills of a file. Talks JSON lines.

Reads `[side, quantity, price, fee, nanoseconds, id]` rows once, then for each line on standard input makes the events
and applies them, and answers how long that took. What parses text is done before the clock starts.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import LiquiditySide, OrderSide, OrderType
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    PositionId,
    StrategyId,
    Symbol,
    TradeId,
    TraderId,
    Venue,
    VenueOrderId,
)
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.model.position import Position

ONE = (TraderId("DESK-001"), StrategyId("FOLD-001"))
NAME = InstrumentId(Symbol("BTCUSD"), Venue("BENCH"))
ACCOUNT = AccountId("BENCH-001")
POSITION = PositionId("P-1")


def instrument() -> Any:
    """A linear contract with the grid of the history."""
    return CryptoPerpetual(
        instrument_id=NAME,
        raw_symbol=Symbol("BTCUSD"),
        base_currency=Currency.from_str("BTC"),
        quote_currency=USD,
        settlement_currency=USD,
        is_inverse=False,
        price_precision=2,
        size_precision=3,
        price_increment=Price.from_str("0.01"),
        size_increment=Quantity.from_str("0.001"),
        ts_event=0,
        ts_init=0,
    )


def prepared(path: Path) -> list[tuple[Any, ...]]:
    """The fills as the library's values."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        (
            OrderSide.BUY if side == "BUY" else OrderSide.SELL,
            Quantity.from_str(quantity),
            Price.from_str(price),
            Money(float(fee), USD),
            nanoseconds,
            TradeId(name),
            ClientOrderId(name),
            VenueOrderId(name),
        )
        for side, quantity, price, fee, nanoseconds, name in rows
    ]


def run(fills: list[tuple[Any, ...]], contract: Any) -> tuple[float, str]:
    """Seconds for all events made and applied, as a position under netting takes them; and what is held then."""
    position = None
    started = time.perf_counter()
    for side, quantity, price, fee, at, trade, client, venue in fills:
        event = OrderFilled(
            *ONE, NAME, client, venue, ACCOUNT, trade, POSITION, side, OrderType.LIMIT, quantity, price, USD, fee,
            LiquiditySide.TAKER, UUID4(), at, at,
        )  # fmt: skip
        if position is None:
            position = Position(contract, event)
        else:
            position.apply(event)
    taken = time.perf_counter() - started
    return taken, str(position.signed_decimal_qty()) if position is not None else "0"


def main() -> None:
    """Answers each line with the seconds of one run."""
    fills, contract = prepared(Path(sys.argv[1])), instrument()
    gc.freeze()
    print(json.dumps({"ready": len(fills)}), flush=True)
    for _ in sys.stdin:
        gc.collect()
        seconds, quantity = run(fills, contract)
        print(json.dumps({"seconds": seconds, "quantity": quantity}), flush=True)


if __name__ == "__main__":
    main()
