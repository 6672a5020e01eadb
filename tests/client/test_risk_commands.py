"""The commands of risk managers, against a service: what they print, and how they fail."""

import asyncio
import json
from decimal import Decimal

import typer
from typer.testing import CliRunner

from steelyard.cli import register
from steelyard.client import Limits, Mark
from tests.client.desk import client_of, make_fill, now, serving_book

COMMANDS = typer.Typer()
register(COMMANDS)


async def run(*arguments: str, status: int = 0) -> str:
    """What a command prints; it runs in a thread, because the service lives in this loop."""
    result = await asyncio.to_thread(CliRunner().invoke, COMMANDS, arguments)
    assert result.exit_code == status, result.output
    return result.output


async def test_limits_and_an_order_are_told_as_tables_and_as_json(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as desk:
        server = ("--server", service.address)
        assert await run("limits", "desk", *server) == "no limits\n"
        await desk.record_fill(make_fill(1, quantity="2"))
        await desk.report_marks([Mark("MNQ SEP25", Decimal(25_000), now(), "test")])
        order = ("check-order", "desk", "MNQ SEP25", "buy", "1")
        assert "within limits" in await run(*order, *server)
        await desk.set_limits(Limits(account="desk", settle_currency="USD", gross_exposure_max=Decimal(120_000)))
        listed = await run("limits", "desk", *server)
        assert all(word in listed for word in ("gross exposure", "120000", "100000", "within", "USD"))
        checked = await run(*order, "--price", "25010", *server)
        assert all(word in checked for word in ("breaks limits", "exceeded", "150000"))
        told = json.loads(await run(*order, "--json", *server))
        assert (told["within_limits"], told["outcome"]["quantity_after"]) == (False, "3")
        sold = json.loads(
            await run(
                "check-order", "desk", "MNQ SEP25", "sell", "1", "--fee", "1.5", "--price", "25001", "--json", *server
            )
        )
        assert sold["outcome"]["net_realized_pnl"] == "0.5"


async def test_words_and_numbers_that_are_none_are_named_on_one_line(database_url: str) -> None:
    async with serving_book(database_url) as service:
        server = ("--server", service.address)
        for arguments, line in (
            (("MNQ SEP25", "hold", "1"), "steelyard: the side: 'hold' is none of buy, sell\n"),
            (("MNQ SEP25", "buy", "one"), "steelyard: the quantity: 'one' is no number\n"),
            (("MNQ SEP25", "buy", "0"), "steelyard: order.quantity: must be greater than zero\n"),
            (("MNQ SEP25", "buy", "1", "--leg", "left"), "steelyard: --leg: 'left' is none of net, long, short\n"),
            (("NOPE", "buy", "1"), "steelyard: UNKNOWN_INSTRUMENT: instrument NOPE has no record\n"),
        ):
            assert await run("check-order", "desk", *arguments, *server, status=1) == line
