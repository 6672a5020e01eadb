"""Instrument and account records, as writers need them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import Account, InstrumentName, root_of
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.ports import AccountRules
from steelyard.storage.bulk import Columns, arrays, insert_rows
from steelyard.storage.codec import dumps
from steelyard.storage.database import Connection

_FIND = """
SELECT instrument, kind, multiplier, quote_currency, settle_currency, price_rule, is_root
FROM instruments WHERE instrument = ANY($1::text[])
"""
_MAKE_CONTRACTS = """
INSERT INTO instruments (instrument, kind, multiplier, quote_currency, settle_currency, price_rule)
SELECT n.contract, r.kind, r.multiplier, r.quote_currency, r.settle_currency, r.price_rule
FROM unnest($1::text[], $2::text[]) AS n(contract, root) JOIN instruments r ON r.instrument = n.root AND r.is_root
ORDER BY n.contract ON CONFLICT DO NOTHING
"""
_ACCOUNTS = """
SELECT account, cost_method, lot_method, size_authority, time_zone, day_rule, sealed_before, version
FROM accounts WHERE account = ANY($1::text[])
"""
_MAKE_ACCOUNTS = """
INSERT INTO accounts (account, cost_method, lot_method, size_authority, time_zone, day_rule)
SELECT a, $2, $3, $4, $5, $6 FROM unnest($1::text[]) AS t(a) ORDER BY a ON CONFLICT DO NOTHING
"""
_RECORD: Columns = (
    *(("instrument", "text"), ("kind", "text"), ("multiplier", "numeric")),
    *(("quote_currency", "text"), ("settle_currency", "text")),
)
_REGISTER = insert_rows("instruments", _RECORD, on_conflict="DO NOTHING")


async def register_instruments(connection: Connection, records: Iterable[Instrument]) -> None:
    """Adds records; those that exist stay as they are."""
    rows = [
        (record.name, record.kind.value, record.multiplier, record.quote_currency, record.settle_currency)
        for record in sorted(records, key=lambda record: record.name)
    ]
    await connection.execute(_REGISTER, *arrays(rows, _RECORD))


def instrument_of_row(row: Mapping[str, Any]) -> Instrument:
    """The instrument in a row of `instruments`."""
    return Instrument(
        name=InstrumentName(row["instrument"]),
        kind=InstrumentKind(row["kind"]),
        multiplier=Decimal(row["multiplier"]),
        quote_currency=row["quote_currency"],
        settle_currency=row["settle_currency"],
        price_rule=PriceRule(row["price_rule"]),
        is_root=row["is_root"],
    )


async def find_instruments(
    connection: Connection, names: Iterable[InstrumentName], *, is_making: bool = True
) -> dict[InstrumentName, Instrument]:
    """Records of instruments; a futures contract without one takes it from its root. Roots are no instruments."""
    wanted = sorted(set(names))
    found = await _find(connection, wanted)
    missing = [name for name in wanted if name not in found and root_of(name) != name]
    if missing and is_making:
        await connection.execute(_MAKE_CONTRACTS, missing, [root_of(name) for name in missing])
        found.update(await _find(connection, missing))
    return found


async def _find(connection: Connection, names: list[InstrumentName]) -> dict[InstrumentName, Instrument]:
    rows = await connection.fetch(_FIND, names)
    return {record.name: record for record in map(instrument_of_row, rows) if not record.is_root}


def rules_of_row(row: Mapping[str, Any]) -> AccountRules:
    """The rules in a row of `accounts`."""
    return AccountRules(
        account=Account(row["account"]),
        cost_method=CostMethod(row["cost_method"]),
        lot_method=LotMethod(row["lot_method"]),
        size_authority=row["size_authority"],
        time_zone=row["time_zone"],
        day_rule=json.loads(row["day_rule"]),
        sealed_before=row["sealed_before"],
        version=row["version"],
    )


async def find_accounts(
    connection: Connection, names: Iterable[Account], *, make: AccountRules | None
) -> dict[Account, AccountRules]:
    """The rules of accounts; missing ones are made after the pattern, or left out without one."""
    wanted = sorted(set(names))
    found = await _find_accounts(connection, wanted)
    missing = [name for name in wanted if name not in found]
    if missing and make is not None:
        await connection.execute(
            _MAKE_ACCOUNTS,
            missing,
            make.cost_method.value,
            make.lot_method.value,
            make.size_authority,
            make.time_zone,
            dumps(dict(make.day_rule)),
        )
        found.update(await _find_accounts(connection, missing))
    return found


async def _find_accounts(connection: Connection, names: list[Account]) -> dict[Account, AccountRules]:
    return {rules.account: rules for rules in map(rules_of_row, await connection.fetch(_ACCOUNTS, names))}
