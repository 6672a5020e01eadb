"""A book of 500 keys as files: a CSV to import, and the very same fills as rows for a bare COPY."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.bench.histories import START, STEP, Execution, Market, flat_now_and_then

ACCOUNTS, INSTRUMENTS = 20, 25
KEYS = ACCOUNTS * INSTRUMENTS
HEADER = "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at\n"
COPIED = ("account", "fill_id", "book", "instrument", "leg", "delta", "price", "fee", "executed_at", "source_sequence",
          "import_id", "commit_id")  # fmt: skip
"""The columns that an import fills."""
_IMPORT_ID = uuid.UUID(int=1)
_COMMIT_ID = 1


@dataclass(frozen=True, slots=True)
class BookFiles:
    """The same fills twice, in the order of their times."""

    csv: Path
    copy: Path
    fills: int
    end: datetime
    """Later than all of them."""

    def remove(self) -> None:
        """Deletes both."""
        self.csv.unlink()
        self.copy.unlink()


def account_of(key: int) -> str:
    """The account of a key by its number."""
    return f"desk-{key % ACCOUNTS:02d}"


def instrument_of(key: int) -> str:
    """The instrument of a key by its number."""
    return f"COIN{key // ACCOUNTS:02d}USD"


def instruments() -> list[str]:
    """All instruments of the book."""
    return [instrument_of(number * ACCOUNTS) for number in range(INSTRUMENTS)]


def make_files(folder: Path, count: int) -> BookFiles:
    """Writes both files; every key gets the same number of fills, one fill in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    files = BookFiles(folder / "book.csv", folder / "book.copy", count, START + STEP * (count + 1))
    with files.csv.open("w", encoding="ascii") as csv, files.copy.open("w", encoding="ascii") as copy:
        csv.write(HEADER)
        for number, (key, fill) in enumerate(_in_turn(count)):
            account, instrument, name = account_of(key), instrument_of(key), f"{303_363_000_000 + number}"
            side = "BUY" if fill.delta > 0 else "SELL"
            at = (START + STEP * number).isoformat()
            csv.write(f"{name},{account},main,{instrument},{side},{abs(fill.delta)},{fill.price},{fill.fee},USD,{at}\n")
            copy.write(
                f"{account}\t{name}\tmain\t{instrument}\tNET\t{fill.delta}\t{fill.price}\t{fill.fee}\t{at}\t0\t"
                f"{_IMPORT_ID}\t{_COMMIT_ID}\n"
            )
    return files


def _in_turn(count: int) -> Iterator[tuple[int, Execution]]:
    each = -(-count // KEYS)
    histories = [flat_now_and_then(each, Market(seed=1_000 + key)) for key in range(KEYS)]
    for number in range(count):
        key = number % KEYS
        yield key, next(histories[key])
