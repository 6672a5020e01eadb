"""ReconciliationService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from steelyard.accounting.errors import NotFound
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_discrepancies import KeepDiscrepancies
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import Detail
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.reading import Seen
from steelyard.operations.reconcile import Reconcile
from steelyard.rpc import decode, decode_reconciliation, encode_position, encode_reconciliation
from steelyard.rpc.calls import Context, current_call
from steelyard.rpc.header import freshness, read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.v1 import common_pb2, reconciliation_service_pb2, reconciliation_service_pb2_grpc

ANYBODY = "caller"
"""Who settles a record while there are no keys."""


class ReconciliationServicer(reconciliation_service_pb2_grpc.ReconciliationServiceServicer):
    """Positions held against what others say of them."""

    def __init__(
        self,
        *,
        reconcile: Reconcile,
        records: KeepDiscrepancies,
        positions: ReadPositions,
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        self._reconcile = reconcile
        self._records = records
        self._positions = positions
        self._tokens = tokens
        self._clock = clock

    async def ValidatePosition(
        self, request: reconciliation_service_pb2.ValidatePositionRequest, context: Context
    ) -> reconciliation_service_pb2.ValidatePositionResponse:
        """Looks at one position now, and fixes what it may."""
        key = decode_reconciliation.key(request)
        is_versioned = request.HasField("expected_version")
        answer = await self._reconcile.validate(
            key,
            is_fixing=decode_reconciliation.is_fixing(request),
            is_trial=request.validate_only,
            expected_version=decode.version(request.expected_version) if is_versioned else None,
        )
        response = reconciliation_service_pb2.ValidatePositionResponse(
            header=self._header(),
            is_valid=answer.is_valid,
            error_message=answer.error_message,
            discrepancies=[encode_reconciliation.finding(each) for each in answer.findings],
            fixed=answer.is_fixed,
            venue_error=answer.venue_error,
        )
        try:
            now = await self._positions.get(key)
        except NotFound:
            return response
        response.updated_position.CopyFrom(encode_position.position(now.value, detail=Detail.FULL))
        response.header.CopyFrom(read_header(now.seen))
        return response

    async def RunReconciliation(
        self, request: reconciliation_service_pb2.RunReconciliationRequest, context: Context
    ) -> reconciliation_service_pb2.RunReconciliationResponse:
        """Looks at all positions in a scope, or has a worker do it."""
        request_id = decode.uuid(request.request_id, field="request_id")
        scope = decode_reconciliation.scope(request)
        if request.validate_only:
            answer = await self._reconcile.try_out(scope)
        else:
            answer = await self._reconcile.run(
                scope,
                is_fixing=decode_reconciliation.is_fixing(request),
                is_background=request.in_background,
                request=(request_id, decode.body_hash(request)),
            )
        return reconciliation_service_pb2.RunReconciliationResponse(
            header=self._header(),
            run=encode_reconciliation.run(answer.run, is_trial=request.validate_only),
            discrepancies=[encode_reconciliation.finding(each) for each in answer.findings],
            replayed=answer.is_replayed,
        )

    async def GetReconciliationRun(
        self, request: reconciliation_service_pb2.GetReconciliationRunRequest, context: Context
    ) -> reconciliation_service_pb2.GetReconciliationRunResponse:
        """A run as it is now."""
        run = await self._reconcile.find(decode.uuid(request.run_id, field="run_id"))
        return reconciliation_service_pb2.GetReconciliationRunResponse(
            header=read_header(Seen((), self._clock())), run=encode_reconciliation.run(run)
        )

    async def ListDiscrepancies(
        self, request: reconciliation_service_pb2.ListDiscrepanciesRequest, context: Context
    ) -> reconciliation_service_pb2.ListDiscrepanciesResponse:
        """The discrepancies on record, the newest first."""
        answer = await self._records.page(
            decode_reconciliation.discrepancy_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return reconciliation_service_pb2.ListDiscrepanciesResponse(
            header=read_header(answer.seen),
            discrepancies=[encode_reconciliation.discrepancy(each) for each in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def ResolveDiscrepancy(
        self, request: reconciliation_service_pb2.ResolveDiscrepancyRequest, context: Context
    ) -> reconciliation_service_pb2.ResolveDiscrepancyResponse:
        """Settles a discrepancy by somebody's word."""
        request_id = decode.uuid(request.request_id, field="request_id")
        key = current_call().key
        done = await self._records.resolve(
            decode_reconciliation.verdict(request, by=ANYBODY if key is None else key.terms.owner),
            request=RequestIdentity(request_id, decode.body_hash(request)),
        )
        return reconciliation_service_pb2.ResolveDiscrepancyResponse(
            header=write_header(done.commits, at=self._clock()),
            discrepancy=encode_reconciliation.discrepancy(done.record),
            replayed=done.is_replayed,
        )

    async def GetReconciliationStats(
        self, request: reconciliation_service_pb2.GetReconciliationStatsRequest, context: Context
    ) -> reconciliation_service_pb2.GetReconciliationStatsResponse:
        """What all runs came to, and what is open."""
        told = await self._reconcile.stats(decode.accounts(request.accounts))
        return reconciliation_service_pb2.GetReconciliationStatsResponse(
            header=read_header(Seen((), self._clock())), **encode_reconciliation.stats(told)
        )

    def _header(self) -> common_pb2.ResponseHeader:
        return write_header((), at=self._clock())
