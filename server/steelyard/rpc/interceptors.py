"""The layers around every call: who watches, who translates errors, and who may refuse.

`CallChain` stands between grpcio and the servicers. It puts the layers around each handler once, at the start, and
hands grpcio the result, so a call pays for the layers and for nothing else. It is one generic handler of the server,
and no interceptor: grpcio would ask an interceptor for the handler of each call again, and its loop looks at every
method registered one by one (a future each) whenever a call comes in.

Order, from the outside: watchers (trace, observe), translate, then whoever may refuse (admit, authenticate, limit).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from steelyard.accounting.errors import InvalidField
from steelyard.rpc.calls import Call, Context, Method, begin_call
from steelyard.rpc.deadlines import Deadlines
from steelyard.rpc.limits import RpcLimits
from steelyard.rpc.translate import Translate

# In quotes: at run time the class takes no parameters.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Watcher(Protocol):
    """Looks on: raises nothing, changes nothing."""

    def began(self, call: Call) -> None:
        """A call has come in."""
        ...

    def ended(self, call: Call, error: BaseException | None) -> None:
        """It has ended, with this error or well."""
        ...


class Refuser(Protocol):
    """May keep a call from its handler."""

    def enter(self, call: Call) -> Awaitable[None] | None:
        """Raises what refuses the call; gives something to wait for where that cannot be said at once."""
        ...

    def leave(self, call: Call, error: BaseException | None) -> None:
        """The call has ended, with this error or well; not told of a call that `enter` has refused."""
        ...


class _Undecodable:
    """Stands for a request whose bytes are none of its message."""


_UNDECODABLE = _Undecodable()


class CallChain(grpc.GenericRpcHandler):
    """Knows the handler of every method, with the layers around it."""

    def __init__(
        self, watchers: Sequence[Watcher], *, translate: Translate, refusers: Sequence[Refuser], limits: RpcLimits
    ) -> None:
        """`watchers` and `refusers` from the outside in."""
        self._watchers = tuple(watchers)
        self._translate = translate
        self._refusers = tuple(refusers)
        self._deadlines = {cap: Deadlines(cap) for cap in (limits.unary_deadline_s, limits.import_deadline_s)}
        self._limits = limits
        self._handlers: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler of a method; one that does not exist is answered too, so that it is seen and has its id."""
        name = handler_call_details.method
        return self._handlers.get(name) or self._wrap(name, grpc.unary_unary_rpc_method_handler(_unknown_method))

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Takes up the methods of a service; named as generated code asks it of a server."""
        for name, handler in method_handlers.items():
            full_name = f"/{service_name}/{name}"
            self._handlers[full_name] = self._wrap(full_name, handler)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Nothing: generated code hands over the same methods once more in this form."""

    def _wrap(self, name: str, handler: Handler) -> Handler:
        method = Method(name, deadline_cap_s=self._cap(handler), is_stream=handler.response_streaming)
        if not handler.response_streaming or inspect.iscoroutinefunction(_behaviour_of(handler)):
            run = _watched(method, self._watchers, guarded=self._guarded(method, handler))
        else:
            run = _watched_stream(method, self._watchers, guarded=self._guarded_stream(handler))
        make = _MAKERS[handler.request_streaming, handler.response_streaming]
        deserializer, serializer = _tolerant(handler.request_deserializer), _lazy(handler.response_serializer)
        return cast("Handler", make(run, deserializer, serializer))

    def _guarded(self, method: Method, handler: Handler) -> Callable[[Call, Any], Awaitable[Any]]:
        behaviour, refusers, translate = _behaviour_of(handler), self._refusers, self._translate
        is_request_stream = handler.request_streaming
        deadlines = None if method.deadline_cap_s is None else self._deadlines[method.deadline_cap_s]

        async def guarded(call: Call, request: Any) -> Any:
            entered = 0
            try:
                if deadlines is not None:
                    deadlines.begin(call)
                for refuser in refusers:
                    if (waiting := refuser.enter(call)) is not None:
                        await waiting
                    entered += 1
                if is_request_stream:
                    request = _passed_stream(call, request)
                elif (waiting := _examine(call, request)) is not None:
                    await waiting
                answer = await behaviour(request, call.context)
                if call.examine_answer is not None:
                    assert isinstance(answer, Message), "bytes cannot be looked at"
                    call.examine_answer(answer)
            except BaseException as error:
                _leave(refusers[:entered], call, error=error)
                is_overdue = deadlines is not None and deadlines.end(call)
                await translate.abort(call, error, is_overdue=is_overdue)
                raise
            _leave(refusers, call)
            if deadlines is not None:
                deadlines.end(call)
            return answer

        return guarded

    def _guarded_stream(self, handler: Handler) -> Callable[[Call, Any], AsyncGenerator[Any, None]]:
        behaviour, refusers, translate = _behaviour_of(handler), self._refusers, self._translate
        is_request_stream = handler.request_streaming

        async def guarded(call: Call, request: Any) -> AsyncGenerator[Any, None]:
            entered = 0
            try:
                for refuser in refusers:
                    if (waiting := refuser.enter(call)) is not None:
                        await waiting
                    entered += 1
                if is_request_stream:
                    request = _passed_stream(call, request)
                elif (waiting := _examine(call, request)) is not None:
                    await waiting
                async with aclosing(behaviour(request, call.context)) as answers:
                    async for answer in answers:
                        if call.examine_answer is not None:
                            call.examine_answer(answer)
                        yield answer
            except BaseException as error:
                _leave(refusers[:entered], call, error=error)
                await translate.abort(call, error)
                raise
            _leave(refusers, call)

        return guarded

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


