"""The reference of writes: pgbench, the statements that a recorded fill needs as one transaction for each fill.

They are the service's own statements for a single fill, with constants where the service has figures: read account and
instrument, insert the fill, lock the position, replace it, write its lot and trip, advance the head, add the event.
"""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from steelyard.embedded.binaries import find_binaries
from tests.bench.book_files import ACCOUNTS, KEYS
from tests.bench.harness import BenchUnavailable

CLIENTS = (8, 32, 64)
"""Numbers of clients that are tried; the best one is taken."""
_TPS = re.compile(r"tps = ([0-9.]+) ")
_ACCOUNT = "('desk-' || lpad((:a)::text, 2, '0'))"
_INSTRUMENT = "('COIN' || lpad((:i)::text, 2, '0') || 'USD')"
_KEY = f"account = {_ACCOUNT} AND book = 'main' AND instrument = {_INSTRUMENT} AND leg = 'NET'"
_STATE = json.dumps({"quantity": "12.345", "average": "20000.123456789012345678", "sums": ["1234.5678"] * 9,
                     "trip": {"numbers": ["12345.678"] * 6, "sums": ["1234.5678"] * 9, "last": ["x" * 30, 0, "y" * 12]},
                     "filler": "z" * 300})  # fmt: skip
_SCRIPT = f"""
\\set k random(0, {KEYS - 1})
\\set a :k % {ACCOUNTS}
\\set i :k / {ACCOUNTS}
\\set id random(1, 9000000000000000)
BEGIN;
SELECT * FROM accounts WHERE account = {_ACCOUNT};
SELECT * FROM instruments WHERE instrument = {_INSTRUMENT};
INSERT INTO fills (account, fill_id, book, instrument, leg, delta, price, fee, executed_at, commit_id)
    VALUES ({_ACCOUNT}, 'p' || :id, 'main', {_INSTRUMENT}, 'NET', 1.234, 20000.25, 0.1, now(), :id)
    ON CONFLICT DO NOTHING;
SELECT * FROM positions WHERE {_KEY} FOR NO KEY UPDATE;
UPDATE positions SET version = version + 1, cost_average = 24680.3085, cost_lots = 24680.3085, gross_average = 12.5,
    gross_lots = 12.5, fees = fees + 0.1, cash_average = -24680.3085, cash_lots = -24680.3085,
    fill_count = fill_count + 1, last_executed_at = now(), last_entry_id = 'p' || :id, last_fill_at = now(),
    trip = '{_STATE}'::jsonb, updated_at = now() WHERE {_KEY};
INSERT INTO lots VALUES ({_ACCOUNT}, 'main', {_INSTRUMENT}, 'NET', now(), 0, 'p' || :id, 1.234, 1.234, 20000.25);
UPDATE round_trips SET last_at = now(), last_entry_id = 'p' || :id, entered_quantity = entered_quantity + 1.234,
    entered_value = entered_value + 24680.3085, fees = fees + 0.1, fill_count = fill_count + 1
    WHERE {_KEY} AND closed_at IS NULL;
WITH moved AS (
    UPDATE account_heads SET seq = seq + 1, committed_at = clock_timestamp() WHERE account = {_ACCOUNT}
    RETURNING account, seq, committed_at
) INSERT INTO account_commits (account, seq, commit_id, committed_at, cause)
    SELECT account, seq, :id, committed_at, 'fill' FROM moved;
INSERT INTO position_events
    (account, book, instrument, leg, version, seq, cause, cause_id, change, fill_ids, fill_count, state, committed_at)
    SELECT p.account, p.book, p.instrument, p.leg, p.version, h.seq, 'fill', 'p' || :id, 'UPDATED',
           ARRAY['p' || :id], 1, '{_STATE}'::jsonb, h.committed_at
    FROM positions p JOIN account_heads h USING (account) WHERE {_KEY.replace("account =", "p.account =")};
COMMIT;
"""


async def best_clients(url: str, folder: Path, *, lasting_s: int) -> int:
    """The number of clients that gets the most done."""
    rates = {count: await transactions_per_s(url, folder, clients=count, lasting_s=lasting_s) for count in CLIENTS}
    return max(rates, key=lambda count: rates[count])


async def transactions_per_s(url: str, folder: Path, *, clients: int, lasting_s: int) -> float:
    """Fills a second, each in a transaction of its own. Raises `BenchUnavailable` without pgbench."""
    program = find_binaries().directory / "pgbench"
    if not program.exists():
        raise BenchUnavailable(f"{program} is missing")
    script = folder / "fill.sql"
    script.write_text(_SCRIPT, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(str(program), "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(lasting_s)),
        *("-f", str(script), url),
        stdout=PIPE,
        stderr=STDOUT,
    )
    assert process.stdout is not None
    told = (await process.stdout.read()).decode()
    found = _TPS.search(told)
    if await process.wait() or found is None:
        raise BenchUnavailable(f"pgbench failed: {told[-500:]}")
    return float(found[1])
