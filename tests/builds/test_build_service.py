"""BuildService over the wire: what its methods answer, and with which reasons they refuse."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from steelyard.app import samples
from steelyard.v1 import (
    build_pb2,
    build_service_pb2,
    build_service_pb2_grpc,
    import_pb2,
    position_service_pb2,
    position_service_pb2_grpc,
)
from tests.builds.desk import Desk
from tests.client.desk import serving_book

Stub = Any


@pytest.fixture
async def channel(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    async with serving_book(database_url) as service, grpc.aio.insecure_channel(service.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Stub:
    return build_service_pb2_grpc.BuildServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]


def new_id() -> str:
    return str(uuid.uuid4())


def day(fills: int = 40, seed: int = 4) -> bytes:
    return "".join(samples.generate_day(seed, fills=fills)).encode()


def parts(content: bytes, **header: Any) -> Iterator[build_service_pb2.ImportTradesRequest]:
    named = {"request_id": new_id(), "file_name": "day.csv", **header}
    yield build_service_pb2.ImportTradesRequest(header=import_pb2.ImportHeader(**named))
    for start in range(0, len(content), 1_000):
        yield build_service_pb2.ImportTradesRequest(chunk=content[start : start + 1_000])


async def load(stub: Stub, content: bytes, **header: Any) -> build_service_pb2.ImportTradesResponse:
    answer: build_service_pb2.ImportTradesResponse = await stub.ImportTrades(parts(content, **header))
    return answer


async def states(stub: Stub, build_id: str) -> list[build_service_pb2.WatchBuildResponse]:
    return [told async for told in stub.WatchBuild(build_service_pb2.WatchBuildRequest(build_id=build_id))]


@asynccontextmanager
async def refused(reason: str, field: str | None = None) -> AsyncIterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    infos = [
        error_details_pb2.ErrorInfo.FromString(d.value) for d in status.details if d.type_url.endswith("ErrorInfo")
    ]
    assert [info.reason for info in infos] == [reason], caught.value.details()
    if field is not None:
        assert field in (caught.value.details() or "")


async def test_a_day_is_imported_built_and_watched_to_its_end(
    channel: grpc.aio.Channel, stub: Stub, desk: Desk
) -> None:
    async with desk.worker():
        answer = await load(stub, day())
        told = answer.trade_import
        assert (told.state, told.rows, told.recorded) == (import_pb2.IMPORT_STATE_SUCCEEDED, 40, 40)
        assert told.format == import_pb2.IMPORT_FORMAT_NINJATRADER
        assert [commit.account for commit in answer.header.commits] == ["SIM-101", "SIM-102", "SIM-103"]
        seen = await states(stub, told.build_id)
    last = seen[-1]
    assert last.build.state == build_pb2.BUILD_STATE_SUCCEEDED
    assert last.build.progress.percent == 100
    assert last.build.trigger == build_pb2.BUILD_TRIGGER_IMPORT
    assert last.build.import_id == told.import_id
    assert len(last.build.key_results) == last.build.progress.keys_total
    assert len(last.header.commits) == 3
    positions = position_service_pb2_grpc.PositionServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
    found = await positions.ListPositions(
        position_service_pb2.ListPositionsRequest(accounts=["SIM-101"], min_commit=last.header.commits)
    )
    assert found.positions
    assert len(await states(stub, told.build_id)) == 1


async def test_a_growing_file_leaves_the_versions_of_untouched_keys(stub: Stub, desk: Desk) -> None:
    lines = day(60).decode().splitlines(keepends=True)
    async with desk.worker():
        first = await load(stub, "".join(lines[:-1]).encode())
        await states(stub, first.trade_import.build_id)
        before = await desk.positions()
        second = await load(stub, "".join(lines).encode())
        assert (second.trade_import.recorded, second.trade_import.repeated) == (1, 59)
        await states(stub, second.trade_import.build_id)
    after = await desk.positions()
    assert len([one for one in after if after[one] != before.get(one)]) == 1


async def test_rows_that_something_is_wrong_with_are_told_and_listed(stub: Stub) -> None:
    answer = await load(stub, "".join(samples.bad_day(3)).encode())
    told = answer.trade_import
    assert told.rows == told.recorded + told.repeated + told.conflicting + told.rejected
    assert {row.category for row in answer.rows} == {
        import_pb2.IMPORT_ROW_CATEGORY_PARSING,
        import_pb2.IMPORT_ROW_CATEGORY_VALIDATION,
        import_pb2.IMPORT_ROW_CATEGORY_DUPLICATE,
        import_pb2.IMPORT_ROW_CATEGORY_CONFLICT,
        import_pb2.IMPORT_ROW_CATEGORY_WARNING,
    }
    listed = await stub.ListImports(build_service_pb2.ListImportsRequest(include_rows=True))
    assert [one.trade_import for one in listed.imports] == [told]
    assert list(listed.imports[0].rows) == list(answer.rows)


async def test_the_same_call_gets_the_same_answer(stub: Stub) -> None:
    request_id = new_id()
    first = await load(stub, day(), request_id=request_id)
    again = await load(stub, day(), request_id=request_id)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.trade_import == first.trade_import
    async with refused("REQUEST_ID_REUSED"):
        await load(stub, day(41), request_id=request_id)


async def test_a_checked_file_leaves_nothing_behind(stub: Stub, desk: Desk) -> None:
    answer = await load(stub, day(), validate_only=True)
    assert answer.trade_import.state == import_pb2.IMPORT_STATE_VALIDATED
    assert (answer.trade_import.recorded, len(answer.header.commits)) == (40, 0)
    assert await desk.value("SELECT count(*) FROM fills") == 0


async def test_an_import_is_rolled_back_once(stub: Stub, desk: Desk) -> None:
    loaded = (await load(stub, day())).trade_import
    request = build_service_pb2.RollbackImportRequest(request_id=new_id(), import_id=loaded.import_id)
    done = await stub.RollbackImport(request)
    assert (done.trade_import.withdrawn, done.replayed) == (40, False)
    assert done.trade_import.state == import_pb2.IMPORT_STATE_ROLLED_BACK
    assert (await stub.RollbackImport(request)).replayed
    ended = await desk.run(uuid.UUID(done.build_id))
    assert ended.keys_failed == 0
    assert {row["quantity"] for row in (await desk.positions()).values()} <= {0}
    async with refused("NOT_FOUND"):
        await stub.RollbackImport(build_service_pb2.RollbackImportRequest(request_id=new_id(), import_id=new_id()))


async def test_builds_are_created_waited_for_cancelled_and_retried(stub: Stub, desk: Desk) -> None:
    await load(stub, day(), auto_build_positions=False)
    everything = build_pb2.BuildScope(everything=build_pb2.EverythingScope())
    create = build_service_pb2.CreateBuildRequest(request_id=new_id(), scope=everything)
    made = await stub.CreateBuild(create)
    assert (await stub.CreateBuild(create)).build.build_id == made.build.build_id
    assert (await stub.CreateBuild(create)).replayed
    build_id = made.build.build_id
    short = build_service_pb2.WaitBuildRequest(build_id=build_id, timeout=Duration(nanos=50_000_000))
    assert (await stub.WaitBuild(short)).build.state == build_pb2.BUILD_STATE_PENDING
    cancel = build_service_pb2.CancelBuildRequest(request_id=new_id(), build_id=build_id)
    assert (await stub.CancelBuild(cancel)).build.state == build_pb2.BUILD_STATE_CANCELLED
    async with refused("BUILD_ALREADY_DONE"):
        await stub.CancelBuild(build_service_pb2.CancelBuildRequest(request_id=new_id(), build_id=build_id))
    retry = build_service_pb2.RetryBuildRequest(request_id=new_id(), build_id=build_id)
    again = (await stub.RetryBuild(retry)).build
    assert (again.retry_of, again.trigger) == (build_id, build_pb2.BUILD_TRIGGER_RETRY)
    async with desk.worker():
        ended = (await stub.WaitBuild(build_service_pb2.WaitBuildRequest(build_id=again.build_id))).build
    assert ended.state == build_pb2.BUILD_STATE_SUCCEEDED
    listed = await stub.ListBuilds(build_service_pb2.ListBuildsRequest(states=[build_pb2.BUILD_STATE_CANCELLED]))
    assert [build.build_id for build in listed.builds] == [build_id]
    one = await stub.GetBuild(build_service_pb2.GetBuildRequest(build_id=again.build_id))
    assert one.build.key_results


async def test_lists_go_on_page_by_page(stub: Stub) -> None:
    for seed in range(3):
        await load(stub, "".join(samples.generic_csv(seed, fills=4, accounts=1)).encode())
    imports = await stub.ListImports(build_service_pb2.ListImportsRequest(page_size=2))
    rest = await stub.ListImports(build_service_pb2.ListImportsRequest(page_size=2, page_token=imports.next_page_token))
    assert (len(imports.imports), len(rest.imports), rest.next_page_token) == (2, 1, "")
    builds = await stub.ListBuilds(build_service_pb2.ListBuildsRequest(page_size=2))
    rest = await stub.ListBuilds(build_service_pb2.ListBuildsRequest(page_size=2, page_token=builds.next_page_token))
    assert (len(builds.builds), len(rest.builds)) == (2, 1)
    async with refused("PAGE_TOKEN_INVALID"):
        await stub.ListBuilds(build_service_pb2.ListBuildsRequest(page_token="x"))


async def test_every_kind_of_scope_is_told_as_it_was_asked(stub: Stub) -> None:
    await load(stub, day(), auto_build_positions=False)
    scopes = [
        build_pb2.BuildScope(everything=build_pb2.EverythingScope()),
        build_pb2.BuildScope(accounts=build_pb2.AccountScope(accounts=["SIM-101"])),
        build_pb2.BuildScope(
            pairs=build_pb2.PairScope(pairs=[build_pb2.AccountInstrument(account="SIM-101", instrument="MNQ SEP25")])
        ),
    ]
    for scope in scopes:
        request = build_service_pb2.CreateBuildRequest(
            request_id=new_id(),
            scope=scope,
            mode=build_pb2.BUILD_MODE_FULL,
            priority=build_pb2.BUILD_PRIORITY_BULK,
            validate_only=True,
        )
        made = (await stub.CreateBuild(request)).build
        assert (made.scope, made.mode) == (scope, build_pb2.BUILD_MODE_FULL)
        assert (made.priority, made.validate_only) == (build_pb2.BUILD_PRIORITY_BULK, True)


def fills_scope(*ids: str) -> build_pb2.BuildScope:
    return build_pb2.BuildScope(fills=build_pb2.FillScope(account="SIM-101", fill_ids=ids))


async def test_requests_that_cannot_be_right_are_refused_by_field(stub: Stub) -> None:
    everything = build_pb2.BuildScope(everything=build_pb2.EverythingScope())
    create = build_service_pb2.CreateBuildRequest
    cases = [
        (stub.CreateBuild, create(scope=everything), "request_id"),
        (stub.CreateBuild, create(request_id="x", scope=everything), "request_id"),
        (stub.CreateBuild, create(request_id=new_id()), "scope"),
        (stub.CreateBuild, create(request_id=new_id(), scope=fills_scope()), "scope.fills.fill_ids"),
        (stub.CreateBuild, create(request_id=new_id(), scope=fills_scope("a b\n")), "scope.fills.fill_ids[0]"),
        (
            stub.CreateBuild,
            create(request_id=new_id(), scope=build_pb2.BuildScope(accounts=build_pb2.AccountScope())),
            "scope.accounts.accounts",
        ),
        (stub.CreateBuild, create(request_id=new_id(), scope=everything, mode=99), "mode"),  # type: ignore[arg-type]
        (stub.GetBuild, build_service_pb2.GetBuildRequest(build_id="7"), "build_id"),
        (
            stub.WaitBuild,
            build_service_pb2.WaitBuildRequest(build_id=new_id(), timeout=Duration(seconds=31)),
            "timeout",
        ),
        (stub.ListBuilds, build_service_pb2.ListBuildsRequest(page_size=-1), "page_size"),
    ]
    for method, request, field in cases:
        async with refused("INVALID_FIELD", field):
            await method(request)


async def test_what_is_unknown_is_not_found(stub: Stub) -> None:
    for method, request in (
        (stub.GetBuild, build_service_pb2.GetBuildRequest(build_id=new_id())),
        (stub.WaitBuild, build_service_pb2.WaitBuildRequest(build_id=new_id())),
        (stub.CancelBuild, build_service_pb2.CancelBuildRequest(request_id=new_id(), build_id=new_id())),
        (stub.RetryBuild, build_service_pb2.RetryBuildRequest(request_id=new_id(), build_id=new_id())),
        (stub.CreateBuild, build_service_pb2.CreateBuildRequest(request_id=new_id(), scope=fills_scope("none"))),
    ):
        async with refused("NOT_FOUND"):
            await method(request)
    async with refused("NOT_FOUND"):
        await states(stub, new_id())


async def test_a_stream_of_parts_out_of_order_is_refused(stub: Stub) -> None:
    header = build_service_pb2.ImportTradesRequest(header=import_pb2.ImportHeader(request_id=new_id()))
    chunk = build_service_pb2.ImportTradesRequest(chunk=day())
    for wrong in ([], [chunk], [chunk, header], [header, header]):
        async with refused("INVALID_FIELD"):
            await stub.ImportTrades(iter(wrong))
    for header_fields in ({"request_id": ""}, {"time_zone": "Mars/Olympus"}, {"format": 9}):
        async with refused("INVALID_FIELD"):
            await load(stub, day(), **header_fields)
    async with refused("INVALID_FIELD", "header"):
        await load(stub, b"a,b\n1,2\n")
    assert not (await stub.ListImports(build_service_pb2.ListImportsRequest())).imports


async def test_a_watcher_who_leaves_leaves_nothing_running(stub: Stub, desk: Desk) -> None:
    answer = await load(stub, day())
    call = stub.WatchBuild(build_service_pb2.WatchBuildRequest(build_id=answer.trade_import.build_id))
    first = await call.read()
    assert first.build.state == build_pb2.BUILD_STATE_PENDING
    call.cancel()
    await asyncio.sleep(0.1)
    await desk.run(uuid.UUID(answer.trade_import.build_id))
    assert len(await states(stub, answer.trade_import.build_id)) == 1
