"""Keeps the limits of accounts, and tells them together with where they stand and when they were broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.limits import LimitKind, LimitSet, check_limit_set
from steelyard.accounting.units import decimal_text
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import Commit
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot
from steelyard.operations.risk import AccountRisk, Breach, LimitRecord, ReadRisk

METHOD = "SetLimits"


@dataclass(frozen=True, slots=True)
class LimitsReceipt:
    """The limits as they are now."""

    record: LimitRecord
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BreachFilter:
    """Which breaches are listed; what is left out does not narrow."""

    accounts: Sequence[Account] = ()
    currency: str | None = None
    kind: LimitKind | None = None
    instrument: InstrumentName | None = None
    is_open_only: bool = False
    opened_from: datetime | None = None
    opened_before: datetime | None = None


class LimitWrites(KeepsAnswers, Protocol):
    """One transaction on the limits of an account."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the step of the account's log; none where nothing changed."""
        ...

    async def locked(self, account: Account, *, currency: str) -> LimitRecord | None:
        """The record, locked until the commit."""
        ...

    async def write(self, account: Account, limits: LimitSet) -> LimitRecord:
        """Makes the record, or replaces it under the next version; steps the account's log."""
        ...


class LimitStore(Protocol):
    """Keeps limits and reads breaches."""

    def transaction(self) -> AbstractAsyncContextManager[LimitWrites]:
        """A transaction, committed when the block ends well."""
        ...

    async def breaches(
        self, wanted: BreachFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[Breach]]:
        """Breaches, the newest first."""
        ...


class KeepLimits:
    """Sets limits and tells them."""

    def __init__(self, store: LimitStore, reading: Reading, *, risk: ReadRisk, jitter: Callable[[], float]) -> None:
        self._store = store
        self._reading = reading
        self._risk = risk
        self._jitter = jitter

    async def set(
        self, account: Account, limits: LimitSet, *, request: RequestIdentity, expected_version: int | None = None
    ) -> LimitsReceipt:
        """Replaces all limits of an account in one settle currency; the same again changes nothing. A limit that is
        None is set no more. The account need not exist yet. `expected_version` 0: there must be none.

        Raises `InvalidField`, `VersionMismatch`, `RequestIdReused`.
        """
        check_limit_set(limits)
        return await with_retries(
            lambda: self._set(account, limits, request=request, expected_version=expected_version),
            jitter=self._jitter,
        )

    async def _set(
        self, account: Account, limits: LimitSet, *, request: RequestIdentity, expected_version: int | None
    ) -> LimitsReceipt:
        form = KeptForm(str(account), METHOD, encode=_answer_bytes, decode=_record_of)
        async with self._store.transaction() as book:
            answered = await answer_once(
                book,
                request,
                form=form,
                write=lambda: _write(book, account, limits=limits, expected_version=expected_version),
            )
        return LimitsReceipt(answered.value, is_replayed=answered.is_replayed, commits=book.commits)

    async def get(self, account: Account, *, freshness: Freshness = AS_IT_IS) -> Answer[AccountRisk]:
        """The limits of an account (`facts.limits`, by settle currency) and where each stands (`states`)."""
        return await self._risk.of(account, freshness=freshness)

    async def breaches(
        self, wanted: BreachFilter, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[Breach]]:
        """A page of breaches, the newest first."""
        return await self._reading.answer(
            lambda heads: self._store.breaches(wanted, size=size, after=after, heads=heads),
            accounts=wanted.accounts,
            freshness=freshness,
        )


async def _write(book: LimitWrites, account: Account, *, limits: LimitSet, expected_version: int | None) -> LimitRecord:
    known = await book.locked(account, currency=limits.currency)
    version = 0 if known is None else known.version
    if expected_version is not None and expected_version != version:
        raise VersionMismatch(f"the limits are at version {version}", current_version=str(version))
    return known if known is not None and known.limits == limits else await book.write(account, limits)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _answer_bytes(record: LimitRecord) -> bytes:
    limits = record.limits
    return json.dumps(
        {
            "account": record.account,
            "currency": limits.currency,
            "gross_exposure_max": _text(limits.gross_exposure_max),
            "net_exposure_max": _text(limits.net_exposure_max),
            "instrument_exposure_max": _text(limits.instrument_exposure_max),
            "instrument_exposures_max": {
                name: decimal_text(amount) for name, amount in limits.instrument_exposures_max.items()
            },
            "day_loss_max": _text(limits.day_loss_max),
            "counts_unrealized": limits.counts_unrealized,
            "version": record.version,
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
        }
    ).encode()


def _record_of(answer: bytes) -> LimitRecord:
    kept: Mapping[str, Any] = json.loads(answer)
    named = kept["instrument_exposures_max"].items()
    limits = LimitSet(
        currency=kept["currency"],
        gross_exposure_max=_amount(kept["gross_exposure_max"]),
        net_exposure_max=_amount(kept["net_exposure_max"]),
        instrument_exposure_max=_amount(kept["instrument_exposure_max"]),
        instrument_exposures_max={InstrumentName(name): Decimal(amount) for name, amount in named},
        day_loss_max=_amount(kept["day_loss_max"]),
        counts_unrealized=kept["counts_unrealized"],
    )
    return LimitRecord(
        account=Account(kept["account"]),
        limits=limits,
        version=kept["version"],
        created_at=datetime.fromisoformat(kept["created_at"]),
        updated_at=datetime.fromisoformat(kept["updated_at"]),
    )
