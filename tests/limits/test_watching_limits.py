"""Breaches are on record once, from the commit that shows them until the one that shows the limit holding again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import Account
from steelyard.accounting.limits import LimitKind
from steelyard.operations.keep_limits import BreachFilter
from steelyard.operations.risk import Breach
from steelyard.operations.watch_limits import WatchLimits, breach_changes
from tests.limits.desk import DESK, LimitDesk
from tests.questions.books import NOW, fill, key

OTHER = Account("other")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits until a condition holds, at most some ten seconds."""
    for _ in range(1_000):
        if await holds():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def head(desk: LimitDesk) -> int:
    async with desk.store.snapshot() as snapshot:
        return (await snapshot.facts(DESK)).seq


async def test_a_breach_begins_with_the_commit_that_shows_it_and_ends_with_the_one_that_shows_it_gone(
    desk: LimitDesk,
) -> None:
    await desk.mark(BTCUSDT="100", ETHUSDT="10")
    await desk.limit(gross_exposure_max="250", instrument_exposure_max="1000")
    await desk.record(fill("a", "2", "100"))
    await desk.watch.look()
    assert await desk.breaches() == []
    commits = await desk.record(fill("b", "1", "100", minute=1))
    await desk.watch.look()
    (breach,) = await desk.breaches(accounts=[DESK])
    assert (breach.kind, breach.currency, breach.instrument) == (LimitKind.GROSS_EXPOSURE, "USDT", None)
    assert (breach.limit, breach.opened_value, breach.opened_seq) == (Decimal(250), Decimal(300), commits[0].seq)
    assert (breach.opened_at, breach.closed_at) == (NOW, None)
    await desk.record(fill("c", "1", "100", minute=2))
    await desk.watch.look()
    assert await desk.breaches() == [breach], "further beyond is the same breach"
    desk.now = NOW + timedelta(seconds=5)
    closing = await desk.record(fill("d", "-2", "100", minute=3))
    await desk.watch.look()
    (closed,) = await desk.breaches()
    assert (closed.breach_id, closed.closed_value, closed.closed_seq) == (
        breach.breach_id,
        Decimal(200),
        closing[0].seq,
    )
    assert closed.closed_at == desk.now
    assert await desk.breaches(is_open_only=True) == []


async def test_prices_and_the_end_of_the_day_move_limits_as_well(desk: LimitDesk) -> None:
    await desk.mark(BTCUSDT="100")
    await desk.limit(instrument_exposure_max="150", day_loss_max="5")
    day = NOW - timedelta(hours=1)
    await desk.record(fill("a", "2", "100", at=day), fill("b", "-1", "90", at=day + timedelta(seconds=1)))
    await desk.watch.evaluate(DESK)
    await desk.mark(BTCUSDT="151")
    await desk.watch.evaluate(DESK)
    found = {breach.kind: breach for breach in await desk.breaches(is_open_only=True)}
    assert set(found) == {LimitKind.INSTRUMENT_EXPOSURE, LimitKind.LOSS_PER_DAY}
    assert found[LimitKind.INSTRUMENT_EXPOSURE].instrument == "BTCUSDT"
    assert found[LimitKind.LOSS_PER_DAY].opened_value == Decimal(10)
    desk.now = NOW + timedelta(days=1)
    await desk.watch.evaluate(DESK)
    (left,) = await desk.breaches(is_open_only=True)
    assert left.kind is LimitKind.INSTRUMENT_EXPOSURE
    assert (await desk.breaches(kind=LimitKind.LOSS_PER_DAY))[0].closed_value == Decimal(0)


async def test_an_unknown_value_neither_begins_a_breach_nor_ends_one(desk: LimitDesk) -> None:
    await desk.mark(BTCUSDT="100")
    await desk.limit(net_exposure_max="150")
    await desk.record(fill("a", "2", "100"))
    await desk.watch.evaluate(DESK)
    await desk.record(fill("x", "-100", "1", of=key("XRPUSDT")))
    await desk.watch.evaluate(DESK)
    assert len(await desk.breaches(is_open_only=True)) == 1
    await desk.mark(XRPUSDT="1")
    await desk.watch.evaluate(DESK)
    assert await desk.breaches(is_open_only=True) == []


async def test_a_limit_that_is_taken_away_ends_its_breach(desk: LimitDesk) -> None:
    await desk.mark(BTCUSDT="100")
    await desk.limit(gross_exposure_max="1")
    await desk.record(fill("a", "2", "100"))
    await desk.watch.look()
    await desk.limit()
    await desk.watch.look()
    (breach,) = await desk.breaches()
    assert (breach.closed_value, breach.closed_seq is not None) == (None, True)


