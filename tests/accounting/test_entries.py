"""Names, fills and adjustments: what is accepted, what is refused, and what the fold reads of them."""

import inspect
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from steelyard.accounting import errors
from steelyard.accounting.entries import (
    Adjustment,
    AdjustmentKind,
    Entry,
    Fill,
    Side,
    check_adjustment,
    check_fill,
    entry_of_adjustment,
    entry_of_fill,
)
from steelyard.accounting.errors import InvalidField, InvariantBroken, NotFound, NumericLimit, SteelyardError
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import (
    DEFAULT_BOOK,
    Account,
    Book,
    FillId,
    InstrumentName,
    Leg,
    OrderKey,
    PositionKey,
    account,
    book,
    fill_id,
    instrument_name,
    root_of,
)
from steelyard.accounting.lots import Lot
from steelyard.accounting.position import EMPTY, FoldState, assert_identity, assert_leg
from steelyard.accounting.round_trips import Sums
from tests.accounting.cases import D

NOW = datetime(2025, 6, 20, 9, tzinfo=UTC)
KEY = PositionKey(Account("acc"), Book("main"), InstrumentName("BTCUSDT"), Leg.NET)
BTC = Instrument(InstrumentName("BTCUSDT"), InstrumentKind.LINEAR, D(1), "USDT", "USDT")
FILL = Fill(KEY, FillId("f1"), Side.BUY, D(2), D(100), NOW)


def adjustment(kind: AdjustmentKind = AdjustmentKind.CORRECTION, **fields: Any) -> Adjustment:
    return Adjustment(KEY, FillId("a1"), kind, NOW, **fields)


@pytest.mark.parametrize("text", ["MNQ SEP25", "BTCUSDT", "1000PEPEUSDT", "BTC-PERP", "A.B_C:D/E", "X" * 64])
def test_instrument_names_are_upper_case_with_single_inner_spaces(text: str) -> None:
    assert instrument_name(text) == text


@pytest.mark.parametrize("text", ["", " MNQ", "MNQ ", "MNQ  SEP25", "mnq", "MNQ\tSEP25", "MNQ\n", "Ä", "X" * 65])
def test_other_instrument_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="instrument"):
        instrument_name(text)


def test_names_of_accounts_books_and_fills() -> None:
    assert account("Sim101 test") == "Sim101 test"
    assert (book(""), book("desk-2")) == (DEFAULT_BOOK, "desk-2")
    assert fill_id("binance:BTCUSDT:12 3") == "binance:BTCUSDT:12 3"
    for check, text in ((account, ""), (account, "x" * 65), (book, "a b "), (fill_id, " x"), (fill_id, "x\x7f")):
        with pytest.raises(InvalidField):
            check(text)
    with pytest.raises(InvalidField, match="128"):
        fill_id("x" * 129)


def test_a_contract_takes_its_record_from_its_root() -> None:
    root = replace(BTC, name=InstrumentName("MNQ"), multiplier=D(2), is_root=True)
    contract = root.contract(InstrumentName("MNQ SEP25"))
    assert (contract.name, contract.multiplier, contract.is_root) == ("MNQ SEP25", D(2), False)
    assert (root_of("MNQ SEP25"), root_of("BTCUSDT")) == ("MNQ", "BTCUSDT")


def test_kinds_differ_in_sign_and_scale() -> None:
    inverse = replace(BTC, kind=InstrumentKind.INVERSE, multiplier=D(10))
    assert (BTC.sign, BTC.scale) == (D(1), D(1))
    assert (inverse.sign, inverse.scale) == (D(-1), D(1))


