"""Rules that change while a fill is on its way: either the fill is folded by the new ones, or it is folded again."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

from steelyard.accounting.keys import Account
from steelyard.accounting.lots import LotMethod
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_accounts import AccountChange, KeepAccounts
from steelyard.operations.keep_instruments import KeepInstruments
from steelyard.operations.reading import Reading
from steelyard.storage.accounts_admin import AccountRecords
from steelyard.storage.heads import HeadReads
from steelyard.storage.instruments import find_instruments
from steelyard.storage.instruments_admin import InstrumentRecords
from tests.recording.desk import NOW, Desk, key_of, make_fill
from tests.support.lock_waits import until_waiting

FILLS = [make_fill(1, "BUY", "1", "100"), make_fill(2, "BUY", "1", "200"), make_fill(3, "SELL", "1", "300")]
LIFO_PROFIT = Decimal(200)
"""(300 - 200) x 1 x 2, where FIFO makes 400."""


def keeping(desk: Desk) -> KeepAccounts:
    return KeepAccounts(
        AccountRecords(desk.database), Reading(HeadReads(desk.database), lambda: NOW), jitter=random.random
    )


def by_lifo(desk: Desk) -> Coroutine[Any, Any, Any]:
    change = AccountChange(account=Account("desk"), lot_method=LotMethod.LIFO)
    return keeping(desk).upsert(change, request=RequestIdentity(uuid4(), b"lifo"))


@dataclass
class HeldUp:
    """Writers that wait for the account's head, in the order in which they came."""

    desk: Desk
    waiting: list[asyncio.Task[Any]]

    async def comes(self, work: Coroutine[Any, Any, Any]) -> None:
        self.waiting.append(asyncio.ensure_future(work))
        await until_waiting(self.desk.database, len(self.waiting))


@asynccontextmanager
async def head_held(desk: Desk) -> AsyncIterator[HeldUp]:
    """Nothing of the account commits within; afterwards all has."""
    await desk.recording.record(make_fill(99, "BUY", "1", "1")._replace(key=key_of(instrument="NQ SEP25")))
    held_up = HeldUp(desk, [])
    async with desk.database.write() as holding:
        await holding.execute("SELECT FROM account_heads WHERE account = 'desk' FOR UPDATE")
        yield held_up
    await asyncio.gather(*held_up.waiting)


async def lots_profit(desk: Desk) -> Decimal | None:
    """By lots; None where the key still has to be folded again."""
    stored = await desk.position(key_of())
    return stored.state.lifetime.gross_lots if stored.stale is None else None


async def test_fills_of_a_new_key_that_commit_before_a_change_of_method_are_found_by_it(desk: Desk) -> None:
    async with head_held(desk) as held_up:
        await held_up.comes(desk.recording.record_batch(FILLS))
        await held_up.comes(by_lifo(desk))
    stored = await desk.position(key_of())
    assert stored.stale is not None
    assert stored.stale.reason == "METHOD"


async def test_fills_of_a_new_key_that_commit_after_a_change_of_method_are_folded_by_it(desk: Desk) -> None:
    async with head_held(desk) as held_up:
        await held_up.comes(by_lifo(desk))
        await held_up.comes(desk.recording.record_batch(FILLS))
    assert await lots_profit(desk) == LIFO_PROFIT


async def test_a_fill_of_a_known_key_is_folded_by_the_method_that_counts_when_it_commits(desk: Desk) -> None:
    await desk.recording.record_batch(FILLS[:2])
    async with head_held(desk) as held_up:
        await held_up.comes(desk.recording.record(FILLS[2]))
        held_up.waiting.append(asyncio.ensure_future(by_lifo(desk)))
    assert await lots_profit(desk) in (LIFO_PROFIT, None)


async def test_an_instrument_that_changes_before_the_commit_is_read_again(desk: Desk) -> None:
    await desk.recording.record(FILLS[0]._replace(key=key_of(account="other")))  # which makes the contract's record
    async with head_held(desk) as held_up:
        await held_up.comes(desk.recording.record_batch(FILLS))
        async with desk.database.write() as changing:
            await changing.execute("UPDATE instruments SET multiplier = 3 WHERE instrument = 'MNQ SEP25'")
    stored = await desk.position(key_of())
    assert stored.state.lifetime.gross_average == (300 - 150) * 3


async def test_fills_of_a_new_key_that_commit_before_a_change_of_the_instrument_are_found_by_it(desk: Desk) -> None:
    await desk.recording.record(FILLS[0]._replace(key=key_of(account="other")))
    instruments = KeepInstruments(InstrumentRecords(desk.database), jitter=random.random)
    async with desk.database.write() as connection:
        (record,) = (await find_instruments(connection, [key_of().instrument])).values()
    change = instruments.upsert(
        replace(record, multiplier=Decimal(3)), request=RequestIdentity(uuid4(), b"three"), is_rebuilding=True
    )
    async with head_held(desk) as held_up:
        await held_up.comes(desk.recording.record_batch(FILLS))
        await held_up.comes(change)
    stored = await desk.position(key_of())
    assert stored.stale is not None
    assert stored.stale.reason == "METHOD"
