"""Keeps the records of instruments: what gives their numbers meaning changes only together with a refold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from steelyard.accounting.errors import InstrumentInUse, InvalidField, NotFound, VersionMismatch
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import InstrumentName, root_of
from steelyard.accounting.units import decimal_text
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import Commit
from steelyard.operations.reading import Cursor, Page

METHOD = "UpsertInstrument"
SCOPE = "instruments"
"""Instruments belong to no account, so their request ids share one scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentRecord:
    """An instrument with its record's own life."""

    instrument: Instrument
    has_fills: bool = False
    """Of a root: fills of any of its contracts."""
    version: int
    """0: it has no record of its own and takes its root's."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class InstrumentReceipt:
    """The record as it is now."""

    record: InstrumentRecord
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


class InstrumentWrites(KeepsAnswers, Protocol):
    """One transaction on the records of instruments."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the steps of the accounts whose positions are refolded."""
        ...

    async def locked(self, name: InstrumentName) -> InstrumentRecord | None:
        """The record, locked until the commit."""
        ...

    async def write(self, instrument: Instrument) -> InstrumentRecord:
        """Makes the record, or replaces it under the next version."""
        ...

    async def rebuild(self, instrument: Instrument, *, before: Instrument) -> None:
        """Marks all keys of the instrument to be folded again from the very start. The contracts of a root that had its
        record before take the new one over, and their keys are marked too."""
        ...


class InstrumentStore(Protocol):
    """Keeps and reads the records of instruments."""

    def transaction(self) -> AbstractAsyncContextManager[InstrumentWrites]:
        """A transaction, committed when the block ends well."""
        ...

    async def find(self, name: InstrumentName) -> InstrumentRecord | None:
        """The record, or what a contract takes from its root."""
        ...

    async def page(
        self, *, prefix: str, settle_currency: str | None, size: int, after: Cursor | None
    ) -> Page[InstrumentRecord]:
        """Records by name."""
        ...


class KeepInstruments:
    """Makes, changes and tells the records of instruments."""

    def __init__(self, store: InstrumentStore, *, jitter: Callable[[], float]) -> None:
        self._store = store
        self._jitter = jitter

    async def upsert(
        self,
        instrument: Instrument,
        *,
        request: RequestIdentity,
        expected_version: int | None = None,
        is_rebuilding: bool = False,
    ) -> InstrumentReceipt:
        """Makes the record or changes it; the same again changes nothing.

        Raises `InvalidField`, `VersionMismatch`, `RequestIdReused`, and `InstrumentInUse` where fills exist and what
        their numbers mean would change without a rebuild.
        """
        check_instrument(instrument)
        return await with_retries(
            lambda: self._upsert(instrument, request, expected_version=expected_version, is_rebuilding=is_rebuilding),
            jitter=self._jitter,
        )

    async def _upsert(
        self, instrument: Instrument, request: RequestIdentity, *, expected_version: int | None, is_rebuilding: bool
    ) -> InstrumentReceipt:
        async with self._store.transaction() as book:
            answered = await answer_once(
                book,
                request,
                form=KeptForm(SCOPE, METHOD, encode=_answer_bytes, decode=_record_of),
                write=lambda: self._write(
                    book, instrument, expected_version=expected_version, is_rebuilding=is_rebuilding
                ),
            )
        return InstrumentReceipt(answered.value, is_replayed=answered.is_replayed, commits=book.commits)

    async def _write(
        self, book: InstrumentWrites, instrument: Instrument, *, expected_version: int | None, is_rebuilding: bool
    ) -> InstrumentRecord:
        known = await book.locked(instrument.name)
        _check_version(known, expected_version)
        if known is None:
            return await book.write(instrument)
        if known.instrument == instrument:
            return known
        is_other = _meaning(known.instrument) != _meaning(instrument)
        if known.has_fills and is_other and not is_rebuilding:
            raise InstrumentInUse(
                f"{instrument.name} has fills: what its numbers mean changes only with a rebuild",
                instrument=instrument.name,
            )
        record = await book.write(instrument)
        if is_other:
            await book.rebuild(instrument, before=known.instrument)
        return replace(record, has_fills=known.has_fills)

    async def get(self, name: InstrumentName) -> InstrumentRecord:
        """The record of an instrument, or what a contract takes from its root. Raises `NotFound`."""
        record = await self._store.find(name)
        if record is None:
            raise NotFound("instrument", name)
        return record

    async def page(
        self, *, prefix: str = "", settle_currency: str | None = None, size: int, after: Cursor | None = None
    ) -> Page[InstrumentRecord]:
        """A page of the records there are, by name."""
        return await self._store.page(prefix=prefix, settle_currency=settle_currency, size=size, after=after)


def check_instrument(instrument: Instrument) -> None:
    """Refuses a record that cannot mean anything. Raises `InvalidField`."""
    if instrument.multiplier <= 0:
        raise InvalidField("instrument.multiplier", "must be greater than zero")
    if instrument.price_rule is PriceRule.ANY and instrument.kind is not InstrumentKind.LINEAR:
        raise InvalidField("instrument.price_rule", "any price is legal for linear instruments only")
    if instrument.is_root and root_of(instrument.name) != instrument.name:
        raise InvalidField("instrument.root", "a root's name has no blank")


def _meaning(instrument: Instrument) -> tuple[object, ...]:
    return (
        instrument.kind,
        instrument.multiplier,
        instrument.quote_currency,
        instrument.settle_currency,
        instrument.is_root,
    )


def _check_version(known: InstrumentRecord | None, expected: int | None) -> None:
    version = 0 if known is None else known.version
    if expected is not None and expected != version:
        raise VersionMismatch(f"the record is at version {version}", current_version=str(version))


def _answer_bytes(record: InstrumentRecord) -> bytes:
    instrument = record.instrument
    return json.dumps(
        {
            "instrument": instrument.name,
            "kind": instrument.kind.value,
            "multiplier": decimal_text(instrument.multiplier),
            "quote_currency": instrument.quote_currency,
            "settle_currency": instrument.settle_currency,
            "price_rule": instrument.price_rule.value,
            "is_root": instrument.is_root,
            "has_fills": record.has_fills,
            "version": record.version,
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
        }
    ).encode()


def _record_of(answer: bytes) -> InstrumentRecord:
    kept = json.loads(answer)
    return InstrumentRecord(
        instrument=Instrument(
            InstrumentName(kept["instrument"]),
            InstrumentKind(kept["kind"]),
            Decimal(kept["multiplier"]),
            kept["quote_currency"],
            kept["settle_currency"],
            PriceRule(kept["price_rule"]),
            kept["is_root"],
        ),
        has_fills=kept["has_fills"],
        version=kept["version"],
        created_at=datetime.fromisoformat(kept["created_at"]),
        updated_at=datetime.fromisoformat(kept["updated_at"]),
    )
