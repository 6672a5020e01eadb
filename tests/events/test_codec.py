"""Messages of other services become values; what cannot be right is refused by the name of its field."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from steelyard.accounting.entries import Side
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, Leg
from steelyard.accounting.units import decimal_text
from steelyard.accounting.venue_report import VenueReport
from steelyard.events.codec import decode_execution, decode_order_state, decode_report, trace_of
from steelyard.operations.feed_messages import Execution

MAIN = Account("main")
NOW = datetime(2025, 1, 15, 12, 0, tzinfo=UTC)


def report(content: dict[str, Any], **envelope: Any) -> VenueReport:
    body = json.dumps({"event_type": "position", "data": {"symbol": "BTCUSDT"} | content} | envelope)
    return decode_report(body.encode(), account=MAIN).report


def execution(**fields: Any) -> Execution:
    said = {"asset": "BTCUSDT", "side": "BUY", "execution_price": "50000.00", "execution_quantity": "0.5"} | fields
    decoded = decode_execution(json.dumps(said).encode(), account=MAIN)
    assert decoded is not None
    return decoded


@pytest.mark.parametrize(
    ("content", "leg", "quantity"),
    [
        ({"side": "Buy", "size": "1.5"}, Leg.NET, "1.5"),
        ({"side": "Sell", "size": "0.5"}, Leg.NET, "-0.5"),
        ({"side": "", "size": "0"}, Leg.NET, "0"),
        ({"side": "None", "size": "0.000"}, Leg.NET, "0"),
        ({"size": "1.8"}, Leg.NET, None),  # long or short: it does not say
        ({"size": "-1.8"}, Leg.NET, "-1.8"),
        ({"size": 1.5, "side": "Buy"}, Leg.NET, "1.5"),  # a JSON number keeps its digits
        ({"positionIdx": 0, "side": "Sell", "size": "1"}, Leg.NET, "-1"),
        ({"positionIdx": 1, "size": "1"}, Leg.LONG, "1"),
        ({"position_idx": "2", "side": "Sell", "size": "1"}, Leg.SHORT, "-1"),
        ({"mode": "hedge", "side": "Sell", "size": "1"}, Leg.SHORT, "-1"),
    ],
)
def test_size_side_and_leg_make_the_signed_quantity(content: dict[str, Any], leg: Leg, quantity: str | None) -> None:
    said = report(content)
    assert said.key.leg is leg
    assert (None if said.quantity is None else decimal_text(said.quantity)) == quantity


def test_absent_is_none_and_zero_is_a_value() -> None:
    said = report({"size": "0", "avgPrice": "0", "unrealisedPnl": "0", "realisedPnl": None})
    assert (said.average_price, said.unrealized_pnl, said.realized_pnl, said.mark_price) == (
        None,
        Decimal(0),
        None,
        None,
    )
    assert said.reported_at is None


@pytest.mark.parametrize("holder", ["payload", "data"])
@pytest.mark.parametrize("names", [("avgPrice", "unrealisedPnl"), ("avg_price", "unrealized_pnl")])
def test_envelopes_and_cases_are_understood_alike(holder: str, names: tuple[str, str]) -> None:
    content = {"symbol": "BTCUSDT", "side": "Buy", "size": "1", names[0]: "5.10", names[1]: "-1"}
    body = json.dumps({holder: content | {"timestamp": "2025-01-15T10:00:00Z"}, "trace_id": "t"}).encode()
    message = decode_report(body, account=MAIN)
    assert (message.report.average_price, message.report.unrealized_pnl) == (Decimal("5.1"), Decimal(-1))
    assert message.report.reported_at == datetime(2025, 1, 15, 10, 0, tzinfo=UTC)
    assert message.trace_id == "t"


@pytest.mark.parametrize("text", ["2025-01-15T12:00:00+02:00", "2025-01-15T10:00:00", "1736935200000"])
def test_times_are_utc(text: str) -> None:
    assert report({"size": "1", "updatedTime": text}).reported_at == datetime(2025, 1, 15, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"data": {"symbol": "BTCUSDT", "size": NaN}}', "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 100_000, "body"),
        (b'{"data": 1}', "data"),
        (b'{"payload": {"symbol": "BTCUSDT"}}', "payload.size"),
        (b'{"data": {"symbol": "INVALID", "size": "not-a-number", "avgPrice": null}}', "data.size"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "1e3"}}', "data.size"),
        (b'{"data": {"symbol": "BTCUSDT", "size": 1e3}}', "data.size"),
        (b'{"data": {"size": "1"}}', "data.symbol"),
        (b'{"data": {"symbol": "btc", "size": "1"}}', "data.symbol"),
        (b'{"data": {"symbol": "B\\u0000TC", "size": "1"}}', "data.symbol"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "1", "side": "Up"}}', "data.side"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "-1", "side": "Buy"}}', "data.size"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "1", "side": "Buy", "positionIdx": 2}}', "data.side"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "1", "positionIdx": 3}}', "data.position_idx"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "0", "mode": "hedge"}}', "data.position_idx"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "1", "timestamp": "yesterday"}}', "data.timestamp"),
        (b'{"data": {"symbol": "BTCUSDT", "size": "1", "avgPrice": {}}}', "data.avg_price"),
    ],
)
def test_a_bad_report_is_refused_by_the_name_of_its_field(body: bytes, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        decode_report(body, account=MAIN)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"execution_quantity": "0"}, "execution_quantity"),
        ({"execution_price": "-1"}, "execution_price"),
        ({"side": ""}, "side"),
        ({"mode": "hedge"}, "position_idx"),
        ({"execution_fees": "1,5"}, "execution_fees"),
        ({"executed_at": "10:00"}, "executed_at"),
    ],
)
def test_a_bad_execution_is_refused_by_the_name_of_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        execution(**fields)
    assert refused.value.field == field


def test_both_shapes_of_an_execution_say_the_same() -> None:
    first = execution(order_id="o", execution_fees="25.00", executed_at="2025-01-15T10:10:00Z")
    assert (first.quantity, first.price, first.fee) == (Decimal("0.5"), Decimal(50000), Decimal(25))
    other = decode_execution(
        b'{"event_type": "position_updated_from_order", "order_id": "o", "asset": "BTCUSDT", "side": "Buy",'
        b' "filled_quantity": "0.5", "execution_price": "50000.00", "mode": "one-way"}',
        account=MAIN,
    )
    assert other is not None
    assert (other.key, other.side, other.quantity, other.price) == (first.key, Side.BUY, first.quantity, first.price)


def test_a_fill_is_known_by_event_else_order_and_quantity_else_trace_and_content() -> None:
    assert execution(event_id="e-1").fill_id == "e-1"
    assert execution(order_id="o", cumulative_quantity="0.50").fill_id == "order:o:0.5"
    plain = execution(trace_id="t", executed_at="2025-01-15T10:10:00Z")
    assert plain.fill_id == execution(trace_id="t", execution_quantity="0.50").fill_id
    assert plain.fill_id != execution(trace_id="u").fill_id
    assert plain.fill_id != execution(trace_id="t", execution_fees="1").fill_id
    assert execution(event_id="é" * 10).fill_id.startswith("sha256:")


@pytest.mark.parametrize("said", [True, "true"])
def test_dry_runs_are_nobodys(said: object) -> None:
    body = {"order_id": "o", "asset": "XRPUSDT", "side": "Sell", "filled_quantity": "5", "average_price": "1"}
    dry = json.dumps(body | {"is_dry_run": said}).encode()
    assert decode_order_state(dry, account=MAIN, otherwise_at=NOW) is None
    assert decode_execution(dry, account=MAIN) is None
    real = decode_order_state(json.dumps(body).encode(), account=MAIN, otherwise_at=NOW)
    assert real is not None
    assert (real.filled_quantity, real.average_price, real.fees, real.at) == (Decimal(5), Decimal(1), None, NOW)


def test_an_order_without_executions_is_nobodys() -> None:
    body = b'{"order_id": "o", "asset": "XRPUSDT", "side": "Sell", "filled_quantity": "0", "status": "new"}'
    assert decode_order_state(body, account=MAIN, otherwise_at=NOW) is None


def test_the_trace_of_a_message_is_found_even_where_its_content_is_bad() -> None:
    assert trace_of(b'{"trace_id": "t", "data": {"size": "x"}}') == "t"
    assert trace_of(b"nonsense") is None