def _watched(
    method: Method, watchers: Sequence[Watcher], *, guarded: Callable[[Call, Any], Awaitable[Any]]
) -> Callable[..., Any]:
    async def run(request: Any, context: Context) -> Any:
        call = begin_call(method, context)
        for watcher in watchers:
            watcher.began(call)
        try:
            answer = await guarded(call, request)
        except BaseException as error:
            _ended(watchers, call, error=error)
            raise
        _ended(watchers, call)
        return answer

    return run


def _watched_stream(
    method: Method, watchers: Sequence[Watcher], *, guarded: Callable[[Call, Any], AsyncGenerator[Any, None]]
) -> Callable[..., Any]:
    async def run(request: Any, context: Context) -> AsyncIterator[Any]:
        call = begin_call(method, context)
        for watcher in watchers:
            watcher.began(call)
        try:
            async with aclosing(guarded(call, request)) as answers:
                async for answer in answers:
                    yield answer
        except BaseException as error:
            _ended(watchers, call, error=error)
            raise
        _ended(watchers, call)

    return run


def _leave(refusers: Sequence[Refuser], call: Call, *, error: BaseException | None = None) -> None:
    for refuser in reversed(refusers):
        refuser.leave(call, error)


def _ended(watchers: Sequence[Watcher], call: Call, *, error: BaseException | None = None) -> None:
    for watcher in reversed(watchers):
        watcher.ended(call, error)


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


def _lazy(serializer: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """An answer that is bytes already (`EncodedOnce`) is sent as it is."""
    if serializer is None:
        return None
    return lambda answer: answer if answer.__class__ is bytes else serializer(answer)


def _examine(call: Call, request: Any) -> Awaitable[None] | None:
    """Shows a message of the request to whoever has a say in it; gives what to wait for until it may pass."""
    if request is _UNDECODABLE:
        raise InvalidField("request", "cannot be decoded as the message of this method")
    if call.note_request is not None:
        call.note_request(request)
    if call.examine_request is not None:
        call.examine_request(request)
    return None if call.admit_request is None else call.admit_request(request)


async def _passed_stream(call: Call, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if (waiting := _examine(call, request)) is not None:
            await waiting
        yield request


async def _unknown_method(request: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
