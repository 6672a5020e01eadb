"""What holds for whole files: headers, encodings, line ends, limits, parts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from steelyard.accounting.errors import InvalidField
from steelyard.app.samples import bad_day, bad_rows, generate_day
from steelyard.imports.parsing import PART_ROWS_MAX, ParseRequest, parse
from steelyard.imports.rows import RAW_MAX
from tests.imports.files import GENERIC, NINJATRADER, Spool, generic, ninjatrader, read

ROW = ninjatrader({}).split("\n")[1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(lambda text: (b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())[:-2], id="no last line end"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode()[:-1], id="half a last line end"),
        pytest.param(lambda text: text.replace("\n", "\n\n \r\n").encode(), id="blank lines"),
    ],
)
def test_byte_order_mark_line_ends_and_blank_lines_change_nothing(change: object) -> None:
    assert callable(change)
    text = "".join(generate_day(7, fills=30))
    plain, changed = read(text), read(change(text))
    assert changed.results == []
    assert changed.row_count == 30
    assert [{**row, "row_number": ""} for row in changed.rows] == [{**row, "row_number": ""} for row in plain.rows]


def test_row_numbers_are_those_of_an_editor() -> None:
    parsed = read(f"{NINJATRADER}\n\n{ROW}\n\nnonsense\n{ROW}\n")
    assert parsed.column("row_number") == ["3", "6"]
    assert parsed.results[0].row_number == 5


def test_last_line_cut_off_is_a_row_error() -> None:
    whole = ninjatrader({}, {})
    cut = whole[: whole.rindex("$0.52") + 3]
    parsed = read(cut)
    assert len(parsed.rows) == 1
    assert parsed.reasons == [(3, "parsing", None)]
    assert parsed.results[0].reason == "has 11 columns where the header has 14: it is cut off"
    assert parsed.results[0].raw == cut.split("\n")[2]


ODD_ROWS = [
    # a row between two good ones, its reason
    (ROW.encode().replace(b"240", b"\xff\xfe").replace(b"id_0", b"\xff"), "not UTF-8"),
    (ROW.encode().replace(b"Entry", b"En\x00try"), "NUL"),
    (ROW.encode().replace(b"Entry", b'"Entry'), "quote"),
    (ROW.encode().replace(b"Entry", b'"Ent"ry'), "quote"),
    (ROW.encode() + b",,", "columns"),
    (ROW.encode() + b"more", "columns"),
    (b"nothing but words", "columns"),
    (b",,,", "columns"),
]


@pytest.mark.parametrize("row, reason", ODD_ROWS)
def test_row_that_cannot_be_split_costs_itself_only(row: bytes, reason: str) -> None:
    good = ROW.encode()
    parsed = read(b"\n".join([NINJATRADER.encode(), good, row, good.replace(b"id_0", b"id_1"), b""]))
    assert parsed.column("fill_id") == ["id_0", "id_1"]
    assert parsed.reasons == [(3, "parsing", None)]
    assert reason in parsed.results[0].reason
    assert parsed.results[0].raw == row.decode("utf-8", "replace").replace("\x00", "\ufffd")


def test_raw_row_is_kept_in_part_only() -> None:
    parsed = read(f"{NINJATRADER}\n{'x' * 50_000}\n")
    assert parsed.results[0].raw == "x" * RAW_MAX + "…"


REFUSED = [
    # content, request, field, part of the reason
    (b"", ParseRequest(), "header", "empty"),
    (b"\n\n", ParseRequest(), "header", "blank"),
    (b"Instrument,Action\n", ParseRequest(), "header", "known are NINJATRADER: Instrument,Action,Quantity"),
    (NINJATRADER.replace("Price", "Prize").encode(), ParseRequest(), "header", "GENERIC_CSV: fill_id,account"),
    (f"{NINJATRADER},more\n".encode(), ParseRequest(), "header", "known format"),
    (f"{GENERIC},leg,leg\n".encode(), ParseRequest(), "header", "known format"),
    (f"{GENERIC},mood\n".encode(), ParseRequest(), "header", "known format"),
    (f"{NINJATRADER}\n".encode("utf-16"), ParseRequest(), "header", "UTF-16"),
    (b"Instrument\xff,Action\n", ParseRequest(), "header", "UTF-8"),
    (f"{NINJATRADER}\n".encode(), ParseRequest(format="GENERIC_CSV"), "header", "not the one of GENERIC_CSV"),
    (f"{GENERIC}\n".encode(), ParseRequest(format="NINJATRADER"), "header", "not the one of NINJATRADER"),
    (f"{GENERIC}\n".encode(), ParseRequest(format="EXCEL"), "format", "NINJATRADER, GENERIC_CSV"),
    (f"{NINJATRADER}\n".encode(), ParseRequest(time_zone="Mars/Olympus"), "time_zone", "not a known time zone"),
    (f"{NINJATRADER}\n".encode(), ParseRequest(time_zone="../etc"), "time_zone", "not a known time zone"),
    (f"{NINJATRADER}\n".encode(), ParseRequest(default_account="a\tb"), "default_account", "not allowed"),
    (ninjatrader({}, {}, {}).encode(), ParseRequest(max_rows=2), "file", "more than 2 rows"),
    (ninjatrader({}, {}, {}).encode(), ParseRequest(max_bytes=300), "file", "larger than 300 bytes"),
    (ninjatrader({"Name": "x" * 70_000}).encode(), ParseRequest(), "file", "row of more than 65536 bytes"),
    (ninjatrader({"Name": "ü" * 40_000}).encode(), ParseRequest(), "file", "row of more than 65536 bytes"),
    (f"{NINJATRADER}\n{'x' * 600_000}".encode(), ParseRequest(), "file", "row of more than 65536 bytes"),
    (b"x" * 70_000 + b"\n", ParseRequest(), "file", "row of more than 65536 bytes"),
]


@pytest.mark.parametrize("content, request_, field, reason", REFUSED)
def test_file_is_refused_as_a_whole(content: bytes, request_: ParseRequest, field: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(content, request_)
    assert refused.value.field == field
    assert reason in refused.value.why


@pytest.mark.parametrize("content", [f"{NINJATRADER}\n", NINJATRADER, f"{GENERIC}\r\n"])
def test_file_with_a_header_alone_is_one_empty_part(content: str) -> None:
    [part] = parse(io.BytesIO(content.encode()), ParseRequest())
    assert (part.lines, part.row_count, part.results, part.bytes_done) == (b"", 0, (), len(content))


def test_header_cells_may_have_blanks_around_them() -> None:
    assert read(ninjatrader({}, header=NINJATRADER.replace(",", " , "))).row_count == 1


def test_parts_are_bounded_and_tell_how_far_they_are() -> None:
    parts = list(parse(Spool(generate_day(3, fills=45_000)), ParseRequest()))
    assert sum(part.row_count for part in parts) == 45_000
    assert all(part.row_count <= PART_ROWS_MAX for part in parts)
    assert [part.bytes_done for part in parts] == sorted(part.bytes_done for part in parts)
    assert parts[-1].bytes_done == sum(len(line) for line in generate_day(3, fills=45_000))


def test_a_file_of_nothing_but_short_bad_rows_comes_in_bounded_parts() -> None:
    lines = iter([f"{NINJATRADER}\n", *["x\n"] * 50_000])
    parts = list(parse(Spool(lines), ParseRequest()))
    assert sum(len(part.results) for part in parts) == 50_000
    assert max(len(part.results) for part in parts) <= PART_ROWS_MAX


@pytest.mark.parametrize("at_most", [1, 7, 100])
def test_pieces_of_any_length_give_the_same_rows(at_most: int) -> None:
    lines = [line.replace("\n", "\r\n") for line in bad_day(5)]
    whole = read("".join(lines))
    pieces = list(parse(Spool(iter(lines), at_most=at_most), ParseRequest()))
    assert b"".join(part.lines for part in pieces).count(b"\n") == len(whole.rows)
    assert [result for part in pieces for result in part.results] == whole.results


MEMORY_PROGRAM = """
import sys
from steelyard.app.samples import generate_day, generic_csv
from steelyard.imports.parsing import ParseRequest, parse
from tests.imports.files import Spool

