"""Invented executions: a trading day as NinjaTrader exports it, a generic file, and a day with every kind of bad row.

Deterministic by seed and streaming: the same seed gives the same lines, and a million of them take no more memory than
a hundred. Each line ends in a line feed. Prices walk in whole ticks, so every figure is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

NINJATRADER_HEADER = (
    "Instrument,Action,Quantity,Price,Time,ID,E/X,Position,Order ID,Name,Commission,Rate,Account,Connection,\n"
)
GENERIC_HEADER = "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at\n"
SAMPLE_DAY = date(2025, 6, 20)
OPENS_S = int(6.5 * 3600)
"""Local second of the day at which the sample market opens."""
OPEN_S = 6 * 3600
QUANTITY_MAX = 9
_LAST_MONTHS = ("MAR", "JUN", "SEP", "DEC")


@dataclass(frozen=True, slots=True)
class Contract:
    """A futures contract as far as inventing executions needs it; money in hundredths."""

    name: str
    price_start: int
    tick: int
    commission: int
    """Per contract and side."""


@dataclass(slots=True)
class Desk:
    """One account's dealing in one contract while a day is being invented."""

    account: str
    contract: Contract
    held: int = 0


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that an import refuses or warns of, and what it then says."""

    what: str
    line: str
    category: str
    column: str | None


def contracts_of(day: date) -> tuple[Contract, ...]:
    """What the sample accounts trade on a day: contracts that expire in the quarter after it."""
    quarter = (day.month - 1) // 3 + 1
    expiry = f"{_LAST_MONTHS[quarter % 4]}{(day.year + quarter // 4) % 100:02d}"
    return (
        Contract(f"MNQ {expiry}", price_start=2_185_025, tick=25, commission=52),
        Contract(f"ES {expiry}", price_start=602_050, tick=25, commission=204),
        Contract(f"MES {expiry}", price_start=602_050, tick=25, commission=52),
        Contract(f"CL {expiry}", price_start=7_384, tick=1, commission=206),
        Contract(f"MGC {expiry}", price_start=338_510, tick=10, commission=82),
    )


def generate_day(
    seed: int, *, fills: int, accounts: int = 3, day: date = SAMPLE_DAY, leave_open: int = 1, with_ids: bool = True
) -> Iterator[str]:
    """A day of executions in NinjaTrader's layout: scale-ins and -outs, flips, several executions in one second.

    A header and `fills` rows in time order over all accounts; at the end `leave_open` positions are still held, if
    there were fills enough to flatten the others. `with_ids` false leaves the ID column empty.
    """
    yield NINJATRADER_HEADER
    random = Random(seed)  # noqa: S311 - invented prices, no secrets
    desks = [Desk(f"SIM-{101 + place}", contract) for place in range(accounts) for contract in contracts_of(day)]
    prices = {desk.contract.name: desk.contract.price_start for desk in desks}
    desk, elapsed, unflat = desks[0], 0, 0
    for count in range(fills):
        spare = fills - count - (unflat - leave_open)
        # About every fourth execution falls into the same second of the same desk as the one before it.
        if random.random() >= 0.25:
            elapsed = max(elapsed, int((count + random.random()) * OPEN_S / fills))
            desk = desks[int(random.random() * len(desks))]
        if spare < 2 and unflat:
            desk = next(one for one in desks if one.held)
        if spare < 1 and desk.held:
            delta = -desk.held
        elif spare < 2 and desk.held:
            delta = 1 if desk.held > 0 else -1
        else:
            delta = _next_delta(random, desk.held)
        contract = desk.contract
        price = max(contract.tick, prices[contract.name] + contract.tick * (int(random.random() * 9) - 4))
        prices[contract.name] = price
        unflat += bool(desk.held + delta) - bool(desk.held)
        at = f"{day.month}/{day.day}/{day.year} {_clock(OPENS_S + elapsed)}"
        yield _row(desk, delta=delta, price=price, at=at, fill_id=f"2401{count + 1:08d}_1" if with_ids else "")
        desk.held += delta


def _next_delta(random: Random, held: int) -> int:
    """What a desk does next: open, add, take off a part, close, or turn round."""
    roll = random.random()
    size = 1 + int(random.random() * 4)
    if not held:
        return size if roll < 0.5 else -size
    direction = 1 if held > 0 else -1
    if roll < 0.25 and abs(held) < QUANTITY_MAX:
        return direction * min(size, QUANTITY_MAX - abs(held))
    if roll < 0.65:
        return -direction * min(size, abs(held))
    return -held if roll < 0.92 else -held - direction * size


def _row(desk: Desk, *, delta: int, price: int, at: str, fill_id: str) -> str:
    held, contract = desk.held + delta, desk.contract
    is_entry = desk.held * delta >= 0
    buy, sell = "BuyToCover" if desk.held < 0 else "Buy", "Sell" if desk.held > 0 else "SellShort"
    position = f"{abs(held)} {'L' if held > 0 else 'S'}" if held else "-"
    fee = abs(delta) * contract.commission
    return (
        f"{contract.name},{buy if delta > 0 else sell},{abs(delta)},{price // 100}.{price % 100:02d},{at},{fill_id},"
        f"{'Entry' if is_entry else 'Exit'},{position},,,${fee // 100}.{fee % 100:02d},1,{desk.account},Simulated,\n"
    )


def _clock(second: int) -> str:
    hour, minute = second // 3600, second // 60 % 60
    return f"{(hour - 1) % 12 + 1}:{minute:02d}:{second % 60:02d} {'AM' if hour < 12 else 'PM'}"


def generic_csv(
    seed: int,
    *,
    fills: int,
    accounts: int = 100,
    books: Sequence[str] = ("main",),
    instruments: Sequence[str] = (),
    day: date = SAMPLE_DAY,
) -> Iterator[str]:
    """A generic CSV of fills spread evenly over accounts x books x instruments keys, in time order over one day.

    `instruments` are those of `contracts_of(day)` unless given. Times are in UTC with microseconds.
    """
    yield GENERIC_HEADER
    random = Random(seed)  # noqa: S311 - invented prices, no secrets
    names = tuple(instruments) or tuple(contract.name for contract in contracts_of(day))
    keys = [f"DESK-{place + 1:05d},{book},{name}" for place in range(accounts) for book in books for name in names]
    begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
    step_us = 20 * 3600 * 1_000_000 // max(fills, 1)
    price = 2_185_025
    for count in range(fills):
        price = max(25, price + 25 * (int(random.random() * 9) - 4))
        side = "BUY" if random.random() < 0.5 else "SELL"
        size = 1 + int(random.random() * QUANTITY_MAX)
        at = (begins + timedelta(microseconds=count * step_us)).isoformat(timespec="microseconds")
        yield (
            f"g{seed}-{count + 1:08d},{keys[count % len(keys)]},{side},{size},{price // 100}.{price % 100:02d},"
            f"0.{52 * size % 100:02d},,{at[:26]}Z\n"
        )


def bad_rows(day: date = SAMPLE_DAY) -> tuple[BadRow, ...]:
    """Every kind of row that a NinjaTrader import refuses or warns of by itself, without looking at the store.

    The last of them is cut off and has no line feed: it belongs at the end of a file.
    """
    cells = {
        "Instrument": contracts_of(day)[0].name, "Action": "Buy", "Quantity": "1", "Price": "21850.25",
        "Time": f"{day.month}/{day.day}/{day.year} 1:00:00 PM", "ID": "", "E/X": "Entry", "Position": "",
        "Order ID": "", "Name": "", "Commission": "$0.52", "Rate": "1", "Account": "SIM-BAD", "Connection": "",
    }  # fmt: skip

    def row(what: str, category: str, *, column: str, text: str) -> BadRow:
        changed = {**cells, "ID": f"bad_{what.replace(' ', '_')}", column: text}
        return BadRow(what, ",".join(changed.values()) + ",\n", category, column)

    cut = ",".join([*cells.values()][:6])
    return (
        row("price that is no number", "parsing", column="Price", text="abc"),
        row("price NaN", "parsing", column="Price", text="NaN"),
        row("price with exponent", "parsing", column="Price", text="2.1E4"),
        row("price of 21 digits", "parsing", column="Price", text="123456789012345678901"),
        row("price zero", "validation", column="Price", text="0.00"),
        row("quantity zero", "validation", column="Quantity", text="0"),
        row("quantity negative", "validation", column="Quantity", text="-2"),
        row("unknown action", "validation", column="Action", text="Hold"),
        row("lower-case instrument", "validation", column="Instrument", text="mnq sep25"),
        row("no account", "validation", column="Account", text=""),
        row("time skipped by the clock", "parsing", column="Time", text=f"3/9/{day.year} 2:30:00 AM"),
        row("time of another country", "parsing", column="Time", text="20.06.2025 13:00:00"),
        row("commission that is no number", "parsing", column="Commission", text="free"),
        row("rebate", "warning", column="Commission", text="(1.55)"),
        BadRow("row cut off", cut, "parsing", None),
    )


def bad_day(seed: int, *, fills: int = 20, day: date = SAMPLE_DAY) -> Iterator[str]:
    """A day with every kind of bad row behind the good ones.

    To `bad_rows` it adds those that only the store can tell: a fill that comes twice, one whose id comes again with
    another price, and an instrument of a root that nobody knows.
    """
    last = ""
    for line in generate_day(seed, fills=fills, day=day):
        last = line
        yield line
    instrument, action, size, price, *others = last.split(",")
    yield last
    yield ",".join((instrument, action, size, f"{int(price[:-3]) + 1}.00", *others))
    yield ",".join(("XQZ SEP25", "Buy", "1", "100.00", others[0], "bad_unknown_root", *others[2:]))
    for bad in bad_rows(day):
        yield bad.line
