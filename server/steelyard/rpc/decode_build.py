"""The contract's builds and imports into domain values."""

from __future__ import annotations

from collections.abc import Mapping

from steelyard.accounting import keys
from steelyard.accounting.errors import InvalidField
from steelyard.operations.building import BuildFilter, BuildMode, BuildPriority, BuildScope, BuildState, RequestMark
from steelyard.operations.create_builds import WantedBuild
from steelyard.operations.import_trades import ImportRequest
from steelyard.operations.importing import ImportFilter, RowCategory
from steelyard.rpc import decode, encode_build, limits
from steelyard.v1 import build_pb2, build_service_pb2, import_pb2

WAIT_MAX_S = 30.0
WAIT_DEFAULT_S = 25.0
SCOPE = "builds"
"""Request ids of BuildService are told apart from those of other services."""

FORMATS: Mapping[int, str] = {value: name for name, value in encode_build.FORMATS.items()}
MODES: Mapping[int, BuildMode] = {
    build_pb2.BUILD_MODE_UNSPECIFIED: BuildMode.INCREMENTAL,
    build_pb2.BUILD_MODE_INCREMENTAL: BuildMode.INCREMENTAL,
    build_pb2.BUILD_MODE_FULL: BuildMode.FULL,
}
PRIORITIES: Mapping[int, BuildPriority] = {value: priority for priority, value in encode_build.PRIORITIES.items()}
STATES: Mapping[int, BuildState] = {value: state for state, value in encode_build.STATES.items()}
CATEGORIES: Mapping[int, RowCategory] = {value: category for category, value in encode_build.CATEGORIES.items()}

Marked = (
    build_service_pb2.CreateBuildRequest
    | build_service_pb2.CancelBuildRequest
    | build_service_pb2.RetryBuildRequest
    | build_service_pb2.RollbackImportRequest
)


def request_mark(request: Marked) -> RequestMark:
    """What makes a repeated write recognisable."""
    method = type(request).__name__.removesuffix("Request")
    return RequestMark(SCOPE, decode.uuid(request.request_id, field="request_id"), method, decode.body_hash(request))


def import_request(header: import_pb2.ImportHeader) -> ImportRequest:
    """What somebody wants imported."""
    if header.time_zone:
        decode.time_zone(header.time_zone, field="header.time_zone")
    return ImportRequest(
        request_id=decode.uuid(header.request_id, field="header.request_id"),
        file_name=header.file_name,
        format=decode.choice(header.format, FORMATS, field="header.format"),
        default_account=header.default_account or None,
        time_zone=header.time_zone,
        is_auto_build=header.auto_build_positions if header.HasField("auto_build_positions") else True,
        is_validate_only=header.validate_only,
    )


def import_filter(request: build_service_pb2.ListImportsRequest) -> ImportFilter:
    """Which imports a list shows."""
    return ImportFilter(
        import_id=decode.uuid(request.import_id, field="import_id") if request.import_id else None,
        account=decode.account(request.account) if request.account else None,
    )


def wanted_build(request: build_service_pb2.CreateBuildRequest) -> WantedBuild:
    """What a caller wants built."""
    unspecified = request.priority == build_pb2.BUILD_PRIORITY_UNSPECIFIED
    return WantedBuild(
        scope=build_scope(request.scope),
        mode=decode.choice(request.mode, MODES, field="mode"),
        priority=None if unspecified else decode.choice(request.priority, PRIORITIES, field="priority"),
        is_validate_only=request.validate_only,
    )


def build_scope(scope: build_pb2.BuildScope) -> BuildScope:
    """What a build is about; exactly one kind of scope must be given."""
    match scope.WhichOneof("scope"):
        case "everything":
            return BuildScope()
        case "accounts":
            _count(scope.accounts.accounts, limits.BATCH_KEYS_MAX, field="scope.accounts.accounts")
            return BuildScope(accounts=decode.accounts(scope.accounts.accounts, field="scope.accounts.accounts"))
        case "pairs":
            _count(scope.pairs.pairs, limits.BATCH_KEYS_MAX, field="scope.pairs.pairs")
            return BuildScope(pairs=tuple(_pair(pair, index) for index, pair in enumerate(scope.pairs.pairs)))
        case "fills":
            return _fill_scope(scope.fills)
    raise InvalidField("scope", "is required")


def _pair(pair: build_pb2.AccountInstrument, index: int) -> tuple[keys.Account, keys.InstrumentName]:
    field = f"scope.pairs.pairs[{index}]"
    return (
        decode.account(pair.account, field=f"{field}.account"),
        decode.instrument(pair.instrument, field=f"{field}.instrument"),
    )


def _fill_scope(scope: build_pb2.FillScope) -> BuildScope:
    account = decode.account(scope.account, field="scope.fills.account")
    _count(scope.fill_ids, limits.BATCH_FILLS_MAX, field="scope.fills.fill_ids")
    ids = [keys.fill_id(text, field=f"scope.fills.fill_ids[{index}]") for index, text in enumerate(scope.fill_ids)]
    return BuildScope(fills=tuple((account, fill_id) for fill_id in dict.fromkeys(ids)))


def _count(values: object, limit: int, *, field: str) -> None:
    count = len(values)  # type: ignore[arg-type]  # a repeated field
    if not 1 <= count <= limit:
        raise InvalidField(field, f"must be 1 to {limit:,}")


def build_filter(request: build_service_pb2.ListBuildsRequest) -> BuildFilter:
    """Which builds a list shows."""
    states = [decode.choice(state, STATES, field=f"states[{index}]") for index, state in enumerate(request.states)]
    return BuildFilter(
        states=tuple(dict.fromkeys(states)),
        account=decode.account(request.account) if request.account else None,
        import_id=decode.uuid(request.import_id, field="import_id") if request.import_id else None,
    )


def row_categories(request: build_service_pb2.ListImportRowsRequest) -> tuple[RowCategory, ...]:
    """Which row results are meant; none: all. Raises `InvalidField`."""
    found = [
        decode.choice(value, CATEGORIES, field=f"categories[{index}]") for index, value in enumerate(request.categories)
    ]
    return tuple(dict.fromkeys(found))


def wait_timeout_s(request: build_service_pb2.WaitBuildRequest) -> float:
    """How long a caller wants to wait."""
    if not request.HasField("timeout"):
        return WAIT_DEFAULT_S
    # Not as a timedelta: it cannot hold what a caller may write into a Duration.
    timeout = request.timeout.seconds + request.timeout.nanos / 1e9
    if not 0 < timeout <= WAIT_MAX_S:
        raise InvalidField("timeout", f"must be above 0 and at most {WAIT_MAX_S:.0f} s")
    return timeout
