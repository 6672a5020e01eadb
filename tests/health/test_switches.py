"""Every setting that switches something, in both states: here, or in the test that the list below names."""

from __future__ import annotations

import asyncio
import typing
import urllib.request
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import SecretStr

from steelyard.app.assembly import Worker, system_clock
from steelyard.app.history_side import snapshot_jobs
from steelyard.app.live_side import LivePrices
from steelyard.app.reconcile_side import ReconcileSide, reconcile_jobs
from steelyard.app.settings import Settings
from steelyard.client import (
    Account,
    Instrument,
    InstrumentKind,
    PositionKey,
    SizeAuthority,
    SteelyardCallError,
    VenueReport,
)
from steelyard.storage.database import Database
from steelyard.telemetry.logs import silent_log
from tests.access.desk import PEPPER
from tests.client.desk import client_of, make_fill
from tests.health.test_status import NOBODY, execute, serving
from tests.reconciling.bybit_account import API_KEY, SECRET, BybitAccount, position
from tests.support.redis import RedisServer

HERE = "health/test_switches.py"
TESTS = Path(__file__).parent.parent
SWITCHES = {
    "mode": ("app/test_settings.py", "test_production_needs_a_database_and_a_key_and_shows_no_reflection"),
    "database_url": ("app/test_serve.py", "test_it_comes_back_when_a_database_of_others_does"),
    "processes": ("processes/test_serving_processes.py", "test_"),
    "shares_port": ("processes/test_restarts.py", "test_"),
    "reflection": (HERE, "test_services_are_told_where_reflection_is_on"),
    "page_token_key": ("app/test_token_key.py", "test_"),
    "key_pepper": ("access/test_every_method.py", "test_no_method_can_be_called_without_a_key"),
    "api_keys": (HERE, "test_calls_need_a_key_where_keys_are_required"),
    "tls_certificate": ("access/test_certificates.py", "test_calls_go_over_tls_and_plain_ones_do_not"),
    "tls_key": ("access/test_certificates.py", "test_calls_go_over_tls_and_plain_ones_do_not"),
    "tls_client_ca": ("access/test_certificates.py", "test_"),
    "redis_url": (HERE, "test_answers_are_kept_where_redis_is_named"),
    "cache_key": ("app/test_live_side.py", "test_"),
    "price_source": (HERE, "test_prices_are_asked_for_where_a_source_is_named"),
    "snapshot_schedule": (HERE, "test_what_is_done_by_the_clock_can_be_switched_off"),
    "reconcile_schedule": (HERE, "test_what_is_done_by_the_clock_can_be_switched_off"),
    "reconcile_fixes": (HERE, "test_runs_by_the_clock_fix_where_they_may"),
    "reconcile_fixes_venue": (HERE, "test_what_differs_from_the_venue_is_set_where_that_is_on"),
    "reconcile_sample": (HERE, "test_as_many_are_sampled_as_is_said"),
    "venue": (HERE, "test_what_differs_from_the_venue_is_set_where_that_is_on"),
    "venue_api_key": ("reconciling/test_venues.py", "test_a_wrong_key_is_refused_at_once"),
    "venue_api_secret": ("reconciling/test_venues.py", "test_a_wrong_key_is_refused_at_once"),
    "venue_validates_sizes": (HERE, "test_a_contradicted_size_is_looked_at_where_that_is_on"),
    "amqp_url": ("events/test_serving.py", "test_an_order_event_is_seen_by_a_question_and_told_to_others"),
    "events_publish": (HERE, "test_commits_are_put_into_the_outbox_where_they_are_published"),
    "events_time_zone": ("events/test_feed_rules.py", "test_"),
    "metrics_port": (HERE, "test_metrics_are_told_where_a_port_is_named"),
    "worker_metrics_port": (HERE, "test_metrics_of_a_worker_are_told_where_a_port_is_named"),
    "otlp_endpoint": (HERE, "test_nothing_is_traced_without_a_collector"),
    "position_log": (HERE, "test_each_version_is_a_line_of_the_log_where_that_is_on"),
}
"""By setting: the file, and how the name of the test of both states (or of the one not tested here) begins."""


def is_switch(name: str) -> bool:
    """Whether a setting turns something on and off: by a word, or by being there at all."""
    hint = typing.get_type_hints(Settings)[name]
    words = typing.get_args(hint)
    return hint is bool or type(None) in words or bool({"on", "off", "none", "development"} & set(words))