fills, source = int(sys.argv[1]), sys.argv[2]
lines = generic_csv(1, fills=fills) if source == "generic" else generate_day(1, fills=fills, with_ids=source == "ids")
assert sum(part.row_count for part in parse(Spool(lines), ParseRequest())) == fills
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["ids", "no ids", "generic"])
def test_memory_does_not_grow_with_the_file(source: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    peaks_kib = [
        int(subprocess.check_output([sys.executable, "-c", MEMORY_PROGRAM, fills, source], env=environment))
        for fills in ("200000", "300000")
    ]
    # The larger file is 9 MiB longer.
    assert peaks_kib[1] < 128 * 1024
    assert peaks_kib[1] - peaks_kib[0] < 4 * 1024


def test_bad_day_gives_what_the_table_says() -> None:
    lines = list(bad_day(11, fills=20))
    parsed = read("".join(lines))
    first = len(lines) + 1 - len(bad_rows())
    expected = [(first + place, bad.category, bad.column) for place, bad in enumerate(bad_rows())]
    assert parsed.reasons == expected
    # Twenty good ones, what only the store can judge, and the rebate.
    assert len(parsed.rows) == 20 + 3 + 1
    repeated, conflicting, unknown = parsed.rows[20:23]
    assert {**repeated, "row_number": "", "source_sequence": ""} == {
        **parsed.rows[19],
        "row_number": "",
        "source_sequence": "",
    }
    assert conflicting["fill_id"] == repeated["fill_id"]
    assert conflicting["price"] != repeated["price"]
    assert unknown["instrument"] == "XQZ SEP25"


def test_generic_row_of_another_width_is_a_row_error() -> None:
    parsed = read(generic({}) + "g9,A1,,BTCUSDT,BUY\n")
    assert parsed.reasons == [(3, "parsing", None)]
