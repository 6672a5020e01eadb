"""Instruments and prices, as the contract tells them."""

from __future__ import annotations

from collections.abc import Mapping

from steelyard.accounting.instruments import InstrumentKind, PriceRule
from steelyard.operations.apply_marks import MarkRejection, MarkView
from steelyard.operations.keep_instruments import InstrumentRecord
from steelyard.rpc import encode, encode_position
from steelyard.v1 import market_pb2, market_service_pb2

KINDS: Mapping[InstrumentKind, market_pb2.InstrumentKind.ValueType] = {
    InstrumentKind.LINEAR: market_pb2.INSTRUMENT_KIND_LINEAR,
    InstrumentKind.INVERSE: market_pb2.INSTRUMENT_KIND_INVERSE,
}
PRICE_RULES: Mapping[PriceRule, market_pb2.PriceRule.ValueType] = {
    PriceRule.POSITIVE: market_pb2.PRICE_RULE_POSITIVE,
    PriceRule.ANY: market_pb2.PRICE_RULE_ANY,
}


def instrument(record: InstrumentRecord) -> market_pb2.Instrument:
    """A record."""
    traded = record.instrument
    return market_pb2.Instrument(
        instrument=traded.name,
        kind=KINDS[traded.kind],
        multiplier=encode.decimal(traded.multiplier),
        quote_currency=traded.quote_currency,
        settle_currency=traded.settle_currency,
        price_rule=PRICE_RULES[traded.price_rule],
        root=traded.is_root,
        has_fills=record.has_fills,
        created_at=encode.timestamp(record.created_at),
        updated_at=encode.timestamp(record.updated_at),
        version=record.version,
        etag=encode.etag(record.version),
    )


def mark(view: MarkView) -> market_pb2.Mark:
    """The latest price of an instrument."""
    return encode_position.mark(view.instrument, known=view.mark, state=view.state)


def rejection(refused: MarkRejection) -> market_service_pb2.MarkRejection:
    """Why a price could not be taken."""
    return market_service_pb2.MarkRejection(
        index=refused.index, instrument=refused.instrument, field=refused.field, message=refused.message
    )
