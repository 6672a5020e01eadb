"""Commands of risk managers: limits, and an order before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from steelyard.cli.session import SERVER_DEFAULT, JsonOption, ServerOption, ask, fail, tell
from steelyard.cli.tables import amount, shown
from steelyard.client import CurrencyLimits, Leg, LimitCheck, LimitState, Order, OrderCheck, Side, Steelyard

W = TypeVar("W", bound=StrEnum)

AccountArgument = Annotated[str, typer.Argument(help="Whose.")]
_STATE_STYLES = {LimitState.EXCEEDED: "red", LimitState.UNKNOWN: "yellow"}


def limits(
    account: AccountArgument,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """The limits of an account, and where it stands against each."""

    async def question(steelyard: Steelyard) -> tuple[CurrencyLimits, ...]:
        return await steelyard.get_limits(account)

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: limits_table(found))


def check_order(
    account: AccountArgument,
    instrument: Annotated[str, typer.Argument(help="What is traded.")],
    side: Annotated[str, typer.Argument(help="buy or sell.")],
    quantity: Annotated[str, typer.Argument(help="How much, greater than 0.")],
    price: Annotated[str, typer.Option("--price", help="At which it would fill; unless said, at the mark.")] = "",
    fee: Annotated[str, typer.Option("--fee", help="What its fill would cost.")] = "",
    book: Annotated[str, typer.Option("--book", "-b", help="The part of the account.")] = "main",
    leg: Annotated[str, typer.Option("--leg", help="net, long or short.")] = "net",
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """What an order would do before it is sent: the position it would make, the limits it would break."""
    order = Order(
        account=account,
        instrument=instrument,
        side=_word(side, Side, told_as="the side"),
        quantity=_number(quantity, told_as="the quantity"),
        price=_number(price, told_as="--price") if price else None,
        fee=_number(fee, told_as="--fee") if fee else None,
        book=book,
        leg=_word(leg, Leg, told_as="--leg"),
    )

    async def question(steelyard: Steelyard) -> OrderCheck:
        return await steelyard.check_order(order)

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: order_table(found))


def limits_table(found: Sequence[CurrencyLimits]) -> RenderableType:
    """Limits, one a row."""
    if not found:
        return "no limits"
    table = _table("limit", "instrument", "at most", "now", "", "")
    for each in found:
        for check in each.checks:
            table.add_row(*_row(check), each.limits.settle_currency)
    return table


def order_table(check: OrderCheck) -> RenderableType:
    """A position before and after an order, and the limits in the worst case."""
    outcome = check.outcome
    moved = _table("", "before", "after")
    moved.add_row("quantity", shown(outcome.quantity_before), shown(outcome.quantity_after))
    moved.add_row("average", shown(outcome.average_price_before), shown(outcome.average_price_after))
    moved.add_row("unrealized", amount(outcome.unrealized_pnl_before), amount(outcome.unrealized_pnl_after))
    moved.add_row("gross exposure", amount(check.now.gross_exposure), amount(check.filled.gross_exposure))
    verdict = "within limits" if check.within_limits else "[red]breaks limits[/red]"
    told = f"{verdict}; realizes {amount(outcome.net_realized_pnl)} {check.settle_currency} at {shown(outcome.price)}"
    if not check.checks:
        return Group(moved, told)
    table = _table("limit", "instrument", "at most", "then", "")
    for each in check.checks:
        table.add_row(*_row(each))
    return Group(moved, table, told)


def _row(check: LimitCheck) -> tuple[str, ...]:
    style, word = _STATE_STYLES.get(check.state), check.state.lower()
    return (
        check.kind.lower().replace("_", " "),
        check.instrument or "",
        amount(check.limit),
        amount(check.value),
        f"[{style}]{word}[/{style}]" if style else word,
    )


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in names:
        table.add_column(name, justify="right" if name in ("at most", "now", "then", "before", "after") else "left")
    return table


def _number(text: str, *, told_as: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        fail(f"{told_as}: {text!r} is no number")


def _word(text: str, words: type[W], *, told_as: str) -> W:
    if text.upper() not in words.__members__:
        fail(f"{told_as}: {text!r} is none of {', '.join(word.lower() for word in words)}")
    return words(text.upper())
