"""What is told of commits on the book: a line for every version, and counts of what was late, lost and tried again."""

import asyncio
import io
import json
from typing import Any

import pytest

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.keys import Account
from steelyard.operations.apply_fills import WriteOptions, apply_fills
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.observing import Origin, origin, origin_of, tries
from steelyard.operations.ports import AccountRules
from steelyard.operations.record_fills import DEFAULT_LIMITS, RecordFills
from steelyard.storage.database import Database
from steelyard.storage.ledger import PostgresLedger
from steelyard.telemetry.logs import json_log
from steelyard.telemetry.metrics import Meters
from steelyard.telemetry.positions import PositionLog
from steelyard.telemetry.store import StoreTelemetry
from tests.recording.desk import NOW, Desk, key_of, make_fill

PATTERN = AccountRules(Account("pattern"))


class ToldDesk(Desk):
    """A desk whose store tells what it does."""

    def __init__(self, url: str, limits: RefoldLimits = DEFAULT_LIMITS, *, slow_query_s: float = 60.0) -> None:
        self.lines, self.log, self.meters = io.StringIO(), io.StringIO(), Meters()
        telemetry = StoreTelemetry(
            self.meters,
            log=json_log(stream=self.log),
            positions=PositionLog(self.lines),
            slow_query_s=slow_query_s,
        )
        self.database = Database(url, telemetry=telemetry)
        self.ledger = PostgresLedger(self.database, lambda: NOW)
        self.recording = RecordFills(self.ledger, lambda: NOW, new_accounts=PATTERN, limits=limits)

    async def __aenter__(self) -> "ToldDesk":
        self.recording.start()
        return self

    async def __aexit__(self, *ended: Any) -> None:
        await self.recording.close()
        await self.database.close()

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]

    def count(self, name: str, **labels: str) -> float:
        return self.meters.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(autouse=True)
async def _instrument(database_url: str) -> None:
    desk = Desk(database_url)
    async with desk.database.write() as connection:
        await connection.execute(
            "INSERT INTO instruments (instrument, kind, multiplier, quote_currency, settle_currency) "
            "VALUES ('MNQ SEP25', 'LINEAR', 2, 'USD', 'USD') ON CONFLICT DO NOTHING"
        )
    await desk.database.close()


async def test_every_version_is_a_line_with_its_cause_and_the_trace_of_its_caller(database_url: str) -> None:
    async with ToldDesk(database_url) as desk:

        async def call(number: int, side: str, trace_id: str) -> None:
            origin.set(Origin(trace_id))
            await desk.recording.record(make_fill(number, side, "2", "21000"))

        await asyncio.create_task(call(1, "BUY", "trace-a"))
        await asyncio.create_task(call(2, "SELL", "trace-b"))
        first, second = desk.told
        assert first == {
            "event": "position",
            "account": "desk",
            "book": "main",
            "instrument": "MNQ SEP25",
            "leg": "NET",
            "version": 1,
            "cause": "fill",
            "cause_id": "f1",
            "fills": 1,
            "before": "0",
            "after": "2",
            "is_late": False,
            "trace_id": "trace-a",
            "level": "info",
            "at": "2025-06-20T20:00:00.000000Z",
        }
        assert (second["version"], second["before"], second["after"]) == (2, "2", "0")
        assert second["trace_id"] == "trace-b"
        assert desk.count("steelyard_positions_changed_total", cause="fill") == 2
        assert desk.count("steelyard_fills_applied_total", cause="fill") == 2
        assert desk.count("steelyard_head_lock_seconds_count") == 2
        assert desk.count("steelyard_sql_seconds_count", verb="COMMIT") >= 2


async def test_callers_who_share_a_round_keep_their_own_traces(database_url: str) -> None:
    async with ToldDesk(database_url) as desk:

        async def call(number: int) -> None:
            origin.set(Origin(f"trace-{number}"))
            fill = make_fill(number, "BUY", "1", "21000")
            key = fill.key._replace(account=Account(f"desk-{number}"))
            await desk.recording.record(fill._replace(key=key))

        await asyncio.gather(*(asyncio.create_task(call(number)) for number in range(20)))
        assert {line["account"]: line["trace_id"] for line in desk.told} == {
            f"desk-{number}": f"trace-{number}" for number in range(20)
        }


