"""What a venue's report may set, where it differs, and what it leaves in the fold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.entries import Entry, entry_of_adjustment
from steelyard.accounting.errors import InvalidField, NumericLimit, SteelyardError
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import Account, Book, FillId, InstrumentName, Leg, PositionKey
from steelyard.accounting.venue_report import (
    Difference,
    DiscrepancyKind,
    SizeAuthority,
    VenueReport,
    check_report,
    differences,
    fits_leg,
    replaces_average,
    sets_position,
    venue_entry,
)

AT = datetime(2025, 1, 15, 10, 0, tzinfo=UTC)
KEY = PositionKey(Account("main"), Book("main"), InstrumentName("BTCUSDT"), Leg.NET)
BTC = Instrument(KEY.instrument, InstrumentKind.LINEAR, Decimal(1), "USDT", "USDT")
SECOND = timedelta(seconds=1)


def report(quantity: str | None = "2", average: str | None = "50000", *, minute: int | None = 0) -> VenueReport:
    signed = None if quantity is None else Decimal(quantity)
    return VenueReport(
        key=KEY,
        size=Decimal(2) if signed is None else abs(signed),
        quantity=signed,
        average_price=None if average is None else Decimal(average),
        reported_at=None if minute is None else AT + timedelta(minutes=minute),
    )


def fill(minute: int, quantity: str, price: str) -> Entry:
    at = AT + timedelta(minutes=minute)
    return Entry(at, 0, f"f{minute}", "FILL", Decimal(quantity), Decimal(price), Decimal(0))


def entry(said: VenueReport, name: str = "r", elsewhere: str = "0") -> Entry:
    return entry_of_adjustment(venue_entry(said, entry_id=FillId(name), elsewhere=Decimal(elsewhere), tie=0))


@pytest.mark.parametrize(
    ("stored", "reported", "is_replaced"),
    [
        ("50000", "50050", False),  # exactly 0.1 %
        ("50000", "50050.01", True),
        ("49200", "49249.2", False),
        ("49200", "49249.21", True),
        ("50000", "49949.99", True),
    ],
)
def test_an_average_is_replaced_only_beyond_a_thousandth(stored: str, reported: str, is_replaced: bool) -> None:
    assert replaces_average(stored=Decimal(stored), reported=Decimal(reported)) is is_replaced


@pytest.mark.parametrize(
    ("authority", "said", "last_fill_s", "is_set"),
    [
        ("FILLS", report(), None, False),  # fills alone decide
        ("LATEST", report(), None, True),  # nothing else is known
        ("LATEST", report(), -1.001, True),  # newer than the fill by more than the tolerance
        ("LATEST", report(), -1.0, False),  # may not know of the fill yet
        ("LATEST", report(), 0.0, False),  # at equal times the fill wins
        ("VENUE", report(), 0.0, True),
        ("VENUE", report(minute=None), None, False),  # no time of its own
        ("LATEST", report(minute=None), None, False),
        ("LATEST", report(None), None, False),  # long or short is open
    ],
)
def test_what_a_report_may_set(authority: str, said: VenueReport, last_fill_s: float | None, is_set: bool) -> None:
    last = None if last_fill_s is None else AT + timedelta(seconds=last_fill_s)
    assert sets_position(said, authority=SizeAuthority(authority), last_fill_at=last, tolerance=SECOND) is is_set


@pytest.mark.parametrize(
    ("said", "quantity", "average", "kinds"),
    [
        (report("1.8"), "2", "50000", ["SIZE"]),
        (report("2.0001"), "2", "50000", []),  # exactly the tolerance
        (report("2.00010001"), "2", "50000", ["SIZE"]),
        (report("-2"), "2", "50000", ["SIZE"]),
        (report(None), "-2", "50000", []),  # without a side only sizes are compared
        (report("2", "50050"), "2", "50000", []),
        (report("2", "50050.01"), "2", "50000", ["AVERAGE"]),
        (report("1", "60000"), "2", "50000", ["SIZE"]),  # averages of different sizes say nothing
        (report("2", None), "2", "50000", []),
    ],
)
def test_where_a_report_differs(said: VenueReport, quantity: str, average: str, kinds: list[str]) -> None:
    found = differences(said, quantity=Decimal(quantity), average=Decimal(average))
    assert [difference.kind.value for difference in found] == kinds


def test_a_difference_says_both_sides() -> None:
    (found,) = differences(report("1.8"), quantity=Decimal(2), average=None)
    assert found == Difference(DiscrepancyKind.SIZE, Decimal(2), Decimal("1.8"))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (replace(report(), size=Decimal(-1)), InvalidField),
        (report("0", "50000"), InvalidField),
        (report("2", "0"), InvalidField),
        (report("2", "-1"), InvalidField),
        (report("2", "5e19"), NumericLimit),
        (replace(report(), unrealized_pnl=Decimal("-1e20")), NumericLimit),
        (replace(report(), mark_price=Decimal(0)), InvalidField),
        (report(minute=10), InvalidField),
    ],
)
def test_a_report_that_cannot_be_right_is_refused(said: VenueReport, error: type[SteelyardError]) -> None:
    with pytest.raises(error):
        check_report(said, BTC, now=AT)


@pytest.mark.parametrize(
    "idle",
    [report("1", "100", minute=2), report("1", "100.1", minute=2), report("1", None, minute=2)],
    ids=["same", "average within tolerance", "no average"],
)
def test_a_report_that_changes_nothing_leaves_no_trace_in_the_fold(idle: VenueReport) -> None:
    plain, reported = Fold(FoldRules(BTC, Leg.NET)), Fold(FoldRules(BTC, Leg.NET))
    plain.feed([fill(1, "1", "100")])
    reported.feed([fill(1, "1", "100"), entry(idle)])
    assert reported.state() == plain.state()
    assert reported.effective_reports == set()


def test_a_flat_report_on_a_flat_position_leaves_no_trace() -> None:
    fold = Fold(FoldRules(BTC, Leg.NET))
    fold.feed([fill(1, "1", "100"), fill(2, "-1", "100"), entry(report("0", None, minute=3))])
    assert fold.state().closed_at == AT + timedelta(minutes=2)
    assert fold.effective_reports == set()


def test_a_late_fill_before_a_report_that_changed_nothing_is_absorbed_by_it() -> None:
    fold = Fold(FoldRules(BTC, Leg.NET))
    fold.feed([fill(1, "1", "100"), fill(2, "1", "100"), entry(report("1", "100", minute=3), "kept")])
    assert fold.state().quantity == 1
    assert fold.effective_reports == {"kept"}


def test_a_report_of_a_sum_sets_what_the_other_books_leave() -> None:
    fold = Fold(FoldRules(BTC, Leg.NET))
    fold.feed([entry(report("2", "100"), elsewhere="3")])
    assert fold.state().quantity == -1


@pytest.mark.parametrize(
    ("leg", "quantity", "elsewhere", "fits"),
    [
        (Leg.NET, "1", "4", True),
        (Leg.LONG, "4", "4", True),
        (Leg.LONG, "3", "4", False),
        (Leg.SHORT, "-4", "-3", True),
        (Leg.SHORT, "-3", "-4", False),
        (Leg.LONG, None, "4", True),
    ],
)
def test_a_leg_holds_what_the_other_books_leave_only_on_its_own_side(
    leg: Leg, quantity: str | None, elsewhere: str, fits: bool
) -> None:
    said = replace(report(quantity), key=KEY._replace(leg=leg))
    assert fits_leg(said, elsewhere=Decimal(elsewhere)) is fits


def test_a_holding_that_a_report_names_without_an_average_cannot_be_opened() -> None:
    fold = Fold(FoldRules(BTC, Leg.NET))
    fold.feed([entry(report("2", None))])
    assert fold.state().quantity == 0
    assert fold.effective_reports == set()
