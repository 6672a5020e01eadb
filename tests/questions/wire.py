"""The question services behind a real server, and the stubs to call them with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from steelyard.migrations import head_revision
from steelyard.operations.account_tail import AccountTail
from steelyard.operations.annotate_positions import AnnotatePositions
from steelyard.operations.check_order import CheckOrder
from steelyard.operations.day_results import DayResults
from steelyard.operations.feed_ports import FeedRules
from steelyard.operations.fresh_prices import FreshPrices
from steelyard.operations.keep_limits import KeepLimits
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.portfolio_feeds import PortfolioFeeds
from steelyard.operations.read_portfolio import PortfolioAnswers
from steelyard.operations.refresh_marks import NoPriceSource, RefreshMarks
from steelyard.operations.report_venue_position import ReportVenuePosition
from steelyard.operations.risk import ReadRisk, RiskTerms
from steelyard.operations.service_status import ReadServiceStatus, Surroundings
from steelyard.operations.watch_performance import WatchPerformance
from steelyard.operations.watch_portfolio import WatchPortfolio
from steelyard.operations.watch_positions import WatchPositions
from steelyard.rpc.admin_servicer import AdminServicer
from steelyard.rpc.encode_status import ServerFacts
from steelyard.rpc.market_servicer import MarketServicer
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.performance_servicer import PerformanceServicer
from steelyard.rpc.portfolio_servicer import PortfolioServicer
from steelyard.rpc.position_servicer import PositionServicer
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.rpc.status import DETAILS_TRAILER
from steelyard.rpc.tell_status import TellStatus
from steelyard.storage.annotations import PositionAnnotations
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.feed_ledger import PostgresFeedLedger
from steelyard.storage.heads import HeadReads
from steelyard.storage.limits import LimitRecords
from steelyard.storage.marks import MarkTable
from steelyard.storage.service_signs import ServiceSigns
from steelyard.telemetry.logs import json_log
from steelyard.v1 import (
    admin_service_pb2_grpc,
    market_service_pb2_grpc,
    performance_service_pb2_grpc,
    portfolio_service_pb2_grpc,
    position_service_pb2_grpc,
)
from tests.questions.books import Book, fill, key

MNQ = key("MNQ MAR26")
DAY = (
    fill("a", "5", "25000", of=MNQ, fee="2.50", minute=0),
    fill("b", "-8", "25050", of=MNQ, fee="4.00", minute=1),
    fill("c", "-3", "25040", of=MNQ, fee="1.50", minute=2),
    fill("d", "6", "25030", of=MNQ, fee="3.00", minute=3),
    fill("e", "1.5", "48666.666666666666666667", minute=4),
    fill("f", "-2", "3000", of=key("ETHUSDT", book="swing"), minute=5),
)

TOKEN_KEY = b"a key of sixteen bytes or more"


class Wire:
    """A channel to the services, and a stub of each."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.positions = position_service_pb2_grpc.PositionServiceStub(channel)
        self.portfolio = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        self.performance = performance_service_pb2_grpc.PerformanceServiceStub(channel)
        self.market = market_service_pb2_grpc.MarketServiceStub(channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(channel)


def fresh_prices(book: Book) -> FreshPrices:
    """Answers at fresh prices, where nobody is asked for any."""
    prices = RefreshMarks(NoPriceSource(), MarkTable(book.database), clock=book.clock)
    return FreshPrices(prices, positions=book.positions, portfolio=book.portfolio)


def portfolio_servicer(book: Book, *, read: PortfolioAnswers, tokens: PageTokens | None = None) -> PortfolioServicer:
    """The servicer of portfolios and limits."""
    limits, terms = LimitRecords(book.database, book.clock), RiskTerms(DayResults(), book.clock)
    risk = ReadRisk(limits, book.reading, terms=terms)
    feeds = PortfolioFeeds(book.portfolio, HeadReads(book.database), marks=MarkTail(MarkTable(book.database)))
    return PortfolioServicer(
        read=read,
        fresh=fresh_prices(book),
        watch=WatchPortfolio(feeds, ChangeReads(book.database), clock=book.clock),
        limits=KeepLimits(limits, book.reading, risk=risk, jitter=lambda: 0.5),
        orders=CheckOrder(limits, book.reading, terms=terms),
        tokens=tokens or PageTokens(TOKEN_KEY),
        clock=book.clock,
    )


async def nothing() -> None:
    """There is no cache."""


def tell_status(book: Book) -> TellStatus:
    """What says how the service is."""
    signs = ServiceSigns(book.database, stale_after=timedelta(minutes=5), silence_max_s=30)
    read = ReadServiceStatus(
        signs, Surroundings(lambda: None, nothing), clock=book.clock, now_s=lambda: book.clock().timestamp()
    )
    facts = ServerFacts(version="test", started_at=book.clock(), schema_needed=head_revision(), needs_keys=False)
    return TellStatus(read, facts, knows_key=knows_none)


async def knows_none(_secret: str) -> bool:
    """No key is known."""
    return False


def services(book: Book) -> Services:
    """The servicers of every question."""
    tokens = PageTokens(TOKEN_KEY)
    changes = ChangeReads(book.database)
    return Services(
        positions=PositionServicer(
            positions=book.positions,
            trips=book.trips,
            events=book.events,
            fresh=fresh_prices(book),
            watch=WatchPositions(
                changes, AccountTail(changes), marks=MarkTail(MarkTable(book.database)), clock=book.clock
            ),
            annotate=AnnotatePositions(PositionAnnotations(book.database), jitter=lambda: 0.5),
            report=ReportVenuePosition(
                PostgresFeedLedger(book.database, book.clock),
                book.clock,
                rules=FeedRules(),
                new_accounts=None,
                jitter=lambda: 0.5,
            ),
            tokens=tokens,
            clock=book.clock,
        ),
        portfolio=portfolio_servicer(book, read=book.portfolio, tokens=tokens),
        performance=PerformanceServicer(
            read=book.performance,
            watch=WatchPerformance(book.performance, AccountTail(changes), clock=book.clock),
            clock=book.clock,
        ),
        market=MarketServicer(instruments=book.instruments, marks=book.marks, tokens=tokens, clock=book.clock),
        admin=AdminServicer(accounts=book.accounts, status=tell_status(book), tokens=tokens, clock=book.clock),
    )


@asynccontextmanager
async def wired(book: Book) -> AsyncIterator[Wire]:
    """A server on a free port."""
    server = GrpcServer(
        services(book),
        settings=ServerSettings(port=0, drain_wait_s=0),
        ping=book.database.ping,
        log=json_log(level="error"),
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Wire(channel)
    await server.stop()


def reason(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """The reason of a refusal, and the fields it names."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(bytes(trailers[DETAILS_TRAILER]))
    found, fields = "", []
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            found = info.reason
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return found, fields


async def refused(call: Any) -> tuple[str, list[str]]:
    """The reason and the fields of a refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason(caught.value)
