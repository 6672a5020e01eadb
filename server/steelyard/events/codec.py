"""The form of consumed messages: JSON into values, every refusal naming its field. Pure.

Names come in camel or snake case, numbers as text (or as JSON numbers, whose digits are kept), times in ISO-8601, UTC.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from steelyard.accounting.entries import EARLIEST, Side
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import DEFAULT_BOOK, Account, InstrumentName, Leg, PositionKey, instrument_name
from steelyard.accounting.units import ZERO, parse_decimal, parse_positive
from steelyard.accounting.venue_report import VenueReport
from steelyard.operations.feed_messages import Execution, OrderState, usable_id

BODY_MAX_BYTES = 256 * 1024
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MILLISECONDS = re.compile(r"[0-9]{13}", re.ASCII)
_TIME = ("timestamp", "reported_at", "updated_at", "updated_time")
_EXECUTED = ("executed_at", "execution_time", "timestamp")
_INSTRUMENT = ("symbol", "asset", "instrument")
_SIDES = {"BUY": Side.BUY, "LONG": Side.BUY, "SELL": Side.SELL, "SHORT": Side.SELL}
_INDEXED_LEGS = {"0": Leg.NET, "1": Leg.LONG, "2": Leg.SHORT}


@dataclass(frozen=True, slots=True)
class ReportMessage:
    """A decoded position report."""

    report: VenueReport
    event_id: str
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class _Said:
    """An object of a message by snake-case names; `path` leads to it."""

    values: Mapping[str, Any]
    path: str = ""

    def name(self, field: str) -> str:
        return self.path + field

    def text(self, *names: str) -> str | None:
        """The first of these fields that says something; None where none does."""
        for name in names:
            value = self.values.get(name)
            if value is None or value == "":
                continue
            if isinstance(value, bool) or not isinstance(value, str):
                raise InvalidField(self.name(name), "must be a text or a number")
            if not value.isprintable():
                raise InvalidField(self.name(name), "holds characters that are not allowed here")
            return value
        return None

    def required(self, *names: str) -> str:
        value = self.text(*names)
        if value is None:
            raise InvalidField(self.name(self._shown(names)), "is required")
        return value

    def decimal(self, *names: str) -> Decimal | None:
        value = self.text(*names)
        return None if value is None else parse_decimal(value, field=self.name(self._shown(names)))

    def positive(self, *names: str) -> Decimal:
        return parse_positive(self.required(*names), field=self.name(self._shown(names)))

    def price(self, *names: str) -> Decimal | None:
        """A price; a venue's "0" means that there is none."""
        return self.decimal(*names) or None

    def time(self, *names: str) -> datetime | None:
        value = self.text(*names)
        return None if value is None else _time(value, field=self.name(self._shown(names)))

    def instrument(self) -> InstrumentName:
        return instrument_name(self.required(*_INSTRUMENT), field=self.name(self._shown(_INSTRUMENT)))

    def side(self) -> Side | None:
        """Which side; None where it says none (flat)."""
        value = self.text("side")
        if value is None or value.upper() == "NONE":
            return None
        if value.upper() not in _SIDES:
            raise InvalidField(self.name("side"), "must be Buy or Sell")
        return _SIDES[value.upper()]

    def is_true(self, name: str) -> bool:
        value = self.values.get(name)
        return value is True or (isinstance(value, str) and value.lower() in ("true", "1"))

    def _shown(self, names: tuple[str, ...]) -> str:
        """The name that the message used, else the first."""
        return next((name for name in names if self.values.get(name) not in (None, "")), names[0])


def decode_report(body: bytes, *, account: Account) -> ReportMessage:
    """A position report of a venue. Raises `InvalidField`."""
    envelope = _envelope(body)
    said = _content(envelope, "payload", "data")
    size = said.decimal("size", "quantity")
    if size is None:
        raise InvalidField(said.name("size"), "is required")
    instrument = said.instrument()
    leg = _report_leg(said, is_flat=size == 0)
    reported_at = said.time(*_TIME) or envelope.time("timestamp")
    report = VenueReport(
        key=PositionKey(account, DEFAULT_BOOK, instrument, leg),
        size=size.copy_abs(),
        quantity=_signed(said, size, leg=leg),
        average_price=said.price("avg_price", "average_price", "entry_price", "average_entry_price"),
        reported_at=reported_at,
        unrealized_pnl=said.decimal("unrealised_pnl", "unrealized_pnl"),
        realized_pnl=said.decimal("cum_realised_pnl", "cum_realized_pnl", "realised_pnl", "realized_pnl"),
        mark_price=said.price("mark_price"),
        source=envelope.text("source", "exchange") or "venue",
    )
    event_id = envelope.text("event_id") or said.text("event_id") or hashlib.sha256(body).hexdigest()
    return ReportMessage(report, usable_id(event_id), _trace(envelope, said))


def decode_execution(body: bytes, *, account: Account) -> Execution | None:
    """One execution of an order; None for a dry run. Raises `InvalidField`."""
    envelope = _envelope(body)
    said = _content(envelope, "payload", "data")
    if said.is_true("is_dry_run") or envelope.is_true("is_dry_run"):
        return None
    names = ("execution_quantity", "filled_quantity", "quantity")
    is_state_update = said.values.get("event_type") == "position_updated_from_order"
    quantity = said.positive(*(names[1::-1] if is_state_update else names))
    price = said.positive("execution_price", "price")
    return Execution(
        key=PositionKey(account, DEFAULT_BOOK, said.instrument(), _order_leg(said)),
        side=_required_side(said),
        quantity=quantity,
        price=price,
        fee=said.decimal("execution_fees", "execution_fee", "fees", "fee") or ZERO,
        fee_currency=said.text("fee_currency"),
        executed_at=said.time(*_EXECUTED),
        order_id=said.text("order_id"),
        cumulative_quantity=said.decimal("cumulative_quantity", "cum_exec_qty"),
        event_id=envelope.text("event_id") or said.text("event_id"),
        trace_id=_trace(envelope, said),
    )