def test_every_switch_has_a_test_of_both_states() -> None:
    switches = {name for name in Settings.model_fields if is_switch(name)}
    assert {"position_log", "redis_url", "price_source", "shares_port", "reflection"} < switches
    assert switches <= set(SWITCHES)
    assert set(SWITCHES) <= set(Settings.model_fields)
    for file, test in SWITCHES.values():
        assert f"def {test}" in (TESTS / file).read_text(encoding="utf-8"), (file, test)


async def rows(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    found = await connection.fetch(statement)
    await connection.close()
    return [tuple(row.values()) for row in found]


@pytest.mark.parametrize("is_on", [True, False])
async def test_services_are_told_where_reflection_is_on(database_url: str, *, is_on: bool) -> None:
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    async with (
        serving(database_url, reflection=is_on) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(asked))
        if is_on:
            names = {each.name for each in (await call.read()).list_services_response.service}
            assert "steelyard.v1.AdminService" in names
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        call.cancel()


@pytest.mark.parametrize(("keys", "is_needed"), [("required", True), (None, True), ("off", False)])
async def test_calls_need_a_key_where_keys_are_required(database_url: str, keys: Any, *, is_needed: bool) -> None:
    async with (
        serving(database_url, key_pepper=SecretStr(PEPPER), api_keys=keys) as service,
        client_of(service.address) as steelyard,
    ):
        if is_needed:
            with pytest.raises(SteelyardCallError):
                await steelyard.get_portfolio()
        else:
            await steelyard.get_portfolio()
        assert (await steelyard.get_service_status()).needs_keys is is_needed


@pytest.mark.parametrize("is_on", [True, False])
async def test_answers_are_kept_where_redis_is_named(
    database_url: str, redis_server: RedisServer, *, is_on: bool
) -> None:
    named: dict[str, Any] = {"redis_url": SecretStr(redis_server.url)} if is_on else {}
    async with serving(database_url, **named) as service, client_of(service.address) as steelyard:
        served = set()
        for _ in range(3):
            await steelyard.get_portfolio()
        found = await steelyard.get_service_status()
        served.add(found.cache.hit_rate)
    assert (served == {None}) is not is_on
    assert (found.cache.state == "UP") is is_on


@pytest.mark.parametrize("source", ["none", "bybit"])
async def test_prices_are_asked_for_where_a_source_is_named(database_url: str, source: Any) -> None:
    database = Database(database_url)
    prices = LivePrices(Settings(price_source=source), database, clock=system_clock)
    assert prices.is_on is (source == "bybit")
    await prices.close()
    await database.close()


async def test_what_is_done_by_the_clock_can_be_switched_off(database_url: str) -> None:
    database = Database(database_url)

    def jobs(settings: Settings) -> set[str]:
        side = ReconcileSide(settings, database, clock=system_clock, jitter=lambda: 0.5)
        snapshots = snapshot_jobs(settings, database, clock=system_clock)
        return {job.name for job in (*snapshots, *reconcile_jobs(settings, side))}

    by_default = jobs(Settings())
    assert {"take_snapshots", "reconcile"} < by_default
    assert jobs(Settings(snapshot_schedule="off")) == by_default - {"take_snapshots"}
    assert jobs(Settings(reconcile_schedule="off")) == by_default - {"reconcile"}
    await database.close()


async def ran(url: str, name: str, **settings: Any) -> dict[str, Any]:
    """What a job of the clock says, done once."""
    database, chosen = Database(url), Settings(**settings)
    side = ReconcileSide(chosen, database, clock=system_clock, jitter=lambda: 0.5)
    (job,) = [job for job in reconcile_jobs(chosen, side) if job.name == name]
    try:
        return await job.run(system_clock())
    finally:
        await side.close()
        await database.close()


@pytest.mark.parametrize("switch", ["on", "off"])
async def test_runs_by_the_clock_fix_where_they_may(database_url: str, switch: str) -> None:
    await record(database_url)
    await execute(database_url, "UPDATE positions SET quantity = 9")
    told = await ran(database_url, "reconcile", reconcile_fixes=switch)
    assert (told["found"], told["fixed"]) == (1, int(switch == "on"))
    quantity = (await rows(database_url, "SELECT quantity FROM positions"))[0][0]
    assert quantity == (1 if switch == "on" else 9)


@pytest.mark.parametrize(("size", "sampled"), [(5, 1), (0, 0)])
async def test_as_many_are_sampled_as_is_said(database_url: str, size: int, sampled: int) -> None:
    await record(database_url)
    assert (await ran(database_url, "reconcile_waiting", reconcile_sample=size))["sampled"] == sampled


@pytest.mark.parametrize("switch", ["on", "off", "no venue"])
async def test_what_differs_from_the_venue_is_set_where_that_is_on(database_url: str, switch: str) -> None:
    await record(database_url, account="main", instrument="BTCUSDT", authority=SizeAuthority.LATEST)
    bybit = BybitAccount(system_clock() + timedelta(seconds=1))
    bybit.rows = [position("BTCUSDT", "3", average="25000")]
    await bybit.start()
    asked: dict[str, Any] = {
        "venue": "bybit",
        "venue_url": bybit.url,
        "venue_api_key": SecretStr(API_KEY),
        "venue_api_secret": SecretStr(SECRET),
        "reconcile_fixes_venue": switch,
    }
    told = await ran(database_url, "reconcile", **({} if switch == "no venue" else asked))
    await bybit.stop()
    assert bool(bybit.queries) is (switch != "no venue")
    assert (told["found"] > 0) is (switch != "no venue")
    quantity = (await rows(database_url, "SELECT quantity FROM positions"))[0][0]
    assert quantity == (3 if switch == "on" else 1)


@pytest.mark.parametrize("switch", ["on", "off"])
async def test_a_contradicted_size_is_looked_at_where_that_is_on(database_url: str, switch: str) -> None:
    key = PositionKey(account="desk", book="main", instrument="MNQ SEP25")
    async with serving(database_url, venue_validates_sizes=switch) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        await steelyard.report_venue_position(
            VenueReport(key=key, quantity=Decimal(5), reported_at=datetime.now(UTC), source="venue")
        )
    causes = await rows(database_url, "SELECT cause FROM reconciliation_runs")
    assert causes == ([("REPORT",)] if switch == "on" else [])


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [
        ({}, False),
        ({"events_publish": True}, True),
        ({"amqp_url": SecretStr(NOBODY)}, True),
        ({"amqp_url": SecretStr(NOBODY), "events_publish": False}, False),
    ],
)
async def test_commits_are_put_into_the_outbox_where_they_are_published(
    database_url: str, settings: dict[str, Any], *, is_told: bool
) -> None:
    await record(database_url, **settings)
    assert bool(await rows(database_url, "SELECT seq FROM outbox")) is is_told