@pytest.mark.parametrize(
    "change, error, why",
    [
        ({"quantity": D(0)}, InvalidField, "nothing was traded"),
        ({"quantity": D(-1)}, InvalidField, "the side says the sign"),
        ({"price": D(0)}, InvalidField, "prices are positive"),
        ({"price": D(-1)}, InvalidField, "prices are positive"),
        ({"executed_at": NOW + timedelta(minutes=5, microseconds=1)}, InvalidField, "more than five minutes ahead"),
        ({"executed_at": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)}, InvalidField, "before 1970"),
        ({"quantity": D(10) ** 18}, NumericLimit, "1e20 of notional"),
        ({"fee": D(-(10**20))}, NumericLimit, "1e20 of fee"),
        ({"fee_rate": D(0)}, InvalidField, "a rate of nothing"),
    ],
)
def test_fills_that_cannot_be_right_are_refused(change: dict[str, Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error):
        check_fill(FILL._replace(**change), BTC, now=NOW)
    assert why


def test_fills_at_the_edge_are_accepted() -> None:
    check_fill(FILL._replace(executed_at=NOW + timedelta(minutes=5)), BTC, now=NOW)
    check_fill(FILL._replace(executed_at=datetime(1970, 1, 1, tzinfo=UTC)), BTC, now=NOW)
    spread = replace(BTC, price_rule=PriceRule.ANY)
    check_fill(FILL._replace(price=D(-1)), spread, now=NOW)
    with pytest.raises(InvalidField, match="price"):
        check_fill(FILL._replace(price=D(-1)), replace(spread, kind=InstrumentKind.INVERSE), now=NOW)


@pytest.mark.parametrize(
    "made, field",
    [
        (adjustment(), "quantity"),
        (adjustment(quantity=D(1)), "average_price"),
        (adjustment(quantity=D(0), average_price=D(1)), "average_price"),
        (adjustment(quantity=D(1), average_price=D(0)), "price"),
        (adjustment(quantity=D(1), average_price=D(1), amount=D(1)), "amount"),
        (adjustment(AdjustmentKind.FUNDING), "amount"),
        (adjustment(AdjustmentKind.FUNDING, amount=D(0)), "amount"),
        (adjustment(AdjustmentKind.FUNDING, amount=D(1), quantity=D(1)), "quantity"),
        (replace(adjustment(quantity=D(1), average_price=D(1)), key=KEY._replace(leg=Leg.SHORT)), "quantity"),
        (replace(adjustment(quantity=D(-1), average_price=D(1)), key=KEY._replace(leg=Leg.LONG)), "quantity"),
        (replace(adjustment(quantity=D(0)), effective_at=NOW + timedelta(hours=1)), "effective_at"),
    ],
)
def test_adjustments_that_mean_nothing_are_refused(made: Adjustment, field: str) -> None:
    with pytest.raises(InvalidField, match=field):
        check_adjustment(made, BTC, now=NOW)


def test_adjustments_that_are_accepted() -> None:
    for made in (
        adjustment(AdjustmentKind.FUNDING, amount=D(-1)),
        adjustment(AdjustmentKind.OPENING, quantity=D(-2), average_price=D(100)),
        adjustment(quantity=D(0)),
        adjustment(average_price=D(100)),
    ):
        check_adjustment(made, BTC, now=NOW)
    with pytest.raises(NumericLimit):
        check_adjustment(adjustment(quantity=D(10) ** 19, average_price=D(10)), BTC, now=NOW)


def test_the_fold_reads_signed_quantities_and_valued_fees() -> None:
    sold = FILL._replace(side=Side.SELL, fee=D("0.01"), fee_currency="BNB")
    assert entry_of_fill(FILL, BTC) == Entry(NOW, 0, "f1", "FILL", D(2), D(100), D(0))
    assert entry_of_fill(sold, BTC)[4:] == (D(-2), D(100), D(0), "BNB", D("0.01"))
    assert entry_of_fill(sold._replace(fee_rate=D(600)), BTC)[4:] == (D(-2), D(100), D(6), None, None)
    assert entry_of_fill(sold._replace(fee_currency="USDT"), BTC).fee == D("0.01")
    assert entry_of_fill(sold._replace(fee=D(0)), BTC).unvalued_currency is None
    assert sold.order == OrderKey(NOW, 0, "f1") == entry_of_fill(sold, BTC).order
    assert (sold.account, sold.content[3]) == ("acc", Side.SELL)


def test_a_sold_quantity_of_many_digits_is_not_rounded() -> None:
    digits = D("12345678901234567890.123456789012345678")
    assert FILL._replace(side=Side.SELL, quantity=digits).delta == digits.copy_negate()


def test_the_fold_reads_adjustments_by_their_kind() -> None:
    funding = adjustment(AdjustmentKind.FUNDING, amount=D(-1))
    assert entry_of_adjustment(funding) == Entry(NOW, 0, "a1", "FUNDING", None, None, D(-1))
    assert entry_of_adjustment(adjustment(quantity=D(0))) == Entry(NOW, 0, "a1", "ADJUSTMENT", D(0), None, D(0))
    assert entry_of_adjustment(adjustment(AdjustmentKind.VENUE, average_price=D(5))).kind == "VENUE"
    assert adjustment().order == OrderKey(NOW, 0, "a1")


def test_every_error_has_a_reason_and_a_sentence() -> None:
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, SteelyardError):
            assert error.reason.isupper(), name
            assert (error.__doc__ or "").strip(), name
    assert str(NotFound("build", "b1")) == "no build 'b1'"
    assert InvalidField("price", "is odd").details == {"field": "price"}
    assert errors.StoreUnavailable.retryable
    assert errors.FillConflict().message == "This fill id is known with other content; nothing was changed."
    assert errors.FillConflict("other words", fill_id="f").details == {"fill_id": "f"}


LOT = Lot(OrderKey(NOW, 0, "f1"), D(1), D(1), D(100))


@pytest.mark.parametrize(
    "state, leg, message",
    [
        (replace(EMPTY, quantity=D(-1)), Leg.LONG, "LONG leg"),
        (replace(EMPTY, quantity=D(1)), Leg.SHORT, "SHORT leg"),
        (replace(EMPTY, cost_average=D(1)), Leg.NET, "flat"),
        (replace(EMPTY, quantity=D(2), lots=(LOT,)), Leg.NET, "add up"),
    ],
)
def test_states_that_cannot_be_are_found(state: FoldState, leg: Leg, message: str) -> None:
    with pytest.raises(InvariantBroken, match=message):
        assert_leg(state, leg)


def test_a_broken_identity_is_found() -> None:
    assert_leg(FoldState(quantity=D(1), lots=(LOT,)), Leg.LONG)
    assert LOT.opened_at == NOW
    with pytest.raises(InvariantBroken, match="off by 1"):
        assert_identity(FoldState(settled=Sums(gross_lots=Decimal(1))), BTC)
