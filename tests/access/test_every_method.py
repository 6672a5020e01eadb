"""Who may call what: every method of the contract, walked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from steelyard.app.assembly import Service
from steelyard.operations.access import Scope
from steelyard.rpc.access import demands
from steelyard.v1 import access_pb2
from tests.access.desk import METHODS, call, guarded, new_key

DEMANDS = demands()
CLOSED = [name for name in METHODS if name not in DEMANDS or DEMANDS[name].scope is not None]
REFUSALS = ("API_KEY_INVALID", "SCOPE_MISSING", "ACCOUNT_DENIED")


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with guarded(database_url) as running:
        yield running


def test_every_method_says_what_it_asks_of_a_key() -> None:
    assert set(DEMANDS) == set(METHODS)
    for name, demand in DEMANDS.items():
        assert demand.accounts != access_pb2.ACCOUNT_RULE_UNSPECIFIED, name
        if demand.accounts == access_pb2.ACCOUNT_RULE_NAMED:
            assert demand.asked, f"{name} is held to the accounts it names and can name none"
        if demand.accounts == access_pb2.ACCOUNT_RULE_ANSWERED:
            assert demand.told, f"{name} is held to the accounts it tells of and tells of none"
        if demand.accounts == access_pb2.ACCOUNT_RULE_NONE:
            assert not demand.asked, f"{name} names accounts and is not held to them"


async def test_no_method_can_be_called_without_a_key_with_a_wrong_one_or_without_its_scope(
    service: Service, database_url: str
) -> None:
    every = {scope: await new_key(database_url, scope) for scope in Scope if scope is not Scope.ADMIN}
    forged = "sy_abcdefgh_" + "x" * 43
    async with grpc.aio.insecure_channel(service.address) as channel:
        for method in CLOSED:
            for secret in (None, "nonsense", forged):
                ended = await call(channel, method, secret=secret)
                assert (ended.code, ended.reason) == (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID"), method
            needed = DEMANDS[method].scope
            other = next(key for scope, key in every.items() if scope is not needed)
            ended = await call(channel, method, secret=other.secret)
            assert (ended.code, ended.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"), method


async def test_with_the_right_key_every_method_can_be_called(service: Service, database_url: str) -> None:
    every = {scope: await new_key(database_url, scope, calls_per_minute=1_000) for scope in Scope}
    async with grpc.aio.insecure_channel(service.address) as channel:
        for method in METHODS:
            needed = DEMANDS[method].scope
            secret = None if needed is None else every[needed].secret
            ended = await call(channel, method, secret=secret, account="desk")
            assert ended.reason not in REFUSALS, method


async def test_a_key_bound_to_accounts_reaches_no_other(service: Service, database_url: str) -> None:
    bound = await new_key(database_url, Scope.ADMIN, accounts=["mine"], calls_per_minute=10_000, streams_max=100)
    async with grpc.aio.insecure_channel(service.address) as channel:
        for method, demand in DEMANDS.items():
            if demand.accounts == access_pb2.ACCOUNT_RULE_NAMED:
                foreign = await call(channel, method, secret=bound.secret, account="theirs")
                assert (foreign.code, foreign.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_DENIED"), method
                own = await call(channel, method, secret=bound.secret, account="mine")
                assert own.reason not in REFUSALS, method
            elif demand.accounts == access_pb2.ACCOUNT_RULE_ALL:
                ended = await call(channel, method, secret=bound.secret)
                assert (ended.code, ended.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ACCOUNT_DENIED"), method


async def test_a_method_that_does_not_exist_is_unimplemented_and_health_is_open(service: Service) -> None:
    async with grpc.aio.insecure_channel(service.address) as channel:
        nothing: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/steelyard.v1.Nothing/At")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await nothing(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        health: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await health(b"") == b"\x08\x01"
