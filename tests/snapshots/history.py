"""A book with a history of its own: each act through the real operations, and beside it what the oracle is told."""

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from steelyard.accounting.entries import Adjustment, AdjustmentKind, Fill, Side
from steelyard.accounting.keys import Account, Book, FillId, InstrumentName, Leg, PositionKey
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import FillReceipt, WriteOptions
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.read_as_of import ReadAsOf
from steelyard.operations.reading import Reading
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.storage.heads import HeadReads
from steelyard.storage.history_reads import HistoryReads
from steelyard.storage.import_rollback import PostgresRollback
from tests.builds.desk import Desk, clock, generic
from tests.oracle import (
    OracleAdjustment,
    OracleEntry,
    OracleFill,
    OracleFunding,
    OracleInstrument,
    OracleKey,
    OracleRevision,
    replay,
)
from tests.snapshots.compare import of_oracle, told

ACCOUNT = Account("desk")
START = datetime(2025, 1, 2, tzinfo=UTC)
SPAN = timedelta(days=240)
INSTRUMENTS = {
    "BTCUSDT": OracleInstrument(name="BTCUSDT"),
    "XBTUSD": OracleInstrument(name="XBTUSD", kind="inverse", settle_currency="XBT"),
    "ETHUSDT": OracleInstrument(name="ETHUSDT", multiplier="0.1"),
}
KEYS = [
    PositionKey(ACCOUNT, Book("main"), InstrumentName("BTCUSDT"), Leg.NET),
    PositionKey(ACCOUNT, Book("main"), InstrumentName("XBTUSD"), Leg.NET),
    PositionKey(ACCOUNT, Book("swing"), InstrumentName("ETHUSDT"), Leg.LONG),
]
Change = Callable[[Fill], Fill]


def as_given(fill: Fill) -> Change:
    """An amendment to this content."""
    return lambda _: fill


