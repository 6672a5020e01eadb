"""What a number may look like, how it is written, and that nothing rounds but the named functions."""

import decimal
from decimal import ROUND_HALF_EVEN
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.round_trips import CostMethod, Sums
from steelyard.accounting.units import (
    PLACES_18,
    decimal_text,
    exactly,
    fee_share,
    money_text,
    parse_decimal,
    parse_positive,
    quotient,
    ratio_of,
    round_places,
    valued_fee,
)
from tests.accounting.cases import D
from tests.oracle import half_even, number, wire

EXACT_NUMBERS = st.decimals(-(10**20) + 1, 10**20 - 1, places=18)


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".5", "5.", "+1", "01", "1_000", "1e5", "1E+1000000", "NaN", "Infinity", "-inf", " 1", "1 ", "1\n"),
        *("１２", "٣", "1,5", "0x10", "1" * 21, "0." + "1" * 19, "--1", "1.2.3"),
    ],
)
def test_other_texts_than_plain_decimals_are_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="quantity"):
        parse_decimal(text, field="quantity")
    with pytest.raises(ValueError, match="not a decimal text"):
        number(text)


@pytest.mark.parametrize("text", ["0", "-0", "1", "-12.5", "9" * 20 + "." + "9" * 18, "0.000000000000000001"])
def test_plain_decimals_are_read_exactly(text: str) -> None:
    assert Fraction(parse_decimal(text, field="x")) == number(text)


def test_a_positive_number_is_greater_than_zero() -> None:
    assert parse_positive("0.1", field="x") == D("0.1")
    for text in ("0", "-0", "-1"):
        with pytest.raises(InvalidField, match="greater than zero"):
            parse_positive(text, field="x")


@pytest.mark.parametrize(
    "value, text",
    [
        ("1.500", "1.5"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("1E+3", "1000"),
        ("1E-7", "0.0000001"),
        ("100", "100"),
        ("-12.340", "-12.34"),
        ("0E-40", "0"),
    ],
)
def test_numbers_are_written_canonically(value: str, text: str) -> None:
    assert decimal_text(D(value)) == text


@given(EXACT_NUMBERS)
def test_what_is_written_reads_as_the_same_number(value: decimal.Decimal) -> None:
    text = decimal_text(value)
    assert parse_decimal(text, field="x") == value
    assert text == wire(Fraction(value))


@given(st.decimals(-(10**30), 10**30, places=40))
def test_money_is_rounded_half_even_to_eighteen_places_on_the_wire(value: decimal.Decimal) -> None:
    assert money_text(value) == wire(Fraction(value))


@given(EXACT_NUMBERS, EXACT_NUMBERS.filter(bool))
def test_quotients_are_those_of_exact_fractions_rounded_once(top: decimal.Decimal, bottom: decimal.Decimal) -> None:
    assert quotient(top, bottom, PLACES_18) == half_even(Fraction(top) / Fraction(bottom), 18)
    assert ratio_of(top, bottom) == half_even(Fraction(top) / Fraction(bottom), 18)


@given(st.integers(0, 10**6).filter(lambda digits: digits % 10), st.sampled_from([-1, 1]), st.booleans())
def test_ties_and_near_ties_round_once(digits: int, sign: int, beyond: bool) -> None:
    tie = Fraction(sign * (2 * digits + 1), 2 * 10**18)
    almost = tie + (Fraction(sign, 3 * 10**60) if beyond else 0)
    top, bottom = D(almost.numerator), D(almost.denominator)
    assert quotient(top, bottom, PLACES_18) == half_even(almost, 18)


def test_exactly_refuses_what_would_round() -> None:
    @exactly
    def third() -> decimal.Decimal:
        return D(1) / D(3)

    with pytest.raises(decimal.Inexact):
        third()


def test_named_functions_round_half_even() -> None:
    assert round_places(D("0.0000000000000000005"), PLACES_18) == 0
    assert round_places(D("0.0000000000000000015"), PLACES_18) == D("0.000000000000000002")
    assert valued_fee(D("0.000000000000000003"), D("0.5")) == D("0.000000000000000002")
    assert fee_share(D(1), D(1), D(3)) == D("0.333333333333333333")


def test_figures_do_not_depend_on_the_decimal_context_of_the_caller() -> None:
    long = D("12345678901234567890.123456789012345678901234567890123456")
    sums = Sums(gross_average=long, gross_lots=long, fees=D(1), reducing_fees=D(1), funding=D("0.5"))
    with decimal.localcontext(decimal.Context(prec=9, rounding=ROUND_HALF_EVEN)):
        found = [sums.realized(CostMethod.AVERAGE), sums.net(CostMethod.LOTS), sums.plus(sums).minus(sums).gross_lots]
    assert [Fraction(each) for each in found] == [Fraction(long) - 1, Fraction(long) - Fraction(1, 2), Fraction(long)]
