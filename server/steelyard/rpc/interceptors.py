"""The layers around every call, in one interceptor.

A layer is an asynchronous context around the handling of a call (`Layer.around`). `CallChain` puts them around each
handler once and keeps the result, so a call pays for the layers and not for wrapping. The first layer is outermost:
observe, translate, then whoever may refuse (admit, authenticate, limit).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol, TypeAlias, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from steelyard.accounting.errors import InvalidField
from steelyard.rpc.calls import Call, Context, begin_call
from steelyard.rpc.limits import RpcLimits

# In quotes: at run time the class takes no parameters.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Answer = Callable[[Call, Any], Awaitable[Any]]
Answers = Callable[[Call, Any], AsyncIterator[Any]]


class Layer(Protocol):
    """Something that happens around every call."""

    def around(self, call: Call) -> AbstractAsyncContextManager[None, None]:
        """Entered before the call is handled, left after it; sees the error it ended with and never swallows it."""
        ...


class _Undecodable:
    """Stands for a request whose bytes are none of its message."""


_UNDECODABLE = _Undecodable()


class CallChain(grpc.aio.ServerInterceptor):
    """Puts layers around every handler of a server."""

    def __init__(self, layers: Sequence[Layer], *, limits: RpcLimits) -> None:
        self._layers = tuple(layers)
        self._limits = limits
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of a method with all layers around it."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return self._wrap(method, grpc.unary_unary_rpc_method_handler(_unknown_method))
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        if not handler.response_streaming or inspect.iscoroutinefunction(_behaviour_of(handler)):
            run = self._one_answer(method, handler)
        else:
            run = self._many_answers(method, handler)
        make = _MAKERS[handler.request_streaming, handler.response_streaming]
        deserializer = _tolerant(handler.request_deserializer)
        return cast("Handler", make(run, deserializer, handler.response_serializer))

    def _one_answer(self, method: str, handler: Handler) -> Callable[..., Any]:
        behaviour = _behaviour_of(handler)
        is_request_stream, is_stream = handler.request_streaming, handler.response_streaming
        cap = self._cap(handler)

        async def innermost(call: Call, request: Any) -> Any:
            passed = _passed_stream(call, request) if is_request_stream else await _passed(call, request)
            answer = await behaviour(passed, call.context)
            if call.examine_answer is not None:
                call.examine_answer(answer)
            return answer

        answer: Answer = innermost
        for layer in reversed(self._layers):
            answer = _ring(layer, answer)

        async def run(request: Any, context: Context) -> Any:
            return await answer(begin_call(method, context, deadline_cap_s=cap, is_stream=is_stream), request)

        return run

    def _many_answers(self, method: str, handler: Handler) -> Callable[..., Any]:
        behaviour = _behaviour_of(handler)
        is_request_stream = handler.request_streaming

        async def innermost(call: Call, request: Any) -> AsyncIterator[Any]:
            passed = _passed_stream(call, request) if is_request_stream else await _passed(call, request)
            async with aclosing(behaviour(passed, call.context)) as answers:
                async for answer in answers:
                    if call.examine_answer is not None:
                        call.examine_answer(answer)
                    yield answer

        stream: Answers = innermost
        for layer in reversed(self._layers):
            stream = _ring_stream(layer, stream)

        async def run(request: Any, context: Context) -> AsyncIterator[Any]:
            call = begin_call(method, context, deadline_cap_s=None, is_stream=True)
            async for answer in stream(call, request):
                yield answer

        return run

    def _cap(self, handler: Handler) -> float | None:
        if handler.response_streaming:
            return None
        return self._limits.import_deadline_s if handler.request_streaming else self._limits.unary_deadline_s


_MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _behaviour_of(handler: Handler) -> Callable[..., Any]:
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    assert behaviour is not None
    return cast(Callable[..., Any], behaviour)


def _ring(layer: Layer, inner: Answer) -> Answer:
    async def ringed(call: Call, request: Any) -> Any:
        async with layer.around(call):
            return await inner(call, request)

    return ringed


def _ring_stream(layer: Layer, inner: Answers) -> Answers:
    async def ringed(call: Call, request: Any) -> AsyncIterator[Any]:
        async with layer.around(call):
            async for answer in inner(call, request):
                yield answer

    return ringed


def _tolerant(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Bytes that are no message become a stand-in: grpcio would answer UNKNOWN, and no layer would see it."""
    if deserializer is None:
        return None

    def decode(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except DecodeError:
            return _UNDECODABLE

    return decode


async def _passed(call: Call, request: Any) -> Any:
    """A message of the request, once whoever has a say in it has let it pass."""
    if request is _UNDECODABLE:
        raise InvalidField("request", "cannot be decoded as the message of this method")
    if call.note_request is not None:
        call.note_request(request)
    if call.examine_request is not None:
        call.examine_request(request)
    if call.admit_request is not None:
        await call.admit_request(request)
    return request


async def _passed_stream(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield await _passed(call, request)


async def _unknown_method(request: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
