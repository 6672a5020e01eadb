"""Records fills and adjustments: exactly once each, however often and in whatever order they arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from steelyard.accounting.entries import Adjustment, Fill, check_adjustment
from steelyard.accounting.errors import (
    FillConflict,
    InvalidField,
    PeriodSealed,
    QueueFull,
    SteelyardError,
    VersionMismatch,
)
from steelyard.accounting.keys import Account, FillId, OrderKey, PositionKey
from steelyard.operations.answering_once import KeptForm, RequestIdentity, answer_once
from steelyard.operations.apply_fills import Applied, FillReceipt, WriteOptions, apply_fills
from steelyard.operations.fill_writer import FillWriter, Turn, with_retries
from steelyard.operations.late_entries import RefoldLimits, refold_stale, rules_of
from steelyard.operations.ports import AccountRules, Clock, Commit, FillOutcome, Ledger, OpenTransaction, StaleRange
from steelyard.operations.refold import Cause, refold_key

T = TypeVar("T")

BATCH_MAX = 5_000
ATOMIC_BATCH_MAX = 1_000
STREAM_WAIT_S = 0.02
DEFAULT_OPTIONS = WriteOptions()
DEFAULT_LIMITS = RefoldLimits()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Per fill, in the order given, a receipt or an error; and the commits of the accounts touched."""

    items: Sequence[FillReceipt | SteelyardError]
    commits: Sequence[Commit]


@dataclass(frozen=True, slots=True)
class AdjustmentReceipt:
    """What an adjustment came to."""

    adjustment_id: FillId
    key: PositionKey
    version: int | None
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


def _steady() -> float:
    return 0.5


class _Undo(Exception):
    """Carries out what the transaction would have come to."""

    def __init__(self, applied: Applied) -> None:
        self.applied = applied


class _UndoAdjustment(Exception):
    def __init__(self, receipt: AdjustmentReceipt) -> None:
        self.receipt = receipt


