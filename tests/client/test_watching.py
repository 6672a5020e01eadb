"""Watches through the client, which survives restarts of the service; and what is told when the store is away."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import grpc.aio
import pytest

from steelyard.client import (
    InvalidField,
    Mark,
    Order,
    PortfolioChange,
    PortfolioChangeCause,
    Position,
    PositionKey,
    PricesNotFresh,
    Side,
    Steelyard,
    Unavailable,
)
from steelyard.embedded import EmbeddedPostgres
from tests.app.processes import command, environment
from tests.bench.store import new_database
from tests.client.desk import client_of, make_fill, now, serving_book

MNQ = "MNQ SEP25"
SOON = timedelta(milliseconds=100)


async def mark(steelyard: Steelyard, price: int) -> None:
    await steelyard.report_marks([Mark(instrument=MNQ, price=Decimal(price), at=now(), source="test")])


def exposure(change: PortfolioChange) -> Decimal:
    return change.currencies[0].gross_exposure if change.currencies else Decimal(0)


def price_of(position: Position) -> Decimal | None:
    return None if position.mark is None else position.mark.price


async def until(changes: AsyncIterator[Any], is_it: Any) -> list[Any]:
    """What is told up to and with what is looked for."""
    seen = []
    async with asyncio.timeout(30):
        async for change in changes:
            seen.append(change)
            if is_it(change):
                return seen
    raise AssertionError("the watch ended")


async def test_a_portfolio_is_watched_over_restarts_of_the_service(database_url: str) -> None:
    """Figures only grow, none comes twice, and the last of each life of the service is told."""
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        await mark(steelyard, 100)
        port = service.server.port
    told: list[PortfolioChange] = []
    async with Steelyard.connect(f"127.0.0.1:{port}") as watcher:
        changes = watcher.watch_portfolio(["desk"], min_interval=SOON, heartbeat=timedelta(seconds=1))
        async with aclosing(changes):
            for life in range(3):
                async with serving_book(database_url, port=port) as service, client_of(service.address) as steelyard:
                    for number in range(5):
                        await steelyard.record_fill(make_fill(10 * life + number + 2))
                    last = 200 * (5 * life + 6)
                    told += await until(changes, lambda change, last=last: exposure(change) == last)
    exposures = [exposure(change) for change in told]
    assert exposures == sorted(set(exposures))
    print(f"3 lives of the service, 15 fills: {len(told)} figures told")


async def test_prices_reach_watchers_of_portfolios_and_of_positions(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        await mark(steelyard, 100)
        portfolio = steelyard.watch_portfolio(["desk"], books=["main"], instruments=[MNQ], min_interval=SOON)
        positions = steelyard.watch_positions("desk", include_marks=True)
        async with aclosing(portfolio), aclosing(positions):
            assert (await anext(portfolio)).cause is PortfolioChangeCause.BEGIN
            held = await anext(positions)
            assert price_of(held.position) == 100
            assert not held.is_mark_only
            await mark(steelyard, 110)
            priced = await anext(portfolio)
            assert priced.cause is PortfolioChangeCause.PRICES
            assert exposure(priced) == 220
            moved = (await until(positions, lambda change: change.is_mark_only))[-1]
            assert price_of(moved.position) == 110
            assert moved.position.version == held.position.version


async def test_fresh_prices_that_cannot_be_had_are_refused_and_fresh_ones_are_told(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        for ask in (steelyard.get_portfolio, steelyard.get_exposure, steelyard.get_pnl):
            with pytest.raises(PricesNotFresh):
                await ask(["desk"], require_fresh_prices=True)
        with pytest.raises(PricesNotFresh):
            await steelyard.get_position("desk", MNQ, require_fresh_prices=True)
        with pytest.raises(InvalidField):
            await steelyard.get_pnl(["desk"], require_fresh_prices=True, max_staleness=timedelta(seconds=1))
        await mark(steelyard, 100)
        assert (await steelyard.get_pnl(["desk"], require_fresh_prices=True))[0].complete
        position = await steelyard.get_position("desk", MNQ, require_fresh_prices=True)
        (batched,) = await _batch(steelyard)
        assert price_of(position) == price_of(batched) == 100


async def _batch(steelyard: Steelyard) -> list[Any]:
    answer = await steelyard.batch_get_positions([PositionKey("desk", MNQ)], require_fresh_prices=True)
    return list(answer.positions)


async def test_without_the_store_the_last_figures_are_told_to_whoever_allows_their_age() -> None:
    """No Redis: the process itself remembers them. CheckOrder refuses whatever is remembered."""
    async with await EmbeddedPostgres.start() as postgres:
        url = await new_database(postgres, "away")
        async with serving_book(url) as service, client_of(service.address) as steelyard:
            await steelyard.record_fill(make_fill(1))
            await mark(steelyard, 100)
            before = await steelyard.get_portfolio(["desk"])
            await postgres.stop()
            old = timedelta(minutes=5)
            told = await steelyard.get_portfolio(["desk"], max_staleness=old)
            assert told == before
            order = Order(account="desk", instrument=MNQ, side=Side.BUY, quantity=Decimal(1))
            # A channel of its own, which repeats nothing and does not pass over a server that says NOT_SERVING.
            async with grpc.aio.insecure_channel(service.address) as channel:
                bare = Steelyard(channel, timeout_s=10, metadata=())
                for question in (
                    bare.get_portfolio(["desk"]),
                    bare.get_portfolio(["desk"], max_staleness=timedelta(0)),
                    bare.get_pnl(["elsewhere"], max_staleness=old),
                    bare.check_order(order),
                ):
                    assert await _refusal(question) == "STORE_UNAVAILABLE"


async def _refusal(question: Awaitable[Any]) -> str:
    """The reason with which a question is refused."""
    with pytest.raises(Unavailable) as refused:
        await question
    return refused.value.reason


async def test_a_portfolio_watched_from_the_command_line_is_a_json_line_for_each_figures(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        process = await asyncio.create_subprocess_exec(
            *command("portfolio", "--watch", "--json", "--account", "desk", "--server", service.address),
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                assert json.loads(await process.stdout.readline())["cause"] == "BEGIN"
                await mark(steelyard, 100)
                line = json.loads(await process.stdout.readline())
            assert (line["cause"], line["currencies"][0]["gross_exposure"]) == ("PRICES", "200")
        finally:
            process.terminate()
            await process.wait()
