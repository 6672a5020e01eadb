"""The command that asks how the service is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.cli.session import FAILED, SERVER_DEFAULT, JsonOption, ServerOption, ask, tell
from steelyard.cli.tables import duration, moment
from steelyard.client import ServiceState, ServiceStatus, StatusReason, Steelyard

STYLES = {"UP": "green", "SERVING": "green", "DEGRADED": "yellow", "DOWN": "red", "NOT_SERVING": "red"}
MEANINGS = {
    StatusReason.DATABASE_AWAY: "the database does not answer",
    StatusReason.CACHE_AWAY: "Redis does not answer",
    StatusReason.BROKER_AWAY: "the broker or one of its queues is missing",
    StatusReason.NO_WORKER: "no worker beats: start one with `steelyard work`",
    StatusReason.EVENTS_LATE: "changes wait to be published",
    StatusReason.POSITIONS_STALE: "positions wait to be folded",
    StatusReason.DRAINING: "this server ends",
}
Row = tuple[str, str, str]


def status(server: ServerOption = SERVER_DEFAULT, as_json: JsonOption = False) -> None:
    """How the service is. Exit status 1 unless it serves."""

    async def question(steelyard: Steelyard) -> ServiceStatus:
        return await steelyard.get_service_status()

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: status_table(found))
    if found.state is ServiceState.NOT_SERVING:
        raise typer.Exit(FAILED)


def status_table(found: ServiceStatus) -> RenderableType:
    """The status as people read it: the whole of it in a line, then each part."""
    reasons = "; ".join(MEANINGS.get(reason, str(reason)) for reason in found.reasons)
    head = Text.assemble((str(found.state), STYLES.get(found.state, "")), f": {reasons}" if reasons else "")
    if found.version is not None:
        head.append(f"  steelyard {found.version}, up {_span(found.uptime)} since {moment(found.started_at)} UTC")
    table = Table(box=SIMPLE_HEAD)
    for column in ("Part", "State", "Details"):
        table.add_column(column)
    for part, state, details in _rows(found):
        table.add_row(part, Text(state, style=STYLES.get(state, "")), details)
    return Group(head, table)


def _rows(found: ServiceStatus) -> Iterator[Row]:
    yield _database(found)
    workers = found.workers
    yield (
        "workers",
        workers.state,
        _joined(
            None if workers.beating is None else f"{workers.beating} queues served",
            _aged("last beat", workers.last_beat_age, suffix=" ago"),
            _aged("oldest build waits", workers.oldest_waiting_build),
            _aged("oldest job waits", workers.oldest_waiting_job),
        ),
    )
    cache = found.cache
    yield "cache", cache.state, "" if cache.hit_rate is None else f"hit rate {cache.hit_rate:.1%}"
    yield "broker", found.broker.state, _joined(_aged("event lag", found.broker.event_lag))
    for part in found.broker.parts:
        waiting = None if part.waiting is None else f"{part.waiting:,} waiting"
        active = None if part.active_at is None else f"active {moment(part.active_at)}"
        yield f"  {part.name}", part.state, _joined(waiting, active)
    yield from _counts(found)
    yield "keys", "needed" if found.needs_keys else "off", "" if found.is_detailed else "counts and ages need a key"


def _database(found: ServiceStatus) -> Row:
    database = found.database
    latency = None if database.latency is None else f"answers in {database.latency / timedelta(milliseconds=1):.1f} ms"
    schema = None if database.schema_revision is None else f"schema {database.schema_revision}"
    needed = None if database.schema_needed is None else f"needs {database.schema_needed}"
    return "database", database.state, _joined(latency, schema, needed if schema is None else None)


def _counts(found: ServiceStatus) -> Iterator[Row]:
    book, validation = found.book, found.validation
    if book is not None:
        stale = f"{book.stale_keys:,} wait to be folded, the oldest for {_span(book.stale_key_age)}"
        yield "positions", "", _joined(f"about {book.positions_estimate:,}", stale if book.stale_keys else "none waits")
        newest = "none" if book.newest_mark_age is None else f"newest {_span(book.newest_mark_age)} old"
        yield "marks", "", f"{newest}, {book.stale_positions:,} open positions at a stale price"
    if validation is not None:
        runs = f"{validation.runs:,} runs in 24 h ({validation.runs_failed:,} failed)"
        checked = f"{validation.positions_checked:,} checked, {validation.positions_fixed:,} fixed"
        yield "validation", "", _joined(runs, checked, f"{validation.discrepancies_open:,} discrepancies open")
    if found.builds:
        yield "builds", "", "in 24 h: " + ", ".join(f"{each.count:,} {each.state.lower()}" for each in found.builds)


def _aged(what: str, age: timedelta | None, *, suffix: str = "") -> str | None:
    if age is None or (not age and not suffix):
        return None
    return f"{what} {_span(age)}{suffix}"


def _span(span: timedelta | None) -> str:
    return "?" if span is None else duration(span)


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part is not None)
