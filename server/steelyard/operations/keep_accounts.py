"""Keeps the records of accounts: which figures are plain, how lots are relieved, by which days performance counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from steelyard.accounting.errors import NotFound, PeriodSealed, VersionMismatch
from steelyard.accounting.keys import Account
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.trading_calendar import DayRule, time_zone
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.day_rules import check_rule, texts_of_rule
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import AccountRules, Commit
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot

METHOD = "UpsertAccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """An account's rules with its record's own life."""

    rules: AccountRules
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """What an account is asked to be; None keeps what it has, and what is new has the defaults."""

    account: Account
    cost_method: CostMethod | None = None
    lot_method: LotMethod | None = None
    size_authority: str | None = None
    time_zone: str | None = None
    day_rule: DayRule | None = None
    sealed_before: datetime | None = None
    """Entries executed before it are neither added nor changed."""
    is_unsealing: bool = False
    """Lets the seal move back, or go where `sealed_before` is None."""


@dataclass(frozen=True, slots=True)
class AccountReceipt:
    """The account as it is now."""

    record: AccountRecord
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


class AccountWrites(KeepsAnswers, Protocol):
    """One transaction on the record of an account."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the step of the account's log; none where nothing changed."""
        ...

    async def locked(self, account: Account) -> AccountRecord | None:
        """The record, locked until the commit."""
        ...

    async def write(self, rules: AccountRules) -> AccountRecord:
        """Makes the record, or replaces it under the next version; steps the account's log."""
        ...

    async def refold_account(self, account: Account) -> None:
        """Marks all keys of an account to be folded again from the very start."""
        ...


class AccountStore(Protocol):
    """Keeps and reads the records of accounts."""

    def transaction(self) -> AbstractAsyncContextManager[AccountWrites]:
        """A transaction, committed when the block ends well."""
        ...

    async def find(self, account: Account, *, heads: Collection[Account]) -> Snapshot[AccountRecord | None]:
        """One record."""
        ...

    async def page(
        self, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[AccountRecord]]:
        """Records by name."""
        ...


class KeepAccounts:
    """Makes, changes and tells the records of accounts."""

    def __init__(self, store: AccountStore, reading: Reading, *, jitter: Callable[[], float]) -> None:
        self._store = store
        self._reading = reading
        self._jitter = jitter

    async def upsert(
        self, change: AccountChange, *, request: RequestIdentity, expected_version: int | None = None
    ) -> AccountReceipt:
        """Makes the account or changes it; the same again changes nothing.

        Another lot method has every position of the account folded again. Raises `InvalidField`, `VersionMismatch`,
        `RequestIdReused`, `PeriodSealed` where the seal would move back and nobody said so.
        """
        if change.time_zone is not None:
            time_zone(change.time_zone, field="account.time_zone")
        if change.day_rule is not None:
            check_rule(change.day_rule, field="account.day_rule")
        return await with_retries(
            lambda: self._upsert(change, request, expected_version=expected_version), jitter=self._jitter
        )

    async def _upsert(
        self, change: AccountChange, request: RequestIdentity, *, expected_version: int | None
    ) -> AccountReceipt:
        form = KeptForm(str(change.account), METHOD, encode=_answer_bytes, decode=_record_of)
        async with self._store.transaction() as book:
            answered = await answer_once(
                book, request, form=form, write=lambda: _write(book, change, expected_version=expected_version)
            )
        return AccountReceipt(answered.value, is_replayed=answered.is_replayed, commits=book.commits)

    async def get(self, account: Account, *, freshness: Freshness = AS_IT_IS) -> Answer[AccountRecord]:
        """One account. Raises `NotFound`."""
        answer = await self._reading.answer(
            lambda heads: self._store.find(account, heads=heads), accounts=(account,), freshness=freshness
        )
        if answer.value is None:
            raise NotFound("account", account)
        return Answer(answer.value, answer.seen)

    async def page(
        self, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[AccountRecord]]:
        """A page of accounts by name."""
        return await self._reading.answer(
            lambda heads: self._store.page(size=size, after=after, heads=heads), accounts=(), freshness=freshness
        )


async def _write(book: AccountWrites, change: AccountChange, *, expected_version: int | None) -> AccountRecord:
    known = await book.locked(change.account)
    _check_version(known, expected_version)
    before = AccountRules(change.account) if known is None else known.rules
    after = _changed(before, change)
    if known is not None and after == before:
        return known
    record = await book.write(after)
    if known is not None and after.lot_method is not before.lot_method:
        await book.refold_account(change.account)
    return record


def _changed(rules: AccountRules, change: AccountChange) -> AccountRules:
    return replace(
        rules,
        cost_method=change.cost_method or rules.cost_method,
        lot_method=change.lot_method or rules.lot_method,
        size_authority=change.size_authority or rules.size_authority,
        time_zone=change.time_zone or rules.time_zone,
        day_rule=rules.day_rule if change.day_rule is None else texts_of_rule(change.day_rule),
        sealed_before=_sealed_before(rules, change),
    )


def _sealed_before(rules: AccountRules, change: AccountChange) -> datetime | None:
    """The seal moves forward freely, back only where that is said."""
    if change.is_unsealing:
        return change.sealed_before
    if change.sealed_before is None:
        return rules.sealed_before
    if rules.sealed_before is not None and change.sealed_before < rules.sealed_before:
        raise PeriodSealed(f"account {rules.account} is sealed before {rules.sealed_before.isoformat()}")
    return change.sealed_before


def _check_version(known: AccountRecord | None, expected: int | None) -> None:
    version = 0 if known is None else known.rules.version
    if expected is not None and expected != version:
        raise VersionMismatch(f"the account is at version {version}", current_version=str(version))


def _answer_bytes(record: AccountRecord) -> bytes:
    rules = record.rules
    return json.dumps(
        {
            "account": rules.account,
            "cost_method": rules.cost_method.value,
            "lot_method": rules.lot_method.value,
            "size_authority": rules.size_authority,
            "time_zone": rules.time_zone,
            "day_rule": dict(rules.day_rule),
            "sealed_before": None if rules.sealed_before is None else rules.sealed_before.isoformat(),
            "version": rules.version,
            "created_at": record.created_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
        }
    ).encode()


def _record_of(answer: bytes) -> AccountRecord:
    kept: Mapping[str, Any] = json.loads(answer)
    sealed_before = kept["sealed_before"]
    rules = AccountRules(
        account=Account(kept["account"]),
        cost_method=CostMethod(kept["cost_method"]),
        lot_method=LotMethod(kept["lot_method"]),
        size_authority=kept["size_authority"],
        time_zone=kept["time_zone"],
        day_rule=kept["day_rule"],
        sealed_before=None if sealed_before is None else datetime.fromisoformat(sealed_before),
        version=kept["version"],
    )
    return AccountRecord(
        rules=rules,
        created_at=datetime.fromisoformat(kept["created_at"]),
        updated_at=datetime.fromisoformat(kept["updated_at"]),
    )
