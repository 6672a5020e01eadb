"""NinjaTrader's grid: what each cell may look like, what each bad one gives, and how local times become UTC."""

from __future__ import annotations

import pytest

from steelyard.imports.parsing import ParseRequest
from tests.imports.files import NINJATRADER, ninjatrader, read

GOOD_CELLS = [
    # column, text, column of COPY, what stands there
    ("Action", "Sell", "side", "SELL"),
    ("Action", "BuyToCover", "side", "BUY"),
    ("Action", "SellShort", "side", "SELL"),
    ("Action", " sellshort ", "side", "SELL"),
    ("Action", "Buy to cover", "side", "BUY"),
    ("Quantity", "12", "quantity", "12"),
    ("Quantity", "0.50", "quantity", "0.5"),
    ("Quantity", "1,000", "quantity", "1000"),
    ("Price", "21,850.25", "price", "21850.25"),
    ("Price", "1,234,567.0", "price", "1234567"),
    ("Price", " 5800.00 ", "price", "5800"),
    ("Price", "12345678901234567890.123456789012345678", "price", "12345678901234567890.123456789012345678"),
    ("Commission", "$1.55", "fee", "1.55"),
    ("Commission", "4.04", "fee", "4.04"),
    ("Commission", "$$0.52", "fee", "0.52"),
    ("Commission", "$1,004.00", "fee", "1004"),
    ("Commission", "", "fee", "0"),
    ("Commission", "$0.00", "fee", "0"),
    ("Commission", "(0.00)", "fee", "0"),
    ("ID", "303363433426", "fill_id", "303363433426"),
    ("ID", "303363433426_1", "fill_id", "303363433426_1"),
    ("ID", "0123456789abcdef0123456789abcdef", "fill_id", "0123456789abcdef0123456789abcdef"),
    ("ID", "test_001 ", "fill_id", "test_001"),
    ("ID", "a\\b", "fill_id", "a\\b"),
    ("Order ID", "ord_001", "order_id", "ord_001"),
    ("Order ID", "  ", "order_id", None),
    ("Name", "Ünal  ", "leg", "NET"),
    ("Account", "EVAL-049 ", "account", "EVAL-049"),
    ("Account", "", "account", "fallback"),
    ("Instrument", "MNQ 12-25 ", "instrument", "MNQ 12-25"),
    ("Time", "6/20/2025 12:00:00 AM", "executed_at", "2025-06-20 07:00:00+00"),
    ("Time", "6/20/2025 12:03:09 PM", "executed_at", "2025-06-20 19:03:09+00"),
    ("Time", " 06/20/2025 09:06:48 am ", "executed_at", "2025-06-20 16:06:48+00"),
    ("Time", "12/31/2024 11:59:59 PM", "executed_at", "2025-01-01 07:59:59+00"),
]


@pytest.mark.parametrize("column, text, target, expected", GOOD_CELLS)
def test_cell_is_read_as_meant(column: str, text: str, target: str, expected: str | None) -> None:
    parsed = read(ninjatrader({column: text}), ParseRequest(default_account="fallback"))
    assert parsed.results == []
    assert parsed.column(target) == [expected]


