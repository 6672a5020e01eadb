"""Positions against what a venue answers: Bybit's documented list, and everything that can go wrong with it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from steelyard.accounting.keys import Account
from steelyard.operations.ports import AccountRules
from steelyard.operations.reconciling import Compared, DiscrepancyState
from steelyard.operations.venue_positions import VenueFailure, VenueFailureReason, VenuePositions
from steelyard.prices.bybit_positions import BybitKey, BybitPositions
from tests.prices.bybit_server import Answer, cut, endless, envelope, late, refuse, say
from tests.questions.books import NOW, fill, key
from tests.reconciling.bybit_account import API_KEY, SECRET, BybitAccount, position
from tests.reconciling.desk import ReconcileDesk

LATEST = AccountRules(Account("desk"), size_authority="LATEST")


@pytest.fixture
async def bybit() -> AsyncIterator[BybitAccount]:
    server = BybitAccount(NOW)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def source(bybit: BybitAccount) -> AsyncIterator[BybitPositions]:
    opened = of_desk(bybit)
    yield opened
    await opened.close()


def of_desk(bybit: BybitAccount, *, api_key: str = API_KEY, secret: str = SECRET) -> BybitPositions:
    return BybitPositions(
        BybitKey(api_key, secret),
        account=Account("desk"),
        clock=lambda: bybit.at,
        url=bybit.url,
        timeout_s=0.2,
        retry_after_s=(0.01, 0.02),
    )


@pytest.fixture
def asking(desk: ReconcileDesk, source: BybitPositions) -> ReconcileDesk:
    desk.listen_to(source)
    return desk


async def test_every_page_of_a_signed_list_is_read(bybit: BybitAccount, source: BybitPositions) -> None:
    names = [f"A{n}USDT" for n in range(5)]
    bybit.rows = [position(name, "1.5", average="10") for name in names]
    bybit.rows += [position("BTCUSDT", "2", average="9", idx=1), position("BTCUSDT", "-3", average="8", idx=2)]
    told = await source.positions()
    assert isinstance(told, VenuePositions)
    assert told.at == NOW
    assert [(each.instrument, each.leg.value, str(each.quantity)) for each in told.positions] == [
        *((name, "NET", "1.5") for name in names),
        ("BTCUSDT", "LONG", "2"),
        ("BTCUSDT", "SHORT", "-3"),
    ]
    assert len(bybit.queries) == 4
    assert all(query.startswith("category=linear&settleCoin=USDT&limit=200") for query in bybit.queries)


async def test_what_one_instrument_does_not_hold_is_flat(bybit: BybitAccount, source: BybitPositions) -> None:
    told = await source.positions(key().instrument)
    assert isinstance(told, VenuePositions)
    assert [(str(each.quantity), each.average_price, str(each.realized_pnl)) for each in told.positions] == [
        ("0", None, "-12.5")
    ]


BAD_DAYS: dict[str, tuple[Answer, VenueFailureReason]] = {
    "down": (say("<html>", status=502), VenueFailureReason.UNREACHABLE),
    "cut": (cut, VenueFailureReason.UNREACHABLE),
    "late": (late(1.0, say("{}")), VenueFailureReason.TIMEOUT),
    "429": (say("", status=429), VenueFailureReason.RATE_LIMITED),
    "10006": (
        refuse(10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp="1772798400010"),
        VenueFailureReason.RATE_LIMITED,
    ),
    "403": (say("", status=403), VenueFailureReason.RATE_LIMITED),
    "bad JSON": (say('{"retCode": 0,'), VenueFailureReason.GARBLED),
    "no list": (say(envelope({})), VenueFailureReason.GARBLED),
    "a list of nonsense": (say(envelope({"list": [{"size": "many"}]})), VenueFailureReason.GARBLED),
    "endless": (endless, VenueFailureReason.GARBLED),
    "wrong rights": (refuse(10005, "Permission denied"), VenueFailureReason.REFUSED),
}


@pytest.mark.parametrize("name", BAD_DAYS)
async def test_a_bad_day_is_told_and_nothing_else(bybit: BybitAccount, source: BybitPositions, name: str) -> None:
    bybit.always, reason = BAD_DAYS[name]
    told = await source.positions()
    assert isinstance(told, VenueFailure)
    assert told.reason is reason


async def test_what_passes_is_tried_again(bybit: BybitAccount, source: BybitPositions) -> None:
    bybit.in_store.extend([say("", status=500), refuse(10002, "invalid request, please check your server timestamp")])
    assert isinstance(await source.positions(), VenuePositions)
    assert len(bybit.queries) == 3


@pytest.mark.parametrize("wrong", [{"api_key": "other"}, {"secret": "other"}])
async def test_a_wrong_key_is_refused_at_once_and_its_secret_never_told(
    bybit: BybitAccount, wrong: dict[str, str]
) -> None:
    source = of_desk(bybit, **wrong)
    told = await source.positions()
    await source.close()
    assert isinstance(told, VenueFailure)
    assert (told.reason, len(bybit.queries)) == (VenueFailureReason.REFUSED, 1)
    assert SECRET not in repr(BybitKey(API_KEY, SECRET))


async def hold(desk: ReconcileDesk, *, rules: AccountRules | None = None) -> None:
    """Two positions that the venue knows, one on legs, and one that it does not list."""
    await desk.record(
        *(fill("btc", "1", "50000"), fill("eth", "-2", "3000", of=key("ETHUSDT"))),
        *(fill("xl", "3", "1", of=key("XRPUSDT", leg="LONG")), fill("xs", "-4", "1", of=key("XRPUSDT", leg="SHORT"))),
        fill("mnq", "1", "25000", of=key("MNQ MAR26")),
        rules=rules,
    )


def agreeing() -> list[dict[str, object]]:
    return [
        position("BTCUSDT", "1", average="50000", markPrice="51000", unrealisedPnl="1000"),
        position("ETHUSDT", "-2", average="3000"),
        position("XRPUSDT", "3", average="1", idx=1),
        position("XRPUSDT", "-4", average="1", idx=2),
    ]


async def test_a_venue_that_agrees_finds_nothing(asking: ReconcileDesk, bybit: BybitAccount) -> None:
    await hold(asking)
    bybit.rows = agreeing()
    answer = await asking.look(is_fixing=True)
    assert (answer.findings, answer.run.tally.venue_error) == ([], None)


PLANTED: dict[str, tuple[list[dict[str, object]], set[tuple[str, str]]]] = {
    "missing here": ([*agreeing(), position("SOLUSDT", "7", average="20")], {("SOLUSDT", "MISSING")}),
    "flat here": ([*agreeing(), position("BTCPERP", "0")], set()),
    "extra here": (agreeing()[1:], {("BTCUSDT", "EXTRA")}),
    "size": ([position("BTCUSDT", "1.2", average="50000"), *agreeing()[1:]], {("BTCUSDT", "SIZE")}),
    "size within tolerance": ([position("BTCUSDT", "1.0001", average="50000"), *agreeing()[1:]], set()),
    "side": ([agreeing()[0], position("ETHUSDT", "2", average="3000"), *agreeing()[2:]], {("ETHUSDT", "SIDE")}),
    "average": ([position("BTCUSDT", "1", average="50050.01"), *agreeing()[1:]], {("BTCUSDT", "AVERAGE")}),
    "average within tolerance": ([position("BTCUSDT", "1", average="50050"), *agreeing()[1:]], set()),
    "pnl within rounding": (
        [position("BTCUSDT", "1", average="50000", markPrice="51000", unrealisedPnl="900"), *agreeing()[1:]],
        # 100 of a notional of 51,000: a difference that the averages may make.
        set(),
    ),
    "pnl far off": (
        [position("BTCUSDT", "1", average="50000", markPrice="51000", unrealisedPnl="-1000"), *agreeing()[1:]],
        {("BTCUSDT", "PNL")},
    ),
    "other legs": ([*agreeing()[:2], position("XRPUSDT", "-1", average="1")], {("XRPUSDT", "LEG")}),
    "legs here none": ([position("BTCUSDT", "1", average="50000", idx=1), *agreeing()[1:]], {("BTCUSDT", "LEG")}),
    "a leg's size": ([*agreeing()[:3], position("XRPUSDT", "-5", average="1", idx=2)], {("XRPUSDT", "SIZE")}),
}


async def test_every_difference_from_the_venue_is_found_and_nothing_is_changed_where_fills_rule(
    asking: ReconcileDesk, bybit: BybitAccount
) -> None:
    await hold(asking)
    before = await asking.tables("reconciliation_runs", "discrepancies")
    for name, (rows, expected) in PLANTED.items():
        bybit.rows = rows
        answer = await asking.look(is_fixing=True)
        found = {(finding.key.instrument, finding.kind.value) for finding in answer.findings}
        assert found == expected, name
        assert all(finding.compared is Compared.VENUE for finding in answer.findings)
        opened = await asking.found(states=[DiscrepancyState.OPEN])
        assert {(each.finding.key.instrument, each.finding.kind.value) for each in opened} == expected, name
    assert await asking.tables(
        "reconciliation_runs", "discrepancies", "outbox", "account_heads", "account_commits"
    ) == {name: rows for name, rows in before.items() if name not in {"outbox", "account_heads", "account_commits"}}


async def test_where_the_account_lets_its_venue_say_it_is_set_by_an_adjustment(
    asking: ReconcileDesk, bybit: BybitAccount
) -> None:
    await hold(asking, rules=LATEST)
    bybit.rows = [
        position("BTCUSDT", "1.2", average="50000"),
        position("XRPUSDT", "3", average="1.5", idx=1),
        position("XRPUSDT", "-4", average="1", idx=2),
        position("SOLUSDT", "-7", average="20"),
    ]
    answer = await asking.look(is_fixing=True)
    assert {(each.key.instrument, each.kind.value) for each in answer.findings} == {
        *(("BTCUSDT", "SIZE"), ("ETHUSDT", "EXTRA"), ("XRPUSDT", "AVERAGE"), ("SOLUSDT", "MISSING")),
    }
    assert answer.run.tally.keys_fixed == 4
    held = await asking.rows(
        "SELECT instrument, leg, quantity, average_price FROM positions WHERE instrument <> $1", "X"
    )
    assert {(row["instrument"], row["leg"], str(row["quantity"].normalize())) for row in held} == {
        *(("BTCUSDT", "NET", "1.2"), ("ETHUSDT", "NET", "0"), ("XRPUSDT", "LONG", "3"), ("XRPUSDT", "SHORT", "-4")),
        *(("SOLUSDT", "NET", "-7"), ("MNQ MAR26", "NET", "1")),
    }
    records = await asking.found()
    assert {record.state for record in records} == {DiscrepancyState.RESOLVED}
    assert all(record.resolution == "ADJUSTED" for record in records)
    versions = [await asking.version(record.finding.key) for record in records]
    assert [record.fixed_version for record in records] == versions
    assert [row["kind"] for row in await asking.rows("SELECT kind FROM adjustments")] == ["VENUE"] * 4
    bybit.at += timedelta(seconds=2)
    assert (await asking.look(is_fixing=True)).findings == []


async def test_a_fill_that_is_on_its_way_is_no_difference(asking: ReconcileDesk, bybit: BybitAccount) -> None:
    await asking.record(fill("first", "1", "50000"))
    bybit.rows = [position("BTCUSDT", "2", average="50000")]

    async def arrive() -> None:
        await asking.record(fill("second", "1", "50000", minute=1))

    bybit.before = [None, arrive]
    assert (await asking.look()).findings == []
    assert len(bybit.queries) == 2


@pytest.mark.parametrize("name", ["down", "429", "bad JSON", "late"])
async def test_a_venue_on_a_bad_day_changes_nothing_and_is_reported(
    asking: ReconcileDesk, bybit: BybitAccount, name: str
) -> None:
    await hold(asking, rules=LATEST)
    bybit.rows = agreeing()[1:]
    assert len((await asking.look()).findings) == 1
    before = await asking.tables("reconciliation_runs")
    bybit.always, reason = BAD_DAYS[name]
    answer = await asking.look(is_fixing=True)
    assert answer.findings == []
    assert str(answer.run.tally.venue_error).startswith(reason.value)
    assert answer.run.tally.keys_checked == 5
    assert await asking.tables("reconciliation_runs") == before
    assert [each.state for each in await asking.found()] == [DiscrepancyState.OPEN]
