"""PositionService: what is held, and what it is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from google.protobuf.field_mask_pb2 import FieldMask

from steelyard.client.caller import Caller, Commits, new_request_id
from steelyard.client.records import (
    Direction,
    ExecutionPair,
    FillInTrip,
    Leg,
    Lot,
    Position,
    PositionAnnotations,
    PositionEvent,
    PositionKey,
    PositionMode,
    PositionSide,
    PositionView,
    RoundTrip,
    RoundTripState,
    VenueReport,
    VenueReportOutcome,
)
from steelyard.client.translation import decimal_text, fill_message, message_of, record_of, set_word, timestamp
from steelyard.v1 import common_pb2, position_service_pb2, position_service_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionsFound:
    """Positions of one snapshot, and the keys that have none."""

    positions: tuple[Position, ...]
    missing: tuple[PositionKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTripDetail:
    """A round trip with its fills and execution pairs."""

    round_trip: RoundTrip
    relations: tuple[FillInTrip, ...]
    execution_pairs: tuple[ExecutionPair, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotated:
    """Labels and notes as a write left them."""

    annotations: PositionAnnotations
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueAnswer:
    """What a venue's report came to."""

    outcome: VenueReportOutcome
    version: int | None
    """The position's version where the report changed it."""
    size_differs: bool
    average_differs: bool
    replayed: bool


