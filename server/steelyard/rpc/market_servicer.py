"""MarketService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_marks import ApplyMarks, Reported
from steelyard.operations.keep_instruments import KeepInstruments
from steelyard.operations.ports import Clock
from steelyard.operations.reading import Seen
from steelyard.rpc import decode, decode_market, encode_market
from steelyard.rpc.calls import Context
from steelyard.rpc.header import read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.v1 import market_service_pb2, market_service_pb2_grpc


class MarketServicer(market_service_pb2_grpc.MarketServiceServicer):
    """Instruments and their prices."""

    def __init__(self, *, instruments: KeepInstruments, marks: ApplyMarks, tokens: PageTokens, clock: Clock) -> None:
        self._instruments = instruments
        self._marks = marks
        self._tokens = tokens
        self._clock = clock

    async def UpsertInstrument(
        self, request: market_service_pb2.UpsertInstrumentRequest, context: Context
    ) -> market_service_pb2.UpsertInstrumentResponse:
        """Makes an instrument's record, or changes it."""
        request_id = decode.uuid(request.request_id, field="request_id")
        expected = request.expected_version if request.HasField("expected_version") else None
        receipt = await self._instruments.upsert(
            decode_market.instrument(request),
            request=RequestIdentity(request_id, decode.body_hash(request)),
            expected_version=None if expected is None else decode.version(expected),
            is_rebuilding=request.rebuild,
        )
        return market_service_pb2.UpsertInstrumentResponse(
            header=write_header(receipt.commits, at=self._clock()),
            instrument=encode_market.instrument(receipt.record),
            replayed=receipt.is_replayed,
        )

    async def GetInstrument(
        self, request: market_service_pb2.GetInstrumentRequest, context: Context
    ) -> market_service_pb2.GetInstrumentResponse:
        """One instrument, by name."""
        record = await self._instruments.get(decode.instrument(request.instrument))
        return market_service_pb2.GetInstrumentResponse(
            header=read_header(Seen((), self._clock())), instrument=encode_market.instrument(record)
        )

    async def ListInstruments(
        self, request: market_service_pb2.ListInstrumentsRequest, context: Context
    ) -> market_service_pb2.ListInstrumentsResponse:
        """The instruments that have a record, by name."""
        currency = request.settle_currency
        page = await self._instruments.page(
            prefix=decode.instrument(request.prefix, field="prefix") if request.prefix else "",
            settle_currency=decode.currency(currency, field="settle_currency") if currency else None,
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
        )
        return market_service_pb2.ListInstrumentsResponse(
            header=read_header(Seen((), self._clock())),
            instruments=[encode_market.instrument(record) for record in page.rows],
            next_page_token=self._tokens.next(request, page.next_after),
        )

    async def ReportMarks(
        self, request_iterator: AsyncIterator[market_service_pb2.ReportMarksRequest], context: Context
    ) -> market_service_pb2.ReportMarksResponse:
        """Takes prices, as many as the stream brings."""
        tally = await self._marks.report(_messages(request_iterator))
        return market_service_pb2.ReportMarksResponse(
            header=write_header((), at=self._clock()),
            accepted=tally.accepted,
            superseded=tally.superseded,
            rejected=tally.rejected,
            rejections=[encode_market.rejection(each) for each in tally.rejections],
        )

    async def ListMarks(
        self, request: market_service_pb2.ListMarksRequest, context: Context
    ) -> market_service_pb2.ListMarksResponse:
        """The latest prices, by instrument."""
        page = await self._marks.page(
            decode.instruments(request.instruments),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
        )
        return market_service_pb2.ListMarksResponse(
            header=read_header(Seen((), self._clock())),
            marks=[encode_market.mark(view) for view in page.rows],
            next_page_token=self._tokens.next(request, page.next_after),
        )


async def _messages(
    requests: AsyncIterator[market_service_pb2.ReportMarksRequest],
) -> AsyncIterator[Sequence[Reported]]:
    seen = 0
    async for request in requests:
        yield decode_market.reported_marks(request, first=seen)
        seen += len(request.marks)
