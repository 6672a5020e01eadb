"""Snapshots and the past through the whole service: client, commands, and tables that people can read."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.client import InvalidField, Mark, NotFound
from tests.client.desk import START, client_of, make_fill, now, serving_book
from tests.client.test_risk_commands import run


async def test_the_past_is_told_by_client_and_commands(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as desk:
        server = ("--server", service.address)
        assert await run("snapshots", "desk", *server) == "no snapshots\n"
        await desk.record_fill(make_fill(1, quantity="2", price="25000"))
        believed_at = now()
        await desk.report_marks([Mark("MNQ SEP25", Decimal(25_010), now(), "test")])
        taken = await run("snapshot", "desk", *server)
        assert all(word in taken for word in ("1 taken at", "MNQ SEP25", "25010", "request", "USD"))
        await desk.record_fill(make_fill(0, quantity="3", price="24000"))
        listed = await run("snapshots", "desk", "--instrument", "MNQ SEP25", "--json", *server)
        (told,) = json.loads(listed)
        assert (told["position"]["quantity"], told["version"]) == ("2", 1)
        held_at = (START + timedelta(seconds=0)).isoformat()
        then = await run("as-of", "desk", "MNQ SEP25", "--at", held_at, *server)
        assert all(word in then for word in ("24000", held_at, "by what is known now"))
        believed = json.loads(
            await run("as-of", "desk", "MNQ SEP25", "--known", believed_at.isoformat(), "--json", *server)
        )
        assert (believed["position"]["quantity"], believed["fill_count"], believed["known_seq"]) == ("2", 1, 1)
        now_held = (await desk.get_position_as_of("desk", "MNQ SEP25")).position
        assert (now_held.quantity, now_held.unrealized_pnl) == (Decimal(5), None)
        assert now_held.version == 0
        assert now_held.mark is not None
        assert now_held.mark.state == "MISSING"


async def test_what_cannot_be_asked_of_the_past_is_refused(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as desk:
        server = ("--server", service.address)
        with pytest.raises(NotFound):
            await desk.get_position_as_of("desk", "MNQ SEP25")
        await desk.record_fill(make_fill(1))
        with pytest.raises(InvalidField, match="future"):
            await desk.get_position_as_of("desk", "MNQ SEP25", known_at=now() + timedelta(hours=1))
        before_all = await desk.get_position_as_of("desk", "MNQ SEP25", as_of=START - timedelta(days=1))
        assert before_all.position.quantity == before_all.fill_count == 0
        assert await run("as-of", "desk", "MNQ SEP25", "--at", "noon", *server, status=1) == (
            "steelyard: --at: 'noon' is no time; write it like 2026-03-02T14:30:00Z\n"
        )
