"""MarketService and AdminService: instruments, prices, accounts."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from functools import cached_property

from steelyard.client.caller import Caller, Commits, new_request_id
from steelyard.client.records import Mark
from steelyard.client.reports import Account, Instrument, MarkRejection
from steelyard.client.status_calls import StatusCalls
from steelyard.client.translation import message_of, record_of
from steelyard.v1 import (
    admin_pb2,
    admin_service_pb2,
    admin_service_pb2_grpc,
    market_pb2,
    market_service_pb2,
    market_service_pb2_grpc,
)

MARKS_PER_MESSAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentChange:
    """An instrument's record as it is now, and the build its change has started."""

    instrument: Instrument
    replayed: bool
    build_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """An account as it is now, and the build its change has started."""

    account: Account
    replayed: bool
    build_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarksReport:
    """What became of reported prices."""

    accepted: int
    superseded: int
    rejected: int
    rejections: tuple[MarkRejection, ...]


class MarketCalls(Caller):
    """The calls of MarketService."""

    @cached_property
    def _market(self) -> market_service_pb2_grpc.MarketServiceStub:
        return market_service_pb2_grpc.MarketServiceStub(self.channel)

    async def upsert_instrument(
        self,
        instrument: Instrument,
        *,
        expected_version: int | None = None,
        rebuild: bool = False,
        request_id: str | None = None,
    ) -> InstrumentChange:
        """Makes an instrument's record, or changes it. Raises `InstrumentInUse` without `rebuild` once it has fills."""
        request = market_service_pb2.UpsertInstrumentRequest(
            request_id=new_request_id(request_id),
            instrument=message_of(market_pb2.Instrument, instrument),
            expected_version=expected_version,
            rebuild=rebuild,
        )
        return record_of(InstrumentChange, await self._write(self._market.UpsertInstrument, request))

    async def get_instrument(self, instrument: str) -> Instrument:
        """One instrument; a contract answers with what it takes from its root. Raises `NotFound`."""
        request = market_service_pb2.GetInstrumentRequest(instrument=instrument)
        answer = await self._ask(self._market.GetInstrument, request)
        return record_of(Instrument, answer.instrument)

    def list_instruments(
        self, *, prefix: str = "", settle_currency: str = "", page_size: int = 0
    ) -> AsyncIterator[Instrument]:
        """The instruments that have a record, by name."""
        request = market_service_pb2.ListInstrumentsRequest(
            prefix=prefix, settle_currency=settle_currency, page_size=page_size
        )
        return self._pages(
            self._market.ListInstruments,
            request,
            rows=lambda answer: (record_of(Instrument, instrument) for instrument in answer.instruments),
        )

    async def report_marks(
        self, marks: Iterable[Mark] | AsyncIterable[Mark], *, timeout_s: float = 600.0
    ) -> MarksReport:
        """Sends prices; the newer one of an instrument wins."""
        answer = await self._send(self._market.ReportMarks, _in_messages(marks), timeout_s=timeout_s)
        return record_of(MarksReport, answer)

    def list_marks(self, instruments: Iterable[str] = (), *, page_size: int = 0) -> AsyncIterator[Mark]:
        """The latest prices, by instrument; those named without a price are MISSING."""
        request = market_service_pb2.ListMarksRequest(instruments=instruments, page_size=page_size)
        return self._pages(
            self._market.ListMarks, request, rows=lambda answer: (record_of(Mark, mark) for mark in answer.marks)
        )


class AdminCalls(StatusCalls):
    """The calls of AdminService."""

    @cached_property
    def _admin(self) -> admin_service_pb2_grpc.AdminServiceStub:
        return admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def upsert_account(
        self,
        account: Account,
        *,
        unseal: bool = False,
        expected_version: int | None = None,
        request_id: str | None = None,
    ) -> AccountChange:
        """Makes an account, or changes one: fields left None or empty keep what they are.

        With `sealed_before` no entry executed earlier is added or changed any more. Raises `PeriodSealed` where that
        would move back; `unseal` lets it, and takes the seal away where `sealed_before` is None.
        """
        request = admin_service_pb2.UpsertAccountRequest(
            request_id=new_request_id(request_id),
            account=message_of(admin_pb2.Account, account),
            expected_version=expected_version,
            unseal=unseal,
        )
        return record_of(AccountChange, await self._write(self._admin.UpsertAccount, request))

    async def get_account(self, account: str, *, min_commit: Commits | None = None) -> Account:
        """One account. Raises `NotFound`."""
        request = admin_service_pb2.GetAccountRequest(account=account, min_commit=self._since([account], min_commit))
        answer = await self._ask(self._admin.GetAccount, request)
        return record_of(Account, answer.account)

    def list_accounts(self, *, page_size: int = 0, min_commit: Commits | None = None) -> AsyncIterator[Account]:
        """The accounts, by name."""
        request = admin_service_pb2.ListAccountsRequest(page_size=page_size, min_commit=self._since([], min_commit))
        return self._pages(
            self._admin.ListAccounts,
            request,
            rows=lambda answer: (record_of(Account, account) for account in answer.accounts),
        )


async def _in_messages(
    marks: Iterable[Mark] | AsyncIterable[Mark],
) -> AsyncIterator[market_service_pb2.ReportMarksRequest]:
    if isinstance(marks, AsyncIterable):
        # A live feed: each price leaves at once.
        async for mark in marks:
            yield market_service_pb2.ReportMarksRequest(marks=[message_of(market_pb2.Mark, mark)])
        return
    batch: list[market_pb2.Mark] = []
    for mark in marks:
        batch.append(message_of(market_pb2.Mark, mark))
        if len(batch) == MARKS_PER_MESSAGE:
            yield market_service_pb2.ReportMarksRequest(marks=batch)
            batch = []
    if batch:
        yield market_service_pb2.ReportMarksRequest(marks=batch)