async def test_several_watchers_write_each_breach_once_and_tell_of_it_once(desk: LimitDesk) -> None:
    await desk.mark(BTCUSDT="100", ETHUSDT="100")
    await desk.limit(gross_exposure_max="1", net_exposure_max="1", instrument_exposure_max="1")
    await desk.record(fill("a", "2", "100"), fill("b", "2", "100", of=key("ETHUSDT")))
    before = await head(desk)
    watchers = [WatchLimits(desk.store, terms=desk.terms) for _ in range(4)]
    await asyncio.gather(*(watcher.evaluate(DESK) for watcher in watchers))
    found = await desk.breaches()
    assert len(found) == len({breach.subject for breach in found}) == 4
    async with desk.store.snapshot() as snapshot:
        told = await snapshot.book.connection.fetch("SELECT * FROM outbox ORDER BY ordinal")  # type: ignore[attr-defined] # the real one
    assert {row["topic"] for row in told} == {"limit_breached"}
    assert len(told) == 4
    assert before < await head(desk) <= before + 4
    await desk.record(fill("c", "-2", "100", minute=1), fill("d", "-2", "100", of=key("ETHUSDT"), minute=1))
    await asyncio.gather(*(watcher.evaluate(DESK) for watcher in watchers))
    assert await desk.breaches(is_open_only=True) == []


async def test_the_running_watch_follows_what_is_committed_and_survives_a_store_that_is_away(
    desk: LimitDesk, database_url: str
) -> None:
    await desk.mark(BTCUSDT="100")
    desk.watch.start()
    await desk.limit(gross_exposure_max="150")
    await desk.limit(account=OTHER, net_exposure_max="10")
    await desk.record(fill("a", "2", "100"), fill("b", "-1", "100", of=key(account="other")))

    async def both() -> bool:
        return {breach.account for breach in await desk.breaches(is_open_only=True)} == {DESK, OTHER}

    await until(both)
    admin = await asyncpg.connect(database_url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await admin.close()

    async def recorded() -> bool:
        try:
            await desk.record(fill("c", "-1", "100", minute=1))
        except (SteelyardError, AssertionError):
            return False
        return True

    await until(recorded)

    async def only_other() -> bool:
        try:
            return {breach.account for breach in await desk.breaches(is_open_only=True)} == {OTHER}
        except SteelyardError:
            return False

    await until(only_other)
    assert desk.watch.task is not None
    assert not desk.watch.task.done()
    await desk.watch.close()
    assert desk.watch.failed == {}


async def test_breaches_are_listed_the_newest_first_in_pages_and_by_what_is_asked(desk: LimitDesk) -> None:
    await desk.mark(BTCUSDT="100")
    await desk.limit(gross_exposure_max="150")
    for number in range(5):
        desk.now = NOW + timedelta(seconds=number)
        await desk.record(fill(f"in{number}", "2", "100", minute=2 * number))
        await desk.watch.evaluate(DESK)
        await desk.record(fill(f"out{number}", "-2", "100", minute=2 * number + 1))
        await desk.watch.evaluate(DESK)
    wanted, after = BreachFilter(accounts=[DESK]), None
    seen: list[Breach] = []
    while True:
        page = (await desk.limits.breaches(wanted, size=2, after=after)).value
        seen += page.rows
        after = page.next_after
        if after is None:
            break
    assert [breach.opened_at for breach in seen] == [NOW + timedelta(seconds=number) for number in (4, 3, 2, 1, 0)]
    begun = NOW + timedelta(seconds=1)
    some = await desk.breaches(opened_from=begun, opened_before=begun + timedelta(seconds=2))
    assert some == seen[2:4]
    assert await desk.breaches(accounts=[OTHER]) == []
    assert await desk.breaches(currency="USD") == []
    assert await desk.breaches(instrument="BTCUSDT") == []


async def test_what_changes_is_the_difference_between_what_is_exceeded_and_what_is_open(desk: LimitDesk) -> None:
    await desk.mark(BTCUSDT="100")
    await desk.limit(gross_exposure_max="150", net_exposure_max="300")
    await desk.record(fill("a", "2", "100"))
    risk = (await desk.risk.of(DESK)).value
    name = uuid4()
    first = breach_changes(risk, [], now=NOW, new_id=lambda: name)
    assert [breach.breach_id for breach in first.opened] == [name]
    assert not breach_changes(risk, first.opened, now=NOW)
