"""Builds and imports into the contract's fields."""

from __future__ import annotations

from collections.abc import Iterable

from steelyard.operations.building import (
    Build,
    BuildError,
    BuildMode,
    BuildPriority,
    BuildScope,
    BuildState,
    BuildTrigger,
    KeyPreview,
    KeyResult,
    KeyState,
)
from steelyard.operations.importing import ImportRecord, ImportState, RowCategory, RowResult
from steelyard.rpc import encode
from steelyard.v1 import build_pb2, import_pb2

MODES = {
    BuildMode.INCREMENTAL: build_pb2.BUILD_MODE_INCREMENTAL,
    BuildMode.FULL: build_pb2.BUILD_MODE_FULL,
}
PRIORITIES = {
    BuildPriority.IMMEDIATE: build_pb2.BUILD_PRIORITY_IMMEDIATE,
    BuildPriority.BULK: build_pb2.BUILD_PRIORITY_BULK,
}
STATES = {
    BuildState.PENDING: build_pb2.BUILD_STATE_PENDING,
    BuildState.RUNNING: build_pb2.BUILD_STATE_RUNNING,
    BuildState.CANCELLING: build_pb2.BUILD_STATE_CANCELLING,
    BuildState.SUCCEEDED: build_pb2.BUILD_STATE_SUCCEEDED,
    BuildState.PARTIALLY_SUCCEEDED: build_pb2.BUILD_STATE_PARTIALLY_SUCCEEDED,
    BuildState.FAILED: build_pb2.BUILD_STATE_FAILED,
    BuildState.CANCELLED: build_pb2.BUILD_STATE_CANCELLED,
}
TRIGGERS = {
    BuildTrigger.MANUAL: build_pb2.BUILD_TRIGGER_CALLER,
    BuildTrigger.IMPORT: build_pb2.BUILD_TRIGGER_IMPORT,
    BuildTrigger.STALE: build_pb2.BUILD_TRIGGER_REFOLD,
    BuildTrigger.RETRY: build_pb2.BUILD_TRIGGER_RETRY,
    BuildTrigger.ROLLBACK: build_pb2.BUILD_TRIGGER_ROLLBACK,
    BuildTrigger.METHOD: build_pb2.BUILD_TRIGGER_RECORD_CHANGE,
}
KEY_STATES = {
    KeyState.PENDING: build_pb2.KEY_STATE_PENDING,
    KeyState.RUNNING: build_pb2.KEY_STATE_RUNNING,
    KeyState.SUCCEEDED: build_pb2.KEY_STATE_SUCCEEDED,
    KeyState.FAILED: build_pb2.KEY_STATE_FAILED,
    KeyState.CANCELLED: build_pb2.KEY_STATE_CANCELLED,
}
FORMATS = {
    "": import_pb2.IMPORT_FORMAT_UNSPECIFIED,
    "NINJATRADER": import_pb2.IMPORT_FORMAT_NINJATRADER,
    "GENERIC_CSV": import_pb2.IMPORT_FORMAT_GENERIC_CSV,
    "BYBIT": import_pb2.IMPORT_FORMAT_BYBIT,
    "BINANCE": import_pb2.IMPORT_FORMAT_BINANCE,
}
IMPORT_STATES = {
    ImportState.RUNNING: import_pb2.IMPORT_STATE_RUNNING,
    ImportState.DONE: import_pb2.IMPORT_STATE_SUCCEEDED,
    ImportState.FAILED: import_pb2.IMPORT_STATE_FAILED,
    ImportState.ROLLED_BACK: import_pb2.IMPORT_STATE_ROLLED_BACK,
}
CATEGORIES = {
    RowCategory.PARSING: import_pb2.IMPORT_ROW_CATEGORY_PARSING,
    RowCategory.VALIDATION: import_pb2.IMPORT_ROW_CATEGORY_VALIDATION,
    RowCategory.DUPLICATE: import_pb2.IMPORT_ROW_CATEGORY_DUPLICATE,
    RowCategory.CONFLICT: import_pb2.IMPORT_ROW_CATEGORY_CONFLICT,
    RowCategory.WARNING: import_pb2.IMPORT_ROW_CATEGORY_WARNING,
}


