"""The life of a key: made, shown once, used, taken back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from steelyard.app.assembly import Service
from steelyard.client import (
    AccessDenied,
    BuildMode,
    InvalidField,
    KeysExhausted,
    KeysNotKept,
    KeyTerms,
    NotFound,
    Steelyard,
    TryLater,
)
from steelyard.client import Scope as Asked
from steelyard.operations.access import Scope
from steelyard.operations.keep_keys import KeyReceipt
from steelyard.operations.key_ring import STALE_S
from tests.access.desk import client, guarded, new_key
from tests.client.desk import make_fill, serving_book

REQUEST = "7a1f3d52-2c0e-4a58-9e55-0c9f8d4f6a11"


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with guarded(database_url) as running:
        yield running


@pytest.fixture
async def admin(service: Service, database_url: str) -> AsyncIterator[Steelyard]:
    async with client(service, await new_key(database_url, Scope.ADMIN, owner="root")) as steelyard:
        yield steelyard


async def test_a_secret_is_shown_once_and_kept_nowhere(admin: Steelyard, database_url: str) -> None:
    terms = KeyTerms(owner="feed", accounts=("desk",))
    made = await admin.create_api_key(terms, scopes=(Asked.FILLS_WRITE,), request_id=REQUEST)
    again = await admin.create_api_key(terms, scopes=(Asked.FILLS_WRITE,), request_id=REQUEST)
    assert made.secret.startswith(f"sy_{made.key.key_id}_")
    assert (again.secret, again.replayed, again.key.key_id) == ("", True, made.key.key_id)
    random_part = made.secret.rpartition("_")[2]
    connection = await asyncpg.connect(database_url)
    for table in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = await connection.fetch(f'SELECT t::text AS row FROM "{table["tablename"]}" t')
        assert not [row for row in rows if random_part in row["row"]], table
    await connection.close()


async def test_an_owner_has_at_most_two_live_keys_which_is_what_rotation_needs(admin: Steelyard) -> None:
    terms = KeyTerms(owner="model")
    old, _ = [await admin.create_api_key(terms, scopes=(Asked.POSITIONS_READ,)) for _ in range(2)]
    with pytest.raises(KeysExhausted):
        await admin.create_api_key(terms, scopes=(Asked.POSITIONS_READ,))
    await admin.revoke_api_key(old.key.key_id)
    await admin.create_api_key(terms, scopes=(Asked.POSITIONS_READ,))
    listed = [key async for key in admin.list_api_keys(owner="model", page_size=2)]
    assert len(listed) == 3
    assert [key.key_id for key in listed if key.revoked_at] == [old.key.key_id]
    assert len([key async for key in admin.list_api_keys(owner="model", live_only=True)]) == 2


async def test_a_key_made_on_one_server_works_at_once_on_another(admin: Steelyard, database_url: str) -> None:
    async with guarded(database_url) as other:
        made = await admin.create_api_key(KeyTerms(owner="ui"), scopes=(Asked.POSITIONS_READ,))
        async with Steelyard.connect(other.address, api_key=made.secret) as steelyard:
            assert [position async for position in steelyard.list_positions()] == []


async def test_a_revoked_key_is_refused_everywhere_within_thirty_seconds(
    admin: Steelyard, database_url: str, record_property: Callable[[str, object], None]
) -> None:
    made = await admin.create_api_key(KeyTerms(owner="ui", tier=None), scopes=(Asked.POSITIONS_READ,))
    async with guarded(database_url) as other, Steelyard.connect(other.address, api_key=made.secret) as steelyard:
        assert [position async for position in steelyard.list_positions()] == []
        await admin.revoke_api_key(made.key.key_id)
        begun = time.monotonic()
        with pytest.raises(AccessDenied) as caught:
            await used_for(steelyard, seconds=STALE_S)
        record_property("revoked_after_s", round(time.monotonic() - begun, 1))
        assert caught.value.reason == "API_KEY_INVALID"


async def used_for(steelyard: Steelyard, *, seconds: float) -> None:
    """Asks again and again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert [position async for position in steelyard.list_positions()] == []
        await asyncio.sleep(0.7)


