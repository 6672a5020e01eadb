"""What the exports of crypto venues have in common: one row an execution, an id of the venue's, no local times."""

from __future__ import annotations

from abc import ABC, abstractmethod

from steelyard.accounting import keys
from steelyard.accounting.errors import InvalidField
from steelyard.imports.rows import (
    NULL,
    VALIDATION,
    Batch,
    Part,
    RowError,
    id_of,
    name_of,
    positive_text,
    remember,
)


class VenueRows(ABC):
    """Reads the rows of one file; a format says what a row holds."""

    def __init__(self, *, header: list[str]) -> None:
        self._width = len(header)
        self._numbers: dict[tuple[str, str], str] = {}
        self._prefixes: dict[tuple[str, str, str], str] = {}

    def read(self, batch: Batch, part: Part) -> None:
        """Adds every row of the batch to the part, as a line for COPY or as a result."""
        part.rows += len(batch.cells)
        self._look_at(batch)
        for number, cells in enumerate(batch.cells, batch.first):
            try:
                if len(cells) != self._width:
                    batch.blame(number, self._width)
                part.lines.append(f"{number}\t{self._line(cells)}")
            except RowError as problem:
                part.tell(problem, batch=batch, number=number)

    def _look_at(self, batch: Batch) -> None:  # noqa: B027 - most formats need not look
        """Told of each batch before its rows are read."""

    @abstractmethod
    def _line(self, cells: list[str]) -> str:
        """What COPY wants of a row, but for its number. Raises `RowError`."""

    def _prefix(self, account: str, instrument: str, *, leg: str, column: str) -> str:
        """Account, book, instrument and leg."""
        asked = (account, instrument, leg)
        known = self._prefixes.get(asked)
        if known is not None:
            return known
        name = name_of(keys.instrument_name, instrument, column=column)
        return remember(self._prefixes, asked, value=f"{account}\t{keys.DEFAULT_BOOK}\t{name}\t{leg}\t")

    def _positive(self, text: str, column: str) -> str:
        known = self._numbers.get((text, column))
        if known is not None:
            return known
        return remember(self._numbers, (text, column), value=positive_text(text.strip(), column))


def columns_of(header: list[str], *, required: tuple[str, ...], optional: tuple[str, ...]) -> bool:
    """Whether a header has all the required columns, and besides them none but optional ones, each once."""
    names = set(header)
    return len(names) == len(header) and set(required) <= names <= {*required, *optional}


def venue_id(venue: str, *parts: str, column: str) -> str:
    """An id that no other venue gives. Raises `RowError`."""
    if not all(part.strip() for part in parts):
        raise RowError(VALIDATION, column, reason="is missing: without it a repeat cannot be told from another fill")
    return id_of(":".join((venue, *(part.strip() for part in parts))), column)


def order_of(text: str, column: str) -> str:
    """An order's id as COPY wants it; blank is NULL. Raises `RowError`."""
    return id_of(text, column) if text.strip() else NULL


def file_account(default_account: str | None) -> str:
    """The account of a file that names none. Raises `InvalidField` where none was given with the import."""
    if not default_account:
        raise InvalidField("default_account", "is required: this format's files name no account")
    return default_account
