"""What reports, executions and order events do beyond the worked table: authority, lateness, repeats, refusals."""

import asyncio
import itertools
import random
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from steelyard.accounting.units import decimal_text
from steelyard.accounting.venue_report import SizeAuthority
from steelyard.operations.building import BuildMode, BuildState
from steelyard.operations.feed_ports import FeedRules
from tests.builds.desk import Desk
from tests.events.feeds import NOW, Feeds, key, shown
from tests.events.worked import BTC, EXECUTIONS, ORDERS, REPORTS, XRP, execution, order_state, report


async def set_authority(feeds: Feeds, authority: SizeAuthority) -> None:
    await feeds.rows("INSERT INTO accounts (account, size_authority) VALUES ('main', $1)", authority.value)


async def quantity(feeds: Feeds, instrument: str = BTC, **parts: str) -> str:
    return decimal_text((await feeds.position(key(instrument, **parts))).state.quantity)


async def test_under_fills_an_unknown_key_is_held_at_zero_with_a_discrepancy(feeds: Feeds) -> None:
    await set_authority(feeds, SizeAuthority.FILLS)
    assert await feeds.send(REPORTS, report("10:00:00", side="Buy", size="1.5", avgPrice="50000")) == ["APPLIED"]
    assert shown(await feeds.position(key(BTC))) == ("0", None, "0", "0", 1)
    assert await feeds.send(REPORTS, report("10:01:00", side="Buy", size="1.5", avgPrice="50000")) == ["UNCHANGED"]
    (found,) = await feeds.rows("SELECT kind, theirs, occurrences, state FROM discrepancies")
    assert found == {"kind": "SIZE", "theirs": Decimal("1.5"), "occurrences": 2, "state": "OPEN"}


async def test_under_fills_a_report_is_compared_with_what_was_held_at_its_own_time(feeds: Feeds) -> None:
    await set_authority(feeds, SizeAuthority.FILLS)
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "50000", "0", "a"))
    await feeds.send(EXECUTIONS, execution("10:10:00", "BUY", "1", "50000", "0", "b"))
    await feeds.send(REPORTS, report("10:05:00", side="Buy", size="1", avgPrice="50000"))
    await feeds.send(REPORTS, report("10:11:00", side="Buy", size="2", avgPrice="50050"))
    assert await feeds.rows("SELECT 1 FROM discrepancies") == []
    await feeds.send(REPORTS, report("10:12:00", side="Buy", size="2", avgPrice="50050.01"))
    assert [row["kind"] for row in await feeds.rows("SELECT kind FROM discrepancies")] == ["AVERAGE"]
    assert shown(await feeds.position(key(BTC)))[:2] == ("2", "50000")


@pytest.mark.parametrize(
    ("authority", "clock", "held"),
    [
        ("LATEST", "10:00:00", "1"),  # at equal times the fill wins
        ("LATEST", "10:00:01", "1"),  # it may not know of the fill yet
        ("LATEST", "10:00:01.000001", "3"),
        ("VENUE", "10:00:00.5", "3"),
    ],
)
async def test_a_report_right_after_a_fill(feeds: Feeds, authority: str, clock: str, held: str) -> None:
    await set_authority(feeds, SizeAuthority(authority))
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "50000", "0", "a"))
    await feeds.send(REPORTS, report(clock, side="Buy", size="3", avgPrice="50000"))
    assert await quantity(feeds) == held


