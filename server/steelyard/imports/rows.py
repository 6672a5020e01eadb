"""What the formats share: the row that is refused, cells that hold numbers and names, and the part being filled."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from steelyard.accounting import keys
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.units import DECIMAL_PATTERN

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

PARSING = "parsing"
VALIDATION = "validation"
WARNING = "warning"

RAW_MAX = 2_000
"""Characters of a refused row that are kept; longer rows are cut and end in an ellipsis."""
SHOWN_MAX = 40
CACHE_MAX = 50_000
"""Distinct texts a cache of cells remembers before it starts anew."""
CACHED_LENGTH_MAX = 200
"""Longer texts are read anew each time, so that a cache of cells is small whatever the file holds."""
NUMBER_MAX = 64
NULL = "\\N"
"""How COPY writes an absent value."""
SEQUENCE_MAX = 2**31 - 1

_DECIMAL = re.compile(DECIMAL_PATTERN, re.ASCII)
_GROUPED = re.compile(r"-?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z0-9]{2,16}", re.ASCII)
_SEQUENCE = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


class RowError(Exception):
    """A row that cannot be recorded; the rows around it go on."""

    def __init__(self, category: str, column: str | None, *, reason: str) -> None:
        self.category = category
        self.column = column
        self.reason = reason
        super().__init__(reason)


class BlankRow(RowError):
    """A line with nothing in it: passed over, neither counted nor reported."""

    def __init__(self) -> None:
        super().__init__(PARSING, None, reason="is blank")


@dataclass(frozen=True, slots=True)
class RowResult:
    """What there is to say about one row of a file."""

    row_number: int
    """The line of the file as an editor or spreadsheet numbers it: the header is line 1."""
    category: str
    """parsing, validation (the row is not recorded) or warning (it is); the store adds duplicate and conflict."""
    field: str | None
    """The column as the header names it; None: the row as a whole."""
    reason: str
    raw: str
    """The row as it stands in the file, without its line end; undecodable bytes are shown as U+FFFD."""


@dataclass(slots=True)
class Part:
    """The part being filled: finished lines for COPY and what there is to say about the others."""

    lines: list[str] = field(default_factory=list)
    results: list[RowResult] = field(default_factory=list)
    rows: int = 0
    """Rows read, good and bad, blank lines not among them."""

    def tell(self, problem: RowError, *, batch: Batch, number: int) -> None:
        """Keeps what there is to say about a row of the batch; a blank line is no row and says nothing.

        A text that PostgreSQL could not store is made storable.
        """
        if isinstance(problem, BlankRow):
            self.rows -= 1
            return
        raw = batch.lines[number - batch.first].replace("\x00", "\ufffd")
        if len(raw) > RAW_MAX:
            raw = raw[:RAW_MAX] + "…"
        self.results.append(RowResult(number, problem.category, problem.column, problem.reason, raw))


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive lines of a file, split into cells."""

    first: int
    """The line number of the first of them."""
    lines: list[str]
    cells: list[list[str]]
    problems: dict[int, RowError]
    """By line number: why a line could not be split; its cells are empty."""
    is_plain: bool
    """Nothing but printable ASCII without quotes and backslashes."""

    def blame(self, number: int, width: int) -> None:
        """Says what is wrong with a row that has not `width` cells. Raises `RowError`, always."""
        cells = self.cells[number - self.first]
        if number in self.problems:
            raise self.problems[number]
        if len(cells) < 2 and not "".join(cells).strip():
            raise BlankRow
        hint = ": it is cut off" if len(cells) < width else ""
        raise RowError(PARSING, None, reason=f"has {len(cells)} columns where the header has {width}{hint}")


class RowReader(Protocol):
    """Reads the rows of one file of one format; keeps what must be remembered from row to row."""

    def read(self, batch: Batch, part: Part) -> None:
        """Adds every row of the batch to the part, as a line for COPY or as a result."""


def split_row(line: str) -> list[str]:
    """The cells of a line; a quoted cell may hold commas, never a line break. Raises `RowError`."""
    if "\x00" in line:
        raise RowError(PARSING, None, reason="holds a NUL byte")
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader((line,), strict=True))
    except (csv.Error, StopIteration):
        raise RowError(PARSING, None, reason="has a quote that is not closed, or text after a closed one") from None


def remember(cache: dict[K, V], read: K, *, value: V) -> V:
    """Keeps what a cell was found to mean, within the bounds of a cache; the value itself."""
    if len(str(read)) <= CACHED_LENGTH_MAX:
        if len(cache) >= CACHE_MAX:
            cache.clear()
        cache[read] = value
    return value


def shown(text: str) -> str:
    """A cell as a reason quotes it: never longer than `SHOWN_MAX`."""
    return repr(text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…")


def number_text(text: str, column: str) -> str:
    """The canonical text of a plain decimal: no trailing zeros, no minus zero. Raises `RowError`."""
    if len(text) > NUMBER_MAX or _DECIMAL.fullmatch(text) is None:
        what = f"{shown(text)} is not a plain number of at most 20 digits and 18 places" if text else "is missing"
        raise RowError(PARSING, column, reason=what)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def positive_text(text: str, column: str) -> str:
    """Like `number_text`, for what must be greater than zero."""
    number = number_text(text, column)
    if number == "0" or number[0] == "-":
        raise RowError(VALIDATION, column, reason="must be greater than zero")
    return number


def ungrouped(text: str) -> str:
    """A number without its thousands separators, where they stand in the right places; else the text as it is."""
    if "," in text and len(text) <= NUMBER_MAX and _GROUPED.fullmatch(text) is not None:
        return text.replace(",", "")
    return text


def scaled(number: str) -> int:
    """A canonical number in units of 1e-18, for exact sums without `Decimal`."""
    whole, _, places = number.partition(".")
    return int(whole + places.ljust(18, "0"))


def unscaled(units: int) -> str:
    """The text of a number in units of 1e-18."""
    whole, places = divmod(units, 10**18)
    return f"{whole}.{places:018d}".rstrip("0").rstrip(".")


def name_of(check: Callable[..., str], text: str, *, column: str) -> str:
    """A name that one of the checks in `keys` accepts. Raises `RowError`."""
    try:
        return check(text.strip(), field=column)
    except InvalidField as refused:
        raise RowError(
            VALIDATION, column, reason=f"{refused.why}: {shown(text)}" if text.strip() else refused.why
        ) from None


def id_of(text: str, column: str) -> str:
    """A fill or order id as COPY wants it (backslash doubled). Raises `RowError`."""
    return name_of(keys.fill_id, text, column=column).replace("\\", "\\\\")


def currency_of(text: str, column: str) -> str:
    """A currency as COPY wants it; blank is NULL, the instrument's settle currency. Raises `RowError`."""
    currency = text.strip()
    if not currency:
        return NULL
    if _CURRENCY.fullmatch(currency) is None:
        raise RowError(VALIDATION, column, reason=f"{shown(text)} is not a currency (2 to 16 of A-Z and 0-9)")
    return currency


def sequence_of(text: str, column: str) -> int:
    """A sequence number that the file itself gives. Raises `RowError`."""
    if _SEQUENCE.fullmatch(text.strip()) is None or int(text) > SEQUENCE_MAX:
        raise RowError(PARSING, column, reason=f"{shown(text)} is not a whole number from 0 to {SEQUENCE_MAX}")
    return int(text)
