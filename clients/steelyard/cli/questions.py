"""Commands that ask: positions, trips, portfolio, accounts, instruments."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, TypeVar

import typer

from steelyard.cli import tables
from steelyard.cli.following import watch_portfolio
from steelyard.cli.session import SERVER_DEFAULT, JsonOption, ServerOption, ask, fail, first, tell
from steelyard.client import (
    Account,
    Instrument,
    Position,
    PositionView,
    RoundTrip,
    RoundTripState,
    Steelyard,
)

T = TypeVar("T")

LIMIT_DEFAULT = 1_000

AccountsOption = Annotated[
    list[str] | None, typer.Option("--account", "-a", help="Only this account; may be repeated.")
]
InstrumentOption = Annotated[str, typer.Option("--instrument", "-i", help="Only this instrument.")]
BookOption = Annotated[str, typer.Option("--book", "-b", help="Only this book.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="How many rows at most.")]


def positions(
    account: AccountsOption = None,
    instrument: InstrumentOption = "",
    book: BookOption = "",
    is_open: Annotated[bool, typer.Option("--open", help="Only what holds something.")] = False,
    size_min: Annotated[str, typer.Option("--size-min", help="Only |quantity| at or above this.")] = "",
    size_max: Annotated[str, typer.Option("--size-max", help="Only |quantity| at or below this.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="Only with this label, name=value.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Everything about each (seen with --json).")] = False,
    limit: LimitOption = LIMIT_DEFAULT,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """What is held, by account, book and instrument."""
    smallest, largest = _number(size_min, "--size-min"), _number(size_max, "--size-max")

    async def question(steelyard: Steelyard) -> list[Position]:
        found = steelyard.list_positions(
            account or (),
            book=book,
            instrument=instrument,
            open_only=is_open,
            size_min=smallest,
            size_max=largest,
            labels=label or (),
            view=PositionView.FULL if full else PositionView.BASIC,
            page_size=min(limit, 1_000),
        )
        return [position async for position in first(found, limit)]

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: tables.positions_table(found))


def trips(
    account: AccountsOption = None,
    instrument: InstrumentOption = "",
    book: BookOption = "",
    is_open: Annotated[bool, typer.Option("--open", help="Only open ones.")] = False,
    is_closed: Annotated[bool, typer.Option("--closed", help="Only closed ones.")] = False,
    limit: LimitOption = LIMIT_DEFAULT,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Round trips: open ones first, then the latest closed first; of every account unless one is named."""
    if is_open and is_closed:
        fail("--open and --closed exclude each other")
    state = RoundTripState.OPEN if is_open else RoundTripState.CLOSED if is_closed else None

    async def question(steelyard: Steelyard) -> list[RoundTrip]:
        found: list[RoundTrip] = []
        for name in account or [one.account async for one in steelyard.list_accounts(page_size=1_000)]:
            left = limit - len(found)
            if left <= 0:
                break
            listed = steelyard.list_round_trips(
                name, book=book, instrument=instrument, state=state, page_size=min(left, 1_000)
            )
            found += [trip async for trip in first(listed, left)]
        return found

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: tables.trips_table(found))


def portfolio(
    account: AccountsOption = None,
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", "-i", help="Only this instrument; may be repeated.")
    ] = None,
    with_positions: Annotated[bool, typer.Option("--positions", help="The open positions too.")] = False,
    is_watching: Annotated[bool, typer.Option("--watch", help="Again whenever they change, until Ctrl-C.")] = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Exposure, profit and loss, per settle currency."""
    if is_watching:
        if with_positions:
            fail("--watch and --positions exclude each other")
        ask(server, lambda steelyard: watch_portfolio(steelyard, account, instruments=instrument, as_json=as_json))
        return
    found = ask(
        server,
        lambda steelyard: steelyard.get_portfolio(
            account or (), instruments=instrument or (), include_positions=with_positions
        ),
    )
    tell(found, as_json=as_json, table=lambda: tables.portfolio_view(found))
    if with_positions and not as_json:
        tell(found.positions, as_json=False, table=lambda: tables.positions_table(found.positions))


def accounts(server: ServerOption = SERVER_DEFAULT, as_json: JsonOption = False) -> None:
    """Who may hold positions, and by which rules."""

    async def question(steelyard: Steelyard) -> list[Account]:
        return [account async for account in steelyard.list_accounts(page_size=1_000)]

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: tables.accounts_table(found))


def instruments(
    prefix: Annotated[str, typer.Option("--prefix", help="Only names that begin with this.")] = "",
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """What is traded, and how its price becomes money."""

    async def question(steelyard: Steelyard) -> list[Instrument]:
        return [instrument async for instrument in steelyard.list_instruments(prefix=prefix, page_size=1_000)]

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: tables.instruments_table(found))


def _number(text: str, option: str) -> Decimal | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        fail(f"{option}: {text!r} is no number")
