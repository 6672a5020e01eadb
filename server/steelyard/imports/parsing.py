"""A file of executions turned into rows for COPY, part by part, in memory that does not grow with the file.

A row is a line: a quoted cell may hold commas but no line break, so that a stray quote costs one row and not the rest
of the file. The header declares the format. A bad row is a result and the good rows go on; a file is refused as a whole
where going on makes no sense: another header, too many bytes or rows, a row of immense length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from steelyard.accounting import keys
from steelyard.accounting.errors import InvalidField
from steelyard.imports import binance, bybit, generic_csv, ninjatrader
from steelyard.imports.rows import PARSING, Batch, Part, RowError, RowReader, RowResult, split_row

FORMATS = {
    ninjatrader.FORMAT: ",".join(ninjatrader.HEADER),
    generic_csv.FORMAT: ",".join(generic_csv.HEADER),
    bybit.FORMAT: ",".join(bybit.HEADER),
    binance.FORMAT: ",".join(binance.HEADER),
}
"""The known formats and the header that declares each."""
COLUMNS = (
    "row_number", "account", "book", "instrument", "leg", "side", "quantity", "price", "fee", "fee_currency",
    "executed_at", "source_sequence", "fill_id", "order_id",
)  # fmt: skip
"""What a line of a part holds, tab separated, as PostgreSQL's COPY reads it."""