def build(found: Build) -> build_pb2.Build:
    """A build."""
    return build_pb2.Build(
        build_id=str(found.build_id),
        scope=build_scope(found.scope),
        mode=MODES[found.mode],
        state=STATES[found.state],
        priority=PRIORITIES[found.priority],
        trigger=TRIGGERS[found.trigger],
        progress=build_progress(found),
        key_results=[key_result(result) for result in found.results],
        key_results_truncated=found.results_truncated,
        retry_of=None if found.retry_of is None else str(found.retry_of),
        import_id=None if found.import_id is None else str(found.import_id),
        validate_only=found.is_validate_only,
        error=found.error,
        created_at=encode.timestamp(found.created_at),
        started_at=encode.optional_timestamp(found.started_at),
        finished_at=encode.optional_timestamp(found.finished_at),
    )


def build_scope(scope: BuildScope) -> build_pb2.BuildScope:
    """What a build is about."""
    if scope.fills:
        ids = [fill_id for _, fill_id in scope.fills]
        return build_pb2.BuildScope(fills=build_pb2.FillScope(account=scope.fills[0][0], fill_ids=ids))
    if scope.pairs:
        pairs = [build_pb2.AccountInstrument(account=account, instrument=name) for account, name in scope.pairs]
        return build_pb2.BuildScope(pairs=build_pb2.PairScope(pairs=pairs))
    if scope.accounts:
        return build_pb2.BuildScope(accounts=build_pb2.AccountScope(accounts=scope.accounts))
    return build_pb2.BuildScope(everything=build_pb2.EverythingScope())


def build_progress(found: Build) -> build_pb2.BuildProgress:
    """How far a build is, in numbers."""
    return build_pb2.BuildProgress(
        keys_done=found.keys_done,
        keys_total=found.keys_total,
        keys_failed=found.keys_failed,
        fills_done=found.fills_done,
        fills_total=found.fills_total,
        percent=float(found.percent),
        rows_per_second=found.rows_per_second,
        eta_seconds=found.eta_s,
        current_key=None if found.current_key is None else encode.position_key(found.current_key),
    )


def key_result(result: KeyResult) -> build_pb2.KeyResult:
    """What a build made of one key."""
    return build_pb2.KeyResult(
        key=encode.position_key(result.key),
        state=KEY_STATES[result.state],
        quantity=encode.optional_decimal(result.quantity),
        version=result.version,
        round_trips=result.round_trips,
        errors=[build_error(error) for error in result.errors],
        change=None if result.preview is None else key_change(result.preview),
    )


def build_error(error: BuildError) -> build_pb2.BuildError:
    """A check that a key failed."""
    return build_pb2.BuildError(check=error.check, message=error.message, fill_id=error.fill_id)


def key_change(preview: KeyPreview) -> build_pb2.KeyChange:
    """What a build would change of one key."""
    return build_pb2.KeyChange(
        changes=preview.changes,
        quantity_before=encode.optional_decimal(preview.quantity_before),
        quantity_after=encode.decimal(preview.quantity_after),
        net_realized_pnl_before=encode.optional_money(preview.net_before),
        net_realized_pnl_after=encode.money(preview.net_after),
        round_trips_before=preview.round_trips_before,
        round_trips_after=preview.round_trips_after,
    )


def trade_import(record: ImportRecord) -> import_pb2.Import:
    """A file and what became of it."""
    counts = record.counts
    state = import_pb2.IMPORT_STATE_VALIDATED if record.is_validated_only else IMPORT_STATES[record.state]
    return import_pb2.Import(
        import_id=str(record.import_id),
        file_name=record.file_name,
        format=FORMATS[record.format],
        state=state,
        rows=counts.row_count,
        recorded=counts.recorded,
        repeated=counts.repeated,
        conflicting=counts.conflicting,
        rejected=counts.rejected,
        warnings=counts.warnings,
        build_id=None if record.build_id is None else str(record.build_id),
        created_at=encode.timestamp(record.created_at),
        finished_at=encode.optional_timestamp(record.finished_at),
        rolled_back_at=encode.optional_timestamp(record.rolled_back_at),
        withdrawn=record.withdrawn,
        error=record.error,
    )


def import_rows(results: Iterable[RowResult]) -> list[import_pb2.ImportRow]:
    """What an import says of rows."""
    return [
        import_pb2.ImportRow(
            row_number=result.row_number,
            category=CATEGORIES[result.category],
            field=result.field or "",
            reason=result.reason,
            raw=result.raw,
        )
        for result in results
    ]
