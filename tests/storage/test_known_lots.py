"""Lots of hot keys are remembered by version, bounded, and never believed of another version."""

from datetime import UTC, datetime
from decimal import Decimal

from steelyard.accounting.keys import OrderKey
from steelyard.accounting.lots import Lot
from steelyard.storage.known_lots import KnownLots
from tests.recording.desk import key_of

AT = OrderKey(datetime(2025, 6, 20, tzinfo=UTC), 0, "f1")
LOT = Lot(AT, Decimal(1), Decimal(1), Decimal(21000))


def test_a_version_is_known_and_another_is_not() -> None:
    known = KnownLots()
    known.keep([(key_of(), (3, AT, Decimal(1)), (LOT,))])
    assert known.of(key_of(), (3, AT, Decimal(1))) == (LOT,)
    assert known.of(key_of(), (4, AT, Decimal(1))) is None
    assert known.of(key_of(), (3, AT, Decimal(2))) is None


def test_the_least_recently_used_piles_are_forgotten_first() -> None:
    known = KnownLots(lots_max=4)
    keys = [key_of(account=f"a{number}") for number in range(3)]
    identity = (1, AT, Decimal(2))
    known.keep([(key, identity, (LOT, LOT)) for key in keys[:2]])
    assert known.of(keys[0], identity) is not None
    known.keep([(keys[2], identity, (LOT, LOT))])
    assert [known.of(key, identity) is not None for key in keys] == [True, False, True]


def test_a_newer_version_takes_the_place_of_the_older() -> None:
    known = KnownLots(lots_max=2)
    for version in range(1, 6):
        known.keep([(key_of(), (version, AT, Decimal(2)), (LOT, LOT))])
    assert known.of(key_of(), (5, AT, Decimal(2))) == (LOT, LOT)
