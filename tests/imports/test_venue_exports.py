"""Trade exports of Bybit and Binance: what each cell means, what each bad one gives, and the order of executions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from steelyard.accounting.errors import InvalidField
from steelyard.app.venue_samples import BINANCE_HEADER, BYBIT_HEADER, binance_history, bybit_history, venue_fills
from steelyard.imports.parsing import ParseRequest
from tests.imports.files import Parsed, read

BYBIT = {
    "Market": "BTCUSDT", "Filled Type": "Trade", "Filled Quantity": "0.5", "Filled Price": "95000.5",
    "Order Price": "95000.5", "Fee Rate": "0.00055", "Trading Fee": "26.1251375", "feeCoin": "USDT",
    "ExecFeeV2": "26.1251375", "Direction": "Long", "Order Type": "Market", "Trasaction ID": " 7c1f",
    "Order No.": " 9a", "Transaction Time(UTC+0)": "10:00 2026-01-12",
}  # fmt: skip
BINANCE = {
    "Uid": "700000001", "Time": "26-01-12 10:00:09", "Symbol": "BTCUSDT", "Side": "BUY", "Price": "95000.5",
    "Quantity": "0.5", "Amount": "47500.25", "Fee": "26.1251375 USDT", "Realized Profit": "0", "Buyer": "true",
    "Maker": "false", "Trade ID": "6927444046", "Order ID": "832726459304",
}  # fmt: skip
DESK = ParseRequest(default_account="desk")


def export(pattern: dict[str, str], *rows: dict[str, str], end: str = "\n") -> str:
    """A file; each row names what differs from a regular one, the first also further columns."""
    names = [*pattern, *(name for row in rows[:1] for name in row if name not in pattern)]
    lines = [",".join({**dict.fromkeys(names, ""), **pattern, **row}[name] for name in names) for row in rows]
    return end.join([",".join(names), *lines, ""])


def parsed(pattern: dict[str, str], *rows: dict[str, str]) -> Parsed:
    return read(export(pattern, *rows), DESK)


def test_a_row_of_bybit() -> None:
    found = parsed(BYBIT, {})
    assert found.results == []
    (row,) = found.rows
    assert (row["account"], row["book"], row["instrument"], row["leg"]) == ("desk", "main", "BTCUSDT", "NET")
    assert (row["side"], row["quantity"], row["price"]) == ("BUY", "0.5", "95000.5")
    assert (row["fee"], row["fee_currency"]) == ("26.1251375", "USDT")
    assert (row["executed_at"], row["source_sequence"]) == ("2026-01-12 10:00:00+00", "0")
    assert (row["fill_id"], row["order_id"]) == ("bybit:7c1f:BUY", "9a")


def test_a_row_of_binance() -> None:
    found = parsed(BINANCE, {})
    assert found.results == []
    (row,) = found.rows
    assert (row["account"], row["book"], row["instrument"], row["leg"]) == ("desk", "main", "BTCUSDT", "NET")
    assert (row["side"], row["quantity"], row["price"]) == ("BUY", "0.5", "95000.5")
    assert (row["fee"], row["fee_currency"]) == ("26.1251375", "USDT")
    assert (row["executed_at"], row["source_sequence"]) == ("2026-01-12 10:00:09+00", "0")
    assert (row["fill_id"], row["order_id"]) == ("binance:BTCUSDT:6927444046", "832726459304")


@pytest.mark.parametrize(
    ("pattern", "column", "text", "target", "expected"),
    [
        (BYBIT, "Direction", "Short", "side", "SELL"),
        (BYBIT, "Direction", "Sell", "side", "SELL"),
        (BYBIT, "Direction", "Open Short", "leg", "SHORT"),
        (BYBIT, "Direction", "Close Short", "side", "BUY"),
        (BYBIT, "Direction", "Close Long", "side", "SELL"),
        (BYBIT, "Filled Type", "Liquidation", "side", "BUY"),
        (BYBIT, "Trading Fee", "--", "fee", "26.1251375"),
        (BYBIT, "Trading Fee", "-0.5", "fee", "-0.5"),
        (BYBIT, "feeCoin", "", "fee_currency", None),
        (BYBIT, "feeCoin", "BTC", "fee_currency", "BTC"),
        (BYBIT, "Order No.", "--", "order_id", None),
        (BYBIT, "Transaction Time(UTC+0)", "2026-01-12 10:00:01.5", "executed_at", "2026-01-12 10:00:01.5+00"),
        (BYBIT, "Transaction Time(UTC+0)", "10:00:07 2026-01-12", "executed_at", "2026-01-12 10:00:07+00"),
        (BINANCE, "Time", "2026-01-12 10:00:09", "executed_at", "2026-01-12 10:00:09+00"),
        (BINANCE, "Fee", "0.00003 BNB", "fee_currency", "BNB"),
        (BINANCE, "Fee", "0.0369USDT", "fee", "0.0369"),
        (BINANCE, "Fee", "0.4", "fee_currency", None),
        (BINANCE, "Fee", "", "fee", "0"),
        (BINANCE, "Fee", "-0.01 USDT", "fee", "-0.01"),
        (BINANCE, "Side", "sell", "side", "SELL"),
        (BINANCE, "Order ID", "", "order_id", None),
        (BINANCE, "Position Side", "SHORT", "leg", "SHORT"),
        (BINANCE, "Position Side", "BOTH", "leg", "NET"),
    ],
)
def test_cell_is_read_as_meant(
    pattern: dict[str, str], column: str, text: str, target: str, expected: str | None
) -> None:
    found = parsed(pattern, {column: text})
    assert found.results == []
    assert found.column(target) == [expected]


@pytest.mark.parametrize(
    ("pattern", "column", "text", "category"),
    [
        (BYBIT, "Filled Type", "Funding", "validation"),
        (BYBIT, "Filled Type", "Settle", "validation"),
        (BYBIT, "Filled Type", "Gift", "validation"),
        (BYBIT, "Market", "btcusdt", "validation"),
        (BYBIT, "Filled Quantity", "0", "validation"),
        (BYBIT, "Filled Quantity", "1e-3", "parsing"),
        (BYBIT, "Filled Price", "NaN", "parsing"),
        (BYBIT, "Filled Price", "-5", "validation"),
        (BYBIT, "Trading Fee", "free", "parsing"),
        (BYBIT, "feeCoin", "usdt", "validation"),
        (BYBIT, "Direction", "Up", "validation"),
        (BYBIT, "Trasaction ID", "", "validation"),
        (BYBIT, "Transaction Time(UTC+0)", "", "parsing"),
        (BYBIT, "Transaction Time(UTC+0)", "10:00 31-01-2026", "parsing"),
        (BYBIT, "Transaction Time(UTC+0)", "10:00 2026-02-30", "parsing"),
        (BYBIT, "Transaction Time(UTC+0)", "25:00 2026-01-12", "parsing"),
        (BINANCE, "Symbol", "", "validation"),
        (BINANCE, "Side", "HOLD", "validation"),
        (BINANCE, "Price", "95,000", "parsing"),
        (BINANCE, "Price", "0", "validation"),
        (BINANCE, "Quantity", "abc", "parsing"),
        (BINANCE, "Fee", "USDT", "parsing"),
        (BINANCE, "Fee", "0.1 usdt", "parsing"),
        (BINANCE, "Trade ID", "", "validation"),
        (BINANCE, "Time", "2026-01-12T10:00:09Z", "parsing"),
        (BINANCE, "Time", "26-02-30 10:00:09", "parsing"),
        (BINANCE, "Position Side", "UP", "validation"),
    ],
)
def test_bad_cell_costs_its_row_and_the_rows_around_it_go_on(
    pattern: dict[str, str], column: str, text: str, category: str
) -> None:
    quoted = f'"{text}"' if "," in text else text
    key = "Trasaction ID" if pattern is BYBIT else "Trade ID"
    extra = {column: "BOTH"} if column == "Position Side" else {}
    found = parsed(pattern, {**extra, key: "1"}, {key: "2", column: quoted}, {**extra, key: "3"})
    assert found.reasons == [(3, category, column)]
    assert found.column("row_number") == ["2", "4"]


@pytest.mark.parametrize("pattern", [BYBIT, BINANCE])
def test_byte_order_mark_and_line_ends_mean_nothing(pattern: dict[str, str]) -> None:
    plain = export(pattern, {}, {})
    dressed = b"\xef\xbb\xbf" + export(pattern, {}, {}, end="\r\n").encode()
    assert read(dressed, DESK).rows == read(plain, DESK).rows


@pytest.mark.parametrize("pattern", [BYBIT, BINANCE])
def test_a_row_that_is_cut_off_is_refused_alone(pattern: dict[str, str]) -> None:
    found = read(export(pattern, {}) + "BTCUSDT,Trade", DESK)
    assert found.reasons == [(3, "parsing", None)]
    assert len(found.rows) == 1


def test_columns_may_come_in_any_order_and_some_not_at_all() -> None:
    wanted = [name for name in BYBIT if name not in ("Order Price", "Fee Rate", "feeCoin", "ExecFeeV2", "Order Type")]
    names = list(reversed(wanted))
    spelt = [name.replace("Trasaction", "Transaction") for name in names]
    found = read(",".join(spelt) + "\n" + ",".join(BYBIT[name] for name in names) + "\n", DESK)
    assert (found.results, found.column("fee_currency"), found.column("fill_id")) == ([], [None], ["bybit:7c1f:BUY"])
    without = {name: text for name, text in BINANCE.items() if name != "Uid"}
    assert parsed(without, {}).column("account") == ["desk"]
    called = export(BINANCE, {}).replace("Uid,Time,", "Uid,Date(UTC),")
    assert read(called, DESK).column("executed_at") == ["2026-01-12 10:00:09+00"]


def test_bybits_header_names_the_offset_of_its_times() -> None:
    sydney = export(BYBIT, {}).replace("(UTC+0)", "(UTC+10)")
    assert read(sydney, DESK).column("executed_at") == ["2026-01-12 00:00:00+00"]
    nepal = export(BYBIT, {}).replace("(UTC+0)", "(UTC+5:45)")
    assert read(nepal, DESK).column("executed_at") == ["2026-01-12 04:15:00+00"]


def test_who_holds_is_given_with_the_import_else_binances_uid() -> None:
    assert read(export(BINANCE, {})).column("account") == ["700000001"]
    assert read(export(BINANCE, {"Uid": ""})).reasons == [(2, "validation", "Uid")]
    with pytest.raises(InvalidField) as refused:
        read(export(BYBIT, {}))
    assert refused.value.field == "default_account"


def test_a_self_trade_is_two_fills_of_bybit() -> None:
    found = parsed(BYBIT, {}, {"Direction": "Short"})
    assert found.column("fill_id") == ["bybit:7c1f:BUY", "bybit:7c1f:SELL"]


@pytest.mark.parametrize("header", ["Market,Filled Type", "Uid,Time,Symbol,Side", f"{BINANCE_HEADER.strip()},Mood"])
def test_another_header_is_nobodys(header: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(f"{header}\n", DESK)
    assert refused.value.field == "header"
    assert "BYBIT: Market" in refused.value.why
    assert "BINANCE: Uid" in refused.value.why


def test_the_format_that_was_asked_for_is_insisted_on() -> None:
    with pytest.raises(InvalidField):
        read(BYBIT_HEADER, ParseRequest(format="BINANCE", default_account="desk"))


def test_executions_of_one_minute_keep_their_order_in_a_file_that_runs_backwards() -> None:
    oldest, middle, newest = ({"Trasaction ID": f"t{place}"} for place in range(3))
    earlier = {"Trasaction ID": "t-early", "Transaction Time(UTC+0)": "09:00 2026-01-12"}
    first = parsed(BYBIT, middle, oldest, earlier)
    longer = parsed(BYBIT, newest, middle, oldest, earlier)
    for found in (first, longer):
        sequences = {str(row["fill_id"]): int(str(row["source_sequence"])) for row in found.rows}
        ordered = [sequences[f"bybit:t{place}:BUY"] for place in range(len(found.rows) - 1)]
        assert ordered == sorted(ordered)
        assert len(set(ordered)) == len(ordered)
    # A repeat keeps the smaller sequence, and with those the order is the same.
    kept = [
        min(
            int(str(row["source_sequence"]))
            for row in (*first.rows, *longer.rows)
            if row["fill_id"] == f"bybit:{of}:BUY"
        )
        for of in ("t0", "t1", "t2")
    ]
    assert all(before < after for before, after in pairwise(kept))


def test_samples_of_both_venues_tell_the_same_story() -> None:
    assert list(bybit_history(4, fills=50)) == list(bybit_history(4, fills=50)) != list(bybit_history(5, fills=50))
    fills = list(venue_fills(4, fills=200))
    bybit, binance = (
        read("".join(lines), DESK) for lines in (bybit_history(4, fills=200), binance_history(4, fills=200))
    )
    assert bybit.results == binance.results == []
    assert BYBIT_HEADER.split(",")[0] == "Market"
    told = [
        [(row["instrument"], row["side"], row["quantity"], row["price"], row["fee"]) for row in rows]
        for rows in (reversed(bybit.rows), binance.rows)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == len(fills) == 200
    for found in (bybit, binance):
        assert len(set(found.column("fill_id"))) == 200