def decode_order_state(body: bytes, *, account: Account, otherwise_at: datetime) -> OrderState | None:
    """How far an order is executed; None for a dry run or an order without executions. Raises `InvalidField`."""
    envelope = _envelope(body)
    said = _content(envelope, "payload", "data")
    if said.is_true("is_dry_run") or envelope.is_true("is_dry_run"):
        return None
    order_id = said.required("order_id")
    filled = said.decimal("filled_quantity", "cumulative_quantity", "cum_exec_qty") or ZERO
    if filled < 0:
        raise InvalidField(said.name("filled_quantity"), "must not be negative")
    if filled == 0:
        return None
    return OrderState(
        key=PositionKey(account, DEFAULT_BOOK, said.instrument(), _order_leg(said)),
        side=_required_side(said),
        order_id=order_id,
        filled_quantity=filled,
        average_price=said.positive("average_price", "avg_price", "average_fill_price"),
        fees=said.decimal("fees", "cumulative_fees", "cum_exec_fee", "execution_fees"),
        fee_currency=said.text("fee_currency"),
        at=said.time("executed_at", "updated_at", "timestamp", "updated_time") or otherwise_at,
        event_id=envelope.text("event_id") or said.text("event_id"),
    )


def trace_of(body: bytes) -> str | None:
    """The trace id of a message that could not be decoded otherwise, for the log; None where there is none."""
    try:
        envelope = _envelope(body)
        return _trace(envelope, _content(envelope, "payload", "data"))
    except InvalidField:
        return None


def _envelope(body: bytes) -> _Said:
    if len(body) > BODY_MAX_BYTES:
        raise InvalidField("body", f"must not be longer than {BODY_MAX_BYTES} bytes")
    try:
        value = json.loads(body.decode(), parse_float=str, parse_int=str, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InvalidField("body", "must be JSON") from None
    if not isinstance(value, dict):
        raise InvalidField("body", "must be a JSON object")
    return _Said(_snake_case(value))


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _snake_case(value: Mapping[str, Any]) -> dict[str, Any]:
    return {_CAMEL.sub("_", name).lower(): item for name, item in value.items()}


def _content(envelope: _Said, *names: str) -> _Said:
    """The object inside the envelope; a flat message is its own content."""
    for name in names:
        value = envelope.values.get(name)
        if isinstance(value, dict):
            return _Said(_snake_case(value), f"{name}.")
        if value is not None:
            raise InvalidField(name, "must be a JSON object")
    return envelope


def _trace(envelope: _Said, said: _Said) -> str | None:
    for holder in (envelope, said):
        value = holder.values.get("trace_id")
        if isinstance(value, str) and value and value.isprintable():
            return value[:128]
    return None


def _required_side(said: _Said) -> Side:
    side = said.side()
    if side is None:
        raise InvalidField(said.name("side"), "is required")
    return side


def _named_leg(said: _Said) -> Leg | None:
    """The leg that a message names by itself."""
    index = said.text("position_idx")
    if index is not None:
        if index not in _INDEXED_LEGS:
            raise InvalidField(said.name("position_idx"), "must be 0 (one-way), 1 (long leg) or 2 (short leg)")
        return _INDEXED_LEGS[index]
    named = said.text("position_side", "leg")
    if named is not None and named.upper() in ("LONG", "SHORT", "NET", "BOTH"):
        return Leg.NET if named.upper() == "BOTH" else Leg(named.upper())
    return None


def _is_hedge(said: _Said) -> bool:
    return (said.text("mode") or "").lower().startswith("hedge")


def _order_leg(said: _Said) -> Leg:
    leg = _named_leg(said)
    if leg is None and _is_hedge(said):
        raise InvalidField(said.name("position_idx"), "is required in hedge mode")
    return leg or Leg.NET


def _report_leg(said: _Said, *, is_flat: bool) -> Leg:
    leg = _named_leg(said)
    if leg is not None or not _is_hedge(said):
        return leg or Leg.NET
    side = said.side()
    if side is None:
        why = "is required for a flat leg" if is_flat else "or side is required in hedge mode"
        raise InvalidField(said.name("position_idx"), why)
    return Leg.LONG if side is Side.BUY else Leg.SHORT


def _signed(said: _Said, size: Decimal, *, leg: Leg) -> Decimal | None:
    """The signed quantity: the leg or the side says the direction; None where neither does."""
    side = said.side()
    expected = {Leg.LONG: Side.BUY, Leg.SHORT: Side.SELL}.get(leg)
    if size == 0:
        return ZERO
    if expected is not None:
        if side not in (None, expected):
            raise InvalidField(said.name("side"), f"contradicts the {leg.value} leg")
        side = expected
    if size < 0:
        if side is Side.BUY:
            raise InvalidField(said.name("size"), "is negative although the side is Buy")
        return size
    if side is None:
        return None
    return size if side is Side.BUY else size.copy_negate()


def _time(text: str, *, field: str) -> datetime:
    if _MILLISECONDS.fullmatch(text):
        return EARLIEST + timedelta(milliseconds=int(text))
    if len(text) > 40 or "T" not in text.upper():
        raise InvalidField(field, "must be an ISO-8601 time")
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "must be an ISO-8601 time") from None