async def test_a_late_fill_is_told_with_what_was_folded_again_and_a_deferred_one_as_such(database_url: str) -> None:
    async with ToldDesk(database_url, RefoldLimits(in_batch=5, waiting=8)) as desk:
        for number in range(10, 20):
            await desk.recording.record(make_fill(number, "BUY", "1", "21000"))
        await desk.recording.record(make_fill(1, "BUY", "1", "21000", at_s=18))
        await desk.recording.record(make_fill(2, "BUY", "1", "21000", at_s=1))
        late, deferred = desk.told[-2:]
        assert (late["is_late"], late["refolded"] > 0, "is_deferred" in late) == (True, True, False)
        assert (deferred["is_late"], deferred["is_deferred"], deferred["after"]) == (True, True, "12")
        assert desk.count("steelyard_late_fills_total", refold="done") == 1
        assert desk.count("steelyard_late_fills_total", refold="deferred") == 1
        assert desk.count("steelyard_refold_entries_count", cause="fill") == 1


async def test_a_conflict_is_counted_and_the_line_says_how_it_was_resolved(database_url: str) -> None:
    async with ToldDesk(database_url) as desk:
        lost = 2

        async def write() -> None:
            nonlocal lost
            async with desk.ledger.transaction(cause="fill") as book:
                if lost:
                    lost -= 1
                    raise VersionMismatch
                await apply_fills(
                    book,
                    [make_fill(1, "BUY", "1", "21000")],
                    options=WriteOptions(),
                    new_accounts=PATTERN,
                    limits=DEFAULT_LIMITS,
                    now=NOW,
                )

        await with_retries(write, jitter=lambda: 0.0)
        (line,) = desk.told
        assert (line["conflict"], line["resolved"], line["tries"]) == ("VERSION_MISMATCH", "RETRIED", 2)
        assert desk.count("steelyard_conflicts_total", cause="fill", resolution="retried") == 2
        assert desk.count("steelyard_retries_total", tries="2") == 1
        with pytest.raises(VersionMismatch):
            await desk.recording.record(make_fill(2, "BUY", "1", "21000"), options=WriteOptions(expected_version=7))
        assert desk.count("steelyard_conflicts_total", cause="fill", resolution="refused") == 1
        assert len(desk.told) == 1


async def test_what_is_rolled_back_is_not_told(database_url: str) -> None:
    async with ToldDesk(database_url) as desk:
        options = WriteOptions(is_validate_only=True)
        await desk.recording.record(make_fill(1, "BUY", "1", "21000"), options=options)
        assert desk.told == []
        assert desk.count("steelyard_positions_changed_total", cause="fill") == 0


async def test_a_slow_statement_is_logged_with_its_trace_and_without_its_arguments(database_url: str) -> None:
    async with ToldDesk(database_url, slow_query_s=0.05) as desk:
        origin.set(Origin("trace-slow"))
        async with desk.database.read() as connection:
            await connection.fetchval("SELECT $1::text || pg_sleep(0.06)::text", "a-secret-argument")
        await asyncio.sleep(0)
        (line,) = [json.loads(line) for line in desk.log.getvalue().splitlines()]
        assert (line["event"], line["trace_id"]) == ("slow_query", "trace-slow")
        assert line["duration_ms"] >= 50
        assert line["statement"].startswith("SELECT $1::text")
        assert "a-secret-argument" not in desk.log.getvalue()
        assert desk.count("steelyard_sql_slow_total") == 1


def test_the_log_of_positions_can_be_switched_off() -> None:
    assert not PositionLog.to_standard_error(is_on=False).is_on
    PositionLog(None).write([], at=NOW)


def test_an_origin_goes_through_rows_and_jobs_as_text() -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    assert Origin.of_text(Origin("a" * 32, parent).text) == Origin("a" * 32, parent)
    assert Origin.of_text(Origin("of-a-caller").text) == Origin("of-a-caller")
    assert Origin.of_text(Origin("a/caller's", parent).text) == Origin("a/caller's", parent)
    assert Origin.of_text(None) == Origin.of_text("") == Origin()
    assert origin_of(key_of().account, "f1") == Origin()
    assert tries.get() == 0
