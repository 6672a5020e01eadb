"""Small files for the tests of the formats, and their rows read back."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from steelyard.imports.parsing import COLUMNS, ParsedPart, ParseRequest, parse
from steelyard.imports.rows import RowResult

NINJATRADER = "Instrument,Action,Quantity,Price,Time,ID,E/X,Position,Order ID,Name,Commission,Rate,Account,Connection,"
GENERIC = "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at"
_CELLS = {
    "Instrument": "MNQ SEP25", "Action": "Buy", "Quantity": "1", "Price": "21850.25", "Time": "6/20/2025 9:06:48 AM",
    "ID": "240110000001_1", "E/X": "Entry", "Position": "", "Order ID": "", "Name": "", "Commission": "$0.52",
    "Rate": "1", "Account": "SIM-1", "Connection": "",
}  # fmt: skip
_GENERIC_CELLS = {
    "fill_id": "g1", "account": "A1", "book": "", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.5",
    "price": "50000", "fee": "25", "fee_currency": "USDT", "executed_at": "2025-06-20T09:06:48.5Z",
}  # fmt: skip


@dataclass(frozen=True)
class Parsed:
    """All parts of a file put together."""

    rows: list[dict[str, str | None]]
    results: list[RowResult]
    row_count: int

    def column(self, name: str) -> list[str | None]:
        """One column of the good rows."""
        return [row[name] for row in self.rows]

    @property
    def reasons(self) -> list[tuple[int, str, str | None]]:
        """Row number, category and field of every result."""
        return [(result.row_number, result.category, result.field) for result in self.results]


class Spool(io.BytesIO):
    """A file that is made while it is read, in pieces of any length, as an upload would be."""

    def __init__(self, lines: Iterator[str], *, at_most: int = 1 << 20) -> None:
        super().__init__()
        self._lines = lines
        self._at_most = at_most
        self._rest = b""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        size = min(size, self._at_most)
        made, length = [self._rest], len(self._rest)
        while length < size and (line := next(self._lines, None)) is not None:
            made.append(line.encode())
            length += len(made[-1])
        whole = b"".join(made)
        self._rest = whole[size:]
        return whole[:size]


def read(content: str | bytes, request: ParseRequest | None = None) -> Parsed:
    """A file as it is parsed."""
    raw = content.encode() if isinstance(content, str) else content
    return together(parse(io.BytesIO(raw), request or ParseRequest()))


def together(parts: Iterable[ParsedPart]) -> Parsed:
    """Parts of a file as rows by column, as COPY would read them."""
    rows: list[dict[str, str | None]] = []
    results: list[RowResult] = []
    count = 0
    for part in parts:
        assert part.lines == b"" or part.lines.endswith(b"\n")
        for line in part.lines.decode().split("\n")[:-1]:
            cells = [None if cell == "\\N" else cell.replace("\\\\", "\\") for cell in line.split("\t")]
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
        results.extend(part.results)
        count += part.row_count
    return Parsed(rows, results, count)


def ninjatrader(*rows: dict[str, str], header: str = NINJATRADER, end: str = "\n") -> str:
    """A NinjaTrader file; each row names only what differs from a regular one."""
    lines = [",".join(map(_quoted, {**_CELLS, "ID": f"id_{n}", **row}.values())) + "," for n, row in enumerate(rows)]
    return end.join([header, *lines, ""])


def generic(*rows: dict[str, str]) -> str:
    """A generic file; each row names what differs from a regular one; further columns come with the first row."""
    names = [*_GENERIC_CELLS, *(name for name in rows[0] if name not in _GENERIC_CELLS)]
    lines = [{**dict.fromkeys(names, ""), **_GENERIC_CELLS, "fill_id": f"g{n}", **row} for n, row in enumerate(rows)]
    return "\n".join([",".join(names), *(",".join(_quoted(line[name]) for name in names) for line in lines), ""])


def _quoted(cell: str) -> str:
    return f'"{cell}"' if "," in cell else cell
