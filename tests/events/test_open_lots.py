"""What a message costs the store does not grow with what its position has piled up."""

from steelyard.storage.database import Database
from steelyard.storage.feed_ledger import PostgresFeedLedger
from steelyard.telemetry.store import StoreTelemetry
from tests.events.feeds import NOW, Feeds, key
from tests.events.worked import BTC, EXECUTIONS, execution


class Statements(StoreTelemetry):
    """Keeps what the store was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def statement_ran(self, statement: str, *, took_s: float, origin: tuple[str, str]) -> None:
        self.asked.append(statement)


async def test_the_lots_of_a_position_are_not_read_again_for_every_message(database_url: str) -> None:
    statements = Statements()
    database = Database(database_url, telemetry=statements)
    feeds = Feeds(database_url, ledger=PostgresFeedLedger(database, lambda: NOW))
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "o0"))
    statements.asked.clear()
    for number in range(1, 5):
        await feeds.send(EXECUTIONS, execution(f"10:00:0{number}", "BUY", "1", "100", "0", f"o{number}"))
    assert len(statements.asked) > 4
    assert not any("JOIN lots" in asked for asked in statements.asked)
    assert len((await feeds.position(key(BTC))).state.lots) == 5
    await database.close()
    await feeds.close()
