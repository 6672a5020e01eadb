"""Records of instruments and accounts: made, changed under versions, and never behind the back of their positions."""

import asyncio
from dataclasses import replace
from datetime import time
from decimal import Decimal
from uuid import UUID

import pytest

from steelyard.accounting.errors import InstrumentInUse, InvalidField, NotFound, RequestIdReused, VersionMismatch
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import Account, FillId, InstrumentName
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.trading_calendar import Calendar, Session
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_accounts import AccountChange
from steelyard.operations.reading import Freshness
from tests.questions.books import Book, fill, key

DESK = Account("desk")


def request(number: int, body: bytes = b"body") -> RequestIdentity:
    return RequestIdentity(UUID(int=number), body)


def instrument(name: str = "SOLUSDT", multiplier: str = "1", *, is_root: bool = False) -> Instrument:
    return Instrument(InstrumentName(name), InstrumentKind.LINEAR, Decimal(multiplier), "USDT", "USDT", is_root=is_root)


async def stale_keys(book: Book) -> list[tuple[str, str, str]]:
    async with book.database.bare() as connection:
        rows = await connection.fetch("SELECT account, instrument, reason FROM stale_keys ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def test_a_record_is_made_changed_and_left_alone_when_nothing_changes(book: Book) -> None:
    made = await book.instruments.upsert(instrument(), request=request(1), expected_version=0)
    assert (made.record.version, made.record.has_fills, made.commits) == (1, False, ())
    same = await book.instruments.upsert(instrument(multiplier="1.0"), request=request(2))
    assert same.record.version == 1
    other = await book.instruments.upsert(instrument(multiplier="10"), request=request(3), expected_version=1)
    assert (other.record.version, other.record.instrument.multiplier) == (2, Decimal(10))
    assert (await book.instruments.get(InstrumentName("SOLUSDT"))).instrument.multiplier == 10
    with pytest.raises(VersionMismatch) as caught:
        await book.instruments.upsert(instrument(), request=request(4), expected_version=1)
    assert caught.value.details["current_version"] == "2"


async def test_a_repeat_of_a_request_gets_the_first_answer_and_another_body_is_refused(book: Book) -> None:
    first = await book.instruments.upsert(instrument(), request=request(1))
    await book.instruments.upsert(instrument(multiplier="2"), request=request(2))
    again = await book.instruments.upsert(instrument(), request=request(1))
    assert (again.record, again.is_replayed) == (first.record, True)
    with pytest.raises(RequestIdReused):
        await book.instruments.upsert(instrument(), request=request(1, b"other"))


async def test_once_fills_exist_the_meaning_changes_only_with_a_rebuild(book: Book) -> None:
    await book.record(fill("a", "1", "10"), fill("b", "1", "10", of=key("ETHUSDT")))
    known = (await book.instruments.get(InstrumentName("BTCUSDT"))).instrument
    with pytest.raises(InstrumentInUse):
        await book.instruments.upsert(replace(known, multiplier=Decimal(2)), request=request(1))
    any_price = await book.instruments.upsert(replace(known, price_rule=PriceRule.ANY), request=request(1))
    assert (any_price.record.version, any_price.record.has_fills, any_price.commits) == (2, True, ())
    receipt = await book.instruments.upsert(
        replace(known, multiplier=Decimal(2)), request=request(2), is_rebuilding=True
    )
    assert receipt.record.has_fills
    assert [(commit.account, commit.seq) for commit in receipt.commits] == [("desk", 2)]
    assert await stale_keys(book) == [("desk", "BTCUSDT", "METHOD")]


async def test_a_root_with_fills_hands_its_new_record_on_to_its_contracts(book: Book) -> None:
    await book.record(fill("a", "1", "10", of=key("MNQ MAR26")))
    root = await book.instruments.get(InstrumentName("MNQ"))
    assert root.has_fills
    changed = replace(root.instrument, multiplier=Decimal(4))
    with pytest.raises(InstrumentInUse):
        await book.instruments.upsert(changed, request=request(1))
    await book.instruments.upsert(changed, request=request(1), is_rebuilding=True)
    assert (await book.instruments.get(InstrumentName("MNQ MAR26"))).instrument.multiplier == 4
    assert await stale_keys(book) == [("desk", "MNQ MAR26", "METHOD")]


async def test_a_contract_without_a_record_answers_with_what_it_takes_from_its_root(book: Book) -> None:
    contract = await book.instruments.get(InstrumentName("ES JUN27"))
    assert (contract.instrument.multiplier, contract.instrument.is_root, contract.version) == (Decimal(50), False, 0)
    for unknown in ("NOBODY", "NOBODY JUN27", "BTCUSDT JUN27"):
        with pytest.raises(NotFound):
            await book.instruments.get(InstrumentName(unknown))


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (instrument(multiplier="0"), "instrument.multiplier"),
        (replace(instrument(), kind=InstrumentKind.INVERSE, price_rule=PriceRule.ANY), "instrument.price_rule"),
        (instrument("ES JUN27", is_root=True), "instrument.root"),
    ],
)
async def test_a_record_that_cannot_mean_anything_is_refused(book: Book, record: Instrument, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await book.instruments.upsert(record, request=request(1))
    assert caught.value.field == field


async def test_records_are_listed_by_name_prefix_and_currency(book: Book) -> None:
    await book.record(fill("a", "1", "10"))
    page = await book.instruments.page(prefix="BTC", size=1)
    assert [(each.instrument.name, each.has_fills) for each in page.rows] == [("BTCUSD", False)]
    page = await book.instruments.page(prefix="BTC", size=1, after=page.next_after)
    assert [(each.instrument.name, each.has_fills) for each in page.rows] == [("BTCUSDT", True)]
    assert page.next_after is None
    usdt = await book.instruments.page(settle_currency="USDT", size=50)
    assert [each.instrument.name for each in usdt.rows] == ["BTCUSDT", "ETHUSDT", "XRPUSDT"]
    assert len((await book.instruments.page(size=50)).rows) == 18


async def test_two_writers_of_one_new_record_come_one_after_the_other(book: Book) -> None:
    writes = (
        book.instruments.upsert(instrument(multiplier=str(n)), request=request(n), expected_version=0) for n in (1, 2)
    )
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["InstrumentReceipt", "VersionMismatch"]


async def test_an_account_is_made_with_defaults_and_changed_field_by_field(book: Book) -> None:
    made = await book.accounts.upsert(AccountChange(account=DESK), request=request(1), expected_version=0)
    rules = made.record.rules
    assert (rules.cost_method, rules.lot_method, rules.time_zone) == (
        CostMethod.AVERAGE,
        LotMethod.FIFO,
        "America/Chicago",
    )
    assert [commit.seq for commit in made.commits] == [1]
    session = Session(time(16, 30), "America/New_York", weekdays_only=True)
    change = AccountChange(account=DESK, cost_method=CostMethod.LOTS, day_rule=session, size_authority="LATEST")
    changed = await book.accounts.upsert(change, request=request(2), expected_version=1)
    assert [commit.seq for commit in changed.commits] == [2]
    answer = await book.accounts.get(DESK, freshness=Freshness({DESK: 2}))
    assert answer.value.rules == changed.record.rules
    assert answer.value.rules.day_rule == {
        "kind": "SESSION",
        "close_time": "16:30",
        "time_zone": "America/New_York",
        "weekdays_only": "true",
    }
    assert (answer.value.rules.version, answer.value.rules.cost_method) == (2, CostMethod.LOTS)
    same = await book.accounts.upsert(change, request=request(3))
    assert (same.record.rules.version, same.commits) == (2, ())
    with pytest.raises(VersionMismatch):
        await book.accounts.upsert(change, request=request(4), expected_version=1)


async def test_a_repeat_of_an_account_request_is_replayed(book: Book) -> None:
    first = await book.accounts.upsert(AccountChange(account=DESK, day_rule=Calendar("UTC")), request=request(1))
    again = await book.accounts.upsert(AccountChange(account=DESK, day_rule=Calendar("UTC")), request=request(1))
    assert (again.record, again.is_replayed, again.commits) == (first.record, True, ())
    with pytest.raises(RequestIdReused):
        await book.accounts.upsert(AccountChange(account=DESK), request=request(1, b"other"))


async def test_another_cost_method_refolds_nothing_and_another_lot_method_everything(book: Book) -> None:
    await book.record(
        fill("a", "1", "10"), fill("b", "1", "10", of=key("ETHUSDT")), fill("c", "1", "1", of=key(account="other"))
    )
    await book.accounts.upsert(AccountChange(account=DESK, cost_method=CostMethod.LOTS), request=request(1))
    assert await stale_keys(book) == []
    receipt = await book.accounts.upsert(AccountChange(account=DESK, lot_method=LotMethod.HIFO), request=request(2))
    assert [commit.seq for commit in receipt.commits] == [3]
    assert await stale_keys(book) == [("desk", "BTCUSDT", "METHOD"), ("desk", "ETHUSDT", "METHOD")]
    known = (await book.fills.get(DESK, FillId("a"))).value.fill
    assert (known.is_pending, known.applied_version) == (False, 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (AccountChange(account=DESK, time_zone="Mars/Olympus"), "account.time_zone"),
        (AccountChange(account=DESK, day_rule=Calendar("Mars/Olympus")), "account.day_rule.time_zone"),
    ],
)
async def test_a_zone_that_is_none_is_refused(book: Book, change: AccountChange, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await book.accounts.upsert(change, request=request(1))
    assert caught.value.field == field


async def test_accounts_are_listed_by_name_and_an_unknown_one_is_not_found(book: Book) -> None:
    for number, name in enumerate(("b", "a", "c")):
        await book.accounts.upsert(AccountChange(account=Account(name)), request=request(number))
    first = (await book.accounts.page(size=2)).value
    rest = (await book.accounts.page(size=2, after=first.next_after)).value
    assert [record.rules.account for record in (*first.rows, *rest.rows)] == ["a", "b", "c"]
    with pytest.raises(NotFound):
        await book.accounts.get(DESK)
