"""Who may call what: the layer that knows the caller by his key, and holds him to its scopes and accounts.

What a method asks is said in the contract (option `access`); a method that says nothing is refused to everyone. A key
bound to accounts is looked at together with the request, message by message: every account that it names must be one
of the key's; a filter that names none means the key's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message

from steelyard.accounting.errors import AccountDenied, ApiKeyInvalid, ScopeMissing, SteelyardError
from steelyard.accounting.keys import Account
from steelyard.operations.access import ApiKey, Scope
from steelyard.operations.building import Asker
from steelyard.operations.key_ring import KeyRing
from steelyard.rpc.calls import Call, current_call
from steelyard.rpc.services import REGISTRATIONS
from steelyard.v1 import access_pb2, options_pb2

API_KEY = "x-api-key"
SCOPES: Mapping[access_pb2.Scope.ValueType, Scope] = {
    access_pb2.SCOPE_POSITIONS_READ: Scope.POSITIONS_READ,
    access_pb2.SCOPE_POSITIONS_WRITE: Scope.POSITIONS_WRITE,
    access_pb2.SCOPE_FILLS_WRITE: Scope.FILLS_WRITE,
    access_pb2.SCOPE_FILLS_IMPORT: Scope.FILLS_IMPORT,
    access_pb2.SCOPE_BUILDS_RUN: Scope.BUILDS_RUN,
    access_pb2.SCOPE_PERFORMANCE_READ: Scope.PERFORMANCE_READ,
    access_pb2.SCOPE_LIMITS_WRITE: Scope.LIMITS_WRITE,
    access_pb2.SCOPE_MARKET_WRITE: Scope.MARKET_WRITE,
    access_pb2.SCOPE_ADMIN: Scope.ADMIN,
}
NOT_DATA = frozenset({"header", "min_commit"})
"""Fields that name accounts without telling of them: the places of commits."""

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """What one method asks of a key."""

    scope: Scope | None
    """None: no key is needed."""
    accounts: access_pb2.AccountRule.ValueType
    asked: Sequence[Path]
    """Where its request names accounts."""
    told: Sequence[Path]
    """Where its answers name them."""
    fills: bool = False
    """Whether it is counted by its fills, not as a call."""


def demands() -> Mapping[str, Demand]:
    """What each method of the contract asks, by its full name; one that says nothing is missing here."""
    asked = {name: _demand(method) for name, method in _methods().items()}
    return {name: demand for name, demand in asked.items() if demand is not None}


def _methods() -> Mapping[str, MethodDescriptor]:
    return {
        f"/{registration.full_name}/{method.name}": method
        for registration in REGISTRATIONS.values()
        for method in registration.file.DESCRIPTOR.services_by_name[registration.name].methods
    }


def _demand(method: MethodDescriptor) -> Demand | None:
    access = method.GetOptions().Extensions[options_pb2.access]
    if access.scope != access_pb2.SCOPE_OPEN and access.scope not in SCOPES:
        return None
    return Demand(
        scope=SCOPES.get(access.scope),
        accounts=access.accounts,
        asked=tuple(account_paths(method.input_type)),
        told=tuple(account_paths(method.output_type)),
        fills=access.scope == access_pb2.SCOPE_FILLS_WRITE,
    )


@cache
def account_paths(message: Descriptor) -> tuple[Path, ...]:
    """Where a message names accounts: the fields `account` and `accounts`, also of what it holds."""
    return tuple(_paths(message, ()))


def _paths(message: Descriptor, above: tuple[Descriptor, ...]) -> Iterator[Path]:
    for field in message.fields:
        inner = field.message_type
        if field.name in NOT_DATA:
            continue
        if inner is None:
            if field.name in ("account", "accounts"):
                yield (field.name,)
        elif inner.file.package == message.file.package and inner not in above:
            yield from ((field.name, *path) for path in _paths(inner, (*above, message)))


def accounts_in(message: Message, path: Path) -> Iterator[str]:
    """The accounts that a message names at this place."""
    value: Any = message
    for depth, name in enumerate(path):
        field = value.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and not field.is_repeated and not value.HasField(name):
            return
        value = getattr(value, name)
        if field.is_repeated:
            for item in value:
                yield from (item,) if field.message_type is None else accounts_in(item, path[depth + 1 :])
            return
    yield value


def own_accounts() -> frozenset[Account] | None:
    """The accounts that the caller's key is bound to; None: it is bound to none, or there are no keys."""
    key = current_call().key
    return None if key is None else key.terms.accounts


