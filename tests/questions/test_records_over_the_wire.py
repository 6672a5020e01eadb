"""Instruments, prices and accounts as clients keep them: through a real channel."""

from typing import Any
from uuid import uuid4

import pytest

from steelyard.rpc import encode
from steelyard.v1 import (
    admin_pb2,
    common_pb2,
    market_pb2,
)
from steelyard.v1 import (
    admin_service_pb2 as admin,
)
from steelyard.v1 import (
    market_service_pb2 as market,
)
from tests.questions.books import NOW
from tests.questions.wire import Wire, refused


def sol(multiplier: str = "1", **fields: Any) -> market_pb2.Instrument:
    record = {"instrument": "SOLUSDT", "kind": market_pb2.INSTRUMENT_KIND_LINEAR, "quote_currency": "USDT"}
    return market_pb2.Instrument(**{**record, "multiplier": multiplier, **fields})


async def test_an_instrument_is_made_repeated_and_listed(wire: Wire) -> None:
    request = market.UpsertInstrumentRequest(request_id=str(uuid4()), instrument=sol(), expected_version=0)
    made = await wire.market.UpsertInstrument(request)
    assert (made.instrument.settle_currency, made.instrument.etag, made.replayed) == ("USDT", '"v1"', False)
    again = await wire.market.UpsertInstrument(request)
    assert (again.instrument, again.replayed) == (made.instrument, True)
    found = await wire.market.GetInstrument(market.GetInstrumentRequest(instrument="SOLUSDT"))
    assert found.instrument == made.instrument
    listed = await wire.market.ListInstruments(market.ListInstrumentsRequest(prefix="MNQ", page_size=1))
    assert [each.instrument for each in listed.instruments] == ["MNQ"]
    rest = market.ListInstrumentsRequest(prefix="MNQ", page_size=1, page_token=listed.next_page_token)
    assert [each.has_fills for each in (await wire.market.ListInstruments(rest)).instruments] == [True]
    usdt = await wire.market.ListInstruments(market.ListInstrumentsRequest(settle_currency="USDT"))
    assert len(usdt.instruments) == 4


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, ("INVALID_FIELD", ["instrument"])),
        (sol("0"), ("INVALID_FIELD", ["instrument.multiplier"])),
        (sol(kind=0), ("INVALID_FIELD", ["instrument.kind"])),
        (sol(kind=market_pb2.INSTRUMENT_KIND_INVERSE), ("INVALID_FIELD", ["instrument.settle_currency"])),
        (sol(quote_currency="usd"), ("INVALID_FIELD", ["instrument.quote_currency"])),
        (sol(price_rule=9), ("INVALID_FIELD", ["instrument.price_rule"])),
        (sol("2", instrument="BTCUSDT"), ("INSTRUMENT_IN_USE", [])),
    ],
)
async def test_a_wrong_instrument_is_refused(wire: Wire, record: Any, expected: tuple[str, list[str]]) -> None:
    request = market.UpsertInstrumentRequest(request_id=str(uuid4()), instrument=record)
    assert await refused(wire.market.UpsertInstrument(request)) == expected


async def test_a_stream_of_marks_is_answered_with_what_became_of_each(wire: Wire) -> None:
    def mark(name: str, price: str, **fields: Any) -> market_pb2.Mark:
        return market_pb2.Mark(**{"instrument": name, "price": price, "at": encode.timestamp(NOW), **fields})

    messages = [
        market.ReportMarksRequest(marks=[mark("XRPUSDT", "0.5"), mark("btc", "1"), mark("BTCUSDT", "NaN")]),
        market.ReportMarksRequest(marks=[mark("BTCUSDT", "1"), mark("BTCUSDT", "2", at=None), mark("NOBODY", "1")]),
        market.ReportMarksRequest(marks=[mark("ETHUSDT", "1", source="x" * 65)]),
    ]
    answer = await wire.market.ReportMarks(iter(messages))
    assert (answer.accepted, answer.superseded, answer.rejected) == (1, 1, 5)
    assert [(each.index, each.instrument, each.field) for each in answer.rejections] == [
        (1, "btc", "instrument"),
        (2, "BTCUSDT", "price"),
        (4, "BTCUSDT", "at"),
        (5, "NOBODY", "instrument"),
        (6, "ETHUSDT", "source"),
    ]
    listed = await wire.market.ListMarks(market.ListMarksRequest(instruments=["XRPUSDT", "BTCUSD"]))
    assert [(each.instrument, each.price, each.source, each.state) for each in listed.marks] == [
        ("BTCUSD", "", "", market_pb2.MARK_STATE_MISSING),
        ("XRPUSDT", "0.5", "caller", market_pb2.MARK_STATE_FRESH),
    ]
    assert not listed.marks[0].HasField("price")
    everything = await wire.market.ListMarks(market.ListMarksRequest(page_size=3))
    assert len(everything.marks) == 3
    assert everything.next_page_token
    flood = market.ReportMarksRequest(marks=[mark("XRPUSDT", "0.5")] * 1001)
    assert await refused(wire.market.ReportMarks(iter([flood]))) == ("INVALID_FIELD", ["marks"])


async def test_an_account_is_changed_field_by_field_and_told(wire: Wire) -> None:
    change = admin_pb2.Account(
        account="desk",
        cost_method=admin_pb2.COST_METHOD_LOTS,
        day_rule=admin_pb2.DayRule(session=admin_pb2.SessionDay()),
    )
    request = admin.UpsertAccountRequest(request_id=str(uuid4()), account=change)
    changed = await wire.admin.UpsertAccount(request)
    assert (changed.account.cost_method, changed.account.lot_method) == (
        admin_pb2.COST_METHOD_LOTS,
        admin_pb2.LOT_METHOD_FIFO,
    )
    assert changed.account.size_authority == admin_pb2.SIZE_AUTHORITY_FILLS
    assert (changed.account.day_rule.session.close_time, changed.account.day_rule.session.weekdays_only) == (
        "15:00",
        True,
    )
    assert [commit.seq for commit in changed.header.commits] == [3]
    assert (await wire.admin.UpsertAccount(request)).replayed
    read = await wire.admin.GetAccount(
        admin.GetAccountRequest(account="desk", min_commit=[common_pb2.Commit(account="desk", seq=3)])
    )
    assert read.account == changed.account
    listed = await wire.admin.ListAccounts(admin.ListAccountsRequest())
    assert [each.account for each in listed.accounts] == ["desk"]


async def test_a_wrong_account_is_refused(wire: Wire) -> None:
    change = admin_pb2.Account(account="desk", cost_method=admin_pb2.COST_METHOD_LOTS)
    stale = admin.UpsertAccountRequest(request_id=str(uuid4()), account=change, expected_version=7)
    assert await refused(wire.admin.UpsertAccount(stale)) == ("VERSION_MISMATCH", [])
    for wrong, field in (
        (admin.UpsertAccountRequest(request_id=str(uuid4())), "account"),
        (admin.UpsertAccountRequest(account=change), "request_id"),
        (
            admin.UpsertAccountRequest(
                request_id=str(uuid4()),
                account=admin_pb2.Account(account="desk", lot_method=9),  # type: ignore[arg-type] # no value of it
            ),
            "account.lot_method",
        ),
        (
            admin.UpsertAccountRequest(
                request_id=str(uuid4()), account=admin_pb2.Account(account="desk", time_zone="Mars")
            ),
            "account.time_zone",
        ),
    ):
        assert await refused(wire.admin.UpsertAccount(wrong)) == ("INVALID_FIELD", [field])