@pytest.mark.parametrize("port", [0, None])
async def test_metrics_are_told_where_a_port_is_named(database_url: str, port: int | None) -> None:
    async with serving(database_url, metrics_port=port) as service:
        endpoint = service.telemetry.endpoint
        assert (endpoint is None) is (port is None)
        if endpoint is not None:
            assert "steelyard_" in await asyncio.to_thread(scraped, endpoint.port)


@pytest.mark.parametrize("port", [0, None])
async def test_metrics_of_a_worker_are_told_where_a_port_is_named(database_url: str, port: int | None) -> None:
    worker = Worker(Settings(worker_metrics_port=port), url=database_url, log=silent_log())
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await asyncio.sleep(0.1)
    endpoint = worker.telemetry.endpoint
    assert (endpoint is None) is (port is None)
    if endpoint is not None:
        assert "steelyard_" in await asyncio.to_thread(scraped, endpoint.port)
    stop.set()
    await running
    await worker.close()


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


async def test_nothing_is_traced_without_a_collector(database_url: str) -> None:
    """What is traced with one: tests/telemetry/test_watched_service.py."""
    async with serving(database_url) as service:
        assert not service.telemetry.tracer.is_on
    async with serving(database_url, otlp_endpoint="http://127.0.0.1:1", trace_ratio=1.0) as service:
        assert service.telemetry.tracer.is_on


@pytest.mark.parametrize(
    ("switch", "level", "is_written"), [("on", "info", True), ("off", "info", False), ("on", "warning", False)]
)
async def test_each_version_is_a_line_of_the_log_where_that_is_on(
    database_url: str, capsys: pytest.CaptureFixture[str], switch: str, level: str, *, is_written: bool
) -> None:
    await record(database_url, position_log=switch, log_level=level)
    assert ('"event": "position"' in capsys.readouterr().err) is is_written


async def record(
    url: str,
    *,
    account: str = "desk",
    instrument: str = "MNQ SEP25",
    authority: SizeAuthority | None = None,
    **settings: Any,
) -> None:
    """A service records one fill and ends."""
    async with serving(url, **settings) as service, client_of(service.address) as steelyard:
        if authority is not None:
            await steelyard.upsert_account(Account(account=account, size_authority=authority))
        if instrument.endswith("USDT"):
            await steelyard.upsert_instrument(
                Instrument(
                    instrument=instrument, kind=InstrumentKind.LINEAR, multiplier=Decimal(1), quote_currency="USDT"
                )
            )
        await steelyard.record_fill(make_fill(1, account=account, instrument=instrument))
