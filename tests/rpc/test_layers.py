"""What surrounds every servicer, through real channels: ids, statuses, deadlines, cancellation, limits, the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from steelyard.accounting.errors import InvalidField, StoreUnavailable, VersionMismatch
from steelyard.rpc.calls import Call, seconds_left
from steelyard.rpc.limits import RpcLimits
from steelyard.v1 import admin_service_pb2
from tests.rpc.trouble import Served, TroubleServicer, serving

GET = "/steelyard.v1.AdminService/GetAccount"


def reason(trailers: dict[str, Any]) -> str:
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    infos = []
    for packed in status.details:
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            infos.append(info)
    (info,) = infos
    return str(info.reason)


async def raw(served: Served, method: str, request: bytes) -> bytes:
    """Calls a method with bare bytes."""
    call: Any = served.channel.unary_unary(method)
    answer: bytes = await call(request)
    return answer


async def test_a_domain_error_becomes_its_status_and_a_good_answer_stays() -> None:
    servicer = TroubleServicer({"bad": InvalidField("account", "is bad"), "stale": VersionMismatch()})
    async with serving(servicer) as served:
        code, text, trailers = await served.get("bad")
        assert (code, text, reason(trailers)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "account: is bad",
            "INVALID_FIELD",
        )
        code, _, trailers = await served.get("stale")
        assert (code, reason(trailers)) == (grpc.StatusCode.ABORTED, "VERSION_MISMATCH")
        assert (await served.get("fine"))[0] is grpc.StatusCode.OK


async def test_every_answer_good_or_bad_carries_the_callers_request_id() -> None:
    servicer = TroubleServicer({"bad": InvalidField("account", "is bad"), "bug": RuntimeError("x")})
    async with serving(servicer) as served:
        for account in ("fine", "bad", "bug"):
            _, _, trailers = await served.get(account, metadata=[("x-request-id", "mine-1")])
            assert trailers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", [[], [("x-request-id", "no good: blanks")], [("x-request-id", "x" * 200)]])
async def test_a_missing_or_insane_request_id_is_replaced(given: list[tuple[str, str]]) -> None:
    async with serving() as served:
        _, _, trailers = await served.get("fine", metadata=given)
        assert len(trailers["x-request-id"]) == 32


async def test_a_method_that_does_not_exist_is_unimplemented_with_a_request_id() -> None:
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(served, "/steelyard.v1.AdminService/Nothing", b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "x-request-id" in dict(caught.value.trailing_metadata() or ())


async def test_a_bug_is_internal_its_text_stays_here_and_the_log_has_it() -> None:
    async with serving(TroubleServicer({"bug": RuntimeError("the password is 1234")})) as served:
        code, text, trailers = await served.get("bug", metadata=[("x-request-id", "mine-1")])
        assert code is grpc.StatusCode.INTERNAL
        assert text == "internal error, trace id mine-1"
        assert b"1234" not in trailers["grpc-status-details-bin"]
        (line,) = served.log.of("rpc_bug")
        assert "1234" in str(line["exc_info"])


async def test_the_trace_of_a_traceparent_is_the_one_that_is_told() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with serving(TroubleServicer({"bug": RuntimeError()})) as served:
        _, text, _ = await served.get("bug", metadata=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
        assert text.endswith(trace)


async def test_a_stray_cancellation_is_answered_unavailable() -> None:
    """grpcio never answers it: the caller would wait for his deadline."""
    async with serving(TroubleServicer({"stray": asyncio.CancelledError()})) as served:
        code, _, trailers = await served.get("stray", timeout=5)
        assert (code, reason(trailers)) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def test_a_callers_cancel_ends_the_handler() -> None:
    ended = asyncio.Event()

    async def wait(context: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    servicer = TroubleServicer({"slow": wait})
    async with serving(servicer) as served:
        call = served.admin.GetAccount(admin_service_pb2.GetAccountRequest(account="slow"))
        waiting = asyncio.ensure_future(call)
        await servicer.begun.wait()
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await served.server.in_flight.wait_idle(timeout_s=5)
        assert served.log.of("rpc")[-1]["code"] == "CANCELLED"


async def test_an_abort_by_a_servicer_passes_unchanged() -> None:
    async def abort(context: Any) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")

    async with serving(TroubleServicer({"abort": abort})) as served:
        code, text, trailers = await served.get("abort")
        assert (code, text) == (grpc.StatusCode.DATA_LOSS, "by hand")
        assert "x-request-id" in trailers


async def test_bytes_that_are_no_message_are_an_invalid_argument() -> None:
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(served, GET, b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(dict(caught.value.trailing_metadata() or ())) == "INVALID_FIELD"


async def test_no_call_is_worked_on_longer_than_the_cap() -> None:
    async def sleep(context: Any) -> None:
        await asyncio.sleep(60)

    async with serving(TroubleServicer({"slow": sleep}), limits=RpcLimits(unary_deadline_s=0.1)) as served:
        code, text, _ = await served.get("slow")
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "0.1 s" in text


async def test_each_call_is_cut_at_its_own_time_and_those_that_end_before_are_left_alone() -> None:
    """One timer watches them all."""

    async def sleep(context: Any) -> None:
        await asyncio.sleep(60)

    async def wink(context: Any) -> None:
        await asyncio.sleep(0.05)

    servicer = TroubleServicer({"slow": sleep, "quick": wink})
    async with serving(servicer, limits=RpcLimits(unary_deadline_s=0.3)) as served:
        loop = asyncio.get_running_loop()
        took_s: list[float] = []

        async def ask(account: str) -> grpc.StatusCode:
            begun_s = loop.time()
            code, _, _ = await served.get(account)
            took_s.append(loop.time() - begun_s)
            return code

        asking = []
        for account in ("slow", "quick", "slow", "fine"):
            asking.append(asyncio.create_task(ask(account)))
            await asyncio.sleep(0.1)
        codes = await asyncio.gather(*asking)
        late, fine = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK
        assert codes == [late, fine, late, fine]
        assert [second for second in took_s if second > 0.25] == [pytest.approx(0.3, abs=0.15)] * 2
        assert (await served.get("fine"))[0] is fine


async def test_a_handler_that_answers_in_spite_of_the_cut_is_heard() -> None:
    async def insist(context: Any) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    async with serving(TroubleServicer({"insist": insist}), limits=RpcLimits(unary_deadline_s=0.1)) as served:
        assert (await served.get("insist"))[0] is grpc.StatusCode.OK
        assert (await served.get("fine"))[0] is grpc.StatusCode.OK


async def test_a_caller_who_hangs_up_as_his_time_runs_out_is_not_answered() -> None:
    async def sleep(context: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            raise

    servicer = TroubleServicer({"slow": sleep})
    async with serving(servicer, limits=RpcLimits(unary_deadline_s=0.1)) as served:
        call = served.admin.GetAccount(admin_service_pb2.GetAccountRequest(account="slow"))
        waiting = asyncio.ensure_future(call)
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await served.server.in_flight.wait_idle(timeout_s=5)
        assert [line["code"] for line in served.log.of("rpc")] == ["CANCELLED"]


async def test_a_handler_knows_how_long_its_caller_waits() -> None:
    seen: list[float | None] = []

    async def look(context: Any) -> None:
        seen.append(seconds_left(context))

    limits = RpcLimits(unary_deadline_s=5)
    async with serving(TroubleServicer({"look": look}), limits=limits) as served:
        await served.get("look")
        await served.get("look", timeout=1)
    assert seen[0] == pytest.approx(4.95, abs=0.5)
    assert seen[1] is not None
    assert seen[1] <= 0.96


async def test_a_full_server_refuses_with_a_reason_but_answers_health() -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async def sleep(context: Any) -> None:
        await asyncio.sleep(60)

    servicer = TroubleServicer({"slow": sleep})
    async with serving(servicer, limits=RpcLimits(concurrent_rpcs=1), drain_grace_s=0.1) as served:
        held = asyncio.ensure_future(served.get("slow"))
        await servicer.begun.wait()
        code, _, trailers = await served.get("fine")
        assert (code, reason(trailers)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        answer = await health_pb2_grpc.HealthStub(served.channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        held.cancel()


async def test_a_message_over_the_limit_is_refused() -> None:
    async with serving(limits=RpcLimits(message_bytes=1_024)) as served:
        assert (await served.get("x" * 2_000))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_one_line_is_logged_per_call() -> None:
    async with serving(TroubleServicer({"away": StoreUnavailable()})) as served:
        await served.get("fine", metadata=[("x-request-id", "a")])
        await served.get("away", metadata=[("x-request-id", "b")])
        lines = served.log.of("rpc")
    assert [(line["method"], line["code"], line["reason"], line["request_id"]) for line in lines] == [
        (GET, "OK", None, "a"),
        (GET, "UNAVAILABLE", "STORE_UNAVAILABLE", "b"),
    ]
    assert all(line["duration_ms"] > 0 for line in lines)


class _Refuse:
    """A layer as authentication will be one."""

    def enter(self, call: Call) -> None:
        call.add_trailers(("x-ratelimit-remaining", "0"))
        raise InvalidField("key", "is missing")

    def leave(self, call: Call, error: BaseException | None) -> None:
        raise AssertionError("a layer that refused is not left")


async def test_a_refusing_layer_lies_within_translation_and_may_add_trailers() -> None:
    async with serving(refusals=(_Refuse(),)) as served:
        code, _, trailers = await served.get("fine")
        assert (code, reason(trailers)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert trailers["x-ratelimit-remaining"] == "0"
