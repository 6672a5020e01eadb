"""What the store says of the service's state, in one statement that reads no more than a bounded number of rows."""

from __future__ import annotations

from datetime import timedelta

from steelyard.operations.service_status import BookSigns, StoreSigns, ValidationSigns, WorkerSigns
from steelyard.storage.database import Database
from steelyard.storage.outbox_reads import OLDEST_WAITING

ROWS_READ = 10_000
"""Rows of a table that one status reads at the most."""
SPAN_H = 24
"""Builds and validations of the last so many hours are told."""

_AGE_OF_LAST_BEAT = "SELECT extract(epoch FROM clock_timestamp() - max(last_heartbeat)) FROM procrastinate_workers"
_SIGNS = f"""
WITH waiting AS (SELECT since FROM stale_keys WHERE NOT is_held LIMIT {ROWS_READ}),
held AS (SELECT instrument, quantity FROM positions LIMIT {ROWS_READ}),
runs AS (
    SELECT state, keys_checked, keys_fixed, found_new, finished_at FROM reconciliation_runs
    WHERE created_at > clock_timestamp() - interval '{SPAN_H} hours' AND finished_at IS NOT NULL
    ORDER BY created_at DESC LIMIT {ROWS_READ}
),
made AS (
    SELECT state FROM builds WHERE created_at > clock_timestamp() - interval '{SPAN_H} hours'
    ORDER BY created_at DESC LIMIT {ROWS_READ}
)
SELECT (SELECT max(version_num) FROM alembic_version) AS schema_revision,
    (SELECT count(*) FROM procrastinate_workers
     WHERE last_heartbeat > clock_timestamp() - make_interval(secs => $1)) AS workers,
    ({_AGE_OF_LAST_BEAT}) AS last_beat,
    clock_timestamp() - (SELECT min(created_at) FROM builds
        WHERE finished_at IS NULL AND started_at IS NULL) AS oldest_build,
    clock_timestamp() - (SELECT min(at) FROM procrastinate_events WHERE type = 'deferred' AND job_id = (
        SELECT min(id) FROM procrastinate_jobs
        WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp()))) AS oldest_job,
    clock_timestamp() - ({OLDEST_WAITING}) AS event_lag,
    (SELECT greatest(sum(reltuples), 0)::bigint FROM pg_class
     WHERE oid IN (SELECT relid FROM pg_partition_tree('positions') WHERE isleaf)
        OR oid = 'positions'::regclass AND relkind = 'r') AS positions,
    (SELECT count(*) FROM held LEFT JOIN marks USING (instrument) WHERE held.quantity <> 0
        AND (marks.marked_at IS NULL OR marks.marked_at < clock_timestamp() - $2::interval)) AS at_stale_price,
    clock_timestamp() - (SELECT max(marked_at) FROM (SELECT marked_at FROM marks LIMIT {ROWS_READ}) m) AS newest_mark,
    clock_timestamp() - (SELECT min(since) FROM waiting) AS stale_key_age,
    (SELECT count(*) FROM waiting) AS stale_keys,
    (SELECT count(*) FROM runs) AS runs,
    (SELECT count(*) FROM runs WHERE state = 'FAILED') AS runs_failed,
    (SELECT coalesce(sum(keys_checked), 0) FROM runs) AS keys_checked,
    (SELECT coalesce(sum(keys_fixed), 0) FROM runs) AS keys_fixed,
    (SELECT coalesce(sum(found_new), 0) FROM runs) AS found_new,
    (SELECT max(finished_at) FROM runs) AS last_run_at,
    (SELECT count(*) FROM (SELECT FROM discrepancies WHERE state = 'OPEN' LIMIT {ROWS_READ}) d) AS open_discrepancies,
    ARRAY(SELECT state FROM made GROUP BY state ORDER BY state) AS build_states,
    ARRAY(SELECT count(*) FROM made GROUP BY state ORDER BY state) AS build_counts
"""  # noqa: S608 - constants of ours
_NONE = timedelta()


class ServiceSigns:
    """Fulfils `service_status.SignReads`, and says when a worker beat last."""

    def __init__(self, database: Database, *, stale_after: timedelta, silence_max_s: float) -> None:
        """`silence_max_s`: a worker that has not beaten for this long is none."""
        self._database = database
        self._stale_after = stale_after
        self._silence_max_s = silence_max_s

    async def last_beat_age_s(self) -> float | None:
        """How long ago a worker beat last, seconds; None: there is none. Raises `StoreUnavailable`."""
        async with self._database.bare() as connection:
            age = await connection.fetchval(_AGE_OF_LAST_BEAT)
        return None if age is None else float(age)

    async def read(self) -> StoreSigns:
        """Everything at once. Raises `StoreUnavailable`."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(_SIGNS, self._silence_max_s, self._stale_after)
        return StoreSigns(
            schema_revision=row["schema_revision"],
            event_lag=row["event_lag"] or _NONE,
            workers=WorkerSigns(
                beating=row["workers"],
                last_beat_age=None if row["last_beat"] is None else timedelta(seconds=float(row["last_beat"])),
                oldest_waiting_build=row["oldest_build"] or _NONE,
                oldest_waiting_job=row["oldest_job"] or _NONE,
            ),
            book=BookSigns(
                positions_estimate=row["positions"] or 0,
                stale_positions=row["at_stale_price"],
                newest_mark_age=row["newest_mark"],
                stale_key_age=row["stale_key_age"] or _NONE,
                stale_keys=row["stale_keys"],
            ),
            validation=ValidationSigns(
                runs=row["runs"],
                runs_failed=row["runs_failed"],
                positions_checked=int(row["keys_checked"]),
                positions_fixed=int(row["keys_fixed"]),
                discrepancies_new=int(row["found_new"]),
                discrepancies_open=row["open_discrepancies"],
                last_run_at=row["last_run_at"],
            ),
            builds=dict(zip(row["build_states"], row["build_counts"], strict=True)),
        )
