"""The rules that a transaction writes by, against a change of them that commits first.

A writer reads the rules of accounts and instruments, and looks at them once more when it holds the heads of the
accounts, which a change of rules takes as well: either the writer commits first, and the change finds its keys and has
them folded again, or the change is seen here and the writer tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.operations.ports import AccountRules
from steelyard.storage.bulk import Columns, arrays, unnested
from steelyard.storage.database import Connection

_ACCOUNT: Columns = (("account", "text"), ("entered_at", "timestamptz"), ("lot_method", "text"))
_INSTRUMENT: Columns = (
    *(("instrument", "text"), ("kind", "text")),
    *(("multiplier", "numeric"), ("settle_currency", "text")),
)
_CHANGED = f"""
SELECT EXISTS (
    SELECT FROM {unnested(_ACCOUNT)} JOIN accounts a USING (account)
    WHERE n.entered_at < a.sealed_before OR n.lot_method <> a.lot_method
) OR EXISTS (
    SELECT FROM {unnested(_INSTRUMENT, first=len(_ACCOUNT) + 1)} JOIN instruments i USING (instrument)
    WHERE (n.kind, n.multiplier, n.settle_currency) <> (i.kind, i.multiplier, i.settle_currency)
)
"""  # noqa: S608


class RulesInUse:
    """What one transaction has read last of accounts and instruments."""

    def __init__(self) -> None:
        self.accounts: dict[Account, AccountRules] = {}
        self.instruments: dict[InstrumentName, Instrument] = {}

    async def check(self, connection: Connection, *, entered: Mapping[Account, datetime]) -> None:
        """Raises `VersionMismatch` where a rule is another one by now, or where an account was sealed meanwhile after
        what is entered: the next try goes by the new rules. The heads of the accounts must have been advanced."""
        accounts = [
            (name, entered.get(name), None if (rules := self.accounts.get(name)) is None else rules.lot_method.value)
            for name in {*entered, *self.accounts}
        ]
        instruments = [
            (record.name, record.kind.value, record.multiplier, record.settle_currency)
            for record in self.instruments.values()
        ]
        if not accounts and not instruments:
            return
        rows = (*arrays(accounts, _ACCOUNT), *arrays(instruments, _INSTRUMENT))
        if await connection.fetchval(_CHANGED, *rows):
            raise VersionMismatch("an account was sealed meanwhile, or the rules changed")
