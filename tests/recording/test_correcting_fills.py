"""Amendments and busts, in any order of arrival, end where the oracle says for the surviving fills."""

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.accounting import keys
from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import FillBusted, FillConflict, NotFound, VersionMismatch
from steelyard.accounting.keys import Account, FillId
from tests.recording.desk import Desk, assert_equals_oracle, key_of, make_fill, random_fills

ACCOUNT = keys.Account("desk")


def priced(price: str) -> Callable[[Fill], Fill]:
    return lambda fill: fill._replace(price=Decimal(price))


def always(fill: Fill) -> Callable[[Fill], Fill]:
    return lambda _: fill


async def test_an_amendment_is_a_new_revision_and_refolds(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    await desk.recording.record(make_fill(2, "SELL", "1", "21010"))
    receipt = await desk.correcting.amend(ACCOUNT, FillId("f1"), expected_revision=1, amendment=priced("21005"))
    assert (receipt.revision, receipt.versions) == (2, {key_of(): 3})
    stored = await desk.position(key_of())
    assert stored.state.lifetime.gross_average == 10


async def test_a_repeated_correction_is_a_replay(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    for is_replayed in (False, True):
        receipt = await desk.correcting.amend(ACCOUNT, FillId("f1"), expected_revision=1, amendment=priced("21005"))
        assert (receipt.revision, receipt.is_replayed) == (2, is_replayed)
    for is_replayed in (False, True):
        receipt = await desk.correcting.bust(ACCOUNT, FillId("f1"), expected_revision=2)
        assert (receipt.revision, receipt.is_replayed) == (3, is_replayed)
    assert (await desk.position(key_of())).version == 3


async def test_a_stale_revision_is_refused_with_the_current_one(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    await desk.correcting.amend(ACCOUNT, FillId("f1"), expected_revision=1, amendment=priced("21005"))
    with pytest.raises(VersionMismatch) as refusal:
        await desk.correcting.amend(ACCOUNT, FillId("f1"), expected_revision=1, amendment=priced("21006"))
    assert refusal.value.details["current_version"] == "2"


async def test_a_bust_is_final(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    await desk.correcting.bust(ACCOUNT, FillId("f1"), expected_revision=1)
    with pytest.raises(FillBusted):
        await desk.correcting.amend(ACCOUNT, FillId("f1"), expected_revision=2, amendment=priced("21005"))
    again = await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    assert again.is_replayed
    stored = await desk.position(key_of())
    assert (stored.version, stored.state.quantity) == (2, Decimal(0))
    assert stored.state.average is None
    assert stored.state.opened_at is None


async def test_a_content_of_an_earlier_revision_is_a_repeat(desk: Desk) -> None:
    original = make_fill(1, "BUY", "1", "21000")
    await desk.recording.record(original)
    await desk.correcting.amend(ACCOUNT, FillId("f1"), expected_revision=1, amendment=priced("21005"))
    assert (await desk.recording.record(original)).is_replayed
    with pytest.raises(FillConflict):
        await desk.recording.record(original._replace(price=Decimal(3)))


async def test_an_unknown_fill_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.correcting.bust(Account("nobody"), FillId("f1"), expected_revision=1)


async def test_an_amendment_may_move_a_fill_to_another_book(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    await desk.recording.record(make_fill(2, "BUY", "1", "21010"))
    other = key_of()._replace(book=keys.Book("desk-2"))
    receipt = await desk.correcting.amend(
        ACCOUNT, FillId("f1"), expected_revision=1, amendment=lambda fill: fill._replace(key=other)
    )
    assert receipt.versions == {key_of(): 3, other: 1}
    assert (await desk.position(key_of())).state.average == 21010
    assert (await desk.position(other)).state.average == 21000


@pytest.mark.parametrize("seed", range(3))
async def test_random_corrections_end_in_the_oracles_state(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    surviving: dict[str, Fill] = {}
    revisions: dict[str, int] = {}
    for fill in chance.sample(random_fills(seed, 80), 80):
        await desk.recording.record(fill)
        surviving[fill.fill_id], revisions[fill.fill_id] = fill, 1
        if chance.random() < 0.5:
            victim = chance.choice(sorted(surviving))
            revision = revisions[victim]
            if chance.random() < 0.3:
                await desk.correcting.bust(ACCOUNT, FillId(victim), expected_revision=revision)
                del surviving[victim]
            else:
                amended = surviving[victim]._replace(
                    price=Decimal(chance.randint(80_000, 88_000)) / 4,
                    quantity=Decimal(chance.randint(1, 5)),
                    executed_at=surviving[victim].executed_at + timedelta(seconds=chance.randint(-20, 20)),
                )
                await desk.correcting.amend(
                    ACCOUNT, FillId(victim), expected_revision=revision, amendment=always(amended)
                )
                surviving[victim], revisions[victim] = amended, revision + 1
    assert_equals_oracle(await desk.position(key_of()), list(surviving.values()))