BAD_CELLS = [
    # column, text, category
    ("Price", "", "parsing"),
    ("Price", "abc", "parsing"),
    ("Price", "NaN", "parsing"),
    ("Price", "Infinity", "parsing"),
    ("Price", "1_000", "parsing"),
    ("Price", "１２", "parsing"),
    ("Price", "2.1E4", "parsing"),
    ("Price", "1e1000000", "parsing"),
    ("Price", "123456789012345678901", "parsing"),
    ("Price", "1.1234567890123456789", "parsing"),
    ("Price", "1,23.5", "parsing"),
    ("Price", "0.00", "validation"),
    ("Price", "-5800.00", "validation"),
    ("Quantity", "0", "validation"),
    ("Quantity", "-1", "validation"),
    ("Quantity", "two", "parsing"),
    ("Action", "Hold", "validation"),
    ("Action", "", "validation"),
    ("Time", "", "parsing"),
    ("Time", "2025-06-20 09:06:48", "parsing"),
    ("Time", "6/20/2025 13:06:48 PM", "parsing"),
    ("Time", "6/20/2025 0:06:48 AM", "parsing"),
    ("Time", "6/31/2025 9:06:48 AM", "parsing"),
    ("Time", "6/20/2025 9:60:48 AM", "parsing"),
    ("Time", "13/20/2025 9:06:48 AM", "parsing"),
    ("Time", "3/9/2025 2:30:00 AM", "parsing"),
    ("Time", "12/31/1969 9:06:48 AM", "validation"),
    ("Time", "1/1/9999 9:06:48 AM", "validation"),
    ("ID", "schön", "validation"),
    ("ID", "x" * 129, "validation"),
    ("Order ID", "x" * 129, "validation"),
    ("Commission", "free", "parsing"),
    ("Commission", "$", "parsing"),
    ("Commission", "(-1.55)", "parsing"),
    ("Commission", "()", "parsing"),
    ("Instrument", "mnq sep25", "validation"),
    ("Instrument", "MNQ  SEP25", "validation"),
    ("Instrument", "", "validation"),
    ("Account", "", "validation"),
    ("Account", "a\tb", "validation"),
]


@pytest.mark.parametrize("column, text, category", BAD_CELLS)
def test_bad_cell_costs_its_row_and_the_rows_around_it_go_on(column: str, text: str, category: str) -> None:
    parsed = read(ninjatrader({}, {column: text}, {}))
    assert parsed.reasons == [(3, category, column)]
    assert parsed.column("row_number") == ["2", "4"]
    assert parsed.row_count == 3
    assert parsed.results[0].raw in ninjatrader({}, {column: text})


@pytest.mark.parametrize("text, fee", [("(1.55)", "-1.55"), ("($1.55)", "-1.55"), ("-$1.55", "-1.55")])
def test_rebate_is_recorded_as_a_negative_fee_with_a_warning(text: str, fee: str) -> None:
    parsed = read(ninjatrader({"Commission": text}))
    assert parsed.column("fee") == [fee]
    assert parsed.reasons == [(2, "warning", "Commission")]


@pytest.mark.parametrize(
    "header, row_end",
    [
        (NINJATRADER, ","),
        (NINJATRADER, ""),
        (NINJATRADER[:-1], ","),
        (NINJATRADER[:-1], ""),
        (NINJATRADER + "TradeValidation", ",ok"),
        (NINJATRADER + "TradeValidation,", ",,"),
    ],
)
def test_trailing_comma_and_trade_validation_may_be_there_or_not(header: str, row_end: str) -> None:
    row = f"MNQ SEP25,Buy,6,21850.25,6/20/2025 9:06:48 AM,1_1,Entry,6 L,,,$0.00,1,SIM-1,{row_end}\n"
    parsed = read(f"{header}\n{row}")
    assert parsed.results == []
    assert parsed.column("quantity") == ["6"]


def test_row_becomes_all_columns_of_copy() -> None:
    [row] = read(ninjatrader({"Order ID": "o1"})).rows
    assert row == {
        "row_number": "2", "account": "SIM-1", "book": "main", "instrument": "MNQ SEP25", "leg": "NET", "side": "BUY",
        "quantity": "1", "price": "21850.25", "fee": "0.52", "fee_currency": None,
        "executed_at": "2025-06-20 16:06:48+00", "source_sequence": "0", "fill_id": "id_0", "order_id": "o1",
    }  # fmt: skip


def test_zone_of_the_exporting_machine_decides_the_utc_time() -> None:
    file = ninjatrader({})
    zones = {"America/Chicago": "14:06:48", "Asia/Kolkata": "03:36:48", "UTC": "09:06:48"}
    for zone, clock in zones.items():
        assert read(file, ParseRequest(time_zone=zone)).column("executed_at") == [f"2025-06-20 {clock}+00"]


