"""Histories in which everything that can happen to a book happens, by call, by file and by feed, in a random order."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from steelyard.accounting.entries import Adjustment, AdjustmentKind, Fill, Side
from steelyard.accounting.errors import FillBusted
from steelyard.accounting.keys import Account, Book, FillId, InstrumentName, Leg, PositionKey
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.venue_report import SizeAuthority, VenueReport
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import WriteOptions
from steelyard.operations.apply_venue_report import ApplyVenueReport
from steelyard.operations.building import Build, BuildMode
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.feed_messages import Execution, OrderState, Receipt
from steelyard.operations.feed_ports import FeedRules
from steelyard.operations.keep_accounts import AccountChange, KeepAccounts
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.order_events import ApplyOrderEvents
from steelyard.operations.ports import AccountRules
from steelyard.operations.reading import Reading
from steelyard.operations.record_executions import RecordExecutions
from steelyard.operations.record_fills import RecordFills
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.storage.accounts_admin import AccountRecords
from steelyard.storage.feed_ledger import PostgresFeedLedger
from steelyard.storage.heads import HeadReads
from steelyard.storage.import_rollback import PostgresRollback
from tests.builds.desk import Desk, clock, generic, scope

START = datetime(2025, 6, 20, 13, tzinfo=UTC)
ACCOUNT = Account("mixed")
FILLS = 20
LEGS = (Leg.NET, Leg.NET, Leg.LONG, Leg.SHORT)
LIMITS = (RefoldLimits(), RefoldLimits(3, 6), RefoldLimits(0, 0), RefoldLimits(0, 100))
"""Late fills are folded at once, by their caller, or by a build."""


class MixedHistory:
    """One account, a few keys and instants, so that much falls on the same."""

    def __init__(self, desk: Desk, chance: random.Random) -> None:
        self._desk = desk
        self._chance = chance
        limits = chance.choice(LIMITS)
        pattern = AccountRules(Account(""), time_zone="UTC")
        self._recording = RecordFills(desk.ledger, clock, new_accounts=pattern, jitter=chance.random, limits=limits)
        self._correcting = CorrectFills(desk.ledger, clock, jitter=chance.random, limits=limits)
        feeds, rules = PostgresFeedLedger(desk.database, clock), FeedRules(account=ACCOUNT)
        self._orders = ApplyOrderEvents(feeds, clock, rules=rules, jitter=chance.random, limits=limits)
        self._executions = RecordExecutions(feeds, clock, rules=rules, jitter=chance.random)
        self._reports = ApplyVenueReport(feeds, clock, rules=rules, jitter=chance.random)
        reading = Reading(HeadReads(desk.database), clock)
        self._accounts = KeepAccounts(AccountRecords(desk.database), reading, jitter=chance.random)
        self._rollback = RollBackImport(PostgresRollback(desk.database), clock)
        self._fills = [self._new_fill(number) for number in range(FILLS)]
        self._states = [self._new_order(number) for number in range(3)]
        self._imports: list[uuid.UUID] = []
        self._count = 0

    async def run(self, steps: int) -> None:
        """Lets so many things happen."""
        self._recording.start()
        acts: Mapping[Callable[[], Awaitable[Any]], int] = {
            self._record: 4, self._import: 2, self._take_back: 1, self._correct: 2, self._adjust: 1,
            self._follow_order: 2, self._execute: 1, self._report: 1, self._change_account: 1, self.build: 1,
        }  # fmt: skip
        for act in self._chance.choices(list(acts), weights=list(acts.values()), k=steps):
            self._count += 1
            await act()
        await self._recording.close()

    async def build(self, mode: BuildMode = BuildMode.INCREMENTAL) -> Build:
        """Folds what is stale; by FULL everything from the start."""
        build = await self._desk.create(scope((ACCOUNT,)), mode=mode)
        return await self._desk.run(build.build_id)

    def _new_fill(self, number: int) -> Fill:
        chance = self._chance
        names = (Book(chance.choice(("main", "swing"))), InstrumentName(chance.choice(("ES SEP25", "NQ SEP25"))))
        return Fill(
            key=PositionKey(ACCOUNT, *names, chance.choice(LEGS)),
            fill_id=FillId(f"f{number:02}"),
            side=chance.choice((Side.BUY, Side.SELL)),
            quantity=Decimal(chance.choice(("1", "1", "2", "3", "0.5"))),
            price=Decimal(chance.randint(24_000, 24_400)) / 4,
            fee=Decimal(chance.choice(("0", "1.25", "-0.5", "3"))),
            fee_currency=chance.choice((None, None, "BNB")),
            executed_at=self._at(),
            source_sequence=chance.randrange(3),
        )

    def _new_order(self, number: int) -> Sequence[OrderState]:
        side = self._chance.choice((Side.BUY, Side.SELL))
        key = PositionKey(ACCOUNT, Book("main"), InstrumentName("ES SEP25"), Leg.NET)
        quantity = value = Decimal(0)
        states = []
        for place in range(3):
            more = Decimal(self._chance.choice(("1", "2", "0.5")))
            quantity, value = quantity + more, value + more * (6_000 + place)
            state = OrderState(
                key=key,
                side=side,
                order_id=f"o{number}",
                filled_quantity=quantity,
                average_price=(value / quantity).quantize(Decimal("1e-10")),
                fees=Decimal(place),
                fee_currency="USD",
                at=self._at(),
            )
            states.append(state)
        return states

    def _at(self) -> datetime:
        return START + timedelta(seconds=self._chance.randrange(8))

    def _some(self) -> list[Fill]:
        return self._chance.sample(self._fills, self._chance.randint(1, 6))

    def _receipt(self, what: str) -> Receipt:
        content = hashlib.sha256(what.encode()).digest()
        return Receipt(source="queue", event_id=what, content_hash=content, received_at=START + timedelta(minutes=1))

    async def _record(self) -> None:
        """Some fills, perhaps pending, perhaps one of them twice, under any sequence."""
        fills = [fill._replace(source_sequence=self._chance.randrange(4)) for fill in self._some()]
        again = [fill._replace(source_sequence=self._chance.randrange(4)) for fill in fills[:2]]
        options = WriteOptions(is_auto_update=self._chance.random() < 0.8)
        await self._recording.record_batch([*fills, *again], options=options)

    async def _import(self) -> None:
        fills = sorted((fill for fill in self._some() if fill.key.leg is Leg.NET), key=lambda fill: fill.executed_at)
        rows = [
            f"{fill.fill_id},{ACCOUNT},{fill.key.book},{fill.key.instrument},{fill.side},{fill.quantity},{fill.price},"
            f"{fill.fee},{fill.fee_currency or 'USD'},{fill.executed_at.isoformat()}"
            for fill in fills
        ]
        if rows:
            receipt = await self._desk.load(generic(rows), is_auto_build=False)
            self._imports.append(receipt.record.import_id)

    async def _take_back(self) -> None:
        if self._imports:
            await self._rollback.run(self._imports.pop(self._chance.randrange(len(self._imports))))

    async def _correct(self) -> None:
        """Busts a fill that is stored, or gives it another content, perhaps on another key."""
        fill = self._chance.choice(self._fills)
        of_fill = "SELECT revision FROM fills WHERE account = $1 AND fill_id = $2"
        revision = await self._desk.value(of_fill, ACCOUNT, fill.fill_id)
        if revision is None:
            return
        other = self._new_fill(int(fill.fill_id[1:]))
        try:
            if self._chance.random() < 0.3:
                await self._correcting.bust(ACCOUNT, fill.fill_id, expected_revision=revision)
            else:
                await self._correcting.amend(
                    ACCOUNT,
                    fill.fill_id,
                    expected_revision=revision,
                    amendment=lambda stored: other._replace(
                        source_sequence=stored.source_sequence, revision=stored.revision
                    ),
                )
        except FillBusted:
            pass

    async def _adjust(self) -> None:
        key = self._chance.choice(self._fills).key
        kind = self._chance.choice([kind for kind in AdjustmentKind if kind is not AdjustmentKind.VENUE])
        quantity = self._chance.randint(0, 3) * (-1 if key.leg is Leg.SHORT else 1)
        is_funding = kind is AdjustmentKind.FUNDING
        adjustment = Adjustment(
            key=key,
            adjustment_id=FillId(f"a{self._count}"),
            kind=kind,
            effective_at=self._at(),
            quantity=None if is_funding else Decimal(quantity),
            average_price=None if is_funding or not quantity else Decimal(6_000),
            amount=Decimal("1.5") if is_funding else None,
            source_sequence=self._chance.randrange(3),
        )
        await self._recording.adjust(adjustment, request=RequestIdentity(uuid.uuid4(), b"body"))

    async def _follow_order(self) -> None:
        state = self._chance.choice(self._chance.choice(self._states))
        told = f"{state.order_id} {state.filled_quantity} {self._chance.randrange(2)}"
        await self._orders.apply(state, self._receipt(told))

    async def _execute(self) -> None:
        """An execution of a feed, at times one that a caller records as well."""
        fill = self._chance.choice(self._fills)
        execution = Execution(
            key=fill.key,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            fee=fill.fee,
            fee_currency=fill.fee_currency,
            executed_at=fill.executed_at,
            event_id=self._chance.choice((fill.fill_id, f"e{fill.fill_id}")),
        )
        await self._executions.record([(execution, self._receipt(f"execution {self._count}"))])

    async def _report(self) -> None:
        key = self._chance.choice(self._fills).key
        size = Decimal(self._chance.randint(0, 4))
        sign = {Leg.LONG: 1, Leg.SHORT: -1}.get(key.leg) or self._chance.choice((1, -1))
        report = VenueReport(
            key=key,
            size=size,
            quantity=size * sign,
            average_price=Decimal(self._chance.choice((6_010, 6_050))) if size else None,
            reported_at=START + timedelta(seconds=self._chance.randrange(12)),
        )
        await self._reports.apply(report, self._receipt(f"report {self._count}"))

    async def _change_account(self) -> None:
        change = AccountChange(
            account=ACCOUNT,
            lot_method=self._chance.choice(list(LotMethod)),
            size_authority=self._chance.choice((None, SizeAuthority.LATEST, SizeAuthority.FILLS)),
        )
        await self._accounts.upsert(change, request=RequestIdentity(uuid.uuid4(), b"body"))
