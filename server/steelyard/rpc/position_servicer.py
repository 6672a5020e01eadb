"""PositionService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from steelyard.accounting.keys import PositionKey
from steelyard.operations.annotate_positions import AnnotatePositions
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.fresh_prices import FreshPrices
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import Detail
from steelyard.operations.read_events import ReadEvents
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.read_trips import ReadTrips
from steelyard.operations.report_venue_position import ReportVenuePosition
from steelyard.operations.watch_positions import WatchPositions
from steelyard.rpc import decode, decode_position, encode, encode_position, encode_trip, venue, watching
from steelyard.rpc.calls import Context
from steelyard.rpc.header import freshness, read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.told_positions import ToldPositions
from steelyard.v1 import position_pb2, position_service_pb2, position_service_pb2_grpc


class PositionServicer(position_service_pb2_grpc.PositionServiceServicer):
    """Positions, and what they are made of."""

    def __init__(
        self,
        *,
        positions: ReadPositions,
        trips: ReadTrips,
        events: ReadEvents,
        fresh: FreshPrices,
        watch: WatchPositions,
        annotate: AnnotatePositions,
        report: ReportVenuePosition,
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        self._positions = positions
        self._trips = trips
        self._events = events
        self._fresh = fresh
        self._watch = watch
        self._messages = watching.PositionMessages(tokens)
        self._annotate = annotate
        self._report = report
        self._tokens = tokens
        self._clock = clock
        self._told = ToldPositions()

    async def tell(self, key: PositionKey) -> position_pb2.Position | None:
        """A position in full as it is now, None where there is none: for writes that are asked to return it."""
        answer = await self._positions.batch([key], detail=Detail.FULL)
        view = answer.value.get(key)
        return None if view is None else encode_position.position(view, detail=Detail.FULL)

    async def GetPosition(
        self, request: position_service_pb2.GetPositionRequest, context: Context
    ) -> position_service_pb2.GetPositionResponse:
        """One position, by its key."""
        detail = decode_position.detail(request.view, default=Detail.FULL)
        read = self._fresh.position if request.require_fresh_prices else self._positions.get
        answer = await read(
            decode_position.key(request), detail=detail, freshness=freshness(request.min_commit, context)
        )
        return position_service_pb2.GetPositionResponse(
            header=read_header(answer.seen), position=self._told(answer.value, detail=detail)
        )

    async def ListPositions(
        self, request: position_service_pb2.ListPositionsRequest, context: Context
    ) -> position_service_pb2.ListPositionsResponse:
        """Positions, page by page."""
        detail = decode_position.detail(request.view, default=Detail.BASIC)
        answer = await self._positions.page(
            decode_position.position_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            detail=detail,
            freshness=freshness(request.min_commit, context),
        )
        return position_service_pb2.ListPositionsResponse(
            header=read_header(answer.seen),
            positions=[self._told(view, detail=detail) for view in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def BatchGetPositions(
        self, request: position_service_pb2.BatchGetPositionsRequest, context: Context
    ) -> position_service_pb2.BatchGetPositionsResponse:
        """Positions by their keys, all of one snapshot."""
        detail = decode_position.detail(request.view, default=Detail.BASIC)
        keys = decode_position.keys(request)
        read = self._fresh.batch if request.require_fresh_prices else self._positions.batch
        answer = await read(keys, detail=detail, freshness=freshness(request.min_commit, context))
        return position_service_pb2.BatchGetPositionsResponse(
            header=read_header(answer.seen),
            positions=[self._told(view, detail=detail) for view in answer.value.values()],
            missing=[encode.position_key(key) for key in keys if key not in answer.value],
        )

    async def ListLots(
        self, request: position_service_pb2.ListLotsRequest, context: Context
    ) -> position_service_pb2.ListLotsResponse:
        """The open lots of one position, in fold order."""
        answer = await self._trips.lots(
            decode_position.key(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return position_service_pb2.ListLotsResponse(
            header=read_header(answer.seen),
            lots=[encode_position.lot(lot) for lot in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def ListRoundTrips(
        self, request: position_service_pb2.ListRoundTripsRequest, context: Context
    ) -> position_service_pb2.ListRoundTripsResponse:
        """Round trips of an account: open ones, then the latest closed."""
        answer = await self._trips.page(
            decode_position.trip_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return position_service_pb2.ListRoundTripsResponse(
            header=read_header(answer.seen),
            round_trips=[encode_trip.round_trip(view) for view in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def GetRoundTrip(
        self, request: position_service_pb2.GetRoundTripRequest, context: Context
    ) -> position_service_pb2.GetRoundTripResponse:
        """One round trip with its fills and execution pairs."""
        answer = await self._trips.get(
            decode.account(request.account),
            decode.uuid(request.trip_id, field="trip_id"),
            freshness=freshness(request.min_commit, context),
        )
        told = position_service_pb2.GetRoundTripResponse(header=read_header(answer.seen))
        encode_trip.fill_response(answer.value, told)
        return told

    async def ListPositionEvents(
        self, request: position_service_pb2.ListPositionEventsRequest, context: Context
    ) -> position_service_pb2.ListPositionEventsResponse:
        """The versions of one position, the newest first."""
        version_from, version_before = decode_position.versions(request)
        answer = await self._events.page(
            decode_position.key(request),
            version_from=version_from,
            version_before=version_before,
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return position_service_pb2.ListPositionEventsResponse(
            header=read_header(answer.seen),
            events=[encode_position.event(event) for event in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def UpdatePosition(
        self, request: position_service_pb2.UpdatePositionRequest, context: Context
    ) -> position_service_pb2.UpdatePositionResponse:
        """Writes labels and notes."""
        request_id, etag = decode.uuid(request.request_id, field="request_id"), request.annotation_etag
        receipt = await self._annotate.update(
            decode.position_key(request.key),
            decode_position.annotation_change(request),
            request=RequestIdentity(request_id, decode.body_hash(request)),
            expected_version=decode.version_of_etag(etag, field="annotation_etag") if etag else None,
        )
        return position_service_pb2.UpdatePositionResponse(
            header=write_header(receipt.commits, at=self._clock()),
            annotations=encode_position.written_annotations(receipt.annotations),
            replayed=receipt.is_replayed,
        )

    async def ReportVenuePosition(
        self, request: position_service_pb2.ReportVenuePositionRequest, context: Context
    ) -> position_service_pb2.ReportVenuePositionResponse:
        """Takes what a venue says a position is."""
        request_id = decode.uuid(request.request_id, field="request_id")
        with venue.named_as_sent(request):
            answer = await self._report.report(
                venue.report(request), request=RequestIdentity(request_id, decode.body_hash(request))
            )
        return position_service_pb2.ReportVenuePositionResponse(
            header=write_header(answer.commits, at=self._clock()), **venue.answer(answer)
        )

    async def WatchPositions(
        self, request: position_service_pb2.WatchPositionsRequest, context: Context
    ) -> AsyncIterator[position_service_pb2.WatchPositionsResponse]:
        """What is held, then every change."""
        wanted = watching.watch_request(request, tokens=self._tokens)
        message = self._messages.of(request)
        async with aclosing(self._watch.watch(wanted)) as messages:
            async for told in messages:
                yield message(told)