async def test_an_expired_key_is_refused(service: Service, database_url: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    key = await new_key(database_url, Scope.POSITIONS_READ, expires_at=soon)
    async with client(service, key) as steelyard:
        assert [position async for position in steelyard.list_positions()] == []
        await asyncio.sleep(1.6)
        with pytest.raises(AccessDenied):
            assert [position async for position in steelyard.list_positions()] == []


async def test_a_bad_key_is_refused_by_field(admin: Steelyard) -> None:
    for terms, scopes, field in (
        (KeyTerms(owner=""), (Asked.ADMIN,), "key.owner"),
        (KeyTerms(owner="a\nb"), (Asked.ADMIN,), "key.owner"),
        (KeyTerms(owner="a"), (), "key.scopes"),
        (KeyTerms(owner="a", calls_per_minute=0), (Asked.ADMIN,), "key.calls_per_minute"),
        (KeyTerms(owner="a", accounts=("bad\x00",)), (Asked.ADMIN,), "key.accounts[0]"),
        (KeyTerms(owner="a", expires_at=datetime(2020, 1, 1, tzinfo=UTC)), (Asked.ADMIN,), "key.expires_at"),
    ):
        with pytest.raises(InvalidField) as caught:
            await admin.create_api_key(terms, scopes=scopes)
        assert caught.value.violations[0].field == field
    with pytest.raises(NotFound):
        await admin.revoke_api_key("nothere1")


async def test_a_list_that_names_no_account_is_that_of_the_keys_own(service: Service, database_url: str) -> None:
    root = await new_key(database_url, Scope.ADMIN)
    bound = await new_key(database_url, Scope.POSITIONS_READ, accounts=["mine"])
    async with client(service, root) as steelyard:
        for account in ("mine", "theirs"):
            await steelyard.record_fill(make_fill(1, account=account))
    async with client(service, bound) as steelyard:
        assert {position.account async for position in steelyard.list_positions()} == {"mine"}


async def test_a_service_without_a_pepper_keeps_no_keys(database_url: str) -> None:
    async with serving_book(database_url) as open_service, Steelyard.connect(open_service.address) as steelyard:
        with pytest.raises(KeysNotKept):
            await steelyard.create_api_key(KeyTerms(owner="a"), scopes=(Asked.ADMIN,))


async def test_a_bound_key_imports_the_rows_of_its_own_accounts_and_no_others(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    bound = await new_key(database_url, Scope.FILLS_IMPORT, accounts=["mine"])
    file = tmp_path / "day.csv"
    file.write_text(
        "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at\n"
        "1,mine,main,MNQ SEP25,BUY,1,25000,0,,2025-06-20T14:00:00Z\n"
        "2,theirs,main,MNQ SEP25,BUY,1,25000,0,,2025-06-20T14:00:00Z\n"
    )
    async with client(service, bound) as steelyard:
        done = await steelyard.import_trades(file)
    assert (done.trade_import.recorded, done.trade_import.rejected) == (1, 1)
    (row,) = done.rows
    assert (row.row_number, row.reason) == (3, "ACCOUNT_DENIED: the key may not write this account")


async def test_a_key_has_no_more_builds_under_way_than_it_may(service: Service, database_url: str) -> None:
    """Without a worker nothing ends: they stay under way."""
    await record_some(service, await new_key(database_url, Scope.ADMIN))
    key = await new_key(database_url, Scope.BUILDS_RUN, builds_max=2)
    async with client(service, key) as steelyard:
        for _ in range(2):
            await steelyard.create_build(accounts=["desk"], mode=BuildMode.FULL)
        with pytest.raises(TryLater):
            await steelyard.create_build(accounts=["desk"], mode=BuildMode.FULL)


async def record_some(service: Service, key: KeyReceipt) -> None:
    """Gives a build something to do."""
    async with client(service, key) as steelyard:
        await steelyard.record_fill(make_fill(1))
