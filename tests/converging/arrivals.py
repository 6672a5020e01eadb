"""Histories of fills with their corrections, and the orders in which they may arrive, through the calls of a client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from steelyard.client import Fill, FillBusted, Leg, Side, Steelyard, VersionMismatch
from steelyard.client.fill_calls import FillReceipt
from tests.client.desk import START, make_fill
from tests.oracle import OracleFill, OracleRevision

BOOKS = ("main", "swing")
LEGS = (Leg.LONG, Leg.SHORT)
AT_ONCE = 25
"""Actions that are under way at the same time, of different fills."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that happens to a fill: recorded (revision 1), amended, or busted (content None)."""

    fill_id: str
    revision: int
    content: Fill | None
    is_repeat: bool = False


def history(chance: random.Random, size: int) -> list[list[Action]]:
    """So many fills, amendments and busts over two books and two legs: of each fill, its actions in order."""
    chains: list[list[Action]] = []
    left = size
    while left > 0:
        fill = _content(chance, number=len(chains))
        chain = [Action(fill.fill_id, 1, fill)]
        while len(chain) < min(left, 4) and chance.random() < 0.2:
            amended = replace(_content(chance, number=len(chains)), source_sequence=fill.source_sequence)
            chain.append(Action(fill.fill_id, len(chain) + 1, amended))
        if len(chain) < left and chance.random() < 0.1:
            chain.append(Action(fill.fill_id, len(chain) + 1, None))
        chains.append(chain)
        left -= len(chain)
    return chains


def _content(chance: random.Random, *, number: int) -> Fill:
    leg = chance.choice(LEGS)
    opening, closing = (Side.BUY, Side.SELL) if leg is Leg.LONG else (Side.SELL, Side.BUY)
    return make_fill(
        number,
        chance.choice((opening, closing)),
        chance.choice(("1", "1", "1", "2", "2", "3", "0.5")),
        str(25_000 + chance.randrange(-400, 400) * Decimal("0.25")),
        book=chance.choice(BOOKS),
        leg=leg,
        # Few different times, so that many are equal.
        executed_at=START + timedelta(seconds=chance.randrange(150)),
        fee=chance.choice((None, Decimal("0.5"), Decimal("-0.07"), Decimal("1.03"))),
        source_sequence=chance.randrange(3),
    )


def arrival(chance: random.Random, chains: Sequence[Sequence[Action]], *, repeats: int) -> list[Action]:
    """The actions in some order, those of each fill in theirs, with repeats anywhere behind what they repeat."""
    turns = [number for number, chain in enumerate(chains) for _ in chain]
    chance.shuffle(turns)
    ahead = [iter(chain) for chain in chains]
    arrived = [next(ahead[turn]) for turn in turns]
    for _ in range(repeats):
        place = chance.randrange(len(arrived))
        arrived.insert(chance.randint(place + 1, len(arrived)), replace(arrived[place], is_repeat=True))
    return arrived


async def send(client: Steelyard, arrived: Sequence[Action], *, at_once: int = AT_ONCE) -> None:
    """Carries out the actions in this order, so many of different fills at the same time."""
    for group in _groups(arrived, at_once):
        fills = [action.content for action in group if action.revision == 1 and action.content is not None]
        batch, singles = fills[: len(fills) // 2], fills[len(fills) // 2 :]
        corrections = [action for action in group if action.revision > 1]
        await asyncio.gather(
            _record_batch(client, batch),
            *(client.record_fill(fill) for fill in singles),
            *(_correct(client, action) for action in corrections),
        )


def _groups(arrived: Sequence[Action], at_once: int) -> Iterator[list[Action]]:
    group: list[Action] = []
    for action in arrived:
        if len(group) == at_once or action.fill_id in {each.fill_id for each in group}:
            yield group
            group = []
        group.append(action)
    yield group


async def _record_batch(client: Steelyard, fills: Sequence[Fill]) -> None:
    if fills:
        outcome = await client.batch_record_fills(fills)
        assert all(isinstance(result, FillReceipt) for result in outcome.results), outcome


async def _correct(client: Steelyard, action: Action) -> None:
    expected = action.revision - 1
    try:
        if action.content is None:
            await client.bust_fill("desk", action.fill_id, expected_revision=expected)
        else:
            await client.amend_fill(action.content, expected_revision=expected)
    except (FillBusted, VersionMismatch):
        # A correction that is repeated after a later one is refused, or known: either way nothing changes.
        assert action.is_repeat


def as_oracle(chains: Sequence[Sequence[Action]]) -> tuple[list[OracleFill], list[OracleRevision]]:
    """The same history as the oracle takes it."""
    fills = [_oracle_fill(chain[0].content) for chain in chains]
    revisions = [
        OracleRevision(
            account="desk",
            fill_id=action.fill_id,
            revision=action.revision,
            content=None if action.content is None else _oracle_fill(action.content),
        )
        for chain in chains
        for action in chain[1:]
    ]
    return fills, revisions


def _oracle_fill(fill: Fill | None) -> OracleFill:
    assert fill is not None
    return OracleFill(
        fill_id=fill.fill_id,
        account=fill.account,
        instrument=fill.instrument,
        side=fill.side.value,
        quantity=str(fill.quantity),
        price=str(fill.price),
        executed_at=fill.executed_at,
        book=fill.book,
        leg=fill.leg.value,
        fee=str(fill.fee or 0),
        source_sequence=fill.source_sequence or 0,
    )