async def test_a_fill_older_than_a_report_that_changed_nothing_is_not_counted_twice(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    await feeds.send(EXECUTIONS, execution("10:02:00", "BUY", "1", "100", "0", "c"))
    assert await feeds.send(REPORTS, report("10:05:00", side="Buy", size="2", avgPrice="100")) == ["UNCHANGED"]
    await feeds.send(EXECUTIONS, execution("10:01:00", "BUY", "1", "100", "7", "b"))
    stored = await feeds.position(key(BTC))
    assert shown(stored) == ("2", "100", "0", "7", 3)
    assert stored.state.lifetime.fill_count == 3
    assert stored.parked is None


async def test_a_fill_that_arrives_in_order_but_lies_before_the_newest_report_is_absorbed(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    await feeds.send(REPORTS, report("10:05:00", side="Buy", size="1", avgPrice="100"))
    await feeds.send(EXECUTIONS, execution("10:04:00", "BUY", "1", "100", "0", "b"))
    assert await quantity(feeds) == "1"
    await feeds.send(EXECUTIONS, execution("10:06:00", "BUY", "1", "100", "0", "c"))
    assert await quantity(feeds) == "2"


async def test_a_flat_report_on_an_unknown_symbol_absorbs_an_older_fill(feeds: Feeds) -> None:
    assert await feeds.send(REPORTS, report("10:05:00", size="0", avgPrice="0")) == ["UNCHANGED"]
    assert (await feeds.position(key(BTC))).version == 0
    await feeds.send(EXECUTIONS, execution("10:04:00", "BUY", "1", "100", "0", "a"))
    assert shown(await feeds.position(key(BTC))) == ("0", None, "0", "0", 1)


async def test_of_reports_that_changed_nothing_only_the_newest_stays(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:00:00", side="Buy", size="1", avgPrice="100"))
    for minute in range(1, 6):
        await feeds.send(REPORTS, report(f"10:0{minute}:00", side="Buy", size="1", avgPrice="100"))
    kept = await feeds.rows("SELECT effective_at FROM adjustments ORDER BY 1")
    assert [row["effective_at"].minute for row in kept] == [0, 5]
    assert (await feeds.position(key(BTC))).version == 1


async def test_an_older_report_changes_nothing_and_one_of_the_same_time_does(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:05:00", side="Buy", size="1", avgPrice="100", unrealisedPnl="5"))
    assert await feeds.send(REPORTS, report("10:04:59", side="Buy", size="9", unrealisedPnl="9")) == ["OUTDATED"]
    assert (await feeds.rows("SELECT unrealized_pnl FROM venue_reports")) == [{"unrealized_pnl": Decimal(5)}]
    assert await feeds.send(REPORTS, report("10:05:00", side="Buy", size="2", avgPrice="100")) == ["APPLIED"]
    assert await quantity(feeds) == "2"


async def test_the_other_books_of_the_account_are_part_of_what_the_venue_sees(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    for table in ("fills", "positions", "lots", "round_trips", "position_events"):
        await feeds.rows(f"UPDATE {table} SET book = 'desk'")
    assert await feeds.send(REPORTS, report("10:05:00", side="Buy", size="3", avgPrice="100")) == ["APPLIED"]
    assert (await quantity(feeds), await quantity(feeds, book="desk")) == ("2", "1")
    assert await feeds.send(REPORTS, report("10:06:00", side="Buy", size="3", avgPrice="100")) == ["UNCHANGED"]


async def test_hedge_legs_are_reported_apart(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:00:00", positionIdx=1, side="Buy", size="2", avgPrice="100"))
    await feeds.send(REPORTS, report("10:00:00", positionIdx=2, side="Sell", size="3", avgPrice="100"))
    assert (await quantity(feeds, leg="LONG"), await quantity(feeds, leg="SHORT")) == ("2", "-3")


async def test_a_report_that_leaves_a_leg_less_than_nothing_is_only_compared(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:00:00", positionIdx=1, side="Buy", size="4", avgPrice="100"))
    for table in ("fills", "positions", "lots", "round_trips", "position_events", "adjustments"):
        await feeds.rows(f"UPDATE {table} SET book = 'desk'")
    # The other book holds 4 of the long leg, the venue sees 1: this book cannot hold -3 of it.
    said = report("10:05:00", positionIdx=1, side="Buy", size="1", avgPrice="100")
    assert await feeds.send(REPORTS, said) == ["APPLIED"]
    assert (await quantity(feeds, leg="LONG"), await quantity(feeds, book="desk", leg="LONG")) == ("0", "4")
    (found,) = await feeds.rows("SELECT kind, ours, theirs FROM discrepancies")
    assert found == {"kind": "SIZE", "ours": Decimal(4), "theirs": Decimal(1)}


async def test_a_rebuild_folds_reports_as_they_were_applied(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    await feeds.send(REPORTS, report("10:01:00", side="Buy", size="2", avgPrice="100.05"))
    await feeds.send(REPORTS, report("10:02:00", side="Buy", size="3", avgPrice="120"))
    await feeds.send(REPORTS, report("10:03:00", side="Sell", size="1", avgPrice="110"))
    applied = shown(await feeds.position(key(BTC)))
    desk = Desk(feeds.url)
    rebuilt = await desk.run((await desk.create(mode=BuildMode.FULL)).build_id)
    await desk.close()
    assert (rebuilt.state, rebuilt.keys_failed) == (BuildState.SUCCEEDED, 0)
    assert shown(await feeds.position(key(BTC)))[:-1] == applied[:-1]


async def test_a_marks_price_comes_with_a_report_and_never_goes_back(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:01:00", side="Buy", size="2", avgPrice="100", markPrice="101"))
    await feeds.send(REPORTS, report("10:02:00", positionIdx=1, size="2", avgPrice="100", markPrice="103"))
    await feeds.send(REPORTS, report("10:01:30", positionIdx=2, size="2", avgPrice="100", markPrice="102"))
    (mark,) = await feeds.rows("SELECT price, marked_at FROM marks")
    assert (mark["price"], mark["marked_at"].minute) == (Decimal(103), 2)


async def test_a_symbol_that_is_not_of_the_agreed_form_is_refused(feeds: Feeds) -> None:
    assert await feeds.send(REPORTS, report("10:00:00", symbol="BTCUSD", side="Buy", size="1")) == [
        "UNKNOWN_INSTRUMENT"
    ]
    other = execution("10:00:00", "BUY", "1", "100", "0", "a").replace(b"BTCUSDT", b"BTCUSD")
    assert await feeds.send(EXECUTIONS, other) == ["UNKNOWN_INSTRUMENT"]
    assert await feeds.rows("SELECT 1 FROM order_feeds UNION ALL SELECT 1 FROM inbox") == []


async def test_bad_executions_of_a_batch_are_refused_alone(feeds: Feeds) -> None:
    good = [execution(f"10:00:0{number}", "BUY", "1", "100", "0", f"o{number}") for number in range(5)]
    unknown = execution("10:00:00", "BUY", "1", "100", "0", "x").replace(b"BTCUSDT", b"BTCUSD")
    huge = execution("10:00:00", "BUY", "99999999999999999999", "100", "0", "y")
    conflicting = good[0].replace(b'"1"', b'"2"').replace(b'"trace_id"', b'"event_id": "e", "trace_id"')
    first = good[0].replace(b'"trace_id"', b'"event_id": "e", "trace_id"')
    outcomes = await feeds.send(EXECUTIONS, *good, unknown, b"{", huge, first, conflicting, good[2])
    refused = ["UNKNOWN_INSTRUMENT", "INVALID_FIELD", "NUMERIC_LIMIT"]
    assert outcomes == ["APPLIED"] * 5 + refused + ["APPLIED", "FILL_CONFLICT", "REPEATED"]
    assert await quantity(feeds) == "6"


async def test_a_fill_without_a_time_is_executed_when_it_was_first_received(feeds: Feeds) -> None:
    body = execution(None, "BUY", "1", "100", "0", "a")
    assert await feeds.send(EXECUTIONS, body) == ["APPLIED"]
    assert await feeds.send(EXECUTIONS, body, received_at=datetime.fromisoformat("2025-01-15T12:04:00Z")) == [
        "REPEATED"
    ]
    assert await feeds.rows("SELECT executed_at FROM fills") == [{"executed_at": NOW}]


async def test_an_order_is_followed_by_the_feed_that_told_of_it_first(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "SELL", "1", "100", "0", "order-200"))
    assert await feeds.send(ORDERS, order_state("10:00:00", "filled", "1", "100", "0", symbol=BTC)) == ["IGNORED"]
    await feeds.send(ORDERS, order_state("10:00:00", "filled", "1", "100", "0", order_id="o"))
    other = execution("10:00:00", "SELL", "1", "100", "0", "o").replace(b"BTCUSDT", b"XRPUSDT")
    assert await feeds.send(EXECUTIONS, other) == ["IGNORED"]
    assert (await quantity(feeds), await quantity(feeds, XRP)) == ("-1", "-1")


STATES = [
    order_state("10:01:00", "partially_filled", "0.3", "100", "0.03"),
    order_state("10:02:00", "partially_filled", "0.6", "100.5", "0.06"),
    order_state("10:03:00", "filled", "1.0", "101", "0.10"),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_states_of_an_order_end_alike_in_any_order_of_arrival(feeds: Feeds, order: tuple[int, ...]) -> None:
    for place in order:
        assert await feeds.send(ORDERS, STATES[place]) == ["APPLIED"]
        assert await feeds.send(ORDERS, STATES[place]) == ["REPEATED"]
    fills = await feeds.rows("SELECT delta, price, fee FROM fills ORDER BY executed_at")
    assert fills == [
        {"delta": Decimal("-0.3"), "price": Decimal(100), "fee": Decimal("0.03")},
        {"delta": Decimal("-0.3"), "price": Decimal(101), "fee": Decimal("0.03")},
        {"delta": Decimal("-0.4"), "price": Decimal("101.75"), "fee": Decimal("0.04")},
    ]
    assert shown(await feeds.position(key(XRP)))[:4] == ("-1", "101", "0", "0.1")


async def test_newer_figures_for_the_same_quantity_revise_its_fill_and_the_next(feeds: Feeds) -> None:
    await feeds.send(ORDERS, STATES[0])
    await feeds.send(ORDERS, STATES[2])
    late_fee = order_state("10:04:00", "partially_filled", "0.3", "100", "0.05")
    assert await feeds.send(ORDERS, late_fee) == ["APPLIED"]
    stale = order_state("10:03:30", "partially_filled", "0.3", "90", "0.01")
    assert await feeds.send(ORDERS, stale) == ["OUTDATED"]
    fills = await feeds.rows("SELECT fee, revision FROM fills ORDER BY executed_at")
    assert fills == [{"fee": Decimal("0.05"), "revision": 2}, {"fee": Decimal("0.05"), "revision": 2}]
    assert shown(await feeds.position(key(XRP)))[3] == "0.1"


async def test_a_state_that_contradicts_its_order_is_refused_and_leaves_no_trace(feeds: Feeds) -> None:
    await feeds.send(ORDERS, STATES[0])
    assert await feeds.send(ORDERS, order_state("10:05:00", "filled", "1.0", "10", "0.1")) == ["INVALID_FIELD"]
    assert len(await feeds.rows("SELECT 1 FROM order_states")) == 1
    assert len(await feeds.rows("SELECT 1 FROM inbox")) == 1


async def test_two_consumers_with_the_same_messages_apply_each_once(database_url: str) -> None:
    pair = [Feeds(database_url), Feeds(database_url)]
    bodies = [execution(f"10:00:{number:02}", "BUY", "1", "100", "1", f"o{number}") for number in range(40)]

    async def consume(feeds: Feeds, seed: int) -> list[str]:
        mine = random.Random(seed).sample(bodies, len(bodies))
        return [
            outcome for place in range(0, 40, 5) for outcome in await feeds.send(EXECUTIONS, *mine[place : place + 5])
        ]

    outcomes = await asyncio.gather(*(consume(feeds, seed) for seed, feeds in enumerate(pair)))
    assert sorted(itertools.chain(*outcomes)) == ["APPLIED"] * 40 + ["REPEATED"] * 40
    stored = await pair[0].position(key(BTC))
    assert (decimal_text(stored.state.quantity), decimal_text(stored.state.lifetime.fees)) == ("40", "40")
    for feeds in pair:
        await feeds.close()


async def test_events_go_to_the_account_that_the_rules_name(database_url: str) -> None:
    feeds = Feeds(database_url, rules=replace(FeedRules(), account=key(BTC, account="desk-7").account))
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    assert await quantity(feeds, account="desk-7") == "1"
    assert await feeds.rows("SELECT account, size_authority FROM accounts") == [
        {"account": "desk-7", "size_authority": "LATEST"}
    ]
    await feeds.close()


async def test_a_sealed_period_is_not_reopened_by_a_report(feeds: Feeds) -> None:
    await feeds.rows(
        "INSERT INTO accounts (account, size_authority, sealed_before) VALUES ('main', 'VENUE', '2025-01-15T11:00:00Z')"
    )
    await feeds.send(REPORTS, report("10:00:00", side="Buy", size="1", avgPrice="100"))
    assert await quantity(feeds) == "0"
    assert await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a")) == ["PERIOD_SEALED"]


async def test_a_report_beside_fills_that_wait_for_a_build_makes_the_build_come_again(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:00:00", side="Buy", size="1", avgPrice="100"))
    await feeds.rows(
        "INSERT INTO stale_keys SELECT account, book, instrument, leg, '2025-01-15T10:01:00Z', 0, 'f', "
        "'2025-01-15T10:01:00Z', 0, 'f', 1, 1, 'IMPORT', false FROM positions"
    )
    assert await feeds.send(REPORTS, report("10:02:00", side="Buy", size="1", avgPrice="100")) == ["UNCHANGED"]
    (stale,) = await feeds.rows("SELECT from_executed_at, to_executed_at, entries, touch, reason FROM stale_keys")
    assert (stale["from_executed_at"].minute, stale["to_executed_at"].minute) == (1, 2)
    assert (stale["entries"], stale["touch"], stale["reason"]) == (1, 2, "IMPORT")
