"""Invented trade exports of crypto venues: Bybit's derivatives and Binance's USD-margined futures.

Deterministic by seed and streaming, as `samples` is. Both tell one and the same story for a seed, fill by fill, so that
an import of either leaves the same positions under its own ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

BYBIT_HEADER = (
    "Market,Filled Type,Filled Quantity,Filled Price,Order Price,Fee Rate,Trading Fee,feeCoin,ExecFeeV2,Direction,"
    "Order Type,Trasaction ID,Order No.,Transaction Time(UTC+0)\n"
)
BINANCE_HEADER = "Uid,Time,Symbol,Side,Price,Quantity,Amount,Fee,Realized Profit,Buyer,Maker,Trade ID,Order ID\n"
SAMPLE_START = datetime(2026, 1, 12, tzinfo=UTC)
UID = "700000001"
_SYMBOLS = (("BTCUSDT", 9_500_000), ("ETHUSDT", 330_000), ("SOLUSDT", 14_500))
"""Instruments and where their prices begin, in cents."""
_STEP = timedelta(seconds=95)
_FEE_PER_MILLION = 550


@dataclass(frozen=True, slots=True)
class VenueFill:
    """An invented execution; prices in cents, quantities in thousandths."""

    number: int
    symbol: str
    is_buy: bool
    thousandths: int
    cents: int
    at: datetime

    @property
    def quantity(self) -> str:
        """As venues write it."""
        return _decimal(self.thousandths, 3)

    @property
    def price(self) -> str:
        """As venues write it."""
        return _decimal(self.cents, 2)

    @property
    def amount(self) -> str:
        """Price times quantity."""
        return _decimal(self.cents * self.thousandths, 5)

    @property
    def fee(self) -> str:
        """What a taker pays, in the settle currency."""
        return _decimal(self.cents * self.thousandths * _FEE_PER_MILLION, 11)


def venue_fills(seed: int, *, fills: int) -> Iterator[VenueFill]:
    """Executions in time order: round trips of a few instruments, several executions in the same second."""
    random = Random(seed)  # noqa: S311 - invented prices, no secrets
    prices = dict(_SYMBOLS)
    held = dict.fromkeys(prices, 0)
    at = SAMPLE_START
    for number in range(1, fills + 1):
        symbol = random.choice(list(prices))
        prices[symbol] += random.randrange(-200, 201)
        before = held[symbol]
        size = abs(before) if before and random.random() < 0.4 else random.randrange(1, 500)
        is_buy = before < 0 if before and random.random() < 0.7 else random.random() < 0.5
        held[symbol] += size if is_buy else -size
        if random.random() >= 0.3:
            at += _STEP
        yield VenueFill(number, symbol, is_buy, size, prices[symbol], at)


def bybit_history(seed: int, *, fills: int) -> Iterator[str]:
    """Bybit's export, the newest first; for that it is made whole before its first line."""
    yield BYBIT_HEADER
    for fill in reversed(list(venue_fills(seed, fills=fills))):
        identity = UUID(int=(seed << 64) + fill.number, version=4)
        direction = "Long" if fill.is_buy else "Short"
        yield (
            f"{fill.symbol},Trade,{fill.quantity},{fill.price},{fill.price},0.00055,{fill.fee},USDT,{fill.fee},"
            f"{direction},Market, {identity}, {identity.hex[:8]},{fill.at:%H:%M %Y-%m-%d}\n"
        )


def binance_history(seed: int, *, fills: int) -> Iterator[str]:
    """Binance's export, the oldest first."""
    yield BINANCE_HEADER
    for fill in venue_fills(seed, fills=fills):
        side, is_buyer = ("BUY", "true") if fill.is_buy else ("SELL", "false")
        yield (
            f"{UID},{fill.at:%y-%m-%d %H:%M:%S},{fill.symbol},{side},{fill.price},{fill.quantity},{fill.amount},"
            f"{fill.fee} USDT,0,{is_buyer},false,{seed * 10**9 + fill.number},{8 * 10**9 + fill.number // 2}\n"
        )


def symbols() -> Iterable[str]:
    """The instruments that the samples trade: linear, one unit a contract, settled in USDT."""
    return (name for name, _ in _SYMBOLS)


def _decimal(units: int, places: int) -> str:
    whole, rest = divmod(units, 10**places)
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")
