"""The fast reader against the plain one: any mixture of regular and odd rows, in any order of time."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.app.samples import generate_day
from tests.imports.files import ninjatrader, read
from tests.imports.reference import expected_rows

_padded = st.sampled_from(["{}", "{} ", "  {}"])
_row = st.fixed_dictionaries(
    {
        "Instrument": st.sampled_from(["MNQ SEP25", "ES SEP25", "ES SEP25 "]),
        "Account": st.sampled_from(["A", "B", "B "]),
        "Action": st.sampled_from(["Buy", "Sell", "BuyToCover", "SellShort", " Sell"]),
        "Quantity": st.sampled_from(["1", "2", "0.5", "2.0"]),
        "Price": st.sampled_from(["21850.25", "21,850.25", "21850.250", "5800"]),
        "Time": st.builds(
            "6/20/2025 {}:0{}:0{} {}M".format,
            st.sampled_from([9, 12]),
            st.integers(0, 1),
            st.integers(0, 2),
            st.sampled_from("AP"),
        ),
        "ID": st.sampled_from(["", "", "x1", "x2 ", "y\\z"]),
        "Order ID": st.sampled_from(["", "", "o1", " o1"]),
        "Name": st.sampled_from(["", "Trader", "Trädér ", "a b"]),
        "Commission": st.sampled_from(["$0.52", "4.04", "$$0.52", "", "(1.55)"]),
    }
)


def _is_as_expected(text: str) -> None:
    parsed = read(text)
    assert [result for result in parsed.results if result.category != "warning"] == []
    names: dict[object, object] = {}
    for row, expected in zip(parsed.rows, expected_rows(text), strict=True):
        account, instrument, at, side, quantity, price, fee, rank, order, name = expected
        assert (row["account"], row["instrument"], row["side"], row["order_id"]) == (account, instrument, side, order)
        assert [Decimal(str(row[column])) for column in ("quantity", "price", "fee")] == [quantity, price, fee]
        assert datetime.fromisoformat(f"{row['executed_at']}:00") == at
        assert row["source_sequence"] == str(rank)
        if isinstance(name, str):
            assert row["fill_id"] == name
        else:
            assert names.setdefault(row["fill_id"], name) == name
    # No two contents share an id, and no content has two.
    assert len(set(names)) == len(set(names.values()))


@settings(max_examples=200, deadline=None)
@given(st.lists(_row, min_size=1, max_size=25))
def test_odd_rows_in_any_order_are_read_as_the_plain_reader_does(rows: list[dict[str, str]]) -> None:
    _is_as_expected(ninjatrader(*rows))


def test_sample_days_are_read_as_the_plain_reader_does() -> None:
    for seed, with_ids in [(1, True), (2, False)]:
        text = "".join(generate_day(seed, fills=3_000, with_ids=with_ids))
        _is_as_expected(text)
        assert read(text).results == []
