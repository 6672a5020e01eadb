"""The generic CSV: a round trip of any fill, its optional columns, and what each bad cell gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.accounting import keys
from tests.imports.files import generic, read

_name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@#-]{0,20}", fullmatch=True)
_id = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'), min_size=1, max_size=30)
_amount = st.decimals(min_value=Decimal("1e-18"), max_value=Decimal(10) ** 19, places=18)
_offset = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_time = st.tuples(st.integers(31_536_000 * 10**6, 4_102_444_800 * 10**6), _offset).map(
    lambda drawn: datetime.fromtimestamp(0, drawn[1]) + timedelta(microseconds=drawn[0])
)
_fill = st.fixed_dictionaries(
    {
        "fill_id": _id,
        "account": _name,
        "book": _name,
        "instrument": st.from_regex(r"[A-Z0-9._:/-]{1,12}( [A-Z0-9]{2,5})?", fullmatch=True),
        "side": st.sampled_from(["BUY", "SELL"]),
        "quantity": _amount,
        "price": _amount,
        "fee": st.decimals(min_value=-(10**9), max_value=10**9, places=18),
        "fee_currency": st.sampled_from(["", "USD", "USDT", "BNB"]),
        "executed_at": _time,
        "leg": st.sampled_from(["", "NET", "LONG", "SHORT"]),
        "order_id": st.one_of(st.just(""), _id),
        "source_sequence": st.integers(0, 2**31 - 1),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_fill, min_size=1, max_size=5))
def test_any_fill_written_comes_back_the_same(fills: list[dict[str, object]]) -> None:
    written = [{name: _text(value) for name, value in fill.items()} for fill in fills]
    parsed = read(generic(*written))
    assert parsed.results == []
    for fill, row in zip(fills, parsed.rows, strict=True):
        assert (row["fill_id"], row["account"], row["book"]) == (fill["fill_id"], fill["account"], fill["book"])
        assert (row["instrument"], row["side"]) == (fill["instrument"], fill["side"])
        assert row["leg"] == (fill["leg"] or "NET")
        for number in ("quantity", "price", "fee"):
            assert Decimal(str(row[number])) == fill[number]
        assert row["fee_currency"] == (fill["fee_currency"] or None)
        assert row["order_id"] == (fill["order_id"] or None)
        assert row["source_sequence"] == str(fill["source_sequence"])
        assert datetime.fromisoformat(f"{row['executed_at']}:00") == fill["executed_at"]


def _text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat() if isinstance(value, datetime) else str(value)


GOOD_CELLS = [
    # column, text, column of COPY, what stands there
    ("book", "", "book", keys.DEFAULT_BOOK),
    ("side", " buy ", "side", "BUY"),
    ("quantity", "0.500", "quantity", "0.5"),
    ("fee", "", "fee", "0"),
    ("fee", "-0.10", "fee", "-0.1"),
    ("fee_currency", "", "fee_currency", None),
    ("executed_at", "2025-06-20 09:06:48+02:00", "executed_at", "2025-06-20 07:06:48+00"),
    ("executed_at", " 2025-06-20T09:06:48.000001Z ", "executed_at", "2025-06-20 09:06:48.000001+00"),
    ("executed_at", "2025-06-20T23:30:00.25-05:30", "executed_at", "2025-06-21 05:00:00.25+00"),
    ("executed_at", "1969-12-31T23:30:00-01:00", "executed_at", "1970-01-01 00:30:00+00"),
    ("leg", "long", "leg", "LONG"),
    ("fill_id", "with blank", "fill_id", "with blank"),
    ("source_sequence", "", "source_sequence", "0"),
    ("source_sequence", "7", "source_sequence", "7"),
]


@pytest.mark.parametrize("column, text, target, expected", GOOD_CELLS)
def test_cell_is_read_as_meant(column: str, text: str, target: str, expected: str | None) -> None:
    parsed = read(generic({column: text}))
    assert parsed.results == []
    assert parsed.column(target) == [expected]


BAD_CELLS = [
    # column, text, category
    ("quantity", "0", "validation"),
    ("quantity", "-1", "validation"),
    ("quantity", "1e5", "parsing"),
    ("price", "NaN", "parsing"),
    ("price", "1,000", "parsing"),
    ("price", "$5", "parsing"),
    ("price", "0", "validation"),
    ("fee", "0,5", "parsing"),
    ("fee_currency", "usd", "validation"),
    ("fee_currency", "X", "validation"),
    ("side", "Sold", "validation"),
    ("leg", "BOTH", "validation"),
    ("account", "", "validation"),
    ("book", "-x", "validation"),
    ("instrument", "btcusdt", "validation"),
    ("fill_id", "é", "validation"),
    ("order_id", "é", "validation"),
    ("source_sequence", "-1", "parsing"),
    ("source_sequence", "2147483648", "parsing"),
    ("executed_at", "", "parsing"),
    ("executed_at", "2025-06-20T09:06:48", "parsing"),
    ("executed_at", "2025-06-20T09:06:48+02", "parsing"),
    ("executed_at", "2025-06-20T09:06:48.1234567Z", "parsing"),
    ("executed_at", "2025-06-20T24:00:00Z", "parsing"),
    ("executed_at", "2025-06-20T09:06:60Z", "parsing"),
    ("executed_at", "2025-02-29T09:06:48Z", "parsing"),
    ("executed_at", "1969-12-31T23:59:59Z", "validation"),
    ("executed_at", "1970-01-01T00:30:00+01:00", "validation"),
    ("executed_at", "9999-12-31T23:59:59-01:00", "validation"),
]


@pytest.mark.parametrize("column, text, category", BAD_CELLS)
def test_bad_cell_costs_its_row_and_the_rows_around_it_go_on(column: str, text: str, category: str) -> None:
    extra = {"leg": "", "order_id": "", "source_sequence": ""}
    parsed = read(generic(extra, {**extra, column: text}, extra))
    assert parsed.reasons == [(3, category, column)]
    assert parsed.column("row_number") == ["2", "4"]


def test_optional_columns_may_come_in_any_order_or_not_at_all() -> None:
    assert read(generic({"source_sequence": "3", "leg": "SHORT"})).column("leg") == ["SHORT"]
    [row] = read(generic({})).rows
    assert (row["leg"], row["order_id"], row["source_sequence"]) == ("NET", None, "0")


def test_rank_counts_rows_of_the_same_account_instrument_and_second() -> None:
    clocks = ["09:00:00.1", "09:00:00.2", "09:00:01", "09:00:00.3"]
    rows = [{"executed_at": f"2025-06-20T{clock}Z"} for clock in clocks]
    parsed = read(generic(*rows, {"account": "A2", "executed_at": "2025-06-20T09:00:00Z"}))
    assert parsed.column("source_sequence") == ["0", "1", "0", "2", "0"]


def test_times_are_those_of_the_same_instant_in_utc() -> None:
    at = datetime(2025, 6, 20, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-14)))
    [text] = read(generic({"executed_at": at.isoformat()})).column("executed_at")
    assert datetime.fromisoformat(f"{text}:00") == at.astimezone(UTC)
