"""Commands about the past: snapshots, and what a position was at a time by what was known at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from steelyard.cli.session import SERVER_DEFAULT, JsonOption, ServerOption, ask, fail, first, tell
from steelyard.cli.tables import amount, moment, money, shown
from steelyard.client import Leg, PositionAsOf, Snapshot, SnapshotsTaken, Steelyard

AccountArgument = Annotated[str, typer.Argument(help="Whose.")]
InstrumentOption = Annotated[str, typer.Option("--instrument", "-i", help="Only this instrument.")]
BookOption = Annotated[str, typer.Option("--book", "-b", help="Only this book.")]
LegOption = Annotated[str, typer.Option("--leg", help="net, long or short.")]
LIMIT_DEFAULT = 100


def snapshot(
    account: AccountArgument,
    instrument: InstrumentOption = "",
    book: BookOption = "",
    is_open: Annotated[bool, typer.Option("--open", help="Only what holds something.")] = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Stores the positions of an account as they are shown now."""

    async def question(steelyard: Steelyard) -> SnapshotsTaken:
        return await steelyard.create_snapshot(account, instrument=instrument, book=book, open_only=is_open)

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: taken_view(found))


def snapshots(
    account: AccountArgument,
    instrument: InstrumentOption = "",
    book: BookOption = "",
    since: Annotated[str, typer.Option("--from", help="Taken at this time or later, ISO 8601, UTC unless said.")] = "",
    before: Annotated[str, typer.Option("--before", help="Taken before this time.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows at most.")] = LIMIT_DEFAULT,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Stored snapshots of an account, the newest first."""
    taken_from, taken_before = _time(since, "--from"), _time(before, "--before")

    async def question(steelyard: Steelyard) -> list[Snapshot]:
        found = steelyard.list_snapshots(
            account,
            instrument=instrument,
            book=book,
            taken_from=taken_from,
            taken_before=taken_before,
            page_size=min(limit, 1_000),
        )
        return [taken async for taken in first(found, limit)]

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: snapshots_table(found))


def as_of(
    account: AccountArgument,
    instrument: Annotated[str, typer.Argument(help="What was held.")],
    at: Annotated[str, typer.Option("--at", help="What was held at this time, ISO 8601, UTC unless said.")] = "",
    known: Annotated[str, typer.Option("--known", help="By what was known at this time; now without it.")] = "",
    book: Annotated[str, typer.Option("--book", "-b", help="The part of the account.")] = "main",
    leg: LegOption = "net",
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """What a position was at a time, and what was believed of it at another."""
    held_at, known_at = _time(at, "--at"), _time(known, "--known")
    which = Leg.__members__.get(leg.upper())
    if which is None:
        fail(f"--leg: {leg!r} is none of net, long, short")

    async def question(steelyard: Steelyard) -> PositionAsOf:
        return await steelyard.get_position_as_of(
            account, instrument, book=book, leg=which, as_of=held_at, known_at=known_at
        )

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: as_of_view(found, held_at=held_at, known_at=known_at))


def taken_view(found: SnapshotsTaken) -> RenderableType:
    """What was taken, and the snapshots themselves."""
    failed = f", {found.failed:,} could not be told" if found.failed else ""
    return Group(f"{found.taken:,} taken at {moment(found.taken_at)}{failed}", snapshots_table(found.snapshots))


def snapshots_table(found: Sequence[Snapshot]) -> RenderableType:
    """Snapshots, one a row."""
    if not found:
        return "no snapshots"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("taken", "by", "instrument"):
        table.add_column(heading, no_wrap=True)
    for heading in ("version", "quantity", "average", "mark", "unrealized", "realized", "net"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for taken in found:
        name = taken.key.instrument if taken.key.leg == "NET" else f"{taken.key.instrument} {taken.key.leg}"
        where = name if taken.key.book == "main" else f"{name} ({taken.key.book})"
        by = "" if taken.cause is None else taken.cause.lower()
        position = taken.position
        if position is None:
            table.add_row(moment(taken.taken_at), by, where, str(taken.version), *[""] * 6, taken.failure)
            continue
        table.add_row(
            moment(taken.taken_at),
            by,
            where,
            str(taken.version),
            shown(position.quantity),
            shown(position.average_price),
            shown(position.mark.price if position.mark else None),
            money(position.unrealized_pnl),
            money(position.realized_pnl),
            money(position.net_realized_pnl),
            position.settle_currency,
        )
    return table


def as_of_view(found: PositionAsOf, *, held_at: datetime | None, known_at: datetime | None) -> RenderableType:
    """One position of the past."""
    position = found.position
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("", "quantity", "average", "cost", "gross", "fees", "funding", "net", "fills", "opened", "closed"):
        table.add_column(heading, justify="left" if heading in {"", "opened", "closed"} else "right", no_wrap=True)
    table.add_row(
        position.instrument if position.leg == "NET" else f"{position.instrument} {position.leg}",
        shown(position.quantity),
        shown(position.average_price),
        amount(position.cost),
        money(position.gross_realized_pnl),
        amount(position.fees),
        money(position.funding),
        money(position.net_realized_pnl),
        f"{found.fill_count:,}",
        moment(position.opened_at),
        moment(position.closed_at),
    )
    held = "with all that was executed" if held_at is None else f"at {held_at.isoformat()}"
    known = "now" if known_at is None else f"at {known_at.isoformat()}"
    return Group(f"held {held}, by what is known {known} (commit {found.known_seq:,})", table)


def _time(text: str, option: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option}: {text!r} is no time; write it like 2026-03-02T14:30:00Z")
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
