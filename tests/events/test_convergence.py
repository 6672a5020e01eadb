"""However fills, reports and order states arrive, the position is the fold of the entries that there are."""

import random
from decimal import Decimal

import pytest

from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.position import FoldState
from steelyard.accounting.units import decimal_text
from steelyard.operations.feed_ports import linear_record
from tests.events.feeds import Feeds, key
from tests.events.worked import BTC, EXECUTIONS, REPORTS, execution, report


async def folded_anew(feeds: Feeds) -> FoldState:
    """The state that the stored entries make from nothing."""
    of = key(BTC)
    fold = Fold(FoldRules(linear_record(of.instrument), of.leg))
    async with feeds.ledger.transaction(cause="read", is_read_only=True) as book:
        async for batch in book.entries(of, start=None, inclusive=True):
            fold.feed(batch)
    return fold.state()


def messages(seed: int) -> list[tuple[str, bytes]]:
    """A day of fills, with a report every now and then that is right, or wrong, or late."""
    chance = random.Random(seed)
    sent, held = [], 0
    for number in range(60):
        clock = f"10:{number:02}:00"
        if chance.random() < 0.6:
            side, quantity = chance.choice(["BUY", "SELL"]), chance.randint(1, 3)
            held += quantity if side == "BUY" else -quantity
            price = str(Decimal(chance.randint(9_900, 10_100)) / 100)
            sent.append((EXECUTIONS, execution(clock, side, str(quantity), price, "0.1", f"o{number}")))
        else:
            size = held + chance.choice([0, 0, 0, 1])
            said = {"side": "Buy" if size > 0 else "Sell"} if size else {"side": ""}
            average = str(Decimal(chance.randint(9_900, 10_100)) / 100) if size else "0"
            sent.append((REPORTS, report(clock, size=str(abs(size)), avgPrice=average, **said)))
    return sent


@pytest.mark.parametrize("seed", range(6))
async def test_in_any_order_of_arrival_the_position_is_the_fold_of_its_entries(feeds: Feeds, seed: int) -> None:
    chance = random.Random(seed)
    sent = messages(seed)
    # Neighbours change places, some come much later, some twice.
    stored = FoldState()
    arrivals = sorted(range(60), key=lambda place: place + chance.choice([0, 0, 1, 3, 20]) * chance.random())
    for place in arrivals:
        queue, body = sent[place]
        for _ in range(chance.choice([1, 1, 2])):
            await feeds.send(queue, body)
        stored, anew = (await feeds.position(key(BTC))).state, await folded_anew(feeds)
        assert stored == anew, place
    kept = await feeds.rows("SELECT count(*) AS entries FROM adjustments")
    assert kept[0]["entries"] <= sum(queue == REPORTS for queue, _ in sent)
    assert len(await feeds.rows("SELECT 1 FROM fills")) == sum(queue == EXECUTIONS for queue, _ in sent)
    assert decimal_text(stored.lifetime.fees) == decimal_text(
        Decimal("0.1") * sum(queue == EXECUTIONS for queue, _ in sent)
    )