PART_ROWS_MAX = 20_000
PART_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of the file that go into one part at most, give or take one piece: it bounds what results can hold."""
PIECE_BYTES = 256 * 1024
_PLAIN = bytes(code for code in range(32, 127) if code not in b'"\\') + b"\n"
_BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class ParseRequest:
    """How a file is to be read."""

    format: str = ""
    """One of `FORMATS`: any other header is refused. Blank: whichever known format the header declares."""
    time_zone: str = "America/Los_Angeles"
    """The zone of the exporting machine, for formats whose times have no offset."""
    default_account: str | None = None
    """The account of rows that name none."""
    max_bytes: int = 1024**3
    max_rows: int = 5_000_000
    max_row_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class ParsedPart:
    """Some consecutive rows of a file."""

    lines: bytes
    """Good rows for `COPY … (FORMAT text)`: `COLUMNS`, tab separated, \\N for NULL, each ended by a line feed."""
    row_count: int
    """Rows read in this part, good and bad; blank lines are not among them."""
    results: tuple[RowResult, ...]
    """What there is to say about single rows: parsing and validation (not recorded), warning (recorded)."""
    bytes_done: int
    """Bytes of the file read so far, for progress."""


def parse(stream: BinaryIO, request: ParseRequest) -> Iterator[ParsedPart]:
    """The rows of a file, in parts of at most `PART_ROWS_MAX` rows; at least one part.

    Raises `InvalidField` for a file that is refused; the parts that came before are then to be thrown away.
    """
    pieces = _pieces(stream, request)
    head, done = next(pieces, (b"", 0))
    header, _, head = head.partition(b"\n")
    reader = _reader(header, request)
    part, line, rows, told = Part(), 2, 0, 0
    for piece, read in chain([(head, done)] if head else (), pieces):
        done = read
        for batch in _batches(piece, first=line, row_bytes_max=request.max_row_bytes):
            if part.rows + len(batch.lines) > PART_ROWS_MAX or done - told > PART_BYTES_MAX:
                yield _finished(part, done)
                part, told = Part(), done
            rows -= part.rows
            reader.read(batch, part)
            rows += part.rows
            line += len(batch.lines)
            if rows > request.max_rows:
                raise InvalidField("file", f"has more than {request.max_rows} rows")
    if part.rows or not rows:
        yield _finished(part, done)


def _pieces(stream: BinaryIO, request: ParseRequest) -> Iterator[tuple[bytes, int]]:
    """Whole lines, parted by line feeds and without the last one, and how many bytes were read so far."""
    carry, done = b"", 0
    while chunk := stream.read(PIECE_BYTES):
        done += len(chunk)
        if done > request.max_bytes:
            raise InvalidField("file", f"is larger than {request.max_bytes} bytes")
        whole, line_feed, rest = chunk.rpartition(b"\n")
        if not line_feed:
            carry += rest
            if len(carry) > request.max_row_bytes:
                raise _too_long(request.max_row_bytes)
            continue
        yield (carry + whole + line_feed).replace(b"\r\n", b"\n")[:-1], done
        carry = rest
    if carry:
        yield carry.removesuffix(b"\r"), done


def _reader(header: bytes, request: ParseRequest) -> RowReader:
    """The reader of the format that a header declares. Raises `InvalidField` for anything else."""
    if request.format and request.format not in FORMATS:
        raise InvalidField("format", f"must be one of {', '.join(FORMATS)}")
    account = request.default_account or None
    if account is not None:
        keys.account(account, field="default_account")
    if not header.strip():
        raise InvalidField("header", "is missing: the first line of the file is blank, or the file is empty")
    if header.startswith(_UTF_16):
        raise InvalidField("header", "the file is UTF-16: export or save it as UTF-8")
    if len(header) > request.max_row_bytes:
        raise _too_long(request.max_row_bytes)
    try:
        names = [name.strip() for name in split_row(header.removeprefix(_BOM).decode("utf-8"))]
    except (UnicodeDecodeError, RowError):
        raise InvalidField("header", f"cannot be read as UTF-8 text; {_known_headers()}") from None
    found = declared_by(names)
    if not found or request.format not in ("", found):
        raise InvalidField("header", f"is not the one of {request.format or 'a known format'}; {_known_headers()}")
    if found == ninjatrader.FORMAT:
        width = ninjatrader.width_of(names)
        assert width is not None
        return ninjatrader.NinjaTraderRows(width=width, time_zone=request.time_zone, default_account=account)
    return _READERS[found](header=names, default_account=account)


def declared_by(names: list[str]) -> str:
    """The format that a header declares; blank where it is none of ours."""
    if ninjatrader.width_of(names) is not None:
        return ninjatrader.FORMAT
    return next((name for name, is_its in _HEADERS.items() if is_its(names)), "")


_HEADERS: dict[str, Callable[[list[str]], bool]] = {
    generic_csv.FORMAT: generic_csv.is_generic,
    bybit.FORMAT: bybit.is_bybit,
    binance.FORMAT: binance.is_binance,
}
_READERS: dict[str, Callable[..., RowReader]] = {
    generic_csv.FORMAT: generic_csv.GenericRows,
    bybit.FORMAT: bybit.BybitRows,
    binance.FORMAT: binance.BinanceRows,
}


def _known_headers() -> str:
    return "known are " + " and ".join(f"{name}: {header}" for name, header in FORMATS.items())


def _too_long(row_bytes_max: int) -> InvalidField:
    return InvalidField("file", f"holds a row of more than {row_bytes_max} bytes")


def _batches(piece: bytes, *, first: int, row_bytes_max: int) -> Iterator[Batch]:
    """The lines of a piece, at most `PART_ROWS_MAX` at a time, split into cells."""
    if not piece.translate(None, _PLAIN):
        texts = piece.decode("ascii").split("\n")
        if max(map(len, texts)) > row_bytes_max:
            raise _too_long(row_bytes_max)
        for start in range(0, len(texts), PART_ROWS_MAX):
            lines = texts[start : start + PART_ROWS_MAX]
            cells = [line.split(",") for line in lines]
            yield Batch(first=first + start, lines=lines, cells=cells, problems={}, is_plain=True)
        return
    raws = piece.split(b"\n")
    if max(map(len, raws)) > row_bytes_max:
        raise _too_long(row_bytes_max)
    for start in range(0, len(raws), PART_ROWS_MAX):
        yield _odd_batch(raws[start : start + PART_ROWS_MAX], first=first + start)


def _odd_batch(raws: list[bytes], *, first: int) -> Batch:
    """Lines among which some hold quotes, control characters or more than ASCII; each is looked at by itself."""
    lines: list[str] = []
    cells: list[list[str]] = []
    problems: dict[int, RowError] = {}
    for number, raw in enumerate(raws, first):
        lines.append(raw.decode("utf-8", "replace"))
        try:
            raw.decode("utf-8")
            cells.append(split_row(lines[-1]))
        except UnicodeDecodeError:
            problems[number] = RowError(PARSING, None, reason="holds bytes that are not UTF-8")
            cells.append([])
        except RowError as problem:
            problems[number] = problem
            cells.append([])
    return Batch(first=first, lines=lines, cells=cells, problems=problems, is_plain=False)


def _finished(part: Part, done: int) -> ParsedPart:
    lines = "\n".join(part.lines)
    return ParsedPart(
        lines=f"{lines}\n".encode() if lines else b"",
        row_count=part.rows,
        results=tuple(part.results),
        bytes_done=done,
    )