def asker() -> Asker | None:
    """Whose key asks for a build; None while there are no keys."""
    key = current_call().key
    return None if key is None else Asker(key.key_id, key.terms.builds_max)


class Authenticate:
    """Knows the caller by his key and refuses what it is not good for."""

    def __init__(self, ring: KeyRing, *, refused: Callable[[str, str], None]) -> None:
        """`refused` is told the method and the reason of each refusal."""
        self._ring = ring
        self._refused = refused
        self._demands = demands()
        self._methods = frozenset(_methods())

    def enter(self, call: Call) -> Awaitable[None] | None:
        """Sets `call.key`, and what has to be looked at with the request and the answers. Raises `ApiKeyInvalid`,
        `ScopeMissing`, `AccountDenied`, `StoreUnavailable`, at once or when it is waited for."""
        try:
            demand = self._demand(call)
            if demand is None or demand.scope is None:
                return None
            secret = call.metadata.get(API_KEY)
            if not isinstance(secret, str):
                raise ApiKeyInvalid("an API key is needed in the metadata `x-api-key`")
            key = self._ring.at_hand(secret)
            if key is None:
                return self._look_up(call, secret, demand=demand)
            self._admit(call, key, demand=demand)
        except SteelyardError as error:
            self.leave(call, error)
            raise
        return None

    def leave(self, call: Call, error: BaseException | None) -> None:
        """Counts a refusal, wherever in the call it came about."""
        if isinstance(error, (ApiKeyInvalid, ScopeMissing, AccountDenied)):
            self._refused(call.method, error.reason)

    def _demand(self, call: Call) -> Demand | None:
        """None for health, reflection, and what is no method at all."""
        demand = self._demands.get(call.method)
        if demand is None and call.method in self._methods:
            raise ScopeMissing("this method is open to no key")
        return demand

    async def _look_up(self, call: Call, secret: str, *, demand: Demand) -> None:
        try:
            self._admit(call, await self._ring.of(secret), demand=demand)
        except SteelyardError as error:
            self.leave(call, error)
            raise

    def _admit(self, call: Call, key: ApiKey, *, demand: Demand) -> None:
        assert demand.scope is not None
        call.key = key
        if not key.terms.allows(demand.scope):
            raise ScopeMissing(f"the key lacks the scope {demand.scope.value}", scope=demand.scope.value)
        if key.terms.accounts is not None:
            _bind(call, key.terms.accounts, demand=demand)


def _bind(call: Call, own: frozenset[Account], *, demand: Demand) -> None:
    if demand.accounts == access_pb2.ACCOUNT_RULE_NAMED:
        call.examine_request = lambda request: _examine_named(request, own, paths=demand.asked)
    elif demand.accounts == access_pb2.ACCOUNT_RULE_ANSWERED:
        call.examine_answer = lambda answer: _examine_told(answer, own, paths=demand.told)
    elif demand.accounts not in (access_pb2.ACCOUNT_RULE_NONE, access_pb2.ACCOUNT_RULE_ROWS):
        raise AccountDenied("the key is bound to accounts, and this reaches over all of them")


def _examine_named(request: Message, own: frozenset[Account], *, paths: Sequence[Path]) -> None:
    """Raises `AccountDenied`; a filter that names no account is given the key's own."""
    named = {name for path in paths for name in accounts_in(request, path) if name}
    _deny_foreign(named, own)
    if named:
        return
    if ("accounts",) in paths:
        getattr(request, "accounts").extend(sorted(own))  # noqa: B009 - the field's name, not an attribute
    elif ("account",) in paths and len(own) == 1:
        setattr(request, "account", next(iter(own)))  # noqa: B010
    else:
        raise AccountDenied("the key is bound to accounts: name one of them")


def _examine_told(answer: Message, own: frozenset[Account], *, paths: Sequence[Path]) -> None:
    """Raises `AccountDenied` where an answer tells of another account, or of none in particular."""
    named = {name for path in paths for name in accounts_in(answer, path) if name}
    _deny_foreign(named, own)
    if not named:
        raise AccountDenied("the key is bound to accounts, and this reaches over all of them")


def _deny_foreign(named: set[str], own: frozenset[Account]) -> None:
    foreign = named - own
    if foreign:
        name = min(foreign)
        raise AccountDenied(f"the key may not see or write account {name}", account=name)