class History:
    """What was done to a book, and when each of it was committed."""

    def __init__(self, desk: Desk, chance: random.Random) -> None:
        self.desk = desk
        self.chance = chance
        reading = Reading(HeadReads(desk.database), clock)
        self.as_of = ReadAsOf(HistoryReads(desk.database), reading, clock=clock)
        self.correcting = CorrectFills(desk.ledger, clock, jitter=lambda: 0.5, limits=RefoldLimits())
        self.rolling_back = RollBackImport(PostgresRollback(desk.database), clock)
        self.entries: list[OracleEntry] = []
        self.revisions: list[OracleRevision] = []
        self.moments: list[datetime] = []
        """When acts were committed."""
        self.fills: dict[FillId, Fill] = {}
        """As they stand."""
        self.imports: list[uuid.UUID] = []
        self._seq = 0
        self._count = 0

    async def begin(self) -> None:
        """Makes instruments and begins to write."""
        for record in INSTRUMENTS.values():
            await self.desk.plant(
                "INSERT INTO instruments (instrument, kind, multiplier, quote_currency, settle_currency) "
                "VALUES ($1, $2, $3, 'USD', $4)",
                *(record.name, record.kind.upper(), Decimal(record.multiplier), record.settle_currency),
            )
        self.desk.fills.start()

    async def close(self) -> None:
        """Commits what waits."""
        await self.desk.fills.close()

    async def act(self) -> None:
        """Does one thing at random."""
        acts = (self.record, self.record, self.record_one_after_all, self.pend, self.repeat_earlier_in_its_second)
        more = (self.adjust, self.fund, self.amend, self.bust, self.import_file, self.roll_back, self.build)
        await self.chance.choice([*acts, *more])()

    async def record(self) -> None:
        """Some fills, mostly late."""
        await self.record_these([self.new_fill() for _ in range(self.chance.randint(1, 6))])

    async def record_one_after_all(self) -> None:
        """A fill in order."""
        await self.record_these([self.new_fill(at=START + SPAN + timedelta(seconds=self._count))])

    async def pend(self) -> None:
        """Fills that wait for a build."""
        await self.record_these([self.new_fill() for _ in range(2)], WriteOptions(is_auto_update=False))

    async def record_these(self, fills: list[Fill], options: WriteOptions | None = None) -> None:
        """Fills nobody knows, in one batch."""
        result = await self.desk.fills.record_batch(fills, options=options or WriteOptions())
        assert all(isinstance(item, FillReceipt) for item in result.items), result.items
        at = await self._committed()
        self.entries += [oracle_fill(fill, at) for fill in fills]
        self.fills |= {fill.fill_id: fill for fill in fills}

    async def repeat_earlier_in_its_second(self) -> None:
        """A known fill again, with a smaller place in its instant."""
        known = [fill for fill in self.fills.values() if fill.revision == 1 and not fill.is_busted]
        if not known:
            return
        fill = self.chance.choice(known)
        again = fill._replace(source_sequence=fill.source_sequence - 1)
        await self.desk.fills.record_batch([again])
        at = await self._committed()
        self.entries.append(oracle_fill(again, at))
        self.fills[fill.fill_id] = again

    async def adjust(self) -> None:
        """Sets quantity and average."""
        key = self.chance.choice(KEYS)
        quantity = self.chance.choice(["0", "3", "-2" if key.leg is Leg.NET else "1.5"])
        average = None if quantity == "0" else self._price(key)
        self._count += 1
        adjustment = Adjustment(
            key=key,
            adjustment_id=FillId(f"adjusted-{self._count}"),
            kind=AdjustmentKind.CORRECTION,
            effective_at=self._time(),
            quantity=Decimal(quantity),
            average_price=None if average is None else Decimal(average),
        )
        await self._adjust(adjustment)
        self.entries.append(
            OracleAdjustment(
                adjustment_id=adjustment.adjustment_id,
                kind="CORRECTION",
                quantity=quantity,
                average=average,
                executed_at=adjustment.effective_at,
                recorded_at=self.moments[-1],
                **_of_key(key),
            )
        )

    async def fund(self, *, of: PositionKey | None = None, at: datetime | None = None) -> None:
        """Pays or receives funding, of any key at any time unless said otherwise."""
        key, amount = of or self.chance.choice(KEYS), str(Decimal(self.chance.randint(1, 500)) / 100)
        self._count += 1
        adjustment = Adjustment(
            key=key,
            adjustment_id=FillId(f"funding-{self._count}"),
            kind=AdjustmentKind.FUNDING,
            effective_at=at or self._time(),
            amount=Decimal(amount),
        )
        await self._adjust(adjustment)
        self.entries.append(
            OracleFunding(
                funding_id=adjustment.adjustment_id,
                amount=amount,
                executed_at=adjustment.effective_at,
                recorded_at=self.moments[-1],
                **_of_key(key),
            )
        )

    async def _adjust(self, adjustment: Adjustment) -> None:
        await self.desk.fills.adjust(adjustment, request=RequestIdentity(uuid.uuid4(), b"body"))
        await self._committed()

    async def amend(self) -> None:
        """Gives a fill another content, or another key."""
        fill = self._living()
        if fill is None:
            return
        key = self.chance.choice([fill.key, fill.key, self.chance.choice(KEYS[:2])])
        other = self.new_fill(key=key)._replace(fill_id=fill.fill_id, source_sequence=fill.source_sequence)
        await self.correcting.amend(ACCOUNT, fill.fill_id, expected_revision=fill.revision, amendment=as_given(other))
        await self._revise(other._replace(revision=fill.revision + 1))

    async def bust(self) -> None:
        """Withdraws a fill for good."""
        fill = self._living()
        if fill is not None:
            await self.correcting.bust(ACCOUNT, fill.fill_id, expected_revision=fill.revision)
            await self._revise(fill._replace(revision=fill.revision + 1, is_busted=True))

    async def import_file(self) -> None:
        """A file of new fills, and sometimes of known ones that were taken back or repeated."""
        fills = [self.new_fill(key=self.chance.choice(KEYS[:2]))._replace(source_sequence=0) for _ in range(4)]
        receipt = await self.desk.load(generic([line_of(fill) for fill in fills]))
        assert receipt.record.counts.recorded == len(fills), receipt.results
        at = await self._committed()
        self.imports.append(receipt.record.import_id)
        for row in await self.desk.rows("SELECT fill_id, source_sequence FROM fills WHERE import_id IS NOT NULL"):
            for fill in fills:
                if fill.fill_id == row["fill_id"]:
                    stored = fill._replace(source_sequence=row["source_sequence"])
                    self.fills[fill.fill_id] = stored
                    self.entries.append(oracle_fill(stored, at))
        if self.chance.random() < 0.6:
            await self.desk.run(receipt.record.build_id)
            await self._committed()

    async def roll_back(self) -> None:
        """Takes an import back."""
        if not self.imports:
            return
        done = await self.rolling_back.run(self.imports.pop(self.chance.randrange(len(self.imports))))
        if not done.commits:
            return
        at = await self._committed()
        gone = await self.desk.rows("SELECT fill_id, revision FROM fills WHERE state = 'WITHDRAWN'")
        for row in gone:
            fill = self.fills.pop(row["fill_id"], None)
            if fill is not None:
                self.revisions.append(
                    OracleRevision(
                        account=ACCOUNT, fill_id=fill.fill_id, revision=row["revision"], content=None, recorded_at=at
                    )
                )
        if self.chance.random() < 0.6:
            await self.desk.run(done.build_id)
            await self._committed()

    async def build(self) -> None:
        """Folds whatever waits."""
        build = await self.desk.create()
        await self.desk.run(build.build_id)
        await self._committed()

    async def _revise(self, fill: Fill) -> None:
        at = await self._committed()
        content = None if fill.is_busted else oracle_fill(fill, at)
        self.revisions.append(
            OracleRevision(
                account=ACCOUNT, fill_id=fill.fill_id, revision=fill.revision, content=content, recorded_at=at
            )
        )
        self.fills[fill.fill_id] = fill

    async def _committed(self) -> datetime:
        """When the first commit since the last act was made: that which recorded something."""
        rows = await self.desk.rows(
            "SELECT seq, committed_at FROM account_commits WHERE account = $1 AND seq > $2 ORDER BY seq",
            ACCOUNT,
            self._seq,
        )
        if rows:
            self._seq = rows[-1]["seq"]
            self.moments += [row["committed_at"] for row in reversed(rows)]
            return rows[0]["committed_at"]  # type: ignore[no-any-return] # the driver is untyped
        return self.moments[-1] if self.moments else clock()

    def _living(self) -> Fill | None:
        living = [fill for fill in self.fills.values() if not fill.is_busted]
        return self.chance.choice(living) if living else None

    def new_fill(self, *, key: PositionKey | None = None, at: datetime | None = None) -> Fill:
        """A fill nobody knows."""
        chance, self._count = self.chance, self._count + 1
        where = key or chance.choice(KEYS)
        return Fill(
            key=where,
            fill_id=FillId(f"f{self._count:05d}"),
            side=chance.choice([Side.BUY, Side.SELL]),
            quantity=Decimal(chance.choice([1, 1, 2, 3])) * (100 if where.instrument == "XBTUSD" else 1),
            price=Decimal(self._price(where)),
            executed_at=at or self._time(),
            fee=Decimal(chance.randint(-50, 300)) / 100,
            fee_currency=chance.choice([None, None, "BNB"]),
            fee_rate=None,
            source_sequence=chance.randint(0, 3),
        )

    def _price(self, key: PositionKey) -> str:
        return str(Decimal(self.chance.randint(80_000, 120_000)) / 2 / (10 if key.instrument == "ETHUSDT" else 1))

    def _time(self) -> datetime:
        """Some time in the months; often one of few instants, so that entries share them."""
        if self.chance.random() < 0.3:
            return START + SPAN * self.chance.randint(0, 8) / 8
        return START + timedelta(seconds=self.chance.randint(0, int(SPAN.total_seconds())))

    def question(self) -> tuple[datetime | None, datetime | None]:
        """A random pair of times."""
        chance = self.chance
        as_of = chance.choice([None, self._time(), self._time(), START + SPAN + timedelta(days=1)])
        if not self.moments or chance.random() < 0.25:
            return as_of, None
        known_at = chance.choice(self.moments)
        return as_of, known_at - timedelta(microseconds=chance.choice([0, 0, 1]))

    async def check(self, *, as_of: datetime | None, known_at: datetime | None) -> int:
        """Holds the answers for every key against the oracle's; gives how many entries were folded for them."""
        expected = replay(
            self.entries, instruments=INSTRUMENTS, revisions=self.revisions, as_of=as_of, known_at=known_at
        )
        folded = 0
        for key in KEYS:
            position = expected.get(OracleKey(*key))
            if position is not None:
                answer = await self.as_of.get(key, as_of=as_of, known_at=known_at)
                ours, theirs = told(answer.value), of_oracle(position)
                differing = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
                assert not differing, (differing, key, as_of, known_at)
                folded += answer.value.folded
        return folded


def _of_key(key: PositionKey) -> dict[str, Any]:
    return {"account": key.account, "book": key.book, "instrument": key.instrument, "leg": key.leg.value}


def oracle_fill(fill: Fill, recorded_at: datetime) -> OracleFill:
    """A fill as the oracle is told of it."""
    return OracleFill(
        fill_id=fill.fill_id,
        side=fill.side.value,
        quantity=str(fill.quantity),
        price=str(fill.price),
        executed_at=fill.executed_at,
        fee=str(fill.fee),
        fee_currency=fill.fee_currency,
        source_sequence=fill.source_sequence,
        recorded_at=recorded_at,
        **_of_key(fill.key),
    )


def line_of(fill: Fill) -> str:
    """A row of a generic CSV."""
    cells = (
        *(fill.fill_id, fill.key.account, fill.key.book, fill.key.instrument, fill.side.value),
        *(fill.quantity, fill.price, fill.fee, fill.fee_currency or "", fill.executed_at.isoformat()),
    )
    return ",".join(map(str, cells))
