"""A venue's report by a caller: once per request id, under the account's own authority, for known instruments."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from steelyard.accounting.errors import NotFound, RequestIdReused, UnknownInstrument
from steelyard.accounting.venue_report import VenueReport
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.feed_ports import FeedRules
from steelyard.operations.ports import AccountRules
from steelyard.operations.report_venue_position import ReportVenuePosition, VenueReportAnswer
from tests.events.feeds import NOW, Feeds, key, shown
from tests.events.worked import BTC, EXECUTIONS, execution

BUYER = key(BTC, account="desk")


def operation(feeds: Feeds, *, makes_accounts: bool = True) -> ReportVenuePosition:
    pattern = AccountRules(BUYER.account) if makes_accounts else None
    return ReportVenuePosition(feeds.ledger, lambda: NOW, rules=FeedRules(), new_accounts=pattern, jitter=lambda: 0.5)


def said(size: str = "2") -> VenueReport:
    at = datetime(2025, 1, 15, 10, 0, tzinfo=UTC)
    return VenueReport(
        key=BUYER, size=Decimal(size), quantity=Decimal(size), average_price=Decimal(100), reported_at=at
    )


async def known_symbol(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("09:00:00", "BUY", "1", "100", "0", "a"))


async def report(feeds: Feeds, size: str = "2", request_id: UUID | None = None) -> VenueReportAnswer:
    request = RequestIdentity(request_id or uuid4(), size.encode())
    return await operation(feeds).report(said(size), request=request)


async def test_an_account_that_is_made_on_first_use_only_compares(feeds: Feeds) -> None:
    await known_symbol(feeds)
    answer = await report(feeds)
    assert (answer.outcome.value, answer.version, answer.discrepancies) == ("APPLIED", 1, ["SIZE"])
    assert shown(await feeds.position(BUYER)) == ("0", None, "0", "0", 1)


async def test_under_latest_it_sets_the_position_and_a_repeat_is_answered_as_before(feeds: Feeds) -> None:
    await known_symbol(feeds)
    await feeds.rows("INSERT INTO accounts (account, size_authority) VALUES ('desk', 'LATEST')")
    request_id = uuid4()
    first = await report(feeds, request_id=request_id)
    assert (first.version, [commit.seq for commit in first.commits], first.is_replayed) == (1, [1], False)
    again = await report(feeds, request_id=request_id)
    assert (again.outcome, again.version, again.is_replayed) == (first.outcome, 1, True)
    with pytest.raises(RequestIdReused):
        await report(feeds, "3", request_id=request_id)
    assert shown(await feeds.position(BUYER)) == ("2", "100", "0", "0", 1)


async def test_an_unknown_instrument_or_account_is_refused(feeds: Feeds) -> None:
    with pytest.raises(UnknownInstrument):
        await report(feeds)
    with pytest.raises(NotFound):
        await operation(feeds, makes_accounts=False).report(said(), request=RequestIdentity(uuid4(), b"x"))
    assert await feeds.rows("SELECT 1 FROM accounts UNION ALL SELECT 1 FROM requests") == []
