"""Trade exports of Bybit and Binance through the whole service: recorded once, told row by row where they are bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from steelyard.app.venue_samples import binance_history, bybit_history, venue_fills
from steelyard.client import (
    ImportFormat,
    ImportOutcome,
    InstrumentKind,
    InvalidField,
    Leg,
    Steelyard,
)

FILLS = 40
SEED = 3


@pytest.fixture
async def venue(desk: Steelyard) -> Steelyard:
    """A desk that knows no instrument yet: those of a venue's export register themselves."""
    return desk


async def taken(venue: Steelyard, folder: Path, lines: Iterator[str] | bytes, **more: object) -> ImportOutcome:
    """Imports a file into the account `desk`."""
    file = folder / "export.csv"
    file.write_bytes(lines if isinstance(lines, bytes) else "".join(lines).encode())
    return await venue.import_trades(file, default_account="desk", auto_build_positions=False, **more)  # type: ignore[arg-type] # as import_trades takes them


def counts(outcome: ImportOutcome) -> tuple[int, int, int, int, int]:
    told = outcome.trade_import
    return told.rows, told.recorded, told.repeated, told.conflicting, told.rejected


@pytest.mark.parametrize(
    ("history", "format_of_file"),
    [(bybit_history, ImportFormat.BYBIT), (binance_history, ImportFormat.BINANCE)],
    ids=["bybit", "binance"],
)
async def test_an_export_is_recorded_once_however_it_comes_again(
    venue: Steelyard, tmp_path: Path, history: Callable[..., Iterator[str]], format_of_file: ImportFormat
) -> None:
    first = await taken(venue, tmp_path, history(SEED, fills=FILLS))
    assert counts(first) == (FILLS, FILLS, 0, 0, 0)
    assert first.trade_import.format is format_of_file
    lines = list(history(SEED, fills=FILLS))
    dressed = b"\xef\xbb\xbf" + "".join(lines).replace("\n", "\r\n").encode()
    assert counts(await taken(venue, tmp_path, dressed)) == (FILLS, 0, FILLS, 0, 0)
    longer = history(SEED, fills=FILLS + 5)
    assert counts(await taken(venue, tmp_path, longer)) == (FILLS + 5, 5, FILLS, 0, 0)
    stored = [fill async for fill in venue.list_fills("desk")]
    told = {(fill.instrument, fill.quantity, fill.price, fill.fee, fill.side) for fill in stored}
    assert told == {
        (each.symbol, Decimal(each.quantity), Decimal(each.price), Decimal(each.fee), "BUY" if each.is_buy else "SELL")
        for each in venue_fills(SEED, fills=FILLS + 5)
    }
    assert {fill.fill_id.split(":")[0] for fill in stored} == {format_of_file.lower()}


async def test_bad_rows_of_an_export_are_results_and_the_good_ones_go_on(venue: Steelyard, tmp_path: Path) -> None:
    header, good, other, third = list(binance_history(SEED, fills=3))
    symbol = other.split(",")[2]
    rows = [
        good,
        other.replace(",BUY,", ",HOLD,").replace(",SELL,", ",HOLD,"),
        third.replace(third.split(",")[4], "0"),
        good.replace(good.split(",")[4], "1.5"),
        other.replace(symbol, "XQZUSD"),
        good,
    ]
    outcome = await taken(venue, tmp_path, "".join((header, *rows)).encode())
    assert counts(outcome) == (6, 1, 0, 1, 4)
    reasons = [(row.row_number, row.category, row.field) for row in outcome.rows]
    assert reasons[:2] == [(3, "VALIDATION", "Side"), (4, "VALIDATION", "Price")]
    assert [row[0] for row in reasons] == [3, 4, 5, 6, 7]


async def test_legs_of_hedge_mode_stay_apart(venue: Steelyard, tmp_path: Path) -> None:
    header, row = list(bybit_history(SEED, fills=1))
    words = [word for word in ("Long", "Short") if f",{word}," in row]
    lines = [header]
    for number, direction in enumerate(("Open Long", "Close Long", "Open Short", "Close Short")):
        lines.append(row.replace(f",{words[0]},", f",{direction},").replace(", ", f", {number}", 1))
    outcome = await taken(venue, tmp_path, "".join(lines).encode())
    assert counts(outcome) == (4, 4, 0, 0, 0), outcome.rows
    legs = sorted((fill.leg, fill.side) for fill in [fill async for fill in venue.list_fills("desk")])
    assert legs == [(Leg.LONG, "BUY"), (Leg.LONG, "SELL"), (Leg.SHORT, "BUY"), (Leg.SHORT, "SELL")]


async def test_another_format_than_asked_for_and_a_file_of_nobody_are_refused(venue: Steelyard, tmp_path: Path) -> None:
    with pytest.raises(InvalidField):
        await taken(venue, tmp_path, bybit_history(SEED, fills=1), format=ImportFormat.BINANCE)
    file = tmp_path / "nobody.csv"
    file.write_text("".join(bybit_history(SEED, fills=1)))
    with pytest.raises(InvalidField) as refused:
        await venue.import_trades(file)
    assert [violation.field for violation in refused.value.violations] == ["default_account"]


async def test_what_an_export_trades_registers_itself_where_its_form_says_that_it_is_linear(
    venue: Steelyard, tmp_path: Path
) -> None:
    lines = list(bybit_history(SEED, fills=FILLS))
    symbol = lines[1].split(",")[0]
    inverse = lines[0] + lines[1].replace(symbol, "BTCUSD")
    refused = await taken(venue, tmp_path, inverse.encode())
    assert counts(refused) == (1, 0, 0, 0, 1)
    assert "UNKNOWN_INSTRUMENT" in refused.rows[0].reason
    await taken(venue, tmp_path, "".join(lines[:2]).encode())
    record = await venue.get_instrument(symbol)
    assert (record.kind, record.multiplier, record.quote_currency) == (InstrumentKind.LINEAR, Decimal(1), "USDT")