def test_time_that_steps_back_in_the_repeated_hour_is_in_the_second_pass() -> None:
    times = ["1:10:00", "1:50:00", "1:20:00", "1:55:00", "1:55:00", "2:05:00"]
    parsed = read(ninjatrader(*({"Time": f"11/2/2025 {time} AM"} for time in times)))
    assert parsed.column("executed_at") == [
        "2025-11-02 08:10:00+00",
        "2025-11-02 08:50:00+00",
        "2025-11-02 09:20:00+00",
        "2025-11-02 09:55:00+00",
        "2025-11-02 09:55:00+00",
        "2025-11-02 10:05:00+00",
    ]


def test_repeated_hour_is_judged_by_key_not_by_file() -> None:
    rows = [
        {"Time": "11/2/2025 1:50:00 AM", "Account": "A"},
        {"Time": "11/2/2025 1:10:00 AM", "Account": "B"},
        {"Time": "11/2/2025 1:10:00 AM", "Account": "A"},
    ]
    assert [str(at)[11:13] for at in read(ninjatrader(*rows)).column("executed_at")] == ["08", "08", "09"]


def test_position_that_does_not_follow_gives_one_warning_and_is_taken_up() -> None:
    rows = [
        {"Quantity": "3", "Position": "9 L"},  # the file begins in the middle of a holding
        {"Quantity": "1", "Position": "10 L"},
        {"Quantity": "1", "Position": "15 L"},  # four are missing
        {"Quantity": "1", "Position": "16 L"},
        {"Quantity": "17", "Action": "Sell", "Position": "1 s"},
        {"Quantity": "1", "Position": "-"},
        {"Quantity": "2", "Position": ""},
        {"Quantity": "0.5", "Position": "2.5 L"},
    ]
    parsed = read(ninjatrader(*({**row, "Time": f"6/20/2025 9:0{n}:00 AM"} for n, row in enumerate(rows))))
    assert parsed.reasons == [(4, "warning", "Position")]
    assert "says 15 L where the rows before it give 11 L" in parsed.results[0].reason
    assert len(parsed.rows) == 8


def test_dash_proves_nothing_about_the_position() -> None:
    rows = [{"Quantity": "3", "Position": "3 L"}, {"Quantity": "1", "Position": "-"}, {"Position": "5 L"}]
    assert read(ninjatrader(*rows)).results == []


def test_position_is_not_judged_where_the_file_steps_back_in_time() -> None:
    rows = [{"Position": f"{held} L", "Time": f"6/20/2025 9:0{held}:00 AM"} for held in (3, 2, 1)]
    assert read(ninjatrader(*rows)).results == []


@pytest.mark.parametrize("text", ["many", "1,2 L", "007 L"])
def test_unreadable_position_is_a_warning_only(text: str) -> None:
    parsed = read(ninjatrader({"Position": text}))
    assert parsed.reasons == [(2, "warning", "Position")]
    assert len(parsed.rows) == 1


def test_equal_second_rows_of_a_key_are_numbered_in_file_order() -> None:
    rows = [{}, {"Account": "SIM-2"}, {}, {"Instrument": "ES SEP25"}, {}, {"Time": "6/20/2025 9:06:49 AM"}, {}]
    parsed = read(ninjatrader(*rows))
    assert parsed.column("source_sequence") == ["0", "0", "1", "0", "2", "0", "3"]


def test_rows_grouped_by_account_keep_their_times() -> None:
    rows = [{"Account": account, "Time": f"6/20/2025 9:0{n}:00 AM"} for account in "AB" for n in range(3)]
    parsed = read(ninjatrader(*rows))
    assert parsed.column("account") == ["A"] * 3 + ["B"] * 3
    assert parsed.column("source_sequence") == ["0"] * 6