class PositionCalls(Caller):
    """The calls of PositionService."""

    @cached_property
    def _positions(self) -> position_service_pb2_grpc.PositionServiceStub:
        return position_service_pb2_grpc.PositionServiceStub(self.channel)

    async def get_position(
        self,
        account: str,
        instrument: str,
        *,
        book: str = "",
        leg: Leg | None = None,
        view: PositionView = PositionView.FULL,
        min_commit: Commits | None = None,
        require_fresh_prices: bool = False,
    ) -> Position:
        """One position. Raises `NotFound` where its key never had an entry.

        With `require_fresh_prices` the price source is waited for, else `PricesNotFresh` is raised.
        """
        request = position_service_pb2.GetPositionRequest(
            account=account,
            book=book,
            instrument=instrument,
            min_commit=self._since([account], min_commit),
            require_fresh_prices=require_fresh_prices,
        )
        set_word(request, "leg", word=leg)
        set_word(request, "view", word=view)
        answer = await self._ask(self._positions.GetPosition, request)
        return record_of(Position, answer.position)

    def list_positions(
        self,
        accounts: Iterable[str] = (),
        *,
        book: str = "",
        instrument: str = "",
        mode: PositionMode | None = None,
        leg: Leg | None = None,
        side: PositionSide | None = None,
        size_min: Decimal | None = None,
        size_max: Decimal | None = None,
        open_only: bool = False,
        labels: Iterable[str] = (),
        view: PositionView = PositionView.BASIC,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[Position]:
        """Positions by account, book, instrument and leg, page by page as they are read."""
        names = tuple(accounts)
        request = position_service_pb2.ListPositionsRequest(
            accounts=names,
            book=book,
            instrument=instrument,
            size_min=None if size_min is None else decimal_text(size_min),
            size_max=None if size_max is None else decimal_text(size_max),
            open_only=open_only,
            labels=labels,
            page_size=page_size,
            min_commit=self._since(names, min_commit),
        )
        set_word(request, "mode", word=mode)
        set_word(request, "leg", word=leg)
        set_word(request, "side", word=side)
        set_word(request, "view", word=view)
        return self._pages(
            self._positions.ListPositions,
            request,
            rows=lambda answer: (record_of(Position, position) for position in answer.positions),
        )

    async def batch_get_positions(
        self,
        keys: Iterable[PositionKey],
        *,
        view: PositionView = PositionView.BASIC,
        min_commit: Commits | None = None,
        require_fresh_prices: bool = False,
    ) -> PositionsFound:
        """Up to 1,000 positions of one snapshot, in the order of the keys."""
        wanted = tuple(keys)
        request = position_service_pb2.BatchGetPositionsRequest(
            keys=[message_of(common_pb2.PositionKey, key) for key in wanted],
            min_commit=self._since({key.account for key in wanted}, min_commit),
            require_fresh_prices=require_fresh_prices,
        )
        set_word(request, "view", word=view)
        return record_of(PositionsFound, await self._ask(self._positions.BatchGetPositions, request))

    async def update_position(
        self,
        key: PositionKey,
        *,
        labels: Mapping[str, str] | None = None,
        notes: str | None = None,
        annotation_etag: str = "",
        request_id: str | None = None,
    ) -> Annotated:
        """Writes labels, notes or both: None keeps what there is, empty takes away. The position's version stays.

        Raises `VersionMismatch` unless labels and notes are those of `annotation_etag`, where one is given.
        """
        paths = [name for name, value in (("labels", labels), ("notes", notes)) if value is not None]
        request = position_service_pb2.UpdatePositionRequest(
            request_id=new_request_id(request_id),
            key=message_of(common_pb2.PositionKey, key),
            update_mask=FieldMask(paths=paths),
            labels=labels,
            notes=notes or "",
            annotation_etag=annotation_etag,
        )
        return record_of(Annotated, await self._write(self._positions.UpdatePosition, request))

    async def report_venue_position(self, report: VenueReport, *, request_id: str | None = None) -> VenueAnswer:
        """Says what a venue says a position is: it sets the position, or is compared, by the account's authority.

        Raises `UnknownInstrument`; `NotFound` where the account is unknown and none is made.
        """
        request = position_service_pb2.ReportVenuePositionRequest(request_id=new_request_id(request_id))
        fill_message(request, report)
        return record_of(VenueAnswer, await self._write(self._positions.ReportVenuePosition, request))

    def list_lots(
        self,
        account: str,
        instrument: str,
        *,
        book: str = "",
        leg: Leg | None = None,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[Lot]:
        """The open lots of a position in fold order."""
        request = position_service_pb2.ListLotsRequest(
            account=account,
            book=book,
            instrument=instrument,
            page_size=page_size,
            min_commit=self._since([account], min_commit),
        )
        set_word(request, "leg", word=leg)
        return self._pages(
            self._positions.ListLots, request, rows=lambda answer: (record_of(Lot, lot) for lot in answer.lots)
        )

    def list_round_trips(
        self,
        account: str,
        *,
        book: str = "",
        instrument: str = "",
        leg: Leg | None = None,
        direction: Direction | None = None,
        state: RoundTripState | None = None,
        closed_from: datetime | None = None,
        closed_before: datetime | None = None,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[RoundTrip]:
        """Round trips of an account: open ones first, then the latest closed first."""
        request = position_service_pb2.ListRoundTripsRequest(
            account=account,
            book=book,
            instrument=instrument,
            closed_from=timestamp(closed_from) if closed_from else None,
            closed_before=timestamp(closed_before) if closed_before else None,
            page_size=page_size,
            min_commit=self._since([account], min_commit),
        )
        set_word(request, "leg", word=leg)
        set_word(request, "direction", word=direction)
        set_word(request, "state", word=state)
        return self._pages(
            self._positions.ListRoundTrips,
            request,
            rows=lambda answer: (record_of(RoundTrip, trip) for trip in answer.round_trips),
        )

    async def get_round_trip(self, account: str, trip_id: str, *, min_commit: Commits | None = None) -> RoundTripDetail:
        """One round trip with its fills and execution pairs. Raises `NotFound`."""
        request = position_service_pb2.GetRoundTripRequest(
            account=account, trip_id=trip_id, min_commit=self._since([account], min_commit)
        )
        return record_of(RoundTripDetail, await self._ask(self._positions.GetRoundTrip, request))

    def list_position_events(
        self,
        account: str,
        instrument: str,
        *,
        book: str = "",
        leg: Leg | None = None,
        version_from: int = 0,
        version_before: int = 0,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[PositionEvent]:
        """The versions of a position, the newest first."""
        request = position_service_pb2.ListPositionEventsRequest(
            account=account,
            book=book,
            instrument=instrument,
            version_from=version_from,
            version_before=version_before,
            page_size=page_size,
            min_commit=self._since([account], min_commit),
        )
        set_word(request, "leg", word=leg)
        return self._pages(
            self._positions.ListPositionEvents,
            request,
            rows=lambda answer: (record_of(PositionEvent, event) for event in answer.events),
        )
