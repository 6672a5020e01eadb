"""How the book is doing, in a few figures read in one snapshot: what waits, for how long, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from steelyard.storage.database import Connection, Database

ROWS_COUNTED = 10_000
"""What waits is counted up to this."""
BEAT_S = 30
"""A worker that has not beaten for this long is none."""

_AGES = f"""
SELECT coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(created_at) FROM outbox)), 0) AS event_lag,
       (SELECT count(*) FROM (SELECT FROM outbox LIMIT {ROWS_COUNTED}) o) AS outbox_rows,
       coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT min(created_at) FROM builds WHERE finished_at IS NULL AND started_at IS NULL)), 0) AS queue_age,
       coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT min(updated_at) FROM builds WHERE finished_at IS NULL AND started_at IS NOT NULL)), 0) AS build_idle,
       coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT min(since) FROM stale_keys WHERE NOT is_held)), 0) AS stale_key_age,
       (SELECT count(*) FROM (SELECT FROM stale_keys WHERE NOT is_held LIMIT {ROWS_COUNTED}) s) AS stale_keys,
       (SELECT count(*) FROM procrastinate_workers
        WHERE last_heartbeat > clock_timestamp() - interval '{BEAT_S} s') AS workers
"""  # noqa: S608 - constants of this module
_BUILDS = "SELECT trigger, state, count(*) AS builds FROM builds GROUP BY trigger, state"
_DISCREPANCIES = "SELECT kind, count(*) AS found FROM discrepancies WHERE state = 'OPEN' GROUP BY kind"
_BREACHES = "SELECT kind, count(*) AS found FROM limit_breaches WHERE closed_at IS NULL GROUP BY kind"
_STALE_PRICES = """
SELECT count(*) FROM (SELECT DISTINCT instrument FROM positions WHERE quantity <> 0) held
LEFT JOIN marks USING (instrument)
WHERE marks.marked_at IS NULL OR marks.marked_at < clock_timestamp() - $1::interval
"""


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """The figures; ages are seconds, 0 where nothing waits."""

    event_lag_s: float
    outbox_rows: int
    queue_age_s: float
    build_idle_s: float
    stale_key_age_s: float
    stale_keys: int
    workers: int
    """Queues' workers; a worker process has one for immediate and one for bulk work."""
    stale_prices: int
    """Instruments held at a stale or missing price."""
    builds: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By trigger and state, as long as they are kept."""
    discrepancies: Mapping[str, int] = field(default_factory=dict)
    breaches: Mapping[str, int] = field(default_factory=dict)


class VitalSignReads:
    """Reads the figures."""

    def __init__(self, database: Database, *, stale_after: timedelta) -> None:
        self._database = database
        self._stale_after = stale_after

    async def read(self) -> VitalSigns:
        """The figures as they are now. Raises `StoreUnavailable`."""
        async with self._database.read() as connection:
            ages = await connection.fetchrow(_AGES)
            builds = await connection.fetch(_BUILDS)
            return VitalSigns(
                event_lag_s=float(ages["event_lag"]),
                outbox_rows=ages["outbox_rows"],
                queue_age_s=float(ages["queue_age"]),
                build_idle_s=float(ages["build_idle"]),
                stale_key_age_s=float(ages["stale_key_age"]),
                stale_keys=ages["stale_keys"],
                workers=ages["workers"],
                stale_prices=await connection.fetchval(_STALE_PRICES, self._stale_after),
                builds={(row["trigger"], row["state"]): row["builds"] for row in builds},
                discrepancies=await _by_kind(connection, _DISCREPANCIES),
                breaches=await _by_kind(connection, _BREACHES),
            )


async def _by_kind(connection: Connection, statement: str) -> Mapping[str, int]:
    return {row["kind"]: row["found"] for row in await connection.fetch(statement)}
