"""Which servicer answers which service: the one list that the server is built from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import grpc

from steelyard.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    build_service_pb2,
    build_service_pb2_grpc,
    fill_service_pb2,
    fill_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    performance_service_pb2,
    performance_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    position_service_pb2,
    position_service_pb2_grpc,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The servicers of one server; a service left out answers UNIMPLEMENTED."""

    fills: fill_service_pb2_grpc.FillServiceServicer | None = None
    positions: position_service_pb2_grpc.PositionServiceServicer | None = None
    portfolio: portfolio_service_pb2_grpc.PortfolioServiceServicer | None = None
    builds: build_service_pb2_grpc.BuildServiceServicer | None = None
    performance: performance_service_pb2_grpc.PerformanceServiceServicer | None = None
    reconciliation: reconciliation_service_pb2_grpc.ReconciliationServiceServicer | None = None
    market: market_service_pb2_grpc.MarketServiceServicer | None = None
    snapshots: snapshot_service_pb2_grpc.SnapshotServiceServicer | None = None
    admin: admin_service_pb2_grpc.AdminServiceServicer | None = None


class Registry(Protocol):
    """What generated code asks of a server where it adds a servicer."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Takes up the methods of a service."""
        ...

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Takes up handlers that are asked for each call whether a method is theirs."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """How a service is named in the contract and added to a server."""

    file: Any
    name: str
    add: Callable[[Any, Any], None]

    @property
    def full_name(self) -> str:
        """`steelyard.v1.FillService`."""
        return str(self.file.DESCRIPTOR.services_by_name[self.name].full_name)


REGISTRATIONS = {
    "fills": Registration(fill_service_pb2, "FillService", fill_service_pb2_grpc.add_FillServiceServicer_to_server),
    "positions": Registration(
        position_service_pb2, "PositionService", position_service_pb2_grpc.add_PositionServiceServicer_to_server
    ),
    "portfolio": Registration(
        portfolio_service_pb2, "PortfolioService", portfolio_service_pb2_grpc.add_PortfolioServiceServicer_to_server
    ),
    "builds": Registration(
        build_service_pb2, "BuildService", build_service_pb2_grpc.add_BuildServiceServicer_to_server
    ),
    "performance": Registration(
        performance_service_pb2,
        "PerformanceService",
        performance_service_pb2_grpc.add_PerformanceServiceServicer_to_server,
    ),
    "reconciliation": Registration(
        reconciliation_service_pb2,
        "ReconciliationService",
        reconciliation_service_pb2_grpc.add_ReconciliationServiceServicer_to_server,
    ),
    "market": Registration(
        market_service_pb2, "MarketService", market_service_pb2_grpc.add_MarketServiceServicer_to_server
    ),
    "snapshots": Registration(
        snapshot_service_pb2, "SnapshotService", snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server
    ),
    "admin": Registration(admin_service_pb2, "AdminService", admin_service_pb2_grpc.add_AdminServiceServicer_to_server),
}
assert set(REGISTRATIONS) == {field.name for field in fields(Services)}


def add_all(servicers: Services, server: Registry) -> tuple[str, ...]:
    """Adds every servicer there is; gives the full names of their services."""
    names = []
    for name, registration in REGISTRATIONS.items():
        servicer = getattr(servicers, name)
        if servicer is not None:
            registration.add(servicer, server)
            names.append(registration.full_name)
    return tuple(names)
