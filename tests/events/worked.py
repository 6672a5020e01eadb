"""The worked table of events: 18 messages one after another, and what each must leave behind."""

import json
from dataclasses import dataclass
from typing import Any

REPORTS = "ws-gateway.position"
EXECUTIONS = "order-manager.order_executed"
ORDERS = "order-manager.order_events"
BTC = "BTCUSDT"
XRP = "XRPUSDT"


def at(clock: str) -> str:
    return f"2025-01-15T{clock}Z"


def report(clock: str | None, **content: Any) -> bytes:
    said = {"symbol": BTC, **content} | ({} if clock is None else {"timestamp": at(clock)})
    return json.dumps({"event_type": "position", "channel": "position", "data": said, "trace_id": "r"}).encode()


def execution(clock: str | None, side: str, quantity: str, price: str, fee: str, order: str | None = None) -> bytes:
    said = {
        "event_type": "order_executed",
        "order_id": order,
        "asset": BTC,
        "side": side,
        "execution_price": price,
        "execution_quantity": quantity,
        "execution_fees": fee,
        "executed_at": None if clock is None else at(clock),
        "trace_id": f"f-{order}-{clock}",
    }
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def order_state(clock: str, status: str, filled: str, average: str, fees: str, **more: Any) -> bytes:
    said = {
        "order_id": "order-200",
        "status": status,
        "symbol": XRP,
        "side": "Sell",
        "filled_quantity": filled,
        "average_price": average,
        "fees": fees,
        "updated_at": at(clock),
    }
    return json.dumps(said | more).encode()


@dataclass(frozen=True)
class Row:
    """A message and the position after it; `version` is the position's, whether the message stepped it or not."""

    number: int
    queue: str
    body: bytes
    instrument: str
    quantity: str
    average: str | None
    realized: str
    fees: str
    version: int
    outcome: str


_FOURTH = execution("10:10:00", "BUY", "0.5", "50000.00", "25.00", "order-123")
_LAST = execution(None, "SELL", "0.5", "51000", "0")
FILLED = ("874.5", "50.5")

ROWS = [
    Row(
        1,
        REPORTS,
        report("10:00:00", side="Buy", size="1.5", avgPrice="50000.00", unrealisedPnl="150.00", mode="one-way"),
        BTC,
        "1.5",
        "50000",
        "0",
        "0",
        1,
        "APPLIED",
    ),
    Row(
        2,
        REPORTS,
        report("10:05:00", side="Buy", size="2.0", avgPrice="49000.00", unrealisedPnl="200.00"),
        BTC,
        "2",
        "49000",
        "0",
        "0",
        2,
        "APPLIED",
    ),
    Row(
        3,
        REPORTS,
        report(None, size="1.8", avgPrice="50000.00", unrealisedPnl="180.00"),
        BTC,
        "2",
        "49000",
        "0",
        "0",
        2,
        "UNCHANGED",
    ),
    Row(4, EXECUTIONS, _FOURTH, BTC, "2.5", "49200", "0", "25", 3, "APPLIED"),
    Row(5, EXECUTIONS, _FOURTH, BTC, "2.5", "49200", "0", "25", 3, "REPEATED"),
    Row(
        6,
        EXECUTIONS,
        execution("10:15:00", "SELL", "0.5", "51000.00", "25.50", "order-124"),
        BTC,
        "2",
        "49200",
        *FILLED,
        4,
        "APPLIED",
    ),
    Row(
        7,
        REPORTS,
        report("10:07:00", side="Buy", size="2.0", avgPrice="49000"),
        BTC,
        "2",
        "49200",
        *FILLED,
        4,
        "UNCHANGED",
    ),
    Row(
        8,
        EXECUTIONS,
        execution("10:04:00", "BUY", "0.3", "49500", "0", "order-125"),
        BTC,
        "2",
        "49200",
        *FILLED,
        5,
        "APPLIED",
    ),
    Row(
        9,
        REPORTS,
        report("10:20:00", side="Buy", size="2.0", avgPrice="49249.2", unrealisedPnl="0"),
        BTC,
        "2",
        "49200",
        *FILLED,
        5,
        "UNCHANGED",
    ),
    Row(
        10,
        REPORTS,
        report("10:21:00", side="Buy", size="2.0", avgPrice="49249.21"),
        BTC,
        "2",
        "49249.21",
        *FILLED,
        6,
        "APPLIED",
    ),
    Row(
        11,
        ORDERS,
        order_state("10:22:00", "partially_filled", "0.3", "100", "0.03"),
        XRP,
        "-0.3",
        "100",
        "0",
        "0.03",
        1,
        "APPLIED",
    ),
    Row(
        12, ORDERS, order_state("10:23:00", "filled", "1.0", "101", "0.10"), XRP, "-1", "101", "0", "0.1", 2, "APPLIED"
    ),
    Row(
        13,
        ORDERS,
        order_state("10:24:00", "filled", "5", "101", "0.10", is_dry_run=True, order_id="order-201"),
        XRP,
        "-1",
        "101",
        "0",
        "0.1",
        2,
        "IGNORED",
    ),
    Row(14, REPORTS, report("10:30:00", side="", size="0", avgPrice="0"), BTC, "0", None, *FILLED, 7, "APPLIED"),
    Row(15, REPORTS, report("10:31:00", side="", size="0", avgPrice="0"), BTC, "0", None, *FILLED, 7, "UNCHANGED"),
    Row(
        16,
        REPORTS,
        report("10:40:00", side="Sell", size="0.5", avgPrice="52000"),
        BTC,
        "-0.5",
        "52000",
        *FILLED,
        8,
        "APPLIED",
    ),
    Row(
        17,
        REPORTS,
        b'{"event_type": "position", "data": {"symbol": "INVALID", "size": "not-a-number", "avgPrice": null}}',
        BTC,
        "-0.5",
        "52000",
        *FILLED,
        8,
        "INVALID_FIELD",
    ),
    Row(18, EXECUTIONS, _LAST, BTC, "-1", "51500", *FILLED, 9, "APPLIED"),
    Row(18, EXECUTIONS, _LAST, BTC, "-1", "51500", *FILLED, 9, "REPEATED"),
]
