"""Contract, servicers and client agree: every rpc is served and callable."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
import typing
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor

import steelyard.rpc
from steelyard import client
from steelyard.client.service_config import SERVICE_FILES, idempotent_methods
from steelyard.rpc.services import REGISTRATIONS
from steelyard.v1 import (
    admin_pb2,
    build_pb2,
    common_pb2,
    errors_pb2,
    fill_pb2,
    import_pb2,
    market_pb2,
    market_service_pb2,
    performance_pb2,
    portfolio_pb2,
    position_pb2,
    risk_pb2,
    round_trip_pb2,
)

SERVICES: dict[str, ServiceDescriptor] = {
    name: service for file in SERVICE_FILES for name, service in file.services_by_name.items()
}
METHODS: dict[str, MethodDescriptor] = {
    method.name: method for service in SERVICES.values() for method in service.methods
}
MESSAGES: dict[str, Any] = {
    name: getattr(file, name)
    for file in (
        admin_pb2, build_pb2, common_pb2, fill_pb2, import_pb2, market_pb2, market_service_pb2, performance_pb2,
        portfolio_pb2, position_pb2, risk_pb2, round_trip_pb2,
    )
    for name in file.DESCRIPTOR.message_types_by_name
}  # fmt: skip


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def servicer_classes() -> dict[str, type]:
    """The servicers of the rpc room, by the service that they serve."""
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(steelyard.rpc.__path__):
        if module.name.endswith("_servicer"):
            for _, kind in inspect.getmembers(importlib.import_module(f"steelyard.rpc.{module.name}"), inspect.isclass):
                for base in kind.__mro__[1:]:
                    if base.__name__.endswith("ServiceServicer"):
                        found[base.__name__.removesuffix("Servicer")] = kind
    return found


def test_the_server_and_the_client_know_every_service_of_the_contract() -> None:
    assert {registration.name for registration in REGISTRATIONS.values()} == set(SERVICES)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_rpc_is_served(service: str) -> None:
    servicer = servicer_classes()[service]
    assert not inspect.isabstract(servicer)
    for method in SERVICES[service].methods:
        handler = getattr(servicer, method.name)
        is_right = inspect.isasyncgenfunction if method.server_streaming else inspect.iscoroutinefunction
        assert is_right(handler), f"{service}.{method.name}"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_rpc_has_a_client_method_of_its_name_that_says_what_it_does(method: str) -> None:
    call = getattr(client.Steelyard, snake_case(method))
    assert inspect.getdoc(call)


def test_every_error_reason_has_a_class_in_the_client() -> None:
    from steelyard.client.errors import BY_REASON

    names = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118 - no dict
    assert names - set(BY_REASON) == {"UNSPECIFIED", "INTERNAL"}
    assert set(BY_REASON) <= names


def test_the_shipped_config_repeats_every_method_but_the_client_streams() -> None:
    named = {method["method"] for method in idempotent_methods()}
    assert set(METHODS) - named == {"ImportTrades", "ReportMarks", "StreamFills"}


def records() -> list[type]:
    kinds = [getattr(client, name) for name in client.__all__]
    return [
        kind
        for kind in kinds
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__ in MESSAGES
    ]


def test_the_client_has_a_record_for_what_the_service_keeps() -> None:
    kept = {"Fill", "Adjustment", "Position", "RoundTrip", "Lot", "PositionEvent", "Build", "Import", "Account"}
    assert kept | {"Instrument", "Mark", "CurrencyPortfolio", "Performance"} <= {kind.__name__ for kind in records()}


@pytest.mark.parametrize("record", records(), ids=lambda kind: kind.__name__)
def test_a_record_has_the_fields_of_its_message_and_none_where_they_may_be_unset(record: type) -> None:
    message = MESSAGES[record.__name__].DESCRIPTOR
    hints = typing.get_type_hints(record)
    unread = {"Build": {"scope"}}.get(record.__name__, set())
    assert set(hints) | unread == set(message.fields_by_name)
    for name, hint in hints.items():
        field = message.fields_by_name[name]
        if _may_be_none(hint):
            assert field.has_presence or field.enum_type, f"{name} is never unset"
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            assert not field.has_presence or name in _SENT, f"{name} may be unset"


@pytest.mark.parametrize("record", records(), ids=lambda kind: kind.__name__)
def test_the_words_of_a_record_are_those_of_the_contract(record: type) -> None:
    message = MESSAGES[record.__name__].DESCRIPTOR
    for name, hint in typing.get_type_hints(record).items():
        kinds = typing.get_args(hint) or (hint,)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, StrEnum):
                enum = message.fields_by_name[name].enum_type
                prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"
                words = {value.name.removeprefix(prefix) for value in enum.values if value.number}
                assert {member.name for member in kind} == words


_SENT = {"instrument", "price"}


def _may_be_none(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint)
