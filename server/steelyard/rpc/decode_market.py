"""Instruments and reported prices, out of the contract."""

from __future__ import annotations

from collections.abc import Mapping

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.marks import Mark
from steelyard.operations.apply_marks import MarkRejection, Reported, ReportedMark
from steelyard.rpc import decode
from steelyard.v1 import market_pb2, market_service_pb2

MARKS_MAX = 1_000
"""Prices in one message."""
SOURCE_MAX = 64
NAME_TOLD_MAX = 64
"""Of a name that cannot be right, this much is told."""
DEFAULT_SOURCE = "caller"

KINDS: Mapping[int, InstrumentKind] = {
    market_pb2.INSTRUMENT_KIND_LINEAR: InstrumentKind.LINEAR,
    market_pb2.INSTRUMENT_KIND_INVERSE: InstrumentKind.INVERSE,
}
PRICE_RULES: Mapping[int, PriceRule] = {
    market_pb2.PRICE_RULE_UNSPECIFIED: PriceRule.POSITIVE,
    market_pb2.PRICE_RULE_POSITIVE: PriceRule.POSITIVE,
    market_pb2.PRICE_RULE_ANY: PriceRule.ANY,
}


def instrument(request: market_service_pb2.UpsertInstrumentRequest) -> Instrument:
    """The record that a request asks for. Raises `InvalidField`."""
    if not request.HasField("instrument"):
        raise InvalidField("instrument", "is required")
    record = request.instrument
    kind = decode.choice(record.kind, KINDS, field="instrument.kind")
    quote = decode.currency(record.quote_currency, field="instrument.quote_currency")
    if not record.settle_currency and kind is InstrumentKind.INVERSE:
        raise InvalidField("instrument.settle_currency", "is required for an inverse instrument")
    settle = record.settle_currency or quote
    return Instrument(
        name=decode.instrument(record.instrument, field="instrument.instrument"),
        kind=kind,
        multiplier=decode.positive(record.multiplier, field="instrument.multiplier"),
        quote_currency=quote,
        settle_currency=decode.currency(settle, field="instrument.settle_currency"),
        price_rule=decode.choice(record.price_rule, PRICE_RULES, field="instrument.price_rule"),
        is_root=record.root,
    )


def reported_marks(request: market_service_pb2.ReportMarksRequest, *, first: int) -> list[Reported]:
    """The prices of a message, at their places in the stream; those that cannot be read are refused one by one."""
    if len(request.marks) > MARKS_MAX:
        raise InvalidField("marks", f"must not be more than {MARKS_MAX:,}")
    return [_reported(mark, index=first + place) for place, mark in enumerate(request.marks)]


def _reported(mark: market_pb2.Mark, *, index: int) -> Reported:
    try:
        return ReportedMark(index, decode.instrument(mark.instrument), _mark(mark))
    except InvalidField as error:
        return MarkRejection(index, mark.instrument[:NAME_TOLD_MAX], error.field, error.why)


def _mark(mark: market_pb2.Mark) -> Mark:
    if not mark.HasField("at"):
        raise InvalidField("at", "is required")
    return Mark(
        price=decode.decimal(mark.price, field="price"),
        at=decode.timestamp(mark.at, field="at"),
        source=decode.printable(mark.source, SOURCE_MAX, field="source") or DEFAULT_SOURCE,
    )
