"""The checks of a build, each by a violation that is planted: in values here, in the store below."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from steelyard.accounting.entries import Entry
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import InstrumentName, Leg
from steelyard.accounting.position import FoldState
from steelyard.accounting.round_trips import NO_SUMS, RoundTrip
from steelyard.operations.building import BuildMode, BuildState
from steelyard.operations.check_builds import (
    FillSum,
    KeyCheckFailed,
    check_entries,
    check_fill_sums,
    check_quantity,
    check_state,
    check_sums,
    check_trips,
)
from tests.builds.desk import Desk, failed_checks, generic

NOON = datetime(2025, 6, 20, 12, tzinfo=UTC)
ES = Instrument(InstrumentName("ES SEP25"), InstrumentKind.LINEAR, Decimal(50), "USD", "USD")
RULES = FoldRules(ES, Leg.NET)


def entry(number: int, quantity: str | None = "1", price: str | None = "100", **other: Any) -> Entry:
    made = Entry(
        NOON + timedelta(seconds=number),
        0,
        f"e{number}",
        "FILL",
        None if quantity is None else Decimal(quantity),
        None if price is None else Decimal(price),
        Decimal("0.5"),
    )
    return made._replace(**other)


def folded(*entries: Entry) -> tuple[FoldState, list[RoundTrip]]:
    fold = Fold(RULES)
    fold.feed(entries)
    state, (trips, _) = fold.state(), fold.drain()
    return state, [*trips, *([state.trip] if state.trip else [])]


ENTRIES = (entry(1), entry(2, "-2", "110"), entry(3, "1", "90"), entry(4, "3", "95"))


def counted(*entries: Entry) -> FillSum:
    found = FillSum()
    found.add(entries, ids_max=2)
    return found


def failure(check: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(KeyCheckFailed) as failed:
        check(*arguments, **named)
    return failed.value.error.check


def test_what_is_right_passes_every_check() -> None:
    state, trips = folded(*ENTRIES)
    check_entries(ENTRIES, RULES, now=NOON + timedelta(hours=1))
    check_trips(trips)
    check_state(state, RULES)
    check_sums(NO_SUMS, state.lifetime, replaced=(), replacing=trips)
    check_fill_sums(NO_SUMS, state.lifetime, counted=counted(*ENTRIES))
    check_quantity(state, Leg.NET, delta=counted(*ENTRIES).delta, unmatched=Decimal(0))
    assert counted(*ENTRIES).first_ids == ["e1", "e2"]
    check_entries((), RULES, now=NOON)


@pytest.mark.parametrize(
    ("planted", "check", "fill_id"),
    [
        (entry(5, executed_at=NOON + timedelta(hours=2)), "times", "e5"),
        (entry(0, executed_at=datetime(1969, 12, 31, tzinfo=UTC)), "times", "e0"),
        (entry(3, "0"), "quantities", "e3"),
        (entry(3, None), "quantities", "e3"),
        (entry(3, "1", "-5"), "prices", "e3"),
        (entry(3, "1", "0"), "prices", "e3"),
        (entry(3, "1", None), "prices", "e3"),
        (entry(3, kind="GIFT"), "sides", "e3"),
    ],
)
def test_an_entry_that_could_not_have_been_recorded_is_found(planted: Entry, check: str, fill_id: str) -> None:
    batch = sorted((entry(2), planted), key=lambda one: one.executed_at)
    with pytest.raises(KeyCheckFailed) as failed:
        check_entries(batch, RULES, now=NOON + timedelta(hours=1))
    assert (failed.value.error.check, failed.value.error.fill_id) == (check, fill_id)


def test_any_price_is_right_where_the_instrument_says_so() -> None:
    rules = FoldRules(replace(ES, price_rule=PriceRule.ANY), Leg.NET)
    check_entries((entry(1, "1", "-37.63"), entry(2, "-1", "0")), rules, now=NOON + timedelta(hours=1))


def test_funding_and_adjustments_need_no_price() -> None:
    funding = entry(2, None, None, kind="FUNDING")
    adjustment = entry(3, "0", None, kind="ADJUSTMENT")
    check_entries((entry(1), funding, adjustment), RULES, now=NOON + timedelta(hours=1))
    assert counted(entry(1), funding, adjustment).has_adjustments
    assert counted(entry(1), funding).fills == 1


def test_trips_that_overlap_or_stay_open_are_found() -> None:
    _, trips = folded(*ENTRIES)
    first, second = trips[0], trips[1]
    assert first.closed_at is not None
    late = replace(first, closed_at=second.opened_at + timedelta(seconds=1))
    assert failure(check_trips, [late, second]) == "overlap"
    assert failure(check_trips, [second, first]) == "overlap"
    assert failure(check_trips, [replace(first, closed_at=None), second]) == "open_trips"


def test_a_state_against_the_laws_is_found() -> None:
    state, _ = folded(*ENTRIES)
    assert state.trip is not None
    wrong_gross = replace(state.settled, gross_average=state.settled.gross_average + 1)
    assert failure(check_state, replace(state, settled=wrong_gross), RULES) == "identity"
    assert failure(check_state, replace(state, lots=()), RULES) == "quantities"
    assert failure(check_state, state, FoldRules(ES, Leg.SHORT)) == "quantities"
    assert (
        failure(check_state, replace(state, trip=replace(state.trip, open_quantity=Decimal(9))), RULES) == "open_trips"
    )


def test_sums_that_are_not_those_of_the_trips_or_fills_are_found() -> None:
    state, trips = folded(*ENTRIES)
    assert failure(check_sums, NO_SUMS, state.lifetime, replaced=(), replacing=trips[1:]) == "sums"
    assert failure(check_fill_sums, NO_SUMS, state.lifetime, counted=counted(*ENTRIES[1:])) == "sums"
    one_fee_less = replace(state.lifetime, fees=state.lifetime.fees - 1)
    assert failure(check_fill_sums, NO_SUMS, one_fee_less, counted=counted(*ENTRIES)) == "sums"


def test_a_quantity_that_is_not_the_signed_sum_is_found() -> None:
    state, _ = folded(*ENTRIES)
    assert failure(check_quantity, state, Leg.NET, delta=Decimal(4), unmatched=Decimal(0)) == "quantities"
    check_quantity(FoldState(), Leg.LONG, delta=Decimal(-2), unmatched=Decimal(2))
    check_quantity(FoldState(), Leg.SHORT, delta=Decimal(2), unmatched=Decimal(2))
    assert failure(check_quantity, FoldState(), Leg.LONG, delta=Decimal(2), unmatched=Decimal(2)) == "quantities"


ROWS = [
    "a1,ACC,main,ES SEP25,BUY,2,6000,1.50,USD,2025-06-20T13:00:00Z",
    "a2,ACC,main,ES SEP25,SELL,2,6001,1.50,USD,2025-06-20T13:01:00Z",
    "a3,ACC,main,ES SEP25,SELL,2,6001,1.50,USD,2025-06-20T13:03:00Z",
    "b1,ACC,main,NQ SEP25,BUY,1,21000,,,2025-06-20T13:02:00Z",
]
MORE = [
    "a9,ACC,main,ES SEP25,BUY,1,6001,,,2025-06-20T14:00:00Z",
    "b9,ACC,main,NQ SEP25,BUY,1,21000,,,2025-06-20T14:02:00Z",
]


@pytest.mark.parametrize(
    ("mode", "planted", "check"),
    [
        (BuildMode.INCREMENTAL, "UPDATE fills SET price = -6001 WHERE fill_id = 'a9'", "prices"),
        (BuildMode.FULL, "UPDATE fills SET price = 0 WHERE fill_id = 'a1'", "prices"),
        (BuildMode.FULL, "UPDATE fills SET executed_at = '1960-01-01Z' WHERE fill_id = 'a1'", "times"),
        (BuildMode.FULL, "UPDATE fills SET executed_at = now() + interval '1 day' WHERE fill_id = 'a9'", "times"),
        (BuildMode.FULL, "DELETE FROM instruments WHERE instrument = 'ES SEP25'", "instrument"),
        (
            BuildMode.INCREMENTAL,
            "UPDATE positions SET gross_average = gross_average + 1 WHERE instrument = 'ES SEP25'",
            "identity",
        ),
        (BuildMode.INCREMENTAL, "UPDATE lots SET quantity = 1 WHERE instrument = 'ES SEP25'", "quantities"),
    ],
)
async def test_a_violation_in_the_store_fails_its_key_alone(
    desk: Desk, mode: BuildMode, planted: str, check: str
) -> None:
    await desk.run((await desk.load(generic(ROWS))).record.build_id)
    await desk.load(generic(MORE), is_auto_build=False)
    await desk.plant(planted)
    before = {str(one.instrument): row for one, row in (await desk.positions()).items()}
    build = await desk.run((await desk.create(mode=mode)).build_id)
    assert build.state is BuildState.PARTIALLY_SUCCEEDED
    assert failed_checks(build.results) == {"ES SEP25": [check]}
    after = {str(one.instrument): row for one, row in (await desk.positions()).items()}
    assert after["ES SEP25"] == before["ES SEP25"]
    assert after["NQ SEP25"]["quantity"] == 2


async def test_a_row_that_cannot_be_written_fails_its_key_alone(desk: Desk) -> None:
    """A second open round trip of the key is in the way: the store's own index refuses the write."""
    await desk.run((await desk.load(generic(ROWS))).record.build_id)
    await desk.load(generic(MORE), is_auto_build=False)
    await desk.plant(
        "UPDATE round_trips SET opened_entry_id = 'ghost', trip_id = gen_random_uuid() WHERE closed_at IS NULL"
    )
    build = await desk.run((await desk.create()).build_id)
    assert build.state is BuildState.FAILED
    assert failed_checks(build.results) == {"ES SEP25": ["internal"], "NQ SEP25": ["internal"]}
    assert {row["version"] for row in (await desk.positions()).values()} == {1}