class RecordFills:
    """The write side of the fill service. Plain fills go through the group-committing writer; those with conditions
    (an expected version, a refusal of overruns, validation only, all or nothing) have a transaction of their own."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        new_accounts: AccountRules | None,
        jitter: Callable[[], float] = _steady,
        limits: RefoldLimits = DEFAULT_LIMITS,
    ) -> None:
        """`new_accounts` is the pattern of accounts made on first use (None: unknown accounts are refused); `jitter`
        gives a random number from 0 to 1."""
        self._ledger = ledger
        self._clock = clock
        self._jitter = jitter
        self._limits = limits
        self._new_accounts = new_accounts
        self._writer = FillWriter(self._commit_plain)

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The writer's, once it has been started; when it ends by itself, the process has to end."""
        return self._writer.task

    def start(self) -> None:
        """Begins to commit what is recorded."""
        self._writer.start()

    async def close(self) -> None:
        """Commits what still waits, then ends."""
        await self._writer.close()

    async def record(self, fill: Fill, *, options: WriteOptions = DEFAULT_OPTIONS, caller: str = "") -> FillReceipt:
        """Records one fill. Raises the domain error that refuses it."""
        if options == DEFAULT_OPTIONS:
            (result,) = await self._writer.submit([fill], caller=caller)
        else:
            (result,) = (await self._alone([fill], options)).results
        if isinstance(result, SteelyardError):
            raise result
        return result

    async def record_batch(
        self,
        fills: Sequence[Fill],
        *,
        options: WriteOptions = DEFAULT_OPTIONS,
        is_atomic: bool = False,
        caller: str = "",
    ) -> BatchResult:
        """Records fills, each succeeding or failing alone; atomic: all, or none and the first refusal is raised."""
        longest = ATOMIC_BATCH_MAX if is_atomic else BATCH_MAX
        if len(fills) > longest:
            raise InvalidField("fills", f"must not be more than {longest}")
        if not fills:
            return BatchResult((), ())
        if is_atomic or options.is_validate_only:
            results = (await self._alone(fills, options, is_atomic=is_atomic)).results
        elif options == DEFAULT_OPTIONS:
            results = await self._writer.submit(fills, caller=caller)
        elif options.is_reject_overrun or options.expected_version is not None:
            results = [await self._one(fill, options) for fill in fills]
        else:
            results = (await self._alone(fills, options)).results
        return BatchResult(results, _newest_commits(results))

    async def record_stream(self, fills: Sequence[Fill], *, caller: str) -> BatchResult:
        """Records a batch of a stream; when too much waits, it waits too instead of being refused."""
        while True:
            try:
                return await self.record_batch(fills, caller=caller)
            except QueueFull:
                await asyncio.sleep(STREAM_WAIT_S)

    async def _one(self, fill: Fill, options: WriteOptions) -> FillReceipt | SteelyardError:
        try:
            return (await self._alone([fill], options)).results[0]
        except SteelyardError as error:
            return error

    async def _commit_plain(self, fills: Sequence[Fill], turn: Turn) -> Applied:
        return await self._retried(lambda: self._commit(fills, DEFAULT_OPTIONS, is_atomic=False, turn=turn))

    async def _alone(self, fills: Sequence[Fill], options: WriteOptions, *, is_atomic: bool = False) -> Applied:
        # Shielded: a caller who goes away abandons the wait, never the transaction.
        write = self._retried(lambda: self._commit(fills, options, is_atomic=is_atomic))
        return await asyncio.shield(asyncio.ensure_future(write))

    async def _retried(self, write: Callable[[], Awaitable[T]]) -> T:
        return await with_retries(write, jitter=self._jitter)

    async def _commit(
        self, fills: Sequence[Fill], options: WriteOptions, *, is_atomic: bool, turn: Turn | None = None
    ) -> Applied:
        turn = turn or Turn()
        try:
            async with self._ledger.transaction(cause="fill") as book:
                applied = await apply_fills(
                    book,
                    fills,
                    options=options,
                    new_accounts=self._new_accounts,
                    limits=self._limits,
                    now=self._clock(),
                    turn=turn,
                )
                if is_atomic:
                    _raise_first_refusal(applied)
                if options.is_validate_only:
                    raise _Undo(applied)
        except _Undo as undone:
            return undone.applied
        finally:
            turn.end()
        for key in applied.owed:
            await self._retried(partial(refold_stale, self._ledger, key))
        for commit in book.commits:
            applied.commits.setdefault(commit.account, []).append(commit)
        return applied

    async def adjust(
        self,
        adjustment: Adjustment,
        *,
        request: RequestIdentity,
        expected_version: int | None = None,
        is_validate_only: bool = False,
    ) -> AdjustmentReceipt:
        """Records an adjustment, funding or opening balance. The request id makes a repeat harmless."""
        write = self._retried(
            lambda: self._adjust(
                adjustment, request, expected_version=expected_version, is_validate_only=is_validate_only
            )
        )
        return await asyncio.shield(asyncio.ensure_future(write))

    async def _adjust(
        self,
        adjustment: Adjustment,
        request: RequestIdentity,
        *,
        expected_version: int | None,
        is_validate_only: bool,
    ) -> AdjustmentReceipt:
        key = adjustment.key
        form = KeptForm(
            str(key.account),
            "RecordAdjustment",
            encode=_answer_bytes,
            decode=lambda kept: _adjustment_answer(kept, key),
        )
        try:
            async with self._ledger.transaction(cause="adjustment") as book:
                answered = await answer_once(
                    book,
                    request,
                    form=form,
                    write=lambda: self._apply_adjustment(book, adjustment, expected_version=expected_version),
                )
                if is_validate_only and not answered.is_replayed:
                    raise _UndoAdjustment(answered.value)
        except _UndoAdjustment as undone:
            return undone.receipt
        return replace(answered.value, commits=book.commits)

    async def _apply_adjustment(
        self, book: OpenTransaction, adjustment: Adjustment, *, expected_version: int | None
    ) -> AdjustmentReceipt:
        key = adjustment.key
        accounts = await book.accounts([key.account], make=self._new_accounts)
        sealed = accounts[key.account].sealed_before if key.account in accounts else None
        if sealed is not None and adjustment.effective_at < sealed:
            raise PeriodSealed(f"account {key.account} is sealed before {sealed.isoformat()}")
        rules = await rules_of(book, key)
        check_adjustment(adjustment, rules.instrument, now=self._clock())
        outcome = await book.insert_adjustment(adjustment)
        if outcome is not FillOutcome.RECORDED:
            if outcome is FillOutcome.REPEATED:
                stored = (await book.peek_positions([key]))[key]
                return AdjustmentReceipt(adjustment.adjustment_id, key, stored.version or None, is_replayed=True)
            raise FillConflict(f"adjustment {adjustment.adjustment_id} is known with other content")
        stored = (await book.lock_positions([key]))[key]
        if expected_version is not None and stored.version != expected_version:
            raise VersionMismatch(f"the position is at version {stored.version}", current_version=str(stored.version))
        changed = _widened((adjustment.order, adjustment.order), stored.stale)
        rules = await rules_of(book, key)
        cause = Cause("adjustment", adjustment.adjustment_id)
        change = await refold_key(book, stored=stored, rules=rules, changed=changed, cause=cause)
        await book.apply([change])
        return AdjustmentReceipt(adjustment.adjustment_id, key, stored.version + 1)


def _widened(changed: tuple[OrderKey, OrderKey], stale: StaleRange | None) -> tuple[OrderKey, OrderKey]:
    if stale is None:
        return changed
    return min(changed[0], stale.first), max(changed[1], stale.last)


def _raise_first_refusal(applied: Applied) -> None:
    for place, result in enumerate(applied.results):
        if isinstance(result, InvalidField):
            raise InvalidField(f"fills[{place}].{result.field}", result.why)
        if isinstance(result, SteelyardError):
            raise result


def _newest_commits(results: Sequence[FillReceipt | SteelyardError]) -> Sequence[Commit]:
    # Receipts of one account and transaction share their commits: each is looked at once.
    shared = {id(result.commits): result.commits for result in results if isinstance(result, FillReceipt)}
    newest: dict[Account, Commit] = {}
    for commits in shared.values():
        for commit in commits:
            newest[commit.account] = max(commit, newest.get(commit.account, commit), key=lambda c: c.seq)
    return tuple(newest.values())


def _answer_bytes(receipt: AdjustmentReceipt) -> bytes:
    return json.dumps({"adjustment_id": receipt.adjustment_id, "version": receipt.version}).encode()


def _adjustment_answer(kept: bytes, key: PositionKey) -> AdjustmentReceipt:
    value = json.loads(kept)
    return AdjustmentReceipt(FillId(value["adjustment_id"]), key, value["version"], is_replayed=True)
