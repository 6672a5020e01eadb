"""ReconciliationService: positions held against their own entries, their venue and their orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from steelyard.client.caller import Caller, Commits, new_request_id
from steelyard.client.reconciliation_records import (
    ComparedWith,
    Discrepancy,
    DiscrepancyKind,
    DiscrepancySeverity,
    DiscrepancyState,
    Reconciliation,
    ReconciliationRun,
    ReconciliationStats,
    ResolvedDiscrepancy,
    Validation,
)
from steelyard.client.records import Leg
from steelyard.client.translation import enum_number, record_of, set_word, timestamp
from steelyard.v1 import reconciliation_service_pb2, reconciliation_service_pb2_grpc

RUN_TIMEOUT_S = 120.0
POLL_INTERVAL_S = 0.5


class ReconciliationCalls(Caller):
    """The calls of ReconciliationService."""

    @cached_property
    def _reconciliation(self) -> reconciliation_service_pb2_grpc.ReconciliationServiceStub:
        return reconciliation_service_pb2_grpc.ReconciliationServiceStub(self.channel)

    async def validate_position(
        self,
        account: str,
        instrument: str,
        *,
        book: str = "",
        leg: Leg | None = None,
        fix_discrepancies: bool = True,
        validate_only: bool = False,
        expected_version: int | None = None,
    ) -> Validation:
        """Looks at one position now, and fixes what it may unless told otherwise. Raises `NotFound`."""
        request = reconciliation_service_pb2.ValidatePositionRequest(
            account=account,
            book=book,
            instrument=instrument,
            fix_discrepancies=fix_discrepancies,
            validate_only=validate_only,
            expected_version=expected_version,
        )
        set_word(request, "leg", word=leg)
        return record_of(Validation, await self._write(self._reconciliation.ValidatePosition, request))

    async def run_reconciliation(
        self,
        accounts: Iterable[str] = (),
        *,
        instruments: Iterable[str] = (),
        fix_discrepancies: bool = True,
        validate_only: bool = False,
        in_background: bool = False,
        request_id: str | None = None,
    ) -> Reconciliation:
        """Looks at all positions in a scope; where it is left to a worker, `follow_reconciliation` tells how far."""
        request = reconciliation_service_pb2.RunReconciliationRequest(
            request_id=new_request_id(request_id),
            accounts=tuple(accounts),
            instruments=tuple(instruments),
            fix_discrepancies=fix_discrepancies,
            validate_only=validate_only,
            in_background=in_background,
        )
        answer = await self._ask(self._reconciliation.RunReconciliation, request, timeout_s=RUN_TIMEOUT_S)
        self._remember(answer)
        return record_of(Reconciliation, answer)

    async def get_reconciliation_run(self, run_id: str) -> ReconciliationRun:
        """A run as it is now. Raises `NotFound`."""
        request = reconciliation_service_pb2.GetReconciliationRunRequest(run_id=run_id)
        return record_of(ReconciliationRun, (await self._ask(self._reconciliation.GetReconciliationRun, request)).run)

    async def follow_reconciliation(self, run_id: str) -> AsyncGenerator[ReconciliationRun, None]:
        """A run as it gets on; the last one has ended. Raises `NotFound`."""
        while True:
            run = await self.get_reconciliation_run(run_id)
            yield run
            if run.state.is_terminal:
                return
            await asyncio.sleep(POLL_INTERVAL_S)

    def list_discrepancies(
        self,
        accounts: Iterable[str] = (),
        *,
        instruments: Iterable[str] = (),
        kinds: Iterable[DiscrepancyKind] = (),
        compared_with: Iterable[ComparedWith] = (),
        severities: Iterable[DiscrepancySeverity] = (),
        states: Iterable[DiscrepancyState] = (),
        found_from: datetime | None = None,
        found_before: datetime | None = None,
        run_id: str = "",
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[Discrepancy]:
        """The discrepancies on record, the newest first."""
        names = tuple(accounts)
        request = reconciliation_service_pb2.ListDiscrepanciesRequest(
            accounts=names,
            instruments=tuple(instruments),
            found_from=timestamp(found_from) if found_from else None,
            found_before=timestamp(found_before) if found_before else None,
            run_id=run_id,
            page_size=page_size,
            min_commit=self._since(names, min_commit),
        )
        _set_words(request, kinds=kinds, compared_with=compared_with, severities=severities, states=states)
        return self._pages(
            self._reconciliation.ListDiscrepancies,
            request,
            rows=lambda answer: (record_of(Discrepancy, each) for each in answer.discrepancies),
        )

    async def resolve_discrepancy(
        self,
        account: str,
        discrepancy_id: str,
        *,
        reason: str,
        state: DiscrepancyState = DiscrepancyState.RESOLVED,
        expected_version: int | None = None,
        request_id: str | None = None,
    ) -> ResolvedDiscrepancy:
        """Settles a discrepancy by somebody's word; the position stays as it is."""
        request = reconciliation_service_pb2.ResolveDiscrepancyRequest(
            request_id=new_request_id(request_id),
            account=account,
            discrepancy_id=discrepancy_id,
            reason=reason,
            expected_version=expected_version,
        )
        set_word(request, "state", word=state)
        return record_of(ResolvedDiscrepancy, await self._write(self._reconciliation.ResolveDiscrepancy, request))

    async def get_reconciliation_stats(self, accounts: Iterable[str] = ()) -> ReconciliationStats:
        """What all runs came to, and what is open."""
        request = reconciliation_service_pb2.GetReconciliationStatsRequest(accounts=tuple(accounts))
        return record_of(ReconciliationStats, await self._ask(self._reconciliation.GetReconciliationStats, request))


def _set_words(request: Any, **words: Iterable[StrEnum]) -> None:
    for name, given in words.items():
        getattr(request, name).extend(enum_number(request, name, word=word) for word in given)
