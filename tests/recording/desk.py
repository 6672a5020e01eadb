"""The write side of the service on one database, fills by number, and the oracle's word on them."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from steelyard.accounting import keys
from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.keys import Leg, PositionKey
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.units import decimal_text
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.ports import AccountRules, StoredPosition
from steelyard.operations.record_fills import DEFAULT_LIMITS, RecordFills
from steelyard.storage.database import Database
from steelyard.storage.ledger import PostgresLedger
from tests.oracle import OracleFill, OracleInstrument, OracleKey, OraclePosition, replay, wire

NOW = datetime(2025, 6, 20, 20, 0, tzinfo=UTC)
START = datetime(2025, 6, 20, 14, 0, tzinfo=UTC)
INSTRUMENT = OracleInstrument(name="MNQ SEP25", multiplier="2", settle_currency="USD")


class Desk:
    """The write side of the service on one database."""

    def __init__(self, url: str, limits: RefoldLimits = DEFAULT_LIMITS) -> None:
        self.database = Database(url)
        self.ledger = PostgresLedger(self.database, lambda: NOW)
        pattern = AccountRules(keys.Account("pattern"))
        self.recording = RecordFills(self.ledger, lambda: NOW, new_accounts=pattern, limits=limits)
        self.correcting = CorrectFills(self.ledger, lambda: NOW, jitter=lambda: 0.5, limits=limits)

    async def position(self, key: PositionKey) -> StoredPosition:
        async with self.ledger.transaction(cause="read", is_read_only=True) as book:
            return (await book.peek_positions([key]))[key]


def key_of(account: str = "desk", leg: Leg = Leg.NET, instrument: str = "MNQ SEP25") -> PositionKey:
    return PositionKey(keys.Account(account), keys.DEFAULT_BOOK, keys.InstrumentName(instrument), leg)


def make_fill(
    number: int, side: str, quantity: str, price: str, *, fee: str = "0", at_s: int | None = None, leg: Leg = Leg.NET
) -> Fill:
    return Fill(
        key=key_of(leg=leg),
        fill_id=keys.FillId(f"f{number}"),
        side=Side(side),
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        executed_at=START + timedelta(seconds=number if at_s is None else at_s),
    )


def oracle_of(fills: list[Fill]) -> dict[OracleKey, OraclePosition]:
    entries = [
        OracleFill(
            fill_id=fill.fill_id,
            account=fill.key.account,
            book=fill.key.book,
            instrument=fill.key.instrument,
            leg=fill.key.leg.value,
            side=fill.side.value,
            quantity=str(fill.quantity),
            price=str(fill.price),
            fee=str(fill.fee),
            executed_at=fill.executed_at,
            source_sequence=fill.source_sequence,
        )
        for fill in fills
    ]
    return replay(entries, instruments={"MNQ SEP25": INSTRUMENT})


def assert_equals_oracle(stored: StoredPosition, fills: list[Fill]) -> None:
    expected = oracle_of(fills)[OracleKey(*stored.key)]
    state, sums = stored.state, stored.state.lifetime
    average, lots = expected.figures["AVERAGE"], expected.figures["FIFO"]
    assert decimal_text(state.quantity) == wire(expected.quantity)
    assert decimal_text(sums.gross_average) == wire(average.gross_realized_pnl, 40)
    assert decimal_text(sums.gross_lots) == wire(lots.gross_realized_pnl, 40)
    assert decimal_text(sums.fees) == wire(expected.fees)
    assert decimal_text(sums.realized(CostMethod.AVERAGE)) == wire(average.realized_pnl, 40)
    assert (None if state.average is None else decimal_text(state.average)) == (
        None if average.average is None else wire(average.average)
    )
    assert [decimal_text(lot.quantity) for lot in state.lots] == [
        wire(abs(lot.quantity)) for lot in expected.lots["FIFO"]
    ]
    assert sums.fill_count == expected.fill_count


def random_fills(seed: int, count: int, *, accounts_leg: Leg = Leg.NET) -> list[Fill]:
    chance = random.Random(seed)
    return [
        make_fill(
            number,
            chance.choice(["BUY", "SELL"]),
            str(chance.randint(1, 5)),
            str(Decimal(chance.randint(80_000, 88_000)) / 4),
            fee=str(Decimal(chance.randint(0, 300)) / 100),
            at_s=chance.randint(0, count),
            leg=accounts_leg,
        )
        for number in range(count)
    ]
